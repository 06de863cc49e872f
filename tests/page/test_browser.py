"""The page as somebody sees it: in Chromium, with what a scripted server sends; nothing serious is in anybody's way."""

import copy
import json
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, Protocol

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect

from stream.demo.view import ENDS
from stream.models.weekly import FEATURES
from stream.pipeline import MASTERED
from tests.page import snapshots
from tests.page.browser import PATIENCE_MS, axe, barriers, complaints, until
from tests.page.scripted_server import STATIC, ScriptedServer
from tests.page.snapshots import HOSTILE, SKILLS, START_S, Snapshot, path

NOTHING, MINUS = "\N{EN DASH}", "\N{MINUS SIGN}"
DESKTOP, PHONE, NARROW = {"width": 1280, "height": 900}, {"width": 390, "height": 844}, {"width": 320, "height": 640}


class Show(Protocol):
    """Opens the page with a snapshot on it."""

    def __call__(
        self,
        snapshot: Snapshot,
        fragment: str = "",
        size: dict[str, int] | None = None,
        errors: tuple[str, ...] = (),
        *,
        is_clock_ours: bool = False,
        is_never_old: bool = False,
    ) -> Page:
        """
        Open it.

        Args:
            snapshot: What the server says.
            fragment: Of the address.
            size: Of the screen, CSS pixels.
            errors: Parts of lines of the console that are expected.
            is_clock_ours: Whether time passes only when the test says so; nothing is drawn meanwhile.
            is_never_old: Whether what is shown does not age, as it does where this machine stands still for seconds.
        """
        ...


