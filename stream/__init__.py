"""A streaming inference worker for learning platforms."""
