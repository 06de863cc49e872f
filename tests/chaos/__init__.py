"""
The fault test: workers are killed, stopped and joined while events stream in, and nothing may be lost or count twice.

`python -m tests.chaos --help`; a short form is `tests/flow/test_chaos.py`.
"""