@pytest.fixture(scope="module")
def axe_source() -> str:
    """Return axe-core."""
    return axe()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Give a server that has not said anything yet, and knows the path of each user of the rich picture."""
    with ScriptedServer() as server:
        users = snapshots.rich()["heat"]["users"]
        server.users = {user["user_id"]: path(user["user_id"]) for user in users}
        yield server


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """Return what all pages share: they keep nothing there."""
    context = new_context(chromium)
    yield context
    context.close()


def new_context(chromium: Browser) -> BrowserContext:
    """Return a place for pages, which all have one clock."""
    context = chromium.new_context(timezone_id="UTC", reduced_motion="reduce")
    context.set_default_timeout(PATIENCE_MS)
    return context


@pytest.fixture
def show(chromium: Browser, context: BrowserContext, server: ScriptedServer) -> Iterator[Show]:
    """
    Open pages; at the end, none has asked another host, and none has complained but of what it was meant to.

    A size is in CSS pixels; errors are parts of the console's lines that are expected.
    """
    pages: list[Page] = []
    clocks: list[BrowserContext] = []
    wrong: list[list[str]] = []

    def opened(
        snapshot: Snapshot,
        fragment: str = "",
        size: dict[str, int] | None = None,
        errors: tuple[str, ...] = (),
        *,
        is_clock_ours: bool = False,
        is_never_old: bool = False,
    ) -> Page:
        if is_clock_ours:
            clocks.append(new_context(chromium))
            clocks[-1].clock.install(time=START_S)
            clocks[-1].clock.pause_at(START_S + 3_600)
        page = (clocks[-1] if is_clock_ours else context).new_page()
        pages.append(page)
        if is_never_old:
            page.add_init_script("{ const at = performance.now(); performance.now = () => at; }")
        shape = size or DESKTOP
        page.set_viewport_size({"width": shape["width"], "height": shape["height"]})
        wrong.append(complaints(page, server.address, errors))
        server.say(snapshot)
        page.goto(server.address + fragment)
        if is_clock_ours:
            pass_until(page, "document.querySelector('#foot').textContent.includes('Broker')")
        expect(page.locator("#foot")).to_contain_text("Broker")
        return page

    yield opened
    for each in (*pages, *clocks):
        each.close()
    assert [line for found in wrong for line in found] == []


def pass_until(page: Page, condition: str, step_ms: int = 20, most_ms: int = 6_000) -> None:
    """
    Let the page's own time pass until an expression is true, step by step: by default, one that draws.

    Each step takes a moment in truth too, in which what the server says can come.
    """
    for _ in range(most_ms // step_ms):
        page.clock.run_for(step_ms)
        if page.evaluate(condition):
            return
        time.sleep(0.1)
    raise AssertionError(f"still not so after {most_ms} ms of the page's time: {condition}")


def texts(found: Locator) -> list[str]:
    """Return the text of each element, spaces joined."""
    return [" ".join(text.split()) for text in found.all_text_contents()]


def table(found: Page | Locator, name: str) -> list[list[str]]:
    """Return the rows of a table's body as texts."""
    rows: list[list[str]] = found.locator(f"{name} tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


# -------------------------------------------------------------------------------- what is on the screen is what came


def test_the_key_figures_are_those_of_the_snapshot(show: Show) -> None:
    """Counts, rate, latency and AUC, each under its name; state and progress; where they come from."""
    page = show(snapshots.rich())
    tiles = {texts(tile.locator("dt"))[0]: texts(tile.locator("dd")) for tile in page.locator(".tiles > div").all()}
    assert tiles == {
        "Answers predicted": ["17,312", "4,120 by the fallback"],
        "Answers a second": ["221", "over the latest 10 s"],
        "Latency, median": ["431 ms", "99% within 1,285 ms"],
        "AUC, served": ["0.719", "fallback 0.645"],
        "Users": ["240", "14 at high risk"],
        "Dead letters": ["3", "events put aside"],
    }
    expect(page.locator("#state-text")).to_have_text("Live")
    expect(page.locator("#age")).to_have_text("as of 10:02:30")
    expect(page.locator("#progress-text")).to_have_text("17,312 of 20,000 answers")
    assert page.locator("#progress-bar").evaluate("bar => bar.value / bar.max") == pytest.approx(17_312 / 20_000)
    expect(page.locator("#foot")).to_contain_text("Broker 127.0.0.1:9092 · group learnerstream")
    expect(page).to_have_title("Live · learnerstream")


def test_a_latency_below_zero_is_none(show: Show) -> None:
    """It says that two machines' clocks differ, and nothing else."""
    snapshot = snapshots.rich()
    snapshot["rate"] |= {"latency_p50_ms": -3.2, "latency_p99_ms": 0.4}
    page = show(snapshot)
    expect(page.locator("#latency")).to_have_text(NOTHING)
    expect(page.locator("#latency-more")).to_have_text("99% within 0.4 ms")


def test_what_comes_next_takes_its_place(show: Show, server: ScriptedServer) -> None:
    """A second snapshot replaces the first one's figures; who was passed over is told of."""
    page = show(snapshots.rich())
    following = snapshots.rich() | {"skipped": 12, "progress": None}
    following["totals"] |= {"answers": 18_001}
    server.say(following)
    expect(page.locator("#answers")).to_have_text("18,001")
    expect(page.locator("#foot")).to_contain_text("12 messages passed over")
    expect(page.locator("#progress")).to_be_hidden()


def test_each_swap_is_a_marked_moment(show: Show) -> None:
    """On quality those of knowledge, on throughput and latency those of risk too, at the place of their time."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    assert texts(page.locator("#live .swap text")) == ["v2", "v4", "v6"]
    assert texts(page.locator("#live .swap title")) == [
        "10:00:31: version 2 serves, before it the fallback",
        "10:01:02: version 4 serves, before it version 2",
        "10:01:58: version 6 serves, before it version 4",
    ]
    for chart in ("#throughput", "#delay"):
        assert page.locator(f"{chart} .swap").count() == 4
        assert "of risk, version 1 serves" in " ".join(texts(page.locator(f"{chart} .swap title")))
    places = [float(line.get_attribute("x1") or 0) for line in page.locator("#live .swap line").all()]
    moments = [swap["at"] for swap in snapshot["swaps"] if swap["model"] == "knowledge"]
    (first, last) = (snapshot["series"][0]["at"], snapshot["series"][-1]["at"])
    line = page.locator("#live path.line.served").get_attribute("d") or ""
    known_from, right = (float(point.split(" ")[0]) for point in line.lstrip("M").split("L")[:: line.count("L")])
    assert right == pytest.approx(page.locator("#live svg").evaluate("svg => svg.clientWidth") - 10, abs=1)
    second = (right - known_from) / (last - first - 2)  # px; the first two points have no AUC
    assert places == pytest.approx([right - (last - at) * second for at in moments], abs=0.3)


def test_the_lines_are_the_series(show: Show) -> None:
    """Every known point is on the line; the legend says the latest values, and those at which the pointer is."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    points = [point for point in snapshot["series"] if point["auc"] is not None]
    line = page.locator("#live path.line.served").get_attribute("d") or ""
    assert line.count("L") == len(points) - 1
    heights = [float(point.split(" ")[1]) for point in line.lstrip("M").split("L")]
    pixel = (heights[0] - heights[-1]) / (points[-1]["auc"] - points[0]["auc"])
    assert heights == pytest.approx([heights[0] - (p["auc"] - points[0]["auc"]) * pixel for p in points], abs=0.2)
    latest = points[-1]
    assert texts(page.locator("#live .legend li")) == [
        f"served {latest['auc']:.3f}", f"fallback {latest['auc_fallback']:.3f}"
    ]  # fmt: skip
    page.locator("#live svg").hover(position={"x": 70, "y": 100})
    said = texts(page.locator("#live .legend li"))
    assert said[2].startswith("10:00:0")
    (pointed,) = (point for point in snapshot["series"] if f"10:00:{point['at'] - START_S:02.0f}" == said[2])
    assert said[0] == f"served {pointed['auc']:.3f}"
    page.get_by_role("button", name="Log loss").click()
    page.mouse.move(0, 0)
    expect(page.locator("#live .legend li").first).to_have_text(f"served {latest['logloss']:.3f}")
    expect(page.get_by_role("button", name="Log loss")).to_have_attribute("aria-pressed", "true")


def test_the_first_answers_do_not_flatten_the_lines(show: Show, server: ScriptedServer) -> None:
    """An AUC of three answers is at the edge of the picture, and leaves room for the others."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    bottom = "texts => Math.min(...texts.map(text => parseFloat(text.textContent)).filter(value => value < 1))"
    assert page.locator("#live text[text-anchor=end]").evaluate_all(bottom) == pytest.approx(0.5)
    for point in snapshot["series"][2:6]:
        point["auc"] = 0.05
    server.say(snapshot)
    expect(page.locator("#live-text")).to_contain_text("between 0.050")
    assert page.locator("#live text[text-anchor=end]").evaluate_all(bottom) >= 0.5


def test_charts_speak_to_who_does_not_see_them(show: Show) -> None:
    """Each has a name and a description with its values; all over time and the calibration are tables as well."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    described = re.compile(
        f"served: now {snapshot['series'][-1]['auc']:.3f}, .* 10:01:58: version 6 serves, before it version 4"
    )
    expect(page.get_by_role("img", name="Live quality")).to_have_accessible_description(described)
    for name in ("Calibration", "Answers a second", "Latency, milliseconds", "Path of learner-0040"):
        expect(page.get_by_role("img", name=name)).to_be_visible()
    page.get_by_text("All of this over time, as a table").click()
    expect(page.locator("#numbers tbody tr")).to_have_count(len(snapshot["series"]))
    latest = snapshot["series"][-1]
    assert table(page, "#numbers")[0] == [
        "10:02:29", f"{latest['answers_per_s']:.0f}", f"{latest['p50_ms']:.0f} ms", f"{latest['p99_ms']:,.0f} ms",
        f"{latest['auc']:.3f}", f"{latest['auc_fallback']:.3f}", f"{latest['logloss']:.4f}",
        f"{latest['logloss_fallback']:.4f}", f"{latest['ece']:.3f}",
    ]  # fmt: skip


