"""The demonstration: a broker in the process, simulated learners, replay, a live view."""
