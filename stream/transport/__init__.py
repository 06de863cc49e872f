"""Records in, librdkafka out, topics and client settings."""