def test_calibration_has_ten_bins_with_counts(show: Show) -> None:
    """A dot where it was said and how often it came true, a bar with the number below, and both as a table."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    bins = snapshot["quality"]["calibration"]
    assert texts(page.locator("#calibration .count")) == [str(each["n"]) for each in bins]
    assert texts(page.locator("#calibration circle title")) == [
        f"said {each['said']:.0%}, right {each['right']:.0%}, {each['n']} answers" for each in bins
    ]
    page.get_by_text("Calibration as a table").click()
    expect(page.locator("#bins tbody tr")).to_have_count(10)
    assert table(page, "#bins")[7] == ["70% and 80%", "371", f"{bins[7]['said']:.0%}", f"{bins[7]['right']:.0%}"]


def test_quality_has_a_row_for_each_version(show: Show) -> None:
    """And one for all that served, and one for the fallback on the same answers."""
    page = show(snapshots.rich())
    assert table(page, "#versions") == [
        ["version 4", "1,309", "0.719", "0.5934", "0.024", "7.9 s"],
        ["version 6", "691", "0.722", "0.5866", "0.030", "7.7 s"],
        ["all served", "2,000", "0.719", "0.5910", "0.021", "7.8 s"],
        ["fallback, on all", "2,000", "0.645", "0.6382", NOTHING, "8.3 s"],
    ]
    expect(page.locator("#versions-note")).to_have_text("Over the latest 2,000 answers")


def test_the_models_timeline_tells_what_the_gate_found(show: Show) -> None:
    """What was tried, gain against needed, the sentence, and the figures of candidate, champion and fallback."""
    page = show(snapshots.rich())
    knowledge, risk = page.locator("#model-knowledge"), page.locator("#model-risk")
    expect(knowledge.locator(".serving")).to_have_text("Version 6 serves")
    expect(knowledge.locator(".meanwhile")).to_have_text(
        "Version 7 is on trial since 10:02:21: it predicts, and nobody hears it."
    )
    expect(risk.locator(".meanwhile")).to_contain_text(
        "Version 2 is being learned since 10:02:20, from 2,400 weeks of users, because enough new answers had come."
    )
    headings = texts(knowledge.locator(".timeline > li > .what > span"))
    assert headings[:5] == [
        "Version 6 went live", "Version 6 was promoted over version 4", "Version 6 went on trial beside version 4",
        "Learning of version 6 began", "Version 5 was kept out, version 4 goes on",
    ]  # fmt: skip
    kept_out = knowledge.locator(".timeline > li").nth(4)
    assert texts(kept_out.locator(".why")) == [
        "Its log loss will hardly be better at 95%: by -0.0021 a prediction, 0.0174 needed"
    ]
    assert texts(kept_out.locator(".gain-text")) == [f"gain {MINUS}0.0021 · 0.0174 needed · 1,250 answers · 151 users"]
    assert table(kept_out, ".figures") == [
        ["version 5", "0.5899", "0.719", "0.037", "7.9 s"],
        ["version 4", "0.5878", "0.720", "0.037", "7.9 s"],
        ["the fallback", "0.6362", "0.657", "0.037", "7.9 s"],
    ]
    bars = knowledge.locator(".gain-bar").evaluate_all(
        "all => all.map(it => [it.className, ...[it.firstChild.style.width, it.lastChild.style.left].map(parseFloat)])"
    )
    (promoted, gain, needed), (out, no_gain, more_needed) = bars[:2]
    assert (promoted, out) == ("gain-bar enough", "gain-bar")
    assert gain / needed == pytest.approx(0.0293 / 0.0217, rel=1e-3)
    assert no_gain == 0 < more_needed
    assert (
        texts(risk.locator(".timeline > li > .what > span"))[0] == "Version 1 was taken back, the fallback serves again"
    )


def test_the_heat_map_says_its_values(show: Show) -> None:
    """A number in each cell, a colour by its size, a heading for each row and column; a dot where nothing is known."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    assert texts(page.locator("#heat thead th")) == list(SKILLS)
    rows = table(page, "#heat")
    assert rows == [
        [user["user_id"], *("·" if p is None else f"{100 * p:.0f}" for p in user["mastery"])]
        for user in snapshot["heat"]["users"]
    ]
    edges = (25, 40, 50, 60, 75, 90)
    painted = page.locator("#heat tbody td:not(.unknown)").evaluate_all(
        "all => all.map(c => [c.textContent, c.className])"
    )
    for text, color in painted:
        assert color == f"m{sum(int(text) >= edge for edge in edges)}"
    assert len({color for _, color in painted}) == 7
    scale = "0-24 25-39 40-49 50-59 60-74 75-89 90-100".replace("-", NOTHING)
    assert texts(page.locator("#scale li")) == scale.split()


