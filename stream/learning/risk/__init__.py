"""The risk model's learning: snapshots of users with what became of them, network, boosting, evaluation, fairness."""
