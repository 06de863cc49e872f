"""The fault test in full, as `make chaos` runs it: each guarantee on a broker of its own, a report, an exit status."""

import argparse
import json
import platform
import secrets
import shutil
import sys
import tempfile
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

from tests.broker import kafka as kafka_broker
from tests.broker.kafka import KafkaServer
from tests.broker.process import ServerError
from tests.chaos.scene import FULL, SceneError, run

GUARANTEES = ("at_least_once", "exactly_once")
_PACKAGES = ("learnerstream", "faust-streaming", "aiokafka", "confluent-kafka", "onnxruntime", "numpy")


def main() -> None:
    """Run the test; ends with status 1 if anything was lost, doubled or counted wrongly, 2 if it could not be run."""
    given = _arguments()
    lack = kafka_broker.missing()
    if lack:
        _give_up(lack)
    size = replace(
        FULL,
        answers=given.answers,
        users=given.users,
        ahead=given.ahead,
        kills=given.kills,
        stalls=given.stalls,
        broker_restarts=given.broker_restarts,
    )
    runs, sentences = [], []
    for guarantee in GUARANTEES if given.guarantee == "both" else (given.guarantee,):
        _tell(f"{guarantee}: {size.answers:,} answers of {size.users:,} users, seed {given.seed}")
        folder = Path(tempfile.mkdtemp(prefix=f"chaos-{guarantee}-"))
        try:
            with KafkaServer(folder / "kafka", password=secrets.token_hex(8)) as kafka:
                report, verdict = run(kafka, folder, "chaos-", guarantee, size, given.seed, _tell)
        except (SceneError, ServerError, TimeoutError) as error:
            _give_up(f"{guarantee}: {error}\nAll logs are in {folder}")
        runs.append(report)
        _tell(json.dumps(report))
        if report["stuck"]:
            sentences.append(f"{guarantee} failed: nothing was predicted any more, see the logs in {folder}")
        if not verdict.is_good:
            sentences.append(f"{guarantee} failed (logs and data: {folder})\n{verdict.words()}")
        if not sentences:
            shutil.rmtree(folder)
    versions = {name: version(name) for name in _PACKAGES} | {
        "python": platform.python_version(),
        "kafka": _kafka_version(),
    }
    if given.report is not None:
        given.report.write_text(json.dumps({"runs": runs, "seed": given.seed, "versions": versions}, indent=1) + "\n")
    if sentences:
        sys.exit("\n".join(sentences))
    _tell("Nothing was lost, nothing came twice, and every state is that of a sequential replay.")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--guarantee", choices=("both", *GUARANTEES), default="both")
    parser.add_argument("--answers", type=int, default=FULL.answers, help="different answers (%(default)s)")
    parser.add_argument("--users", type=int, default=FULL.users, help="at most as many as answers (%(default)s)")
    parser.add_argument("--ahead", type=int, default=FULL.ahead, help="answers on their way at most (%(default)s)")
    parser.add_argument("--kills", type=int, default=FULL.kills, help="(%(default)s)")
    parser.add_argument("--stalls", type=int, default=FULL.stalls, help="(%(default)s)")
    parser.add_argument("--broker-restarts", type=int, default=FULL.broker_restarts, help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=7, help="of events and faults (%(default)s)")
    parser.add_argument("--report", type=Path, help="JSON file to write")
    return parser.parse_args()


def _kafka_version() -> str:
    jar = next(kafka_broker.JARS.glob("kafka-clients-*.jar"), None)
    return "unknown" if jar is None else jar.stem.removeprefix("kafka-clients-")


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201 (progress)


def _give_up(sentence: str) -> None:
    print(sentence, file=sys.stderr)  # noqa: T201 (the reason of the exit status)
    sys.exit(2)


if __name__ == "__main__":
    main()