def test_users_at_risk_have_reasons_in_words(show: Show) -> None:
    """Score, category and what it was, what raises and what lowers it; and that a human decides."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    expect(page.locator("#risk .heading")).to_contain_text("No verdict: a human decides.")
    assert texts(page.locator("#categories li")) == ["171 Low", "55 Medium", "13 High", "1 Critical"]
    expect(page.locator("#risks > li")).to_have_count(6)
    expect(page.locator("#path-answers tbody tr")).to_have_count(60)  # from here on nothing moves by itself
    page.get_by_role("button", name="Show all 12").click()
    users = snapshot["risk"]["users"]
    assert texts(page.locator("#risks .who")) == [user["user_id"] for user in users]
    assert [float(text) for text in texts(page.locator("#risks .verdict b"))] == pytest.approx(
        [user["score"] - 0.005 for user in users], abs=0.0051
    )
    assert texts(page.locator("#risks .category")) == [user["category"] for user in users]
    first, eighth = page.locator("#risks > li").nth(0), page.locator("#risks > li").nth(7)
    assert texts(first.locator(".reasons li"))[:2] == [
        "raises it: 50% of lectures missed without excuse (+0.9)",
        "raises it: 1 piece of work overdue (+0.6)",
    ]
    assert texts(first.locator(".reasons .lowers"))[0].startswith("lowers it: ")
    assert texts(first.locator(".before")) == ["was Medium"]
    assert texts(first.locator(".source")) == ["When a week was over, as of 1 Mar 2026, by the formula"]
    # 0.495 is Medium, and must not look like the 0.50 at which High begins.
    assert texts(eighth.locator(".verdict b, .category")) == ["0.49", "Medium"]


def test_every_feature_has_words(show: Show) -> None:
    """Whatever moves a score is said in words that a teacher reads, with its value."""
    page = show(snapshots.empty())
    names = [feature.name for feature in FEATURES]
    said = page.evaluate(
        "async names => { const {feature} = await import('./words.js'); return names.map(name => feature(name, 1)); }",
        names,
    )
    assert len(set(said)) == len(names)
    for name, words in zip(names, said, strict=True):
        assert "_" not in words, words
        assert words != f"{name.replace('_', ' ')} 1", words


def test_a_value_that_is_cut_is_not_told_as_exact(show: Show) -> None:
    """Where what is counted ends, the words say so; these ends are those that the features are declared with."""
    page = show(snapshots.empty())
    no_number = {"severity_trend"}
    ends = page.evaluate("async () => ({...(await import('./words.js')).ENDS})")
    assert ends == {name: end for name, end in ENDS.items() if name not in no_number}
    say = "async given => { const {feature} = await import('./words.js'); return given.map(f => feature(...f)); }"
    assert page.evaluate(say, [["days_since_seen", 70], ["days_since_seen", 69], ["days_late_latest", -70]]) == [
        "last seen 70 days ago or more", "last seen 69 days ago", "the latest work came 70 days early or more",
    ]  # fmt: skip
    said = page.evaluate(say, [[feature.name, feature.high] for feature in FEATURES])
    for feature, words in zip(FEATURES, said, strict=True):
        assert words.endswith(" or more") is (feature.name in ends), words


def test_dead_letters_are_shown_where_there_are_any(show: Show, server: ScriptedServer) -> None:
    """Reason, sentence and place of each, the latest first; without any there is no such card."""
    snapshot = snapshots.rich()
    page = show(snapshot)
    expect(page.locator("#letters li")).to_have_count(3)
    assert texts(page.locator("#letters li:first-child :is(span, .why, .source)")) == [
        "Not json", "expected a JSON object, found 'hello'", "interactions, partition 2, offset 1206",
    ]  # fmt: skip
    snapshot["totals"]["dead_letters"], snapshot["dead"] = 0, []
    server.say(snapshot)
    expect(page.locator("#dead")).to_be_hidden()


@pytest.mark.parametrize("kind", ["empty", "early"])
def test_what_is_not_known_yet_is_said_so(kind: str, show: Show) -> None:
    """Before anything has come, and after the first answers, no figure is made up and none is broken."""
    page = show(getattr(snapshots, kind)())
    shown = page.locator("body").inner_text()
    assert not {"NaN", "undefined", "null", "Infinity"} & set(shown.replace("%", " ").split())
    assert ("The first answers have to come" in shown) is (kind == "empty")
    assert "No risk has been predicted yet." in shown
    expect(page.locator("#auc")).to_have_text(NOTHING)
    expect(page.locator("#state-text")).to_have_text({"empty": "Starting", "early": "Catching up"}[kind])
    expect(page.locator("#dead")).to_be_hidden()


# --------------------------------------------------------------------------------------------------------- one user


def test_a_users_path_is_shown_answer_by_answer(show: Show, server: ScriptedServer) -> None:
    """What was said before each answer and what came, the latest first; a chart of it; mastery; the risk now."""
    page = show(snapshots.rich())
    page.locator("#heat tbody tr").nth(2).locator("td").first.click()
    expect(page.locator("#path-title")).to_have_text("Path of learner-0042")
    assert page.url.endswith("#user=learner-0042")
    expect(page.locator("#heat tr.chosen th")).to_have_text("learner-0042")
    user = server.users["learner-0042"]
    expect(page.locator("#path-answers tbody tr")).to_have_count(60)
    rows = table(page, "#path-answers")
    for row, answer in zip(rows, reversed(user["answers"]), strict=True):
        assert row[0].startswith(", ".join(answer["skills"]))
        assert answer["item_id"] in row[0]
        took = answer["seconds"]
        assert row[1:] == [
            f"{answer['p_before']:.0%}", "right" if answer["correct"] else "wrong", duration(answer["expected_s"]),
            NOTHING if took is None else duration(took), f"v{answer['version']}" if answer["version"] else "fallback",
        ]  # fmt: skip
    right = sum(answer["correct"] for answer in user["answers"])
    assert page.locator("#path circle.right").count() == right
    assert page.locator("#path path.wrong").count() == 60 - right
    assert page.locator("#path .change").count() == 1
    assert page.locator("#path circle.took").count() == sum(answer["seconds"] is not None for answer in user["answers"])
    weakest = min(user["mastery"], key=user["mastery"].__getitem__)
    assert texts(page.locator("#path-skills li"))[0] == f"{weakest} {100 * user['mastery'][weakest]:.0f}"
    expect(page.locator("#path-risk-body")).to_contain_text("50% of lectures missed without excuse")


def duration(seconds: float) -> str:
    """Return seconds as the page writes them."""
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:,.0f} s"


@pytest.mark.parametrize("user_id", [".", ".."])
def test_an_id_of_dots_is_one_like_others(user_id: str, show: Show, server: ScriptedServer) -> None:
    """It is no folder of an address."""
    server.users[user_id] = path(user_id, answers=2)
    page = show(snapshots.rich(), f"#user={user_id}")
    expect(page.locator("#path-answers tbody tr")).to_have_count(2)


def test_an_answer_that_is_none_is_said_so(show: Show, server: ScriptedServer) -> None:
    """A proxy's page in its place: the user is asked for again, and shown when the server is back."""
    server.users["u"] = path("u", answers=2)
    server.is_garbled = True
    page = show(snapshots.rich(), "#user=u")
    expect(page.locator("#path-note")).to_contain_text("server does not answer.")
    server.is_garbled = False
    expect(page.locator("#path-answers tbody tr")).to_have_count(2)


