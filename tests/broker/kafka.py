"""
Apache Kafka as one real broker, from the jars that `make broker` fetches.

Broker and controller are one process (KRaft). It listens without security and, on a second port, with
SASL/PLAIN. Topics are never made by themselves.
"""

import os
import re
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.broker.process import ServerError, ServerProcess, free_ports

JARS = Path(__file__).parents[2] / ".cache" / "kafka" / "libs"
SASL_USER = "worker"

_OLDEST_JAVA = 17
_START_S, _STOP_S = 110.0, 90.0
# Few partitions of the inner topics and a short session make it start fast: a broker that was killed is let
# in again only when its old session is over. The rest is Kafka's own, the limit of a message's size too.
_PROPERTIES = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
listeners=PLAINTEXT://127.0.0.1:{port},SASL://127.0.0.1:{sasl_port},CONTROLLER://127.0.0.1:{controller_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
log.dirs={data}
broker.session.timeout.ms=4000
broker.heartbeat.interval.ms=500
auto.create.topics.enable=false
num.partitions=4
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
log.cleaner.threads=1
log.cleaner.dedupe.buffer.size=4194304
"""


def missing() -> str | None:
    """Return one sentence on what a broker lacks on this machine and how to get it, or None."""
    if not any(JARS.glob("kafka_*.jar")):
        return "The Kafka broker's jars are missing: `make broker` fetches them."
    if _java_version() < _OLDEST_JAVA:
        return f"Java {_OLDEST_JAVA} or later is missing: `make broker` installs it or says how."
    return None


def _java_version() -> int:
    """Return the major version of the `java` on the PATH, 0 without one."""
    java = shutil.which("java")
    if java is None:
        return 0
    told = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "(\d+)', told)
    return int(found[1]) if found else 0


class KafkaServer:
    """
    One broker with ports and data of its own, which it keeps over restarts.

    The password is checked on the SASL listener only; it must hold letters and digits alone.
    """

    def __init__(self, folder: Path, *, password: str) -> None:
        if not password.isalnum():
            raise ValueError("expected a password of letters and digits")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.data = folder / "data"
        self.port, self.sasl_port, controller_port = free_ports(3)
        self._properties = folder / "server.properties"
        self._properties.touch(mode=0o600)
        self._properties.write_text(
            _PROPERTIES.format(
                port=self.port,
                sasl_port=self.sasl_port,
                controller_port=controller_port,
                user=SASL_USER,
                password=password,
                data=self.data,
            )
        )
        command = _java("-Xmx512m", "-Dlog4j2.level=INFO", "kafka.Kafka")
        self._process = ServerProcess("kafka", [*command, self._properties.name], folder=folder)

    @property
    def bootstrap(self) -> str:
        """Address of the listener without security, `host:port`."""
        return f"127.0.0.1:{self.port}"

    @property
    def sasl_bootstrap(self) -> str:
        """Address of the listener with SASL/PLAIN, `host:port`."""
        return f"127.0.0.1:{self.sasl_port}"

    @property
    def log(self) -> Path:
        """What the broker wrote, over all its starts."""
        return self._process.log

    @property
    def is_running(self) -> bool:
        """Whether the broker's process runs."""
        return self._process.is_running

    def start(self) -> None:
        """
        Start the broker and wait until it answers; its data folder is formatted the first time.

        Raises:
            ServerError: If it could not be formatted or does not answer in time.
        """
        if not self.data.exists():
            self._format()
        # A client says "connection refused" on stderr until the broker is there; level 0 keeps it quiet.
        admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        self._process.start(lambda: _answers(admin), timeout_s=_START_S)

    def stop(self) -> None:
        """Stop the broker in order (SIGTERM)."""
        self._process.stop(timeout_s=_STOP_S)

    def kill(self) -> None:
        """Kill the broker with -9, as a crash would."""
        self._process.kill()

    def restart(self) -> None:
        """Stop the broker in order if it runs, and start it on the same ports and data."""
        self.stop()
        self.start()

    def create_topic(self, name: str, *, partitions: int = 4, **config: str) -> None:
        """Create a topic; underscores in the options stand for the dots of Kafka's names."""
        options = {option.replace("_", "."): value for option, value in config.items()}
        admin = AdminClient({"bootstrap.servers": self.bootstrap})
        created = admin.create_topics([NewTopic(name, partitions, 1, config=options)])
        created[name].result(30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _format(self) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).rstrip(b"=").decode()
        if cluster_id.startswith("-"):  # the tool would read it as an option
            cluster_id = "A" + cluster_id[1:]
        command = _java("-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool")
        done = subprocess.run(
            [*command, "format", "-t", cluster_id, "-c", self._properties.name],
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=_START_S,
        )
        if done.returncode != 0:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServerError(f"the broker's data folder could not be formatted:\n{done.stdout}{done.stderr}")


def _java(*options_and_class: str) -> list[str]:
    return ["java", "-XX:+UseSerialGC", "-cp", os.fspath(JARS / "*"), *options_and_class]


def _answers(admin: AdminClient) -> bool:
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False
