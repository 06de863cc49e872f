"""
What the documents show of the code: settings, topics, commands, decisions, each as Markdown.

Pure but for the decisions, whose titles are read from their files. Which part stands where, `stream.reference` knows,
which writes and checks them; nothing of a running system, and nothing of its environment, gets in.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple, get_args, get_origin

import click
from pydantic import AwareDatetime, SecretStr
from pydantic.fields import FieldInfo

from schemas.catalog import TOPICS, Contract, Direction
from stream.settings import Settings
from stream.transport.topics import TABLES, changelog


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


# ------------------------------------------------------------------------------------------------------- settings


class Section(NamedTuple):
    """Settings that belong together: the first of them, in the order of the fields, a title, and where to read on."""

    first: str
    title: str
    more: str = ""


SECTIONS: Final = (
    Section("broker", "Kafka, topics and guarantees", "What the guarantees are: [guarantees](../guarantees.md)."),
    Section("security_protocol", "Kafka with SASL and TLS", "How to set them up: [security](../security.md)."),
    Section("batch_max", "Batches and sizes"),
    Section("sources", "Events of other platforms", "What they do: [adapters](../adapters.md)."),
    Section("remembered_answers", "State", "What is kept of a user: [state](../state.md)."),
    Section("risk_features", "Risk", "What the score means: [risk](../risk.md)."),
    Section("redis_url", "Latest predictions in Redis"),
    Section("model_store", "Models", "How they are kept and checked: [learning](../learning.md)."),
    Section("metrics_host", "Metrics, health and the page", "[Metrics](../metrics.md), [the page](../page.md)."),
    Section("rebuild_answers", "Learning", "What happens when: [learning](../learning.md)."),
    Section("log_level", "Logs, CloudEvents and statements"),
)
"""All settings, as `docs/reference/settings.md` parts them."""

ESSENTIAL: Final = (
    "broker", "group", "topic_prefix", "partitions", "replication", "guarantee", "instance_id", "security_protocol",
    "sources", "pseudonym_key", "redis_url", "model_store", "metrics_host", "worker_metrics_port", "page_host",
    "page_port",
)  # fmt: skip
"""Those that the README shows: what is needed first."""


def settings_table(names: Sequence[str] = tuple(Settings.model_fields)) -> str:
    """Return a row for each setting: its variable, default, range and description."""
    rows = []
    for name in names:
        field = Settings.model_fields[name]
        rows.append((f"`STREAM_{name.upper()}`", _default(field), _range(field), field.description or ""))
    return table(("variable", "default", "range", "what it is"), rows)


def settings_by_section() -> str:
    """Return all settings, each section under its title."""
    names = list(Settings.model_fields)
    starts = [names.index(section.first) for section in SECTIONS]
    parts = []
    for section, start, end in zip(SECTIONS, starts, [*starts[1:], len(names)], strict=True):
        more = f"{section.more}\n\n" if section.more else ""
        parts.append(f"## {section.title}\n\n{more}{settings_table(names[start:end])}")
    return "\n\n".join(parts)


def _default(field: FieldInfo) -> str:
    if field.default is None:
        return "unset"
    text = str(field.default)
    return f"`{text}`" if text else "empty"


def expected(field: FieldInfo) -> str:
    """Return what a setting may be, in words: `a whole number from 1 to 1,000`."""
    kinds = [kind for kind in get_args(field.annotation) or (field.annotation,) if kind is not type(None)]
    held = _range(field).replace("`", "")
    if get_origin(field.annotation) is Literal:
        return f"one of {held}"
    if bool in kinds:
        return "true or false"
    if int in kinds or float in kinds:
        kind = "a whole number" if int in kinds else "a number"
        return f"{kind} {held}" if held.startswith("above") else f"{kind} from {held}"
    if AwareDatetime in kinds:
        return "a moment with its offset, such as 2026-01-31T00:00:00Z"
    if Path in kinds:
        return "a path"
    return f"a text that matches {held}" if held else "a text that is not empty"


def _range(field: FieldInfo) -> str:
    kinds = get_args(field.annotation) or (field.annotation,)
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{choice}`" for choice in kinds)
    if SecretStr in kinds:
        return "secret"
    if Path in kinds:
        return "path"
    held_to = {
        name: value
        for constraint in field.metadata
        for name in ("pattern", "ge", "gt", "le")
        if (value := getattr(constraint, name, None)) is not None
    }
    if "pattern" in held_to:
        return f"`{held_to['pattern'].removeprefix('^').removesuffix('$')}`"
    if "le" not in held_to:
        return ""
    low = f"above {held_to['gt']:,}," if "gt" in held_to else f"{held_to['ge']:,}"
    return f"{low} to {held_to['le']:,}"


# --------------------------------------------------------------------------------------------------------- topics


def topics_table(direction: Direction) -> str:
    """Return a row for each topic of a direction: who writes and reads it, its key, how the broker forgets."""
    head = ("topic", "what a message says", "written by", "read by", "key", "partitions", "kept")
    return table(head, [_topic_row(contract) for contract in TOPICS.values() if contract.direction == direction])


def _topic_row(contract: Contract) -> Sequence[str]:
    return (
        f"[`{contract.name}`](../messages.md#{contract.name.replace('.', '')})",
        contract.about.rstrip("."),
        ", ".join(contract.writers),
        ", ".join(contract.readers),
        contract.key.name,
        "as set" if contract.partitions is None else str(contract.partitions),
        "compacted" if contract.cleanup == "compact" else _kept(contract.retention_hours),
    )


_DAY_H: Final = 24


def _kept(hours: int | None) -> str:
    if hours is None:
        return "by the broker"
    return "1 day" if hours == _DAY_H else f"{hours // _DAY_H} days"


_RECORDS: Final = {
    "learners": "history and state of a user, whole; of an erased one what had been seen, and nothing else",
    "academics": "ten weeks of a user's attendance, work and incidents, and what is kept of the enrolment",
    "names": "topics, skills and facts of enrolments by name, once in a partition",
}


def changelogs_table() -> str:
    """Return a row for each table of the worker: its changelog, and what a record of it is."""
    settings = Settings.model_construct()
    return table(("topic", "what a record is"), [(f"`{changelog(settings, t)}`", _RECORDS[t]) for t in TABLES])


# ------------------------------------------------------------------------------------------------------- commands


def commands(root: click.Group) -> str:
    """Return what `--help` says of every command: a table of all, and a section for each."""
    found = list(_commands(root, click.Context(root, info_name="stream")))
    rows = [(f"[`{path}`](#{path.replace(' ', '-')})", _sentence(command)) for path, command, _ in found]
    sections = [_section(path, command, context) for path, command, context in found]
    return "\n\n".join([table(("command", "what it does"), rows), *sections])


def _commands(group: click.Group, context: click.Context) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command with its words, groups only by their commands."""
    for name, command in group.commands.items():
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
        else:
            yield inner.command_path, command, inner