def test_a_link_opens_a_users_path(show: Show, server: ScriptedServer) -> None:
    """Any text can be an id; what is not known is said so, and a path that goes on is shown."""
    user_id = 'a/b c?d#e%f+ "ä"'
    server.users[user_id] = path(user_id, answers=3)
    page = show(snapshots.rich(), "#user=a%2Fb%20c%3Fd%23e%25f%2B%20%22%C3%A4%22")
    expect(page.locator("#path-title")).to_have_text(f"Path of {user_id}")
    expect(page.locator("#path-answers tbody tr")).to_have_count(3)
    server.users[user_id] = path(user_id, answers=4)
    expect(page.locator("#path-answers tbody tr")).to_have_count(4)
    expect(page.locator("#path-note")).to_contain_text("The latest 4 answers")


def test_who_is_forgotten_is_gone(show: Show, server: ScriptedServer) -> None:
    """An erased user's path leaves the screen, and one who is not known has none."""
    page = show(snapshots.rich(), "#user=learner-0041", errors=("404",))
    expect(page.locator("#path-answers tbody tr")).to_have_count(60)
    server.users["learner-0041"] = {
        "user_id": "learner-0041", "answers": [], "mastery": {}, "risk": None, "forgotten": True,
    }  # fmt: skip
    expect(page.locator("#answers-card")).to_be_hidden()
    expect(page.locator("#path-note")).to_contain_text("Nothing is known of learner-0041")
    page.get_by_label("User", exact=True).fill(" nobody ")
    page.get_by_role("button", name="Show", exact=True).click()
    expect(page.locator("#path-title")).to_have_text("Path of nobody")
    expect(page.locator("#path-note")).to_contain_text("Nothing is known of nobody")
    assert page.url.endswith("#user=nobody")


@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=["desktop", "phone", "narrow"])
def test_a_link_that_is_opened_leads_to_the_path(size: dict[str, int], show: Show, server: ScriptedServer) -> None:
    """Below the bar, with the focus on its title; of a user of whom nothing is known too. Then nobody is moved."""
    page = show(snapshots.rich(), "#user=learner-0041", size=size)
    expect(page.locator("#path-title")).to_be_focused()
    bar, title = page.evaluate(
        "['.top', '#path-title'].map(name => document.querySelector(name).getBoundingClientRect())"
        ".map((box, place) => place ? box.top : box.bottom)"
    )
    assert bar <= title < size["height"] / 2
    page.evaluate("scrollTo(0, 0)")
    server.users["learner-0041"] = path("learner-0041", answers=4)
    expect(page.locator("#path-answers tbody tr")).to_have_count(4)
    assert page.evaluate("scrollY") == 0


def test_who_reads_elsewhere_already_is_not_taken_away(show: Show, server: ScriptedServer) -> None:
    """A path that comes late does not move a reader who has begun to scroll, or to press keys."""
    server.users["u"] = path("u", answers=2)
    server.is_garbled = True
    page = show(snapshots.rich(), "#user=u")
    expect(page.locator("#path-note")).to_contain_text("server does not answer.")
    page.keyboard.press("Tab")
    server.is_garbled = False
    expect(page.locator("#path-answers tbody tr")).to_have_count(2)
    expect(page.locator(".skip")).to_be_focused()
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=["desktop", "phone", "narrow"])
def test_all_skills_of_a_path_are_seen(size: dict[str, int], show: Show, server: ScriptedServer) -> None:
    """As many as a worker says, each inside its list, and the list inside its card."""
    known = {f"a skill with the number {n}": n / MASTERED for n in range(MASTERED)}
    server.users["u"] = path("u") | {"mastery": known}
    page = show(snapshots.rich(), "#user=u", size=size)
    expect(page.locator("#path-skills li")).to_have_count(MASTERED)
    outside = page.locator("#path-skills").evaluate(
        """list => {
          const [box, card] = [list, list.closest(".card")].map(node => node.getBoundingClientRect());
          const isIn = (a, b) =>
            a.left >= b.left && a.right <= b.right + 1 && a.top >= b.top && a.bottom <= b.bottom + 1;
          const items = [...list.children].filter(node => !isIn(node.getBoundingClientRect(), box)).length;
          return items + !isIn(box, card);
        }"""
    )
    assert outside == 0


