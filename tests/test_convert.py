"""`stream convert`: files in, lines out, a summary that says what became of everything."""

import gzip
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result

from stream.adapters import detection, xapi
from stream.adapters.conversion import UNSAID, Carried, Conversion
from stream.adapters.pseudonym import pseudonym
from stream.cli import main
from stream.convert import messages
from stream.demo.sources import converted_from, source_of
from stream.settings import Settings
from tests.adapters.platforms import caliper_answer, envelope, statement, xapi_answer

GOOD = [xapi_answer("ada", 1), caliper_answer("bob", 2), xapi_answer("ada", 3, correct=False)]
PREFERRED = statement("ada", 9, verb="http://adlnet.gov/expapi/verbs/preferred")


def run(*arguments: str | Path, given: bytes | None = None) -> tuple[Result, list[dict[str, Any]], dict[str, Any]]:
    """Return the result of the command, its lines and its summary."""
    result = CliRunner().invoke(main, ["convert", *map(str, arguments)], input=given)
    lines = [orjson.loads(line) for line in result.stdout.splitlines()]
    *_, last = result.stderr.splitlines() or [""]
    return result, lines, json.loads(last) if last.startswith("{") else {}


def shell(command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Return what `command` comes to in a shell, where `$STREAM` is the program."""
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        env=os.environ | {"STREAM": f"{sys.executable} -m stream.cli"} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def lines_of(*events: Any) -> bytes:
    """Return JSON lines."""
    return b"".join(orjson.dumps(event) + b"\n" for event in events)


@pytest.mark.parametrize(
    "content",
    [
        lines_of(*GOOD),
        lines_of(*GOOD).replace(b"\n", b"\r\n\r\n"),
        b"\xef\xbb\xbf" + lines_of(*GOOD),
        orjson.dumps(GOOD),
        orjson.dumps(GOOD, option=orjson.OPT_INDENT_2),
        b"\n\n".join(orjson.dumps(event, option=orjson.OPT_INDENT_2) for event in GOOD),
        lines_of(GOOD[:2], GOOD[2]),
        lines_of(*GOOD).rstrip(),
        lines_of(GOOD[0]) + b"\n".join(orjson.dumps(event, option=orjson.OPT_INDENT_2) for event in GOOD[1:]),
        orjson.dumps(GOOD[0], option=orjson.OPT_INDENT_2) + b"\n" + lines_of(*GOOD[1:]),
        lines_of(GOOD[0]) + b" ".join(orjson.dumps(event) for event in GOOD[1:]) + b"\n",
        b"".join(map(orjson.dumps, GOOD)),
        b"[\n" + b",\n".join(map(orjson.dumps, GOOD)) + b"\n]\n",
    ],
    ids=[
        "lines",
        "crlf",
        "bom",
        "list",
        "indented list",
        "indented values",
        "lists in lines",
        "no last newline",
        "a line, then indented values",
        "an indented value, then lines",
        "two in a line",
        "all in a line",
        "a list in lines",
    ],
)
def test_files_in_every_form(tmp_path: Path, content: bytes) -> None:
    """JSON lines, one list, values over several lines; gzipped or not; from standard input too."""
    plain, packed = tmp_path / "events.json", tmp_path / "events.json.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    expected = [("ada@school.example", True), ("https://lms.example/users/bob", True), ("ada@school.example", False)]
    for result, lines, summary in (run(plain), run(packed), run(given=content), run("-", given=content)):
        assert result.exit_code == 0, result.stderr
        assert [(line["user_id"], line["correct"]) for line in lines] == expected
        assert summary == {
            "read": 3, "converted": 3, "events": 3, "ignored": {}, "bad": [], "bad_by_reason": {}, "bad_left_out": 0,
        }  # fmt: skip


def test_the_summary_accounts_for_everything(tmp_path: Path) -> None:
    """What was ignored by kind, what was bad with its place and reason; the exit status says that something was."""
    file = tmp_path / "events.jsonl"
    bad = xapi_answer("bob", 4) | {"timestamp": "soon"}
    file.write_bytes(lines_of(GOOD[0], PREFERRED) + b"{oops\n" + lines_of(envelope(GOOD[1], {"id": "x"}), bad, GOOD[0]))
    result, lines, summary = run(file)
    assert result.exit_code == 1
    assert len(lines) == summary["events"] == summary["converted"] == 2
    assert summary["ignored"] == {"preferred": 1, "sent again": 1}
    assert summary["read"] == 7
    assert [(bad["place"], bad["reason"]) for bad in summary["bad"]] == [
        (f"{file}, line 3", "not_json"),
        (f"{file}, line 4, data.1", summary["bad"][1]["reason"]),
        (f"{file}, line 5", "bad_value"),
    ]
    assert "timestamp: expected" in summary["bad"][2]["detail"]


def test_the_summary_is_short_however_much_is_bad(tmp_path: Path) -> None:
    """The first 1,000 places, and of the others how many there were of each reason; kinds without end are `other`."""
    file = tmp_path / "events.jsonl"
    kinds = [statement("ada", n, verb=f"http://verbs.example/kind{n}") for n in range(300)]
    file.write_bytes(b"{x\n" * 3_000 + lines_of(xapi_answer("bob", 4) | {"timestamp": "soon"}, *kinds))
    result, _, summary = run(file)
    assert result.exit_code == 1
    assert [bad["place"] for bad in summary["bad"]] == [f"{file}, line {n}" for n in range(1, 1_001)]
    assert summary["bad_by_reason"] == {"not_json": 3_000, "bad_value": 1}
    assert summary["bad_left_out"] == 2_001
    assert (len(summary["ignored"]), summary["ignored"]["other"]) == (201, 100)
    assert len(result.stderr) < 400_000
    assert "3,001 bad; the first" in converted_from(file, "auto", Settings()).told


@pytest.mark.parametrize(
    ("header", "what"),
    [
        ("user_id,item_id,skill_id,correct", "answers in our own format"),
        ("\ufeffuser_id,item_id,skill_id,correct,timestamp", "answers in our own format"),
        ("Anon Student Id\tProblem Name\tStep Name\tTime\tOutcome", "transactions from DataShop"),
    ],
)
def test_a_table_of_past_answers_is_told_as_such(tmp_path: Path, header: str, what: str) -> None:
    """In one sentence that names the command, not one for each row; gzipped and from standard input, too."""
    content = f"{header}\n{'1,2,3,1,4' * 9}\n".encode()
    plain, packed = tmp_path / "answers.csv", tmp_path / "answers.csv.gz"
    plain.write_bytes(content)
    packed.write_bytes(gzip.compress(content))
    told = {str(plain): run(plain), str(packed): run("--from", "xapi", packed), "standard input": run(given=content)}
    for name, (result, lines, summary) in told.items():
        assert (result.exit_code, lines, summary["read"]) == (2, [], 0)
        sentence, _ = result.stderr.splitlines()
        assert sentence == (
            f"stream: {name}: expected events as JSON, found a table of past answers ({what}); `stream replay FILE` "
            "sends those"
        )


def test_a_table_of_something_else_is_bad_events(tmp_path: Path) -> None:
    """Nothing can be said of a header that is of no format."""
    file = tmp_path / "list.csv"
    file.write_bytes(b'name,"age\n1,2\n')
    result, _, summary = run(file)
    assert (result.exit_code, summary["bad_by_reason"]) == (1, {"not_json": 2})


def test_a_statement_without_a_time_has_that_of_its_file(tmp_path: Path) -> None:
    """As a store would put down when it came; marked, for the statement does not say so. Standard input is now."""
    timeless = {k: v for k, v in xapi_answer("ada", 1).items() if k != "timestamp"}
    file, written = tmp_path / "h5p.jsonl", datetime(2026, 3, 2, 9, 15, tzinfo=UTC)
    file.write_bytes(lines_of(timeless, xapi_answer("bob", 2)))
    os.utime(file, (written.timestamp(), written.timestamp()))
    _, (of_file, own), _ = run(file)
    assert datetime.fromisoformat(of_file["timestamp"]) == written
    assert of_file["metadata"]["timestamp_derived"] is True
    assert "timestamp_derived" not in own["metadata"]
    _, (of_input,), _ = run(given=lines_of(timeless))
    assert datetime.fromisoformat(of_input["timestamp"]) > written


def test_ignored_events_alone_are_no_failure(tmp_path: Path) -> None:
    """Nothing comes out, and nothing is wrong."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines_of(PREFERRED))
    result, lines, summary = run(file)
    assert (result.exit_code, lines, summary["ignored"]) == (0, [], {"preferred": 1})


def test_several_files_are_one_story(tmp_path: Path) -> None:
    """An item opened in the first is answered in the second."""
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(lines_of(statement("ada", 0, verb="http://adlnet.gov/expapi/verbs/initialized", item=3)))
    second.write_bytes(lines_of(xapi_answer("ada", 1, item=3)))
    _, lines, summary = run(first, second)
    assert lines[-1]["duration_seconds"] == 60.0
    assert summary["read"] == 2


def test_a_named_format_is_believed(tmp_path: Path) -> None:
    """What is not of it is bad, and says which field tells."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines_of(GOOD[1]))
    result, _, summary = run("--from", "xapi", file)
    assert result.exit_code == 1
    assert summary["bad"][0]["reason"] == "missing_field"


def test_after_a_rotation_each_event_has_the_pseudonym_of_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the settings that the documents name: what happened before keeps the old one, whenever it comes."""
    keys = {"KEY": "new secret of the school", "PREVIOUS_KEY": "old secret of the school"}
    for name, value in (keys | {"SINCE": "2026-03-02T10:02:00Z"}).items():
        monkeypatch.setenv(f"STREAM_PSEUDONYM_{name}", value)
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines_of(xapi_answer("ada", 3), xapi_answer("ada", 1)))
    _, lines, _ = run(file)
    expected = [pseudonym(keys[name].encode(), "ada@school.example") for name in ("KEY", "PREVIOUS_KEY")]
    assert [line["user_id"] for line in lines] == expected


