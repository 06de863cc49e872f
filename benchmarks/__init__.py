"""Measures the worker beside its peers, on the same work, on the same broker, in one run."""