# ---------------------------------------------------------------------------------------------- reading it, and time


def test_a_lost_stream_is_said_so_and_comes_back(show: Show, server: ScriptedServer) -> None:
    """The last picture stays, greyed, with its age; when the server is back, so is the page, by itself."""
    page = show(snapshots.rich(), errors=("502", "Failed to load", "ERR_"))
    server.leave()
    expect(page.locator("#state-text")).to_have_text("No connection")
    expect(page.locator("html")).to_have_class("stale")
    expect(page.locator("#banner")).to_contain_text("What you see is of 10:02:30.")
    expect(page.locator("#answers")).to_have_text("17,312")
    following = snapshots.rich()
    following["totals"]["answers"] = 17_900
    server.say(following)
    expect(page.locator("#answers")).to_have_text("17,900")
    expect(page.locator("#state-text")).to_have_text("Live")
    expect(page.locator("#banner")).to_be_hidden()
    expect(page.locator("html")).not_to_have_class("stale")


def test_a_stream_that_says_nothing_is_opened_anew(show: Show, server: ScriptedServer) -> None:
    """A connection that has died without a word: the page notices by the silence, and comes back."""
    page = show(snapshots.rich(), is_clock_ours=True)
    opened = server.asked.count("/snapshots")
    server.is_mute = True
    # What was under way when it fell silent still comes.
    pass_until(page, "document.querySelector('#age').textContent.endsWith('seconds ago')", 500, 20_000)
    expect(page.locator("#state-text")).to_have_text("Live")
    following = snapshots.rich()
    following["totals"]["answers"] = 17_900
    server.say(following)
    pass_until(page, "document.querySelector('#state-text').textContent === 'No connection'", 500, 20_000)
    server.is_mute = False
    pass_until(page, "document.querySelector('#answers').textContent === '17,900'")
    expect(page.locator("#state-text")).to_have_text("Live")
    assert server.asked.count("/snapshots") == opened + 1


def test_a_lost_broker_is_said_so(show: Show, server: ScriptedServer) -> None:
    """In the server's own words; each change of state is announced once, and nothing else is."""
    page = show(snapshots.rich(), is_never_old=True)
    page.evaluate(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('announcement').textContent))"
        ".observe(document.getElementById('announcement'), {childList: true, characterData: true, subtree: true})"
    )
    for answers in (17_400, 17_500):
        snapshot = snapshots.rich()
        snapshot["totals"]["answers"] = answers
        server.say(snapshot)
        expect(page.locator("#answers")).to_have_text(f"{answers:,}")
    assert page.evaluate("said") == []
    server.say(snapshots.worse(snapshots.rich()))
    expect(page.locator("#banner")).to_have_text("The broker at 127.0.0.1:9092 does not answer.")
    assert page.evaluate("said") == ["Broker lost"]
    expect(page.locator("#announcement")).to_have_role("status")
    server.say(snapshots.rich() | {"state": "ended"})
    expect(page.locator("#state-text")).to_have_text("Ended")
    assert page.evaluate("said") == ["Broker lost", "Ended"]


def test_a_paused_picture_stays(show: Show, server: ScriptedServer) -> None:
    """By the button alone, as the space bar scrolls; what came meanwhile is there when it goes on."""
    page = show(snapshots.rich())
    page.keyboard.press("Space")
    until(page, "scrollY > 0")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()
    page.locator("#pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.locator("#age")).to_contain_text("paused at 10:02:30")
    following = snapshots.rich()
    following["totals"]["answers"] = 17_400
    server.say(following)
    page.evaluate(  # another stream has it, so that the page's own has had it as well
        """new Promise(done => {
          const other = new EventSource("snapshots");
          other.onmessage = ({data}) => {
            if (JSON.parse(data).totals.answers !== 17400) return;
            other.close();
            requestAnimationFrame(() => requestAnimationFrame(done));
          };
        })"""
    )
    expect(page.locator("#answers")).to_have_text("17,312")
    page.locator("#pause").click()
    expect(page.locator("#answers")).to_have_text("17,400")
    expect(page.get_by_role("button", name="Pause")).to_be_visible()


def test_what_has_the_focus_is_on_the_screen(show: Show) -> None:
    """On a phone the links scroll away with the page, and come back when the keyboard gets to them, not by a tap."""
    page = show(snapshots.rich(), size=PHONE)
    page.evaluate("scrollTo(0, 1500)")
    until(page, "document.querySelector('nav a').getBoundingClientRect().top < 0")
    page.locator("#pause").click()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    assert page.evaluate("document.querySelector('nav a').getBoundingClientRect().top") < 0
    page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("link", name="Traffic")).to_be_focused()
    assert page.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
    assert page.evaluate("scrollY") > 0