def test_under_a_key_users_are_pseudonyms(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command speaks as the worker would."""
    monkeypatch.setenv("STREAM_PSEUDONYM_KEY", "a secret of the school")
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines_of(*GOOD))
    result, lines, _ = run(file)
    assert len({line["user_id"] for line in lines}) == 2
    assert "ada@" not in result.stdout


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.mkdir(), "is a folder"),
        (lambda path: None, "does not exist"),
        (lambda path: path.write_bytes(b"\x1f\x8b\x08\x00broken"), "cannot be read to its end"),
    ],
)
def test_what_is_no_file_of_events_is_told(tmp_path: Path, make: Any, says: str) -> None:
    """In one sentence, with the status of a user's mistake."""
    make(tmp_path / "events")
    result, lines, _ = run(tmp_path / "events")
    assert (result.exit_code, lines) == (2, [])
    assert says in result.stderr
    assert "Traceback" not in result.stderr


def test_an_empty_file_is_nothing(tmp_path: Path) -> None:
    """And no failure."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(b"\n \n")
    result, lines, summary = run(file)
    assert (result.exit_code, lines, summary["read"]) == (0, [], 0)


INDENTED = orjson.dumps(GOOD[1], option=orjson.OPT_INDENT_2)


@pytest.mark.parametrize(
    ("bad", "at", "count"),
    [
        (b"{oops\n", [2], 1),
        (b"oops\n\nagain\n", [2, 4], 2),
        (INDENTED[: len(INDENTED) // 2].rpartition(b"\n")[0] + b"\n", [2], 1),
        (INDENTED.replace(b'"Z"', b'"Z').replace(b": {", b": oops {", 1) + b"\n", [2], 1),
        (b"[\n", [2], 1),
        (b"]\n", [2], 1),
        (b'"text" 12\n', [2], 1),
        (b'{"a": "\xff"}\n', [2], 1),
        (b'{"a": NaN}\n', [2], 1),
        (b"[" * 100_000 + b"\n", [2], 1),
        (b'{"a":\n' + b"1" * 7_000 + b"}\n", [2], 1),
    ],
    ids=[
        "broken", "text", "cut off", "broken within", "open", "close", "no objects", "no UTF-8", "NaN", "deep",
        "7000 digits",
    ],
)  # fmt: skip
def test_what_is_no_json_costs_nothing_else(tmp_path: Path, bad: bytes, at: list[int], count: int) -> None:
    """It is told with its line; the events around it are converted, those over several lines too."""
    file = tmp_path / "events.json"
    file.write_bytes(lines_of(GOOD[0]) + bad + lines_of(GOOD[1]) + orjson.dumps(GOOD[2], option=orjson.OPT_INDENT_2))
    result, lines, summary = run(file)
    assert result.exit_code == 1
    assert len(lines) == 3
    assert [fault["place"] for fault in summary["bad"]] == [f"{file}, line {number}" for number in at]
    assert {fault["reason"] for fault in summary["bad"]} == {"not_json"}
    assert summary["read"] == 3 + count


def test_what_orjson_refuses_is_bad_at_its_line(tmp_path: Path) -> None:
    """Whatever other readers of JSON take: the worker reads with the same."""
    file = tmp_path / "events.json"
    big = INDENTED[:-2] + b',\n  "big": ' + str(2**70).encode() + b".0e999\n}\n"
    file.write_bytes(INDENTED + b"\n" + big + INDENTED.replace(b'"', b'"\\ud800', 1) + b"\n" + lines_of(GOOD[0]))
    _, lines, summary = run(file)
    assert len(lines) == 2
    assert [fault["reason"] for fault in summary["bad"]] == ["not_json", "not_json"]


@pytest.mark.parametrize("between", [b"\n", b"", b"\n\n"])
def test_reading_takes_time_by_size(tmp_path: Path, between: bytes) -> None:
    """Values one after another, 40,000 of them, are read in moments, not in minutes."""
    option = orjson.OPT_INDENT_2 if between else None
    content = between.join(orjson.dumps({"n": n, "in": [{}]}, option=option) for n in range(40_000))
    file = tmp_path / "events.json"
    file.write_bytes(content)
    began = time.thread_time()  # what else this machine, or this process, does is not counted
    reads = list(messages(file))
    assert time.thread_time() - began < 5
    assert [read.value["n"] for read in reads] == list(range(40_000))
    lines = 6 if between else 0
    assert reads[-1].place == f"{file}, line {1 + 39_999 * (lines + len(between) - bool(between))}"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be"])
def test_utf_16_is_told_as_such(tmp_path: Path, encoding: str) -> None:
    """In one sentence, not one for each line."""
    file = tmp_path / "events.json"
    file.write_bytes(
        ("\ufeff" if encoding != "utf-16" else "").encode(encoding) + lines_of(*GOOD).decode().encode(encoding)
    )
    result, lines, summary = run(file)
    assert (result.exit_code, lines, summary["read"]) == (2, [], 0)
    sentence, _ = result.stderr.splitlines()
    assert sentence == f"stream: {file}: expected UTF-8, found UTF-16; save the file as UTF-8"


def test_all_files_are_looked_for_first(tmp_path: Path) -> None:
    """A name that is wrong is told before anything comes out."""
    file = tmp_path / "events.json"
    file.write_bytes(lines_of(*GOOD))
    result, lines, summary = run(file, tmp_path / "missing.json")
    assert (result.exit_code, lines, summary["read"]) == (2, [], 0)
    assert "missing.json does not exist" in result.stderr.splitlines()[0]


def test_a_file_that_is_cut_off_has_its_summary(tmp_path: Path) -> None:
    """What came of it until then counts; the sentence stands before the summary."""
    file = tmp_path / "events.json.gz"
    file.write_bytes(gzip.compress(lines_of(*GOOD, *(xapi_answer("ada", n) for n in range(10, 3_000))))[:-2_000])
    result, lines, summary = run(file)
    assert result.exit_code == 2
    assert len(lines) == summary["events"] > 100
    sentence, _ = result.stderr.splitlines()
    assert "cannot be read to its end" in sentence


class _Broken:
    """A family whose code raises on every other event."""

    def __init__(self) -> None:
        self.calls = 0

    def is_one(self, event: Mapping[str, Any]) -> bool:
        return xapi.is_one(event)

    def parts(self, event: Mapping[str, Any]) -> None:
        return None

    def convert(self, event: Mapping[str, Any], carried: Carried = UNSAID) -> Conversion:
        self.calls += 1
        if self.calls == 1:
            raise KeyError("ada")
        return xapi.convert(event, carried)


def test_an_adapter_that_raises_costs_one_event(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is bad, with the exception's name; all others go on."""
    monkeypatch.setattr(detection, "FAMILIES", {"xapi": _Broken()})
    file = tmp_path / "events.json"
    file.write_bytes(lines_of(GOOD[0], GOOD[2]))
    result, lines, summary = run(file)
    assert (result.exit_code, len(lines), summary["read"]) == (1, 1, 2)
    (fault,) = summary["bad"]
    assert fault == {
        "place": f"{file}, line 1", "reason": "processing_failed",
        "detail": "our own code raised KeyError; please report it",
    }  # fmt: skip


def test_an_adapter_that_raises_ends_neither_replay_nor_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is sent; of the demo's worker a dead letter is due."""
    file = tmp_path / "events.json"
    file.write_bytes(lines_of(GOOD[0], GOOD[2]))
    monkeypatch.setattr(detection, "FAMILIES", {"xapi": _Broken()})
    replayed = converted_from(file, "auto", Settings())
    assert replayed.total == 1
    assert "1 bad; the first" in replayed.told
    monkeypatch.setattr(detection, "FAMILIES", {"xapi": _Broken()})
    shown = source_of(str(file), "auto", None, 0, Settings())
    assert [message.is_faulty for message in shown.messages] == [True, False]
    assert shown.total == 1


@pytest.mark.parametrize(
    ("command", "status", "says"),
    [
        ("$STREAM convert <&-", 2, "standard input is closed"),
        ("$STREAM convert $FILE >&-", 2, "standard output is closed"),
        ("$STREAM convert $FILE > /dev/full", 2, "standard output: cannot be written to (No space left on device)"),
        ("$STREAM convert $SHORT > /dev/full", 2, "standard output: cannot be written to (No space left on device)"),
        ("cat $FILE | $STREAM convert | head -1 > /dev/null", 1, ""),
        ("$STREAM convert $FILE <&- > /dev/null", 0, ""),
        ("$STREAM convert <(cat $FILE) > /dev/null", 0, ""),
    ],
)
def test_the_shells_doings_are_sentences(tmp_path: Path, command: str, status: int, says: str) -> None:
    """Closed input or output, a full disk, a reader that has enough."""
    file, short = tmp_path / "events.json", tmp_path / "short.json"
    file.write_bytes(lines_of(*(xapi_answer("ada", n) for n in range(3_000))))
    short.write_bytes(lines_of(*GOOD))
    done = shell(command, FILE=str(file), SHORT=str(short))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
    *sentences, _ = [*done.stderr.splitlines(), ""] if "head" in command else done.stderr.splitlines() or [""]
    assert bool(sentences) == bool(says)
    assert says in done.stderr


def test_a_pseudonym_is_that_of_the_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With mailto: or without; and under a key that was read from a file, which ends in a newline."""
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines_of(GOOD[0]))
    names = set()
    for key in ("a secret of the school", "a secret of the school\n", "a secret of the school\r\n"):
        monkeypatch.setenv("STREAM_PSEUDONYM_KEY", key)
        _, (line,), _ = run(file)
        names.add(line["user_id"])
        for user in ("ada@school.example", "mailto:ada@school.example", "MAILTO:ada@school.example"):
            names.add(CliRunner().invoke(main, ["pseudonym", user]).stdout.strip())
    assert len(names) == 1
    assert "case matters" in CliRunner().invoke(main, ["pseudonym", "--help"]).stdout


@pytest.mark.parametrize(("key", "warnings"), [("123456789012345", 1), ("1234567890123456", 0)])
def test_a_short_key_is_warned_of(tmp_path: Path, key: str, warnings: int) -> None:
    """Once, by what runs for long; a converted file has its summary alone."""
    done = shell("$STREAM ingest", STREAM_PSEUDONYM_KEY=key, STREAM_SOURCES="")
    assert done.stderr.count("pseudonyms.key_is_short") == warnings
    assert key not in done.stderr
    assert done.returncode == 2
    file = tmp_path / "events.jsonl"
    file.write_bytes(lines_of(GOOD[0]))
    assert len(shell(f"$STREAM convert {file}", STREAM_PSEUDONYM_KEY=key).stderr.splitlines()) == 1


@pytest.mark.parametrize("command", ["demo", "replay"])
def test_help_names_the_formats_of_events(command: str) -> None:
    """All of them, beside where those of answers stand."""
    said = CliRunner().invoke(main, [command, "--help"]).stdout
    assert all(name in said for name in detection.FORMATS)
    assert "docs/answers.md" in said
