"""How every client reaches the broker: addresses, security, sizes. One mapping, so that they cannot differ."""

from typing import Any

from confluent_kafka import KafkaError

from stream.settings import Settings

Config = dict[str, Any]


def is_fatal(error: KafkaError) -> bool:
    """Return whether a consumer's error will not pass by itself: the rest is what reconnecting is for."""
    return bool(error.fatal()) or error.code() in _FATAL


def is_refusal(error: KafkaError) -> bool:
    """Return whether a client tells by its `error_cb` that the broker does not let it in."""
    return error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL)  # noqa: SLF001


def refused(settings: Settings, refusal: KafkaError) -> str:
    """Return what is to be said of such a broker."""
    return (
        f"the Kafka broker at {settings.broker} does not let us in: {refusal.str()}; "
        "see STREAM_SECURITY_PROTOCOL, STREAM_SASL_* and STREAM_SSL_*"
    )


_FATAL = frozenset(
    {
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.CLUSTER_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError._AUTHENTICATION,  # noqa: SLF001
    }
)


def client_config(settings: Settings) -> Config:
    """Return what every librdkafka client needs."""
    config: Config = {
        "bootstrap.servers": settings.broker,
        "security.protocol": settings.security_protocol,
        "log.connection.close": False,
        # Our own log says what matters; librdkafka's lines, one for each attempt to connect, would break into it.
        "log_level": 2,
    }
    if settings.security_protocol.startswith("SASL"):
        config["sasl.mechanism"] = settings.sasl_mechanism
        config["sasl.username"] = settings.sasl_username
        config["sasl.password"] = settings.sasl_password.get_secret_value() if settings.sasl_password else ""
    if settings.security_protocol.endswith("SSL"):
        files = {
            "ssl.ca.location": settings.ssl_ca_file,
            "ssl.certificate.location": settings.ssl_cert_file,
            "ssl.key.location": settings.ssl_key_file,
        }
        config |= {name: str(path) for name, path in files.items() if path is not None}
    return config


def producer_config(settings: Settings) -> Config:
    """Return what a producer needs: idempotent, murmur2, undelivered messages given up before the session is."""
    return client_config(settings) | {
        "enable.idempotence": True,
        "partitioner": "murmur2_random",
        "linger.ms": settings.linger_ms,
        "compression.type": settings.compression,
        "message.max.bytes": settings.message_max_bytes,
        "queue.buffering.max.messages": 1_000_000,
        "delivery.report.only.error": True,
        # Less than the session timeout: a late changelog record must not reach the topic after the partition has moved.
        "delivery.timeout.ms": int(settings.session_timeout_s * 900),
    }


def consumer_config(settings: Settings, group: str) -> Config:
    """Return what a consumer needs that commits only when it says so."""
    return client_config(settings) | {
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "fetch.message.max.bytes": settings.message_max_bytes,
        "isolation.level": "read_committed",
        "fetch.wait.max.ms": settings.fetch_max_wait_ms,
        "session.timeout.ms": int(settings.session_timeout_s * 1000),
    }