def test_the_bar_covers_no_heading_that_was_asked_for(show: Show) -> None:
    """However many rows it has."""
    page = show(snapshots.rich(), is_never_old=True)
    expect(page.locator("#path-answers tbody tr")).to_have_count(60)  # from here on nothing moves by itself
    for width in (320, 390, 561, 899, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        until(page, "width => innerWidth === width", width)
        page.get_by_role("link", name="Risk", exact=True).focus()
        page.keyboard.press("Enter")
        bar, heading = page.evaluate(
            """new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done([
              document.querySelector(".top").getBoundingClientRect().bottom,
              document.querySelector("#risk-title").getBoundingClientRect().top,
            ]))))"""
        )
        assert 0 < bar <= heading < bar + 60, width
        page.evaluate("scrollTo(0, 0)")


def test_rows_stay_while_somebody_reads_them(show: Show, server: ScriptedServer) -> None:
    """Who is new takes the row of who went, and the focus stays where it is; values change in their places."""
    page = show(snapshots.rich())
    link = page.get_by_role("link", name="learner-0043")
    link.focus()
    following = snapshots.rich()
    users = following["heat"]["users"]
    users[3]["mastery"][0] = 0.99
    fresh = copy.deepcopy(users[0]) | {"user_id": "learner-0200"}
    following["heat"]["users"] = [fresh, *users[1:5], *reversed(users[5:])]
    server.say(following)
    expect(page.locator("#heat tbody tr").nth(3).locator("td").first).to_have_text("99")
    expected = ["learner-0200", *(f"learner-{n:04d}" for n in range(41, 56))]
    assert texts(page.locator("#heat tbody th")) == expected
    expect(link).to_be_focused()


def test_users_at_risk_keep_their_places_under_the_pointer(show: Show, server: ScriptedServer) -> None:
    """What is said of them changes; their order only once nobody is about to click there. Who went is gone at once."""
    page = show(snapshots.rich())
    expect(page.locator("#path-answers tbody tr")).to_have_count(60)  # from here on nothing moves by itself
    page.locator("#risks > li").first.hover()
    before = texts(page.locator("#risks .who"))
    following = snapshots.rich()
    following["risk"]["users"].reverse()
    gone = following["risk"]["users"].pop()
    following["risk"]["users"][-1]["score"] = 0.999
    server.say(following)
    expect(page.locator("#risks .verdict b").first).to_have_text("0.99")
    assert texts(page.locator("#risks .who")) == [user for user in before if user != gone["user_id"]]
    page.mouse.move(0, 0)
    expect(page.locator("#risks .who")).to_have_text([user["user_id"] for user in following["risk"]["users"][:6]])


# ------------------------------------------------------------------------------------------------- for whomever it is


def test_whatever_others_wrote_is_text(show: Show, server: ScriptedServer) -> None:
    """Ids, skills, reasons and notes that try to be markup are shown as they are, and do nothing."""
    user_id = f"1{HOSTILE}"
    server.users[user_id] = path(user_id)
    server.users[user_id]["answers"][-1] |= {"skills": [HOSTILE], "item_id": HOSTILE}
    server.users[user_id]["mastery"][HOSTILE] = 0.01
    page = show(snapshots.hostile(), errors=("404",))
    page.get_by_role("link", name=user_id, exact=True).first.click()
    expect(page.locator("#path-title")).to_have_text(f"Path of {user_id}")
    expect(page.locator("#path-answers tbody th").first).to_contain_text(HOSTILE)
    assert texts(page.locator("#path-skills li"))[0] == " ".join(f"{HOSTILE} 1".split())
    expect(page.locator("#banner")).to_have_text(f"Read from {HOSTILE}")
    expect(page.locator("#heat thead th").first).to_have_text(f"fractions {HOSTILE}")
    expect(page.locator("#letters .why").first).to_have_text(HOSTILE * 3)
    expect(page.locator("#risks .reasons").first).to_contain_text(HOSTILE.replace("=", "="))
    assert page.locator("img").count() == 1
    expect(page).to_have_title("Live · learnerstream")


@pytest.mark.parametrize("kind", ["empty", "rich", "hostile"])
def test_it_fits_a_phone(kind: str, show: Show, server: ScriptedServer) -> None:
    """Nothing is wider than the screen, at 390 and at 320 pixels, and no number of the heat map is cut."""
    page = show(getattr(snapshots, kind)(), size=PHONE, errors=("404",))
    for size in (PHONE, NARROW):
        page.set_viewport_size({"width": size["width"], "height": size["height"]})
        until(page, "width => innerWidth === width", size["width"])
        assert page.evaluate("document.documentElement.scrollWidth") == size["width"]
        cut = page.locator("#heat tbody td").evaluate_all(
            "cells => cells.filter(c => c.scrollWidth > c.clientWidth + 1).length"
        )
        assert cut == 0


@pytest.mark.parametrize("size", [DESKTOP, PHONE, NARROW], ids=["desktop", "phone", "narrow"])
def test_what_is_said_of_an_empty_chart_is_whole(size: dict[str, int], show: Show) -> None:
    """It breaks into lines inside the chart, covers nothing else, and leaves the chart as high as it will be."""
    page = show(snapshots.empty(), size=size)
    heights = {}
    for name in ("live", "calibration", "throughput", "delay"):
        said = page.locator(f"#{name} > p.empty")
        expect(said).to_be_visible()
        (text, of_figure) = (said.bounding_box(), page.locator(f"#{name}").bounding_box())
        assert text is not None
        assert of_figure is not None
        assert text["x"] >= of_figure["x"]
        assert text["x"] + text["width"] <= of_figure["x"] + of_figure["width"]
        assert text["y"] >= of_figure["y"]
        assert text["y"] + text["height"] <= of_figure["y"] + of_figure["height"]
        assert said.evaluate("node => node.scrollWidth <= node.clientWidth")
        heights[name] = of_figure["height"]
    expect(page.locator("#live > p.empty")).to_have_text("The first answers have to come: some right, some wrong.")
    filled = show(snapshots.rich(), size=size)
    for name, height in heights.items():
        assert filled.locator(f"#{name}").evaluate("node => node.offsetHeight") == pytest.approx(height, abs=30)
        expect(filled.locator(f"#{name} > p.empty")).to_have_count(0)


def test_users_on_the_map_are_large_enough_for_a_finger(show: Show) -> None:
    """Links of 24 pixels at least, none over another."""
    page = show(snapshots.rich(), size=PHONE)
    boxes = page.locator("#heat tbody th a").evaluate_all(
        "all => all.map(it => it.getBoundingClientRect()).map(box => [box.top, box.bottom])"
    )
    assert len(boxes) == 16
    assert min(bottom - top for top, bottom in boxes) >= 24
    assert all(bottom <= top for (_, bottom), (top, _) in pairwise(boxes))


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_axe_finds_no_barrier(scheme: str, size: dict[str, int], show: Show, axe_source: str) -> None:
    """Nothing serious or critical: names, roles, contrast, headings, landmarks, keyboard."""
    page = show(snapshots.rich(), size=size)
    page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
    expect(page.locator("#path-answers tbody tr")).to_have_count(60)
    page.locator("summary").evaluate_all("all => all.forEach(each => each.click())")
    expect(page.locator("#numbers tbody tr").first).to_be_visible()
    assert barriers(page, axe_source) == []


@pytest.mark.parametrize("kind", ["empty", "hostile", "away"])
def test_axe_finds_no_barrier_in_other_pictures(kind: str, show: Show, server: ScriptedServer, axe_source: str) -> None:
    """Not before anything has come, not in what others wrote, and not while the stream is lost."""
    picture = snapshots.rich() if kind == "away" else getattr(snapshots, kind)()
    page = show(picture, errors=("404", "502", "Failed to load", "ERR_"))
    if kind == "away":
        server.leave()
        expect(page.locator("html")).to_have_class("stale")
    assert barriers(page, axe_source) == []


def test_all_of_it_is_reached_by_keyboard(show: Show) -> None:
    """From the skip link to the end, in the order of the page, each with a visible focus; Enter opens a path."""
    page = show(snapshots.rich())
    expect(page.locator("#path-answers tbody tr")).to_have_count(60)
    walked: list[str] = []
    for _ in range(120):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            """(() => {
              const it = document.activeElement;
              if (!it || it === document.body) return ["", ""];
              const name = it.getAttribute("aria-label") || it.id || it.textContent.trim();
              return [name, getComputedStyle(it).outlineStyle];
            })()"""
        )
        if not name:
            break
        assert outline != "none", name
        walked.append(name)
    wanted = [
        "Skip to the figures", "Quality", "Traffic", "pause", "AUC", "Log loss", "versions-scroll",
        "Calibration as a table", "What happened to knowledge, the latest first", "heat-scroll", "learner-0040",
        "learner-0055", "user", "Show", "learner-0101", "all-at-risk", "All of this over time, as a table",
    ]  # fmt: skip
    assert [name for name in wanted if name not in walked] == []
    assert [name for name in walked if name in wanted] == wanted
    page.get_by_role("link", name="learner-0044").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#path-title")).to_be_focused()
    expect(page.locator("#path-title")).to_have_text("Path of learner-0044")
    page.locator(".skip").focus()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#main")
    expect(page.locator("#path-title")).to_have_text("Path of learner-0044")


