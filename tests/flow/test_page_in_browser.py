"""The live page beside a real system: what is on the screen in Chromium equals what is in the topics."""

import math
import re
from collections import Counter
from operator import itemgetter
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from stream.models.risk import RISK
from tests.flow.releases import announce, make_release
from tests.flow.system import Message, System, answer, await_effect, distinct
from tests.page.browser import complaints

pytestmark = pytest.mark.timeout(180)

USERS, ANSWERS = 9, 12
SKILLS = ("fractions", "decimals", "area")
WAIT_MS = 30_000


def answers(first: int, end: int) -> list[tuple[str, Message]]:
    """Return answers of users in turn, who are not equally good."""
    return [
        answer(f"user-{user}", n, topic_id=SKILLS[n % 3], correct=(n * 5 + user * 3) % 7 >= user % 4)
        for n in range(first, end)
        for user in range(USERS)
    ]


def records() -> list[tuple[str, Message]]:
    """Return lectures of users, of which the later ones have missed more."""
    return [
        ("academics", {
            "event_id": f"lecture-{user}-{n}", "type": "attendance_recorded", "user_id": f"user-{user}",
            "status": "absent" if n < user else "present", "timestamp": f"2026-03-02T{10 + n}:00:00Z",
        })
        for user in range(USERS) for n in range(6)
    ]  # fmt: skip


def judged(messages: list[Message]) -> list[Message]:
    """Return the training examples of answers, one of an id; the others are of weeks."""
    return distinct((m for m in messages if m.get("type", "answer") == "answer"), "example_id")


def half_up(value: float) -> str:
    """Return a whole number as a browser writes it."""
    return f"{math.floor(value + 0.5):,}"


def duration(seconds: float | None) -> str:
    """Return seconds as the page writes them."""
    if seconds is None:
        return "\N{EN DASH}"
    return f"{seconds:.1f} s" if seconds < 10 else f"{half_up(seconds)} s"


def auc(examples: list[Message], said: str) -> float:
    """Return the share of pairs of a right and a wrong answer in which the right one was more likely, ties half."""
    right, wrong = ([float(e[said]) for e in examples if e["correct"] is kind] for kind in (True, False))
    return sum((r > w) + (r == w) / 2 for r in right for w in wrong) / (len(right) * len(wrong))


def logloss(examples: list[Message]) -> float:
    """Return the mean log loss of what served."""
    return -sum(math.log(e["p_before"] if e["correct"] else 1 - e["p_before"]) for e in examples) / len(examples)


