"""The page of contracts: whole, alone, and saying of every field what it is."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest

from schemas import TOPICS, page
from schemas.asyncapi import models
from schemas.generate import ROOT, samples
from schemas.page import fields, pretty, render

PAGE = (ROOT / "docs" / "contracts.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Collects what a page refers to, and holds every tag to being closed."""

    _EMPTY = frozenset({"meta", "wbr", "br"})

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.add(tag)
        found = {name: value or "" for name, value in attrs}
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found[name] for name in ("href", "src") if name in found]
        if tag not in self._EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the innermost tag, which must be this one."""
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def outline() -> Outline:
    """Return the page's outline."""
    found = Outline()
    found.feed(PAGE)
    assert found.open == []
    return found


def test_the_page_needs_nothing_else(outline: Outline) -> None:
    """No script, no picture, no style from elsewhere: it can be sent by mail."""
    assert not outline.tags & {"script", "link", "img", "iframe", "object"}
    assert "url(" not in PAGE
    assert "default-src 'none'" in PAGE


def test_every_link_leads_somewhere(outline: Outline) -> None:
    """Anchors are on the page, once each; files are in the repository."""
    assert len(outline.ids) == len(set(outline.ids))
    for link in outline.links:
        if link.startswith("#"):
            assert link[1:] in outline.ids
        else:
            assert (ROOT / "docs" / link).exists(), link


def test_every_topic_and_type_has_an_anchor(outline: Outline) -> None:
    """Whoever writes about a contract can point to it."""
    variants, _ = models()
    assert set(TOPICS) <= set(outline.ids)
    assert {f"{topic}/{type_ or 'value'}" for topic, types in variants.items() for type_ in types} <= set(outline.ids)


def every_field() -> Iterator[tuple[str, str, str]]:
    """Yield the message, path and description of every field."""
    variants, schemas = models()
    for types in variants.values():
        for name in types.values():
            yield from ((name, field.path, field.description) for field in fields(schemas[name], schemas))


def test_every_field_is_described() -> None:
    """The page's worth: a reader need not guess what a field is."""
    assert [(name, path) for name, path, description in every_field() if not description.strip()] == []


def test_fields_within_fields_have_paths() -> None:
    """Lists, objects and maps of objects are followed, each kind of object once a message."""
    paths = [path for name, path, _ in every_field() if name == "CorrectnessPrediction"]
    assert {"targets", "targets[].p_correct", "source.offset", "mastery", "observed.p_before"} <= set(paths)
    quality = [path for name, path, _ in every_field() if name == "QualityMeasured"]
    assert "overall.logloss" in quality
    assert "slices" in quality
    assert len([path for path in quality if path.endswith(".logloss")]) == 1


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("score", "number, 0 to 1"),
        ("as_of", "time"),
        ("category", "`Low`, `Medium`, `High`, `Critical`"),
        ("factors", "list of up to 5 objects"),
        ("factors[].value", "number or null"),
        ("source.offset", "integer, from 0"),
        ("model", "object"),
        ("schema_version", "`1`"),
    ],
)
def test_types_are_in_words(path: str, kind: str) -> None:
    """Type and range, as people say them."""
    _, schemas = models()
    of = {field.path: field for field in fields(schemas["RiskPrediction"], schemas)}
    assert re.sub(r"number, or null", "number or null", of[path].kind) == kind


def test_texts_are_escaped() -> None:
    """What a sample holds cannot become a part of the page."""
    changed = {topic: list(messages) for topic, messages in samples().items()}
    changed["erasures"] = [{"erasure_id": "<script>alert(1)</script>", "user_id": "u & v"}]
    assert "<script" not in render(changed)


def test_what_is_said_in_words_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule or a description may speak of `<` and `&`."""
    monkeypatch.setattr(page, "RULES", {"Tags": "a <b> & `<i>`"})
    assert "a &lt;b&gt; &amp; <code>&lt;i&gt;</code>" in render(samples())


def rows(topic: str) -> dict[str, str]:
    """Return the heads of the rows of a topic's first table of fields, by field."""
    (section,) = re.findall(rf'<section id="{re.escape(topic)}">.*?</section>', PAGE, re.DOTALL)
    table, *_ = re.findall(r'<table class="fields">.*?</table>', section, re.DOTALL)
    heads = re.findall(r'<th scope="row"><code>(.*?)</code>(.*?)</th>', table)
    return {name.replace("<wbr>", ""): mark for name, mark in heads}


def test_marks_say_what_is_not_as_usual() -> None:
    """Of what we read that a field is required, of what we write that it may be left out."""
    read, written, statement = rows("interactions"), rows("predictions.risk"), rows("predictions.risk.xapi")
    assert {name for name, mark in read.items() if "required" in mark} == {"type", "user_id", "topic_id", "timestamp"}
    assert set(written.values()) == {""}
    assert {name for name, mark in statement.items() if "may be left out" in mark} == {"result.extensions.…/outcome"}
    assert "may be left out" not in "".join(read.values())
    assert "required" not in "".join(statement.values())


def test_long_names_may_be_broken() -> None:
    """IRIs are longer than a telephone is wide."""
    assert re.search(r"td code \{ overflow-wrap: anywhere; \}", PAGE)


def test_lists_of_values_stand_on_one_line() -> None:
    """Fifty features are a line, not fifty."""
    assert pretty({"features": [1.5, 2], "targets": [{"a": []}]}).splitlines()[1] == '  "features": [1.5, 2],'