def test_nothing_moves_for_who_wants_it_calm(show: Show) -> None:
    """With reduced motion nothing is animated; numbers have digits of one width, so that nothing jumps."""
    page = show(snapshots.rich())
    lamp = "getComputedStyle(document.querySelector('.lamp')).animationName"
    assert page.evaluate(lamp) == "none"
    page.emulate_media(reduced_motion="no-preference")
    assert page.evaluate(lamp) == "breathe"
    assert "tabular-nums" in page.evaluate("getComputedStyle(document.body).fontVariantNumeric")


def test_all_files_together_are_small() -> None:
    """What a browser fetches to show the page is less than 150 KB."""
    files = [file for file in STATIC.iterdir() if file.is_file()]
    assert {"index.html", "page.css", "page.js"} <= {file.name for file in files}
    assert sum(file.stat().st_size for file in files) < 150_000


def test_the_pictures_of_these_tests_have_the_shape_of_the_real_ones() -> None:
    """A snapshot that is made up here has the keys that the server's have, no more and no fewer."""
    from stream.page import shape  # noqa: PLC0415

    for made, typed in _pairs(snapshots.rich(), shape):
        assert typed.__required_keys__ <= made.keys() <= typed.__required_keys__ | typed.__optional_keys__, typed


def _pairs(snapshot: Snapshot, shape: Any) -> list[tuple[dict[str, Any], Any]]:
    path_ = path("u")
    entries = [entry for model in snapshot["models"] for entry in model["timeline"]]
    return [
        (snapshot, shape.Snapshot), (snapshot["totals"], shape.Totals), (snapshot["rate"], shape.Rate),
        (snapshot["progress"], shape.Progress), (snapshot["quality"], shape.Quality), (snapshot["heat"], shape.Heat),
        (snapshot["risk"], shape.Risk), (path_, shape.User), (path_["risk"], shape.UserRisk),
        (json.loads(json.dumps(snapshot["models"][0]["trial"])), shape.Trial),
        (snapshot["models"][1]["learning"], shape.Learning),
        *((row, shape.Row) for row in snapshot["heat"]["users"]),
        *((each, shape.Bin) for each in snapshot["quality"]["calibration"]),
        *((each, shape.VersionQuality) for each in snapshot["quality"]["versions"]),
        *((each, shape.Point) for each in snapshot["series"]),
        *((each, shape.Swap) for each in snapshot["swaps"]),
        *((each, shape.Model) for each in snapshot["models"]),
        *((each, shape.Entry) for each in entries),
        *((each, shape.UserRisk) for each in snapshot["risk"]["users"]),
        *((each, shape.Dead) for each in snapshot["dead"]),
        *((each, shape.PathAnswer) for each in path_["answers"]),
    ]  # fmt: skip
