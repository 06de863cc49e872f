"""
What holds on every topic, in words: for the AsyncAPI document and the page.

What is said of one topic stands in `schemas.catalog`, of one field in its model.
"""

from collections.abc import Mapping
from typing import Final

from schemas.catalog import Contract, Direction

RULES: Final[Mapping[str, str]] = {
    "Values": "One JSON object a message, in UTF-8. Times are RFC 3339 with an offset, from 1970 to 2100. Ids are "
    "strings of 1 to 256 characters, not blank. NaN and Infinity are no JSON. Any message may have more fields than "
    "its schema: we ignore those that we do not know, and so should you.",
    "Keys and partitions": "The key is the learner's id in UTF-8, but where the topic says otherwise. The partition is "
    "murmur2 of the key, as Java's client has it; librdkafka needs `partitioner=murmur2_random`. On a topic that we "
    "read, a key that is not the `user_id`, or another partition, makes a dead letter. The number of partitions never "
    "changes.",
    "Order": "Messages of one key keep their order. Predictions of a learner are in the order in which the learner's "
    "events were read, which is that of `source.offset` within a source; risks are in the order of `as_of`.",
    "Duplicates": "What we read counts once: a second message of an id changes nothing. What we write may come twice "
    "after a failure, under the same id, which is also `ce_id`: drop a second one; an xAPI statement that says "
    "something else has another. With STREAM_GUARANTEE=exactly_once nothing comes twice to consumers with "
    "`isolation.level=read_committed`.",
    "CloudEvents": "Predictions, replies, examples and dead letters are CloudEvents 1.0 by the Kafka protocol binding: "
    "the value is the event's data, and its attributes are headers (binary mode). With STREAM_CLOUDEVENTS=structured "
    "predictions and replies are JSON envelopes with the value under `data`, and the header `content-type` is "
    "`application/cloudevents+json; charset=UTF-8`.",
    "Names": "STREAM_TOPIC_PREFIX stands in front of every topic's name. STREAM_PARTITIONS and STREAM_REPLICATION say "
    "how topics are created; what is shown are their defaults.",
}
"""Headings and texts; backticks set code apart."""

CHANGES: Final[Mapping[Direction, str]] = {
    "in": "Within version 1 a message that is valid stays valid: fields may be added that need not be there, and "
    "values may be allowed that were not. No field becomes required, no range narrower, no meaning another.",
    "out": "Within version 1 fields and values of enumerations may be added; ignore what you do not know. No field is "
    "removed, becomes null that was not, or changes its type, unit or meaning.",
    "internal": "Between parts of one release, and not to be built on. Messages of earlier releases that are still "
    "kept can be read.",
}
"""What may change while `schema_version` is 1, by direction."""


def kept(contract: Contract) -> str:
    """Return how long a topic's messages are kept, in words."""
    if contract.cleanup == "compact":
        return "the last of each key (compacted)"
    hours = contract.retention_hours
    if hours is None:
        return "as its owner has it"
    return "1 day" if hours == _DAY_H else f"{hours // _DAY_H} days"


_DAY_H: Final = 24


def listed(names: tuple[str, ...]) -> str:
    """Return names as a sentence lists them."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
