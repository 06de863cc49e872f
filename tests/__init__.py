"""Tests of the worker, its schemas and its learning; `tests/broker` starts the servers that some need."""
