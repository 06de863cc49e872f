"""
What a change of a JSON Schema breaks for those who hold to the one before it.

For the part of JSON Schema that the models make; what is beyond it is said, not passed over. Two questions: of what we
read, is all that was taken still taken; of what we write, does a reader of the old schema still find all that it knew,
in a form that it knew. Fields that are added break nothing: readers are told to ignore what they do not know.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

Json = dict[str, Any]
Side = Literal["read", "written"]

_ANYTHING: Json = {}


def broken(old: Json, new: Json, side: Side) -> list[str]:
    """
    Return a sentence for each promise of the old schema that the new one does not keep.

    Args:
        old: With its `$defs`.
        new: With its `$defs`.
        side: `read`, of what may be sent to us; or `written`, of what we send.
    """
    return list(_Comparison(old.get("$defs", {}), new.get("$defs", {}), side).of(old, new, "value"))


@dataclass(frozen=True)
class _Comparison:
    old_models: Json
    new_models: Json
    side: Side

    def of(self, old: Json, new: Json, path: str) -> Iterator[str]:
        strange = _strange(old) | _strange(new)
        if old == new == _ANYTHING:
            return
        if strange:
            yield f"{path}: nothing is known here of {', '.join(sorted(strange))}"
        elif "$ref" in old or "$ref" in new:
            yield from self.of(_resolved(old, self.old_models), _resolved(new, self.new_models), path)
        elif "oneOf" in old and "oneOf" in new:
            yield from self._types(_by_type(old), _by_type(new), path)
        elif "oneOf" in old or "oneOf" in new:
            yield f"{path}: several types on one side, and not on the other"
        elif "anyOf" in old or "anyOf" in new:
            yield from self._options(old.get("anyOf", [old]), new.get("anyOf", [new]), path)
        else:
            yield from self._one(old, new, path)

    def _types(self, old: Json, new: Json, path: str) -> Iterator[str]:
        for name, model in old.items():
            if name in new:
                yield from self.of(model, new[name], f"{path}({name})")
            else:
                yield f"{path}: the type {name} is gone"

    def _options(self, old: list[Json], new: list[Json], path: str) -> Iterator[str]:
        """Each that has to be taken must be by one on the other side: the old ones when we read, else the new ones."""
        for each in old if self.side == "read" else new:
            pairs = [(each, other) for other in new] if self.side == "read" else [(other, each) for other in old]
            if all(list(self.of(a, b, path)) for a, b in pairs):
                yield f"{path}: {each.get('type', 'a value')} fits no more"

    def _one(self, old: Json, new: Json, path: str) -> Iterator[str]:
        taken, taker = self._roles(old, new)
        if not _takes_type(taker, taken):
            yield f"{path}: expected {old.get('type', 'anything')}, found {new.get('type', 'anything')}"
            return
        yield from self._values(old, new, path)
        yield from _limits(taken, taker, path)
        yield from self._parts(old, new, path)
        yield from self._fields(old, new, path)

    def _roles(self, old: Any, new: Any) -> tuple[Any, Any]:
        """Return what has to be taken, and what has to take it: of what we read the new schema, else the old one."""
        return (old, new) if self.side == "read" else (new, old)

    def _values(self, old: Json, new: Json, path: str) -> Iterator[str]:
        """Values of an enumeration may only be added, and a constant stays; what we read may take any, too."""
        before, after = _values(old), _values(new)
        if self.side == "read":
            if after is not None and (before is None or not before <= after):
                yield f"{path}: the values {sorted(before or {'any'})} are no longer all taken"
        elif before is not None and after is None:
            yield f"{path}: any value, where there were {sorted(before)}"
        elif before is not None and after is not None:
            is_kept = before <= after if "enum" in old and "enum" in new else before == after
            if not is_kept:
                yield f"{path}: expected the values {sorted(before)}, found {sorted(after)}"

    def _parts(self, old: Json, new: Json, path: str) -> Iterator[str]:
        """Compare what stands within lists and maps; what is not said may be anything."""
        for part in ("items", "propertyNames"):
            yield from self.of(old.get(part, _ANYTHING), new.get(part, _ANYTHING), f"{path}[]")
        for i, (a, b) in enumerate(zip_longest(old.get("prefixItems", ()), new.get("prefixItems", ()))):
            yield from self.of(_ANYTHING if a is None else a, _ANYTHING if b is None else b, f"{path}[{i}]")
        before, after = (schema.get("patternProperties", {}) for schema in (old, new))
        for name in before | after:
            yield from self.of(before.get(name, _ANYTHING), after.get(name, _ANYTHING), f"{path}.*")
        a, b = (schema.get("additionalProperties", True) for schema in (old, new))
        if a is False or b is False:
            # Of what we write either may be: no reader is told of fields that are to come.
            if self.side == "read" and a is not False:
                yield f"{path}: further fields, which were ignored, are refused"
        else:
            yield from self.of(_ANYTHING if a is True else a, _ANYTHING if b is True else b, f"{path}.*")

    def _fields(self, old: Json, new: Json, path: str) -> Iterator[str]:
        fields = new.get("properties", {})
        for name, each in old.get("properties", {}).items():
            if name in fields:
                yield from self.of(each, fields[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: gone"
        was, needed = set(old.get("required", ())), set(new.get("required", ()))
        if self.side == "read":
            yield from (f"{path}.{name}: required, and was not" for name in sorted(needed - was))
        else:
            yield from (f"{path}.{name}: no longer always there" for name in sorted(was - needed))
        taken, taker = self._roles(_conditions(old), _conditions(new))
        yield from (f"{path}: the condition {each} is not met" for each in sorted(taker - taken))


_REMARKS = frozenset({"$schema", "$comment", "$defs", "title", "description", "default", "examples", "deprecated"})
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_EQUAL = ("pattern", "format", "multipleOf", "uniqueItems")
_FORMS = (
    frozenset({"$ref"}),
    frozenset({"anyOf"}),
    frozenset({"oneOf", "discriminator"}),
    frozenset(
        {"type", "const", "enum", "items", "prefixItems", "propertyNames", "patternProperties",
         "additionalProperties", "properties", "required", "allOf", *_LOWER, *_UPPER, *_EQUAL}
    ),
)  # fmt: skip
"""What may stand together in a schema, beside remarks."""


def _strange(schema: Json) -> set[str]:
    """Return the words of a schema that no comparison here looks at, where they stand."""
    words = schema.keys() - _REMARKS
    return min((set(words - form) for form in _FORMS), key=len)


def _resolved(schema: Json, models: Json) -> Json:
    return models[schema["$ref"].rsplit("/", 1)[-1]] if "$ref" in schema else schema


def _by_type(schema: Json) -> Json:
    return {name: {"$ref": ref} for name, ref in schema["discriminator"]["mapping"].items()}


def _takes_type(taker: Json, taken: Json) -> bool:
    wanted, given = taker.get("type"), taken.get("type")
    return wanted is None or wanted == given or (wanted, given) == ("number", "integer")


def _values(schema: Json) -> set[str] | None:
    """Return the values that a schema names, as JSON: there 1 is not true."""
    named = [schema["const"]] if "const" in schema else schema.get("enum")
    return None if named is None else {json.dumps(value) for value in named}


def _conditions(schema: Json) -> set[str]:
    """Return what holds beside the fields, as text: conditions are the same, or others."""
    return {json.dumps(each, sort_keys=True) for each in schema.get("allOf", ())}


def _limits(taken: Json, taker: Json, path: str) -> Iterator[str]:
    """Say where the one may be outside of what the other takes."""
    for name in (*_LOWER, *_UPPER):
        if name in taker and not _inside(name, taken, taker[name]):
            yield f"{path}: {name} {taken.get(name, 'none')} is not within {taker[name]}"
    for name in _EQUAL:
        if taker.get(name, False) is not False and taken.get(name) != taker[name]:
            yield f"{path}: {name} {taken.get(name, 'none')!r} is not {taker[name]!r}"


def _inside(name: str, taken: Json, limit: float) -> bool:
    if name not in taken:
        return False
    return bool(taken[name] >= limit if name in _LOWER else taken[name] <= limit)