def _section(path: str, command: click.Command, context: click.Context) -> str:
    paragraphs = _paragraphs(command)
    examples = [part.removeprefix(_EXAMPLE) for part in paragraphs if part.startswith(_EXAMPLE)]
    parts = [f"## {path}", *(part for part in paragraphs if not part.startswith(_EXAMPLE))]
    parts.append(f"Usage: `{command.get_usage(context).removeprefix('Usage: ')}`")
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    rows = [_option_row(option, context) for option in options if option.name != "help" and not option.hidden]
    if rows:
        parts.append(table(("option", "default", "what it is"), rows))
    parts += [f"```sh\n{example}\n```" for example in examples]
    return "\n\n".join(parts)


_EXAMPLE: Final = "Example: "


def _paragraphs(command: click.Command) -> list[str]:
    return [" ".join(part.split()) for part in (command.help or "").split("\n\n")]


def _sentence(command: click.Command) -> str:
    return _paragraphs(command)[0].rstrip(".")


def _option_row(option: click.Option, context: click.Context) -> Sequence[str]:
    names = ", ".join(f"`{name}`" for name in option.opts)
    value = "" if option.is_flag else f" {_value(option, context)}"
    default = option.to_info_dict()["default"]
    said = "required" if option.required else "" if option.is_flag or default is None else f"`{default}`"
    return (names + value, said, option.help or "")


def _value(option: click.Option, context: click.Context) -> str:
    """Return what may be given, in the words of `--help`."""
    kind = option.type
    if isinstance(kind, click.IntRange | click.FloatRange):
        low = "" if kind.min is None else f"{kind.min:,}"
        high = "" if kind.max is None else f"{kind.max:,}"
        return f"{low} to {high}" if high else f"at least {low}"
    return option.make_metavar(context).strip("[]")


# ------------------------------------------------------------------------------------------------------ decisions


def decisions(folder: Path) -> str:
    """
    Return the decision records, in their order.

    Raises:
        ValueError: If one has no title.
    """
    rows = []
    for path in sorted(folder.glob("[0-9]*.md")):
        first, _, _ = path.read_text(encoding="utf-8").partition("\n")
        found = re.fullmatch(r"# (\d{4}): (.+)", first)
        if found is None:
            raise ValueError(f"{path.name}: expected a first line such as `# 0001: What was chosen`, found {first!r}")
        rows.append((found[1], f"[{found[2]}]({path.name})"))
    return table(("record", "what was chosen"), rows)
