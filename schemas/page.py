"""
The contracts as a page, for people: one HTML file, no scripts, nothing loaded from elsewhere.

Pure. Made from the catalog, the models and the samples, as `asyncapi.yaml` is. On a telephone, tables become lists.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Final, NamedTuple

from schemas.asyncapi import PARTITIONS, Json, Samples, headers, models, of_type
from schemas.catalog import TOPICS, Contract
from schemas.rules import CHANGES, RULES, kept, listed

_SCHEMAS: Final = "#/components/schemas/"


def render(samples: Samples) -> str:
    """
    Return the page.

    Args:
        samples: At least one message of each type of each topic.
    """
    variants, schemas = models()
    groups = "\n".join(
        f'<h2 class="group" id="{direction}">{heading}</h2>\n'
        + "\n".join(
            _topic(contract, variants[contract.name], schemas, samples[contract.name])
            for contract in TOPICS.values()
            if contract.direction == direction
        )
        for direction, heading in _GROUPS.items()
    )
    return _PAGE.format(style=_STYLE, overview=_overview(), rules=_rules(), topics=groups)


_GROUPS: Final = {
    "in": "Topics that we read",
    "out": "Topics that we write",
    "internal": "Topics between our own parts",
}


# --------------------------------------------------------------------------------------------------------- sections


def _overview() -> str:
    rows = "".join(
        f'<tr><th scope="row"><a href="#{contract.name}">{contract.name}</a><small>{_text(contract.about)}</small></th>'
        + _cells(
            ("written by", escape(listed(contract.writers))),
            ("read by", escape(listed(contract.readers))),
            ("key", escape(contract.key.name)),
            ("partitions", _partitions(contract)),
            ("kept", escape(kept(contract))),
        )
        + "</tr>"
        for contract in TOPICS.values()
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in _COLUMNS)
    return (
        '<section id="topics"><h2>Topics</h2>'
        f'<table class="topics"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></section>'
    )


_COLUMNS: Final = ("topic", "written by", "read by", "key", "partitions", "kept")


def _rules() -> str:
    rules = "".join(f"<div><dt>{escape(heading)}</dt><dd>{_text(text)}</dd></div>" for heading, text in RULES.items())
    return f'<section id="rules"><h2>On every topic</h2><dl class="rules">{rules}</dl></section>'


def _topic(contract: Contract, variants: Mapping[str, str], schemas: Json, samples: Sequence[Json]) -> str:
    facts = (
        ("Written by", escape(listed(contract.writers))),
        ("Read by", escape(listed(contract.readers))),
        ("Key", f"{escape(contract.key.name)}. {_text(contract.key.schema['description'])}"),
        ("Partitions", _partitions(contract)),
        ("Kept", escape(kept(contract))),
        ("May change", _text(CHANGES[contract.direction])),
        (
            "Schema",
            f'<a href="../schemas/json/{contract.name}.schema.json"><code>{contract.name}.schema.json</code></a>',
        ),
    )
    listed_facts = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in facts)
    messages = "".join(
        _message(contract, type_, schemas[name], schemas, of_type(samples, type_)) for type_, name in variants.items()
    )
    return (
        f'<section id="{contract.name}"><p class="back"><a href="#topics">Topics</a></p>'
        f"<h2>{contract.name}</h2><p>{_text(contract.about)}</p>"
        f'<dl class="facts">{listed_facts}</dl>{messages}{_headers(contract)}</section>'
    )


def _message(contract: Contract, type_: str, schema: Json, schemas: Json, samples: Iterable[Json]) -> str:
    title = f"<code>{type_}</code>" if type_ else "Value"
    about = "" if schema["description"] == contract.about else f"<p>{_text(schema['description'])}</p>"
    is_noted, note = (True, "required") if contract.direction == "in" else (False, "may be left out")
    mark = f' <span class="mark">{note}</span>'
    rows = "".join(
        f'<tr><th scope="row"><code>{_breakable(field.path)}</code>{mark if field.is_required is is_noted else ""}</th>'
        + _cells(("", _text(field.kind)), ("", _text(field.description)))
        + "</tr>"
        for field in fields(schema, schemas)
    )
    shown = "".join(f"<pre><code>{escape(pretty(sample))}</code></pre>" for sample in samples)
    return (
        f'<h3 id="{contract.name}/{type_ or "value"}">{title}</h3>{about}'
        '<table class="fields"><thead><tr><th scope="col">field</th><th scope="col">type</th>'
        f'<th scope="col">what it is</th></tr></thead><tbody>{rows}</tbody></table>'
        f"<details><summary>Example</summary>{shown}</details>"
    )


def _headers(contract: Contract) -> str:
    schema = headers(contract)
    if schema is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row"><code>{name}</code></th>'
        + _cells(("", _header_value(each)), ("", _text(each["description"])))
        + "</tr>"
        for name, each in schema["properties"].items()
    )
    note = (
        "<p>CloudEvents attributes, in binary mode.</p>"
        if contract.cloud_events != "no"
        else "<p>On messages that were converted from a foreign topic.</p>"
    )
    return (
        f'<h3 id="{contract.name}/headers">Headers</h3>{note}'
        '<table class="fields"><thead><tr><th scope="col">header</th><th scope="col">value</th>'
        f'<th scope="col">what it is</th></tr></thead><tbody>{rows}</tbody></table>'
    )


def _header_value(schema: Json) -> str:
    if "const" in schema:
        return f"<code>{_breakable(schema['const'])}</code>"
    return _text(_FORMATS.get(schema.get("format", ""), "digits" if "pattern" in schema else "text"))


def _cells(*cells: tuple[str, str]) -> str:
    return "".join(f'<td data-label="{label}">{value}</td>' if label else f"<td>{value}</td>" for label, value in cells)


def _partitions(contract: Contract) -> str:
    return str(contract.partitions or PARTITIONS)


def _text(text: str) -> str:
    """Return a text as HTML: what stands in backticks is code, and so are settings."""
    marked = re.sub(r"(?<!`)\bSTREAM_[A-Z_]+(?:=\w+)?", r"`\g<0>`", text)
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(marked, quote=False))


def _breakable(path: str) -> str:
    """Return a long name as HTML that may be broken behind its dots and slashes."""
    return re.sub(r"(?<=[./_\]])(?=[\w*])", "<wbr>", escape(path))


def pretty(sample: Json) -> str:
    """Return a message as JSON with an indent, lists of plain values on one line."""
    text = json.dumps(sample, indent=2, ensure_ascii=False)
    return re.sub(r"\[\s+([^][{}]*?)\s+\]", lambda found: "[" + re.sub(r"\s*\n\s*", " ", found[1]) + "]", text)


# ----------------------------------------------------------------------------------------------------------- fields


class Field(NamedTuple):
    """
    A field of a message.

    Attributes:
        path: Its name, behind those of the objects that it stands in: `targets[].p_correct`.
        is_required: Whether it is in every message.
        kind: Type and range, in words.
        description: What it is.
    """

    path: str
    is_required: bool
    kind: str
    description: str


def fields(schema: Json, schemas: Json) -> Iterator[Field]:
    """
    Yield the fields of a message, those of an object within it behind it; of each kind of object once.

    Args:
        schema: Of the message.
        schemas: All, by name.
    """
    return _fields(schema, schemas, "", {})


def _fields(schema: Json, schemas: Json, prefix: str, met: dict[str, str]) -> Iterator[Field]:
    for name, each in schema["properties"].items():
        path = prefix + _short(name)
        within, suffix = _within(each, schemas)
        kind, already = _kind(each, schemas), met.get(within)
        if already is not None:
            kind += f", as `{already}`"
        # Beside a reference nothing is said that what it refers to says too.
        description = each.get("description") or schemas.get(within, {}).get("description", "")
        yield Field(path, name in schema.get("required", ()), kind, description)
        if within and already is None:
            met[within] = path + suffix
            yield from _fields(schemas[within], schemas, f"{path}{suffix}.", met)


def _short(name: str) -> str:
    """Return a field's name; of an IRI its last part."""
    return "…/" + name.rsplit("/", 1)[1] if "://" in name else name


