"""
Real servers for the tests: Apache Kafka and Redis, on this machine's loopback alone.

Tests get them as the fixtures `kafka` and `redis_server` of `tests/conftest.py`.
"""
