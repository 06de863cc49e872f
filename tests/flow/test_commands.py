"""The command line against a real broker: what each command does, and the one sentence that a mistake gets."""

from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from stream.cli import main
from stream.transport.topics import changelog, wanted
from tests.broker.kafka import KafkaServer
from tests.flow.releases import make_release
from tests.flow.system import PARTITIONS, System

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
def bare(kafka: KafkaServer, prefix: str, tmp_path: Path) -> Iterator[System]:
    """Give a system without topics."""
    system = System(tmp_path, kafka.bootstrap, prefix)
    yield system
    system.end()


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every command that does something."""
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


@pytest.mark.parametrize("path", list(commands(main)), ids=" ".join)
def test_every_command_shows_an_example(path: tuple[str, ...]) -> None:
    """`--help` says what the command does, and how it is typed."""
    done = CliRunner().invoke(main, [*path, "--help"])
    assert done.exit_code == 0
    assert f"Usage: main {' '.join(path)}" in done.output
    assert "Example: " in done.output
    assert f"stream {' '.join(path)}" in " ".join(done.output.split("Example: ")[1].split())


def test_topics_are_created_once_and_then_right(bare: System) -> None:
    """`topics check` misses them, `create` creates them and, a second time, nothing; `check` is content."""
    count = len(wanted(bare.settings))
    missing = bare.command("topics", "check")
    assert missing.returncode == 1
    assert missing.stdout.count("is missing: run `stream topics create`") == count
    created = bare.command("topics", "create")
    assert (created.returncode, created.stderr) == (0, "")
    assert created.stdout.count("created ") == count
    assert bare.command("topics", "create").stdout == "nothing to create\n"
    checked = bare.command("topics", "check")
    assert checked.returncode == 0
    assert checked.stdout.startswith(f"{count} topics are right; {PARTITIONS} partitions are fixed for good")


def test_another_number_of_partitions_is_told(bare: System) -> None:
    """`topics check`, `topics create` and the worker say which topic has how many, and what to do."""
    bare.command("topics", "create", partitions=PARTITIONS // 2)
    sentence = f"topic {bare.settings.topic('interactions')}: expected {PARTITIONS} partitions, found {PARTITIONS // 2}"
    checked = bare.command("topics", "check")
    assert checked.returncode == 1
    assert sentence in checked.stdout
    assert "STREAM_PARTITIONS=2" in checked.stdout
    for command in (("topics", "create"), ("worker",)):
        done = bare.command(*command)
        assert done.returncode == 2
        assert sentence in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1


def test_a_changelog_that_would_be_deleted_is_told(bare: System, kafka: KafkaServer) -> None:
    """State behind a changelog with cleanup.policy=delete would vanish: no worker starts on it."""
    name = changelog(bare.settings, "learners")
    kafka.create_topic(name, partitions=PARTITIONS, cleanup_policy="delete")
    done = bare.command("worker")
    assert done.returncode == 2
    assert f"topic {name}: expected cleanup.policy=compact, found delete" in done.stderr
    assert bare.command("topics", "check").returncode == 1


def test_simulated_learners_send_so_many_answers(system: System) -> None:
    """`--events` counts answers; other events come on top."""
    done = system.command("simulate", "--events", "50", "--rate", "5000", "--seed", "7")
    assert done.returncode == 0
    assert "50 of them answers" in done.stderr
    found = system.read("interactions", until=lambda found: sum(m["type"] == "quiz_complete" for m in found) >= 50)
    assert sum(m["type"] == "quiz_complete" for m in found) == 50
    assert all(m["_key"] == m["user_id"] for m in found)


def test_a_file_is_replayed(system: System) -> None:
    """Each row becomes one event, in time order over all users."""
    file = system.folder / "answers.csv"
    rows = [f"u{n % 3},i{n % 5},s{n % 2},{n % 2},2026-01-01T10:00:{n:02d}Z,7.5" for n in range(30)]
    file.write_text("user_id,item_id,skill_id,correct,timestamp,response_time_seconds\n" + "\n".join(rows) + "\n")
    done = system.command("replay", str(file))
    assert done.returncode == 0
    assert "sent 30 events, 30 of them answers" in done.stderr
    found = system.read("interactions", until=lambda found: len(found) >= 30)
    assert sorted((m["timestamp"][:19], m["item_id"], m["correct"]) for m in found) == [
        (f"2026-01-01T10:00:{n:02d}", f"i{n % 5}", n % 2 == 1) for n in range(30)
    ]
    assert {m["duration_seconds"] for m in found} == {7.5}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["replay", "nowhere.csv"], "nowhere.csv"),
        (["replay", "broken.csv"], "broken.csv"),
        (["replay", "untimed.csv", "--speed", "10"], "--speed needs timestamps"),
        (["train", "nowhere.csv", "--out", "model"], "nowhere.csv"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(bare: System, arguments: list[str], sentence: str) -> None:
    """A mistake about a file ends with exit status 2, its name, and no traceback."""
    (bare.folder / "broken.csv").write_text("user_id,item_id,skill_id,correct\nu,i,s,perhaps\n")
    (bare.folder / "untimed.csv").write_text("user_id,item_id,skill_id,correct\nu,i,s,1\n")
    done = bare.command(*arguments)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (bare.folder / "model").exists()


def test_models_are_listed_promoted_and_rolled_back(system: System) -> None:
    """The list shows the store and what is announced; `promote` and `rollback` change what every worker serves."""
    assert "no knowledge models in" in system.command("models", "list").stdout
    for version in (2, 10):
        make_release(system, version)
    listed = system.command("models", "list").stdout
    assert listed.index("knowledge version 2:") < listed.index("knowledge version 10:")
    assert "no version of knowledge is announced: the fallback serves" in listed
    assert "no risk models in" in listed
    for version in (2, 10):
        assert system.command("models", "promote", str(version)).returncode == 0
    assert system.command("models", "list").stdout.splitlines()[1].endswith("<- champion")
    rolled = system.command("models", "rollback")
    assert (rolled.returncode, rolled.stderr) == (0, "")
    assert "version 2 is announced" in rolled.stdout
    system.start("worker")
    assert system.await_metric("worker", 'stream_model_version{name="knowledge"}', lambda version: version > 0) == 2
    missing = system.command("models", "promote", "11")
    assert missing.returncode in (1, 2)
    assert "Traceback" not in missing.stderr


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"partitions": "x"}, "STREAM_PARTITIONS: expected a whole number from 1 to 1,000, found 'x'"),
        ({"partitions": 0}, "STREAM_PARTITIONS: expected a whole number from 1 to 1,000, found '0'"),
        ({"group": "a b"}, "STREAM_GROUP: "),
        ({"event_max_bytes": 5_000_000}, "STREAM_EVENT_MAX_BYTES must not be above STREAM_MESSAGE_MAX_BYTES"),
    ],
)
@pytest.mark.parametrize("command", ["worker", "topics check"])
def test_a_wrong_setting_is_one_sentence(
    tmp_path: Path, command: str, options: dict[str, object], sentence: str
) -> None:
    """The setting, what was expected and what was found; exit status 2, nothing reached."""
    done = System(tmp_path, "127.0.0.1:1", "none-").command(*command.split(), **options)
    assert done.returncode == 2
    assert sentence in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_taken_metrics_port_is_told(system: System) -> None:
    """A second worker on the same port says which setting to change."""
    system.start("worker")
    done = system.command("worker", worker_metrics_port=system.ports["worker"])
    assert done.returncode == 2
    assert f"port {system.ports['worker']} on 127.0.0.1 cannot be used" in done.stderr
    assert "STREAM_WORKER_METRICS_PORT" in done.stderr