def _within(schema: Json, schemas: Json) -> tuple[str, str]:
    """Return the name of the object that a field holds, and what its fields' paths have between; empty for none."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix(_SCHEMAS)
        return (name, "") if "properties" in schemas[name] else ("", "")
    for part, suffix in (("items", "[]"), ("additionalProperties", ".*")):
        if isinstance(schema.get(part), dict):
            name, further = _within(schema[part], schemas)
            return name, suffix + further if name else ""
    for each in schema.get("anyOf", ()):
        found = _within(each, schemas)
        if found[0]:
            return found
    return "", ""


def _kind(schema: Json, schemas: Json) -> str:
    """Return a field's type and range in words."""
    match schema:
        case {"$ref": reference}:
            kind = "object" if "properties" in schemas[reference.removeprefix(_SCHEMAS)] else "any JSON"
        case {"anyOf": options}:
            kinds = [_kind(option, schemas) for option in options]
            kind = (", or " if any(each.startswith(("number,", "integer,")) for each in kinds) else " or ").join(kinds)
        case {"prefixItems": parts}:
            kind = f"list of {' and '.join(_kind(part, schemas) for part in parts)}"
        case {"items": items}:
            of = _kind(items, schemas)
            kind = f"list of {_between(schema, 'Items')}{_PLURALS.get(of, of)}"
        case {"additionalProperties": dict(values)}:
            kind = f"by name: {_kind(values, schemas)}"
        case _:
            kind = _plain(schema)
    return kind