def table(page: Page, name: str) -> list[list[str]]:
    """Return the rows of a table's body as texts."""
    rows: list[list[str]] = page.locator(f"{name} tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


def texts(page: Page, name: str) -> list[str]:
    """Return the text of each element, spaces joined."""
    return [" ".join(text.split()) for text in page.locator(name).all_text_contents()]


def test_what_is_on_the_screen_is_what_is_in_the_topics(system: System, chromium: Browser) -> None:
    """Counts, quality, swaps, the heat map, users at risk, a user's path and dead letters; an erased user is gone."""
    first, second = make_release(system, 1, lineage="lstm-page"), make_release(system, 2, lineage="lstm-page")
    announce(system, first)
    system.start("page")
    system.start("worker")
    page = chromium.new_page(timezone_id="UTC", viewport={"width": 1280, "height": 900})
    page.set_default_timeout(WAIT_MS)
    home = f"http://127.0.0.1:{system.ports['page']}/"
    wrong = complaints(page, home, ("404",))  # until the first answer the user is not known
    page.goto(f"{home}#user=user-3")

    system.send([*answers(0, 6), *records()])
    expect(page.locator("#answers")).to_have_text(str(6 * USERS), timeout=WAIT_MS)
    announce(system, second)
    swaps = system.events("model_swapped", 2)
    system.send([*answers(6, ANSWERS), ("interactions", {"type": "quiz_complete", "user_id": "user-1"})])
    count = USERS * ANSWERS
    expect(page.locator("#answers")).to_have_text(str(count), timeout=WAIT_MS)
    examples = judged(system.read("training-examples", until=lambda found: len(judged(found)) >= count))
    expect(page.locator("#dead-count")).to_have_text("1", timeout=WAIT_MS)

    assert_figures(page, examples, swaps)
    assert_heat(page, distinct(system.predictions("correctness", count), "prediction_id"))
    assert_path(page, [e for e in examples if e["user_id"] == "user-3"])
    # Of each record, of the day on which each user first answered, and of the week that is over.
    risks = system.read("predictions.risk", until=lambda found: len(found) >= USERS * (6 + 1 + 1))
    assert_risk(page, distinct(risks, "prediction_id"))
    (dead,) = system.read("dead-letters", until=bool)
    place = f"{dead['topic']}, partition {dead['partition']}, offset {dead['offset']}"
    assert texts(page, "#letters .why, #letters .source") == [" ".join(dead["detail"].split()), place]

    erased = system.command("erase", "user-3")
    assert erased.returncode == 0, erased.stderr
    expect(page.get_by_role("link", name="user-3", exact=True)).to_have_count(0, timeout=WAIT_MS)
    expect(page.locator("#path-note")).to_contain_text("Nothing is known of user-3", timeout=WAIT_MS)
    expect(page.locator("#answers-card")).to_be_hidden()
    assert wrong == []
    page.close()


def assert_figures(page: Page, examples: list[Message], swaps: list[Message]) -> None:
    """Compare quality with the training examples, and the marks with the swaps."""
    expect(page.locator("#auc")).to_have_text(f"{auc(examples, 'p_before'):.3f}", timeout=WAIT_MS)
    expect(page.locator("#auc-more")).to_have_text(f"fallback {auc(examples, 'p_before_fallback'):.3f}")
    versions = {example["model"]["version"] for example in examples}
    assert versions == {1, 2}
    parts = {f"version {version}": [e for e in examples if e["model"]["version"] == version] for version in versions}
    told = {
        (name, str(len(part)), f"{auc(part, 'p_before'):.3f}", f"{logloss(part):.4f}")
        for name, part in (parts | {"all served": examples}).items()
    }
    await_effect(lambda: told <= {tuple(row[:4]) for row in table(page, "#versions")}, within_s=30)
    said = Counter(min(int(10 * example["p_before"]), 9) for example in examples)
    page.get_by_text("Calibration as a table").click()
    bins = [said[place] for place in range(10)]
    await_effect(lambda: [int(row[1]) for row in table(page, "#bins")] == bins, within_s=30)
    # The first swap came before the first point of the curve.
    assert texts(page, "#live .swap text")[-1] == "v2"
    happened = texts(page, "#model-knowledge .timeline .what > span")
    assert happened == [f"Version {swap['version']} went live" for swap in reversed(swaps)]


def assert_heat(page: Page, predictions: list[Message]) -> None:
    """Compare each cell with what was said last of the user's skill."""
    skills = texts(page, "#heat thead th")
    assert set(skills) == set(SKILLS)
    latest = {m["user_id"]: m["mastery"] for m in sorted(predictions, key=lambda m: int(m["source"]["offset"]))}
    wanted = {user: [half_up(100 * mastery[skill]) for skill in skills] for user, mastery in latest.items()}
    await_effect(lambda: {row[0]: row[1:] for row in table(page, "#heat")} == wanted, within_s=10)


def assert_path(page: Page, examples: list[Message]) -> None:
    """Compare the user's rows, the latest first, with the training examples."""
    assert [e["correct"] for e in examples].count(True) not in {0, ANSWERS}
    expect(page.locator("#path-answers tbody tr")).to_have_count(ANSWERS, timeout=WAIT_MS)
    for row, example in zip(table(page, "#path-answers"), reversed(examples), strict=True):
        assert row[0].startswith(", ".join(example["skills"]))
        assert example["item_id"] in row[0]
        assert row[1:] == [
            f"{half_up(100 * example['p_before'])}%", "right" if example["correct"] else "wrong",
            duration(example["median_before"]), duration(example["response_time_seconds"]),
            f"v{example['model']['version']}",
        ]  # fmt: skip
    assert page.locator("#path circle.right").count() == sum(example["correct"] for example in examples)


def assert_risk(page: Page, predictions: list[Message]) -> None:
    """Compare users, scores, categories and reasons with what was said last of each."""
    latest: dict[str, Any] = {}
    for prediction in predictions:
        assert prediction["model"]["name"] == RISK
        before = latest.get(prediction["user_id"])
        if before is None or prediction["as_of"] >= before["as_of"]:
            latest[prediction["user_id"]] = prediction
    categories = Counter(prediction["category"] for prediction in latest.values())
    shown = [f"{categories[name]} {name}" for name in ("Low", "Medium", "High", "Critical")]
    await_effect(lambda: texts(page, "#categories li") == shown, within_s=10)
    page.get_by_role("button", name=re.compile("Show all")).click()
    # Users 6 and 7 have missed the same: of equal scores the later moment comes first, then the later name.
    highest = sorted(latest.values(), key=itemgetter("score", "as_of", "user_id"), reverse=True)
    assert texts(page, "#risks .who") == [prediction["user_id"] for prediction in highest]
    assert texts(page, "#risks .verdict b") == [f"{math.floor(100 * p['score'] + 1e-9) / 100:.2f}" for p in highest]
    assert texts(page, "#risks .category") == [prediction["category"] for prediction in highest]
    for number, prediction in enumerate(highest, 1):
        reasons = texts(page, f"#risks > li:nth-child({number}) .reasons li")
        signs = ["raises it" if factor["contribution"] > 0 else "lowers it" for factor in prediction["factors"]]
        assert [reason.partition(":")[0] for reason in reasons if reason != "little is known"] == signs
