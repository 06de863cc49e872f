"""`stream demo` as a newcomer runs it: to its end, with mistakes, and stopped by Ctrl-C."""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stream.settings import Settings
from stream.transport.outbox import KafkaOutbox
from tests.adapters.platforms import caliper_answer, statement, xapi_answer
from tests.broker.process import free_ports

pytestmark = pytest.mark.timeout(180)


_STARTED: list[subprocess.Popen[str]] = []


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """End what a test that failed has left running, and its children with it."""
    yield
    while _STARTED:
        process = _STARTED.pop()
        if process.poll() is None:
            process.terminate()
            process.communicate(timeout=30)


def start(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start the demo with its temporary files in `folder`; it ends with the test."""
    process = subprocess.Popen(
        [sys.executable, "-m", "stream.cli", "demo", *arguments],
        env=os.environ | {"TMPDIR": str(folder)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_in_the_background,  # noqa: PLW1509 (one system call)
    )
    _STARTED.append(process)
    return process


def _in_the_background() -> None:
    """Be as a shell without a terminal has it that starts a command with an ampersand."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the tests may run under `nohup`, which the demo would respect


def run(folder: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the demo to its end, and return exit status, standard output and standard error."""
    process = start(folder, *arguments)
    out, err = process.communicate(timeout=150)
    return process.returncode, out, err


def children_of(pid: int) -> list[int]:
    """Return the processes that a process has started and that still run."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def await_children(process: subprocess.Popen[str], folder: Path) -> dict[str, int]:
    """Return worker and trainer by name, as soon as events flow."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        logs = "".join(path.read_text(errors="replace") for path in folder.glob("learnerstream-demo-*/*.log"))
        if "trainer.started" in logs and "worker.started" in logs:
            named = {}
            for child in children_of(process.pid):
                command = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                named[command[3].decode()] = child
            return named
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.05)
    raise AssertionError("the demo did not start in a minute")


def exists(pid: int) -> bool:
    """Return whether a process still runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def is_busy(pid: int) -> bool:
    """Return whether a process runs and has not ended: its parent may have yet to hear of it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_simulated_learners_are_each_predicted_once(tmp_path: Path) -> None:
    """The report has every key that it promises, and its counts are exact."""
    report_file = tmp_path / "demo.json"
    status, out, err = run(tmp_path, "--headless", "--events", "1500", "--port", "0", "--report", str(report_file))
    assert status == 0, err
    report = json.loads(report_file.read_text())
    keys = "seconds events predictions distinct_prediction_ids latency_s swaps models live after_swap"
    assert set(keys.split()) <= report.keys()
    assert report["events"]["answers"] == 1_500
    assert report["events"]["dead"] == 0
    assert report["events"]["read"] == report["events"]["sent"] > 1_500
    assert report["predictions"]["correctness"] == report["predictions"]["time"] == 1_500
    risk = report["risk"]
    assert risk["by_reason"]["academics"] == report["events"]["academics"] > 240
    assert sum(risk["by_reason"].values()) == report["predictions"]["risk"]
    assert list(risk["categories"]) == ["Low", "Medium", "High", "Critical"]
    assert sum(risk["categories"].values()) == 240
    at_risk = risk["categories"]["High"] + risk["categories"]["Critical"]
    assert risk["entered_high"] - risk["left_high"] == at_risk
    for change in risk["examples"]:
        assert (change["score"] >= 0.5) == (change["to"] in {"High", "Critical"})
        assert change["factors"]
    assert report["distinct_prediction_ids"] == sum(report["predictions"].values())
    assert 0 < report["latency_s"]["p50"] <= report["latency_s"]["p99"]
    assert report["live"]["auc"] > 0.5
    assert "1,500 answers" in out
    assert f"High was entered {risk['entered_high']} times" in out
    assert list(tmp_path.iterdir()) == [report_file]


def test_a_file_of_answers_is_the_source(tmp_path: Path) -> None:
    """`--source FILE` sends each row once, and `--events` fewer of them."""
    rows = [f"u{n % 20},i{n % 9},s{n % 3},{int(n % 5 > 1)}" for n in range(400)]
    file = tmp_path / "answers.csv"
    file.write_text("user_id,item_id,skill_id,correct\n" + "\n".join(rows) + "\n")
    report_file = tmp_path / "demo.json"
    status, _, err = run(
        tmp_path, "--headless", "--source", str(file), "--events", "300", "--port", "0", "--report", str(report_file)
    )
    assert status == 0, err
    report = json.loads(report_file.read_text())
    assert report["events"] == {"answers": 300, "academics": 0, "sent": 300, "read": 300, "dead": 0}
    assert report["predictions"]["correctness"] == report["predictions"]["time"] == 300


def oulad(folder: Path) -> Path:
    """Return a folder of OULAD with 30 students, of whom every third hands in nothing, and fails."""
    folder.mkdir()
    key = "code_module,code_presentation,id_student"
    (folder / "courses.csv").write_text("code_module,code_presentation,module_presentation_length\nAAA,2013J,45\n")
    students = [f"AAA,2013J,{n},A Level,0,60,{'Pass' if n % 3 else 'Fail'}" for n in range(30)]
    head = f"{key},highest_education,num_of_prev_attempts,studied_credits,final_result"
    (folder / "studentInfo.csv").write_text("\n".join([head, *students]) + "\n")
    events = [f"AAA,2013J,{n},-5,registered,,,," for n in range(30)]
    for work in range(4):
        day = 10 * work + 10
        events += [
            f"AAA,2013J,{n},{day},assessment_submitted,w{work},25,80,-1" if n % 3
            else f"AAA,2013J,{n},{day},assessment_overdue,w{work},25,,"
            for n in range(30)
        ]  # fmt: skip
    head = f"{key},day,event,id_assessment,weight,score,days_late"
    (folder / "events.csv").write_text("\n".join([head, *events]) + "\n")
    return folder


def test_a_folder_of_oulad_is_the_source(tmp_path: Path) -> None:
    """`--source FOLDER` sends what the university recorded; nobody answers, and each record is scored once."""
    folder = oulad(tmp_path / "oulad")
    report_file = tmp_path / "demo.json"
    status, out, err = run(tmp_path, "--headless", "--source", str(folder), "--port", "0", "--report", str(report_file))
    assert status == 0, err
    report = json.loads(report_file.read_text())
    assert report["events"] == {"answers": 0, "academics": 180, "sent": 180, "read": 180, "dead": 0}
    assert report["risk"]["by_reason"]["academics"] == 180
    assert report["predictions"]["correctness"] == 0
    assert report["risk"]["entered_high"] >= 10
    failing = [change for change in report["risk"]["examples"] if change["to"] in {"High", "Critical"}]
    assert all(int(change["user_id"].split("-")[-1]) % 3 == 0 for change in failing)
    assert all(change["factors"][0]["feature"] == "missing" for change in failing)
    assert report["live"]["auc"] is None
    assert "180 academic events" in out


def test_fewer_events_of_a_folder_may_be_asked_for(tmp_path: Path) -> None:
    """`--events` counts academic events where there are no answers, and says how many there are."""
    folder = oulad(tmp_path / "oulad")
    report_file = tmp_path / "demo.json"
    arguments = ("--headless", "--source", str(folder), "--port", "0", "--report", str(report_file))
    status, _, err = run(tmp_path, *arguments, "--events", "70")
    assert status == 0, err
    assert json.loads(report_file.read_text())["events"]["academics"] == 70
    status, _, err = run(tmp_path, *arguments, "--events", "181")
    assert status == 2
    assert "expected at most 180, the academic events in" in err


def test_a_folder_without_a_format_is_one_sentence(tmp_path: Path) -> None:
    """A folder that is not of OULAD: what was expected, exit status 2."""
    status, _, err = run(tmp_path, "--headless", "--source", str(tmp_path))
    assert status == 2
    assert "expected a file of answers, or a" in err
    assert len(err.strip().splitlines()) == 1


def test_a_wrong_path_is_one_sentence(tmp_path: Path) -> None:
    """Nothing at the path: what was expected, what was found, exit status 2, no traceback."""
    status, out, err = run(tmp_path, "--headless", "--source", str(tmp_path / "nowhere.csv"))
    assert (status, out) == (2, "")
    assert "expected `simulate`, a file of past answers or of another platform's events, or a folder of OULAD" in err
    assert "found nothing at" in err
    assert len(err.strip().splitlines()) == 1


def test_more_events_than_the_file_has_is_one_sentence(tmp_path: Path) -> None:
    """`--events` above the file's rows says how many there are."""
    file = tmp_path / "answers.csv"
    file.write_text("user_id,item_id,skill_id,correct\nu,i,s,1\n")
    status, _, err = run(tmp_path, "--source", str(file), "--events", "5")
    assert status == 2
    assert "expected at most 1" in err


@pytest.mark.parametrize("option", ["--port", "--page-port"])
def test_a_taken_port_is_one_sentence_that_names_the_option(tmp_path: Path, option: str) -> None:
    """The port is looked at before anything starts."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = run(tmp_path, "--headless", "--events", "10", "--port", "0", option, str(port))
    assert status == 2
    assert f"port {port} on 127.0.0.1 cannot be used" in err
    assert f"choose another by {option}\n" in err
    assert list(tmp_path.iterdir()) == []


def test_a_report_that_could_not_be_written_is_told_before_the_run(tmp_path: Path) -> None:
    """No folder for the report: said at once, not after a minute of work."""
    status, _, err = run(tmp_path, "--headless", "--report", str(tmp_path / "no" / "demo.json"), "--port", "0")
    assert status == 2
    assert "--report: expected a folder that can be written to" in err


@pytest.mark.skipif(sys.platform != "linux", reason="children are found by /proc")
def test_the_page_shows_the_demo_and_what_others_send_beside_it(tmp_path: Path) -> None:
    """
    With `--stay` all goes on after the end: the page says that it is over, and then shows an event of somebody else.

    Neither that event nor one that cannot be read makes the demo's counts wrong. The page may go, the demo stays, and
    ends with its terminal as it should.
    """
    port, report_file = free_ports(1)[0], tmp_path / "demo.json"
    process = start(
        tmp_path, "--headless", "--events", "400", "--port", "0", "--page-port", str(port), "--stay",
        "--report", str(report_file),
    )  # fmt: skip
    assert process.stderr is not None
    address = f"http://127.0.0.1:{port}"
    assert process.stderr.readline() == f"live page: {address}\n"
    line = process.stderr.readline()
    assert line.startswith("another terminal: export STREAM_BROKER=127.0.0.1:")
    settings = Settings.model_validate(
        {name.removeprefix("STREAM_").lower(): value for name, value in (v.split("=", 1) for v in line.split()[3:])}
    )
    assert (settings.partitions, settings.topics) == (4, "trust")
    outbox = KafkaOutbox(settings)
    for correct in (True, "perhaps"):  # the second cannot be read
        event = {"event_id": f"mine-{correct}", "type": "quiz_complete", "user_id": "me", "topic_id": "fractions",
                 "correct": correct, "timestamp": "2026-03-02T06:00:00Z"}  # fmt: skip
        outbox.send("interactions", key=b"me", value=json.dumps(event).encode())
    outbox.flush_now()
    while "Ctrl-C ends them" not in (said := process.stderr.readline()):
        assert said, process.communicate()
    over = ended(port, answers=401)
    report = json.loads(report_file.read_text())
    assert report["events"]["answers"] == 400
    assert report["predictions"]["correctness"] == report["predictions"]["time"] == 400
    assert over["totals"]["answers"] == over["totals"]["correctness"] == 401
    assert (over["totals"]["dead_letters"], report["events"]["dead"], over["skipped"]) == (1, 0, 0)
    assert over["progress"] == {"done": 400, "total": 400, "what": "answers"}
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/users?id=me", timeout=10) as found:
        assert [answer["correct"] for answer in json.load(found)["answers"]] == [True]
    os.kill(await_children(process, tmp_path)["page"], signal.SIGKILL)
    assert "the live page ended with status -9, the demo goes on without it" in process.stderr.readline()
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, "Traceback" in err) == (0, False)
    assert "400 answers in" in out
    assert list(tmp_path.iterdir()) == [report_file]


def ended(port: int, answers: int) -> dict[str, Any]:
    """Return the first snapshot of a page that says that the demo is over and that has seen so many answers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/snapshots", timeout=60) as lines:
        for line in lines:
            snapshot: dict[str, Any] = json.loads(line[len(b"data: ") :]) if line.startswith(b"data: ") else {}
            if snapshot.get("state") == "ended" and snapshot["totals"]["correctness"] >= answers:
                return snapshot
    raise AssertionError("the page has ended")


@pytest.mark.skipif(sys.platform != "linux", reason="children are found by /proc")
def test_ctrl_c_stops_within_five_seconds_and_leaves_nothing(tmp_path: Path) -> None:
    """
    In the middle of a run: exit status 130, no report, no process, no temporary file.

    Also of a run in the background, which is started to ignore Ctrl-C; who goes on telling it to end changes nothing.
    """
    report_file = tmp_path / "demo.json"
    process = start(tmp_path, "--headless", "--port", "0", "--report", str(report_file))
    children = await_children(process, tmp_path)
    assert set(children) == {"worker", "trainer"}
    pressed = time.monotonic()
    process.send_signal(signal.SIGINT)
    while process.poll() is None and all(map(is_busy, children.values())):
        time.sleep(0.005)
    for again in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        process.send_signal(again)
    _, err = process.communicate(timeout=60)
    assert time.monotonic() - pressed < 5
    assert process.returncode == 130
    assert "Traceback" not in err
    assert not any(map(exists, children.values()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="children are found by /proc")
def test_a_worker_that_dies_ends_the_demo_with_its_last_words(tmp_path: Path) -> None:
    """The demo does not go on without its worker: exit status 1, and what the worker said."""
    process = start(tmp_path, "--headless", "--port", "0")
    children = await_children(process, tmp_path)
    os.kill(children["worker"], signal.SIGKILL)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "the worker ended with status -9" in err
    assert "worker.started" in err
    assert not exists(children["trainer"])
    assert list(tmp_path.iterdir()) == []


def test_events_of_other_platforms_are_converted_and_predicted(tmp_path: Path) -> None:
    """XAPI and Caliper mixed in one file: every answer predicted once, what is bad a dead letter, the rest counted."""
    file, report_file = tmp_path / "events.jsonl", tmp_path / "demo.json"
    answers = [
        (xapi_answer if user % 2 else caliper_answer)(f"user{user}", number)
        for number in range(40)
        for user in range(10)
    ]
    ignored = statement("user1", 90, verb="http://adlnet.gov/expapi/verbs/preferred")
    bad = xapi_answer("user1", 91) | {"timestamp": "soon"}
    # Neither id nor time: both follow from the file.
    answers[7] = {name: value for name, value in answers[7].items() if name not in {"id", "timestamp"}}
    # Over several lines; a number of 70 bits is one, one without end is none.
    answers[8] |= {"version": 2**70}
    endless = xapi_answer("user1", 92) | {"version": math.inf}
    lines = [json.dumps(event) for event in [*answers[:200], ignored, bad, *answers[200:]]]
    lines[8:8] = [json.dumps(event, indent=1) for event in (endless, answers[8])]
    del lines[10]
    file.write_text("\n".join(lines) + "\n")
    status, _, err = run(
        tmp_path, "--headless", "--source", str(file), "--format", "auto", "--port", "0", "--report", str(report_file)
    )
    assert status == 0, err
    assert "403 events read, 400 converted, 1 ignored (1 preferred), 2 bad" in err
    report = json.loads(report_file.read_text())
    assert (report["events"]["answers"], report["events"]["dead"]) == (400, 2)
    assert report["predictions"]["correctness"] == report["predictions"]["time"] == 400


def test_a_file_without_evidence_is_told(tmp_path: Path) -> None:
    """Not after a minute of waiting for predictions that cannot come."""
    file = tmp_path / "events.jsonl"
    file.write_text(json.dumps(statement("user1", 90, verb="http://adlnet.gov/expapi/verbs/preferred")) + "\n")
    status, _, err = run(tmp_path, "--headless", "--source", str(file), "--port", "0")
    assert status == 2
    assert "expected answers, grades or other evidence of learning, found none in 1 messages" in err


def test_a_format_without_a_file_is_one_sentence(tmp_path: Path) -> None:
    """It is not left unheard."""
    status, out, err = run(tmp_path, "--headless", "--format", "xapi", "--port", "0")
    assert (status, out) == (2, "")
    assert err == "stream: --format xapi: expected a file in --source, found none; leave it out\n"