_PLURALS: Final = {"object": "objects", "number": "numbers", "text": "texts"}


def _plain(schema: Json) -> str:
    """Return the type and range of a value that holds no others."""
    match schema:
        case {"const": value}:
            kind = f"`{value}`"
        case {"enum": values}:
            kind = ", ".join(f"`{value}`" for value in values)
        case {"type": "number" | "integer" as number}:
            kind = f"{number}{_range(schema)}"
        case {"type": "string"}:
            kind = _string(schema)
        case _:
            kind = str(schema.get("type", "any JSON"))
    return kind


def _between(schema: Json, of: str) -> str:
    """Return how many of something there may be, with a blank behind it."""
    least, most = schema.get(f"min{of}"), schema.get(f"max{of}")
    if least is not None and most is not None:
        return f"{least} to {most} "
    return f"up to {most} " if most is not None else ""


def _range(schema: Json) -> str:
    least, above, most = (schema.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    if least is not None and most is not None:
        return f", {least:g} to {most:g}"
    if above is not None:
        return f", above {above:g}"
    return "" if least is None else f", from {least:g}"


_FORMATS: Final = {"date-time": "time", "uuid": "UUID", "uri-reference": "URI"}


def _string(schema: Json) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    if schema.get("pattern", "").startswith("^[0-9a-f]{64}"):
        return "64 hexadecimal digits"
    return "text" if schema.get("maxLength", 0) in {0, _ID} else f"text, up to {schema['maxLength']} characters"


_ID: Final = 256


# ------------------------------------------------------------------------------------------------------------ frame

_STYLE: Final = """
:root { color-scheme: light dark; --paper: #f4f6f8; --card: #fff; --ink: #18212d; --quiet: #556171; --line: #dde3ea;
  --said: #1f5fbf; --seen: #a4470a; --wash: #eef2f7; }
@media (prefers-color-scheme: dark) { :root { --paper: #0e1319; --card: #161d26; --ink: #e7ecf2; --quiet: #a0adbd;
  --line: #2a3440; --said: #80b1ff; --seen: #f3a35c; --wash: #1e2732; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 16px; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", Roboto,
  "Helvetica Neue", "Liberation Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 40px 24px; }
a { color: var(--said); text-decoration-thickness: 1px; text-underline-offset: 3px; }
.eyebrow { margin: 0; color: var(--said); font-weight: 600; }
h1 { margin: 4px 0 12px; font-size: 2.3rem; line-height: 1.2; letter-spacing: -.015em; }
h2 { margin: 0 0 8px; font-size: 1.4rem; line-height: 1.3; overflow-wrap: anywhere; }
h2.group { margin: 56px 0 0; font-size: 1.7rem; }
h3 { margin: 32px 0 4px; padding-top: 20px; border-top: 1px solid var(--line); font-size: 1.08rem; }
h3 code { font-size: 1em; background: none; padding: 0; }
.lead { max-width: 46em; margin: 0; font-size: 1.1rem; }
p { max-width: 46em; margin: 0 0 12px; }
section { margin: 24px 0; padding: 28px; background: var(--card); border: 1px solid var(--line); border-radius: 14px; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
code { font-size: .87em; padding: 1px 4px; border-radius: 4px; background: var(--wash); }
th code, a code, pre code { background: none; padding: 0; }
dl { margin: 0; } dd { margin: 0; } dt { font-weight: 600; }
.rules { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 20px 32px; }
.rules dd { color: var(--quiet); font-size: .95rem; }
.facts { display: grid; gap: 6px; margin: 16px 0 0; font-size: .95rem; }
.facts div { display: grid; grid-template-columns: 8rem minmax(0, 1fr); gap: 12px; }
.facts dt { color: var(--quiet); font-weight: 500; } .facts dd { max-width: 46em; }
.back { float: right; margin: 4px 0 0 16px; font-size: .85rem; }
table { width: 100%; border-collapse: collapse; font-size: .92rem; }
th, td { padding: 8px 16px 8px 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top; }
thead th { color: var(--quiet); font-size: .82rem; font-weight: 600; }
tbody th { font-weight: 500; }
th small { display: block; max-width: 24rem; color: var(--quiet); font-size: .85rem; font-weight: 400; }
.topics tbody th { width: 34%; }
.fields { table-layout: fixed; margin-top: 8px; }
.fields th:first-child { width: 34%; } .fields th:nth-child(2) { width: 26%; }
.fields th code { overflow-wrap: break-word; } td code { overflow-wrap: anywhere; }
.mark { margin-left: 4px; color: var(--seen); font-size: .75rem; white-space: nowrap; }
details { margin-top: 16px; } summary { cursor: pointer; color: var(--said); font-weight: 500; }
pre { margin: 12px 0 0; padding: 16px; border-radius: 10px; background: var(--wash); font-size: .82rem;
  line-height: 1.5; white-space: pre-wrap; overflow-wrap: anywhere; }
pre code { font-size: 1em; }
footer { color: var(--quiet); font-size: .85rem; }
@media (max-width: 760px) { main { padding: 20px 12px; } section { padding: 20px 16px; margin: 16px 0; }
  h1 { font-size: 1.7rem; } h2.group { margin-top: 40px; font-size: 1.4rem; } .lead { font-size: 1rem; }
  .facts div { grid-template-columns: 1fr; gap: 0; } .facts { gap: 10px; }
  thead { display: none; } table, tbody, tr, th, td { display: block; width: auto; }
  .topics tbody th, .fields th:first-child { width: auto; }
  tr { padding: 10px 0; border-bottom: 1px solid var(--line); } th, td { padding: 0; border: 0; }
  .topics td { display: grid; grid-template-columns: 6.5rem minmax(0, 1fr); font-size: .88rem; }
  .topics td::before { content: attr(data-label); color: var(--quiet); } .topics th small { margin-bottom: 6px; }
  .fields td:nth-of-type(1) { color: var(--quiet); font-size: .85rem; } }
@media print { details > pre { display: block; } section { border: 0; padding: 0; } }
"""

_PAGE: Final = """<!DOCTYPE html>
<!-- Made by python -m schemas.generate; change the catalog, the models or the samples, not this file. -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>learnerstream · contracts</title>
<style>{style}</style>
</head>
<body>
<main>
<header>
<p class="eyebrow">learnerstream · contracts</p>
<h1>What goes over Kafka</h1>
<p class="lead">Every topic: who writes it and who reads it, its key, how long it is kept, and each field of its
messages. The same for programs: <a href="../schemas/asyncapi.yaml">asyncapi.yaml</a> (AsyncAPI 3.0) and
<a href="../schemas/json">JSON Schemas</a>; with explanations: <a href="messages.md">messages.md</a>.</p>
</header>
{overview}
{rules}
{topics}
<footer><p>Made from the code's own models; a test holds this page to them.</p></footer>
</main>
</body>
</html>
"""
