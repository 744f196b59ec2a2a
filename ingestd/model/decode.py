"""`decode` turns a message into a row of its stream, or into a dead letter with the reason."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Final

from pydantic import ValidationError
from pydantic_core import to_json

from ingestd.model.dead_letter import MAX_PAYLOAD_BYTES, DeadLetter, Reason, Source
from ingestd.model.stream import IDENTITY, IDENTITY_RULE, STREAMS, TIMESTAMP_RULE, WITH_ENERGY, Row, Stream
from ingestd.model.timestamps import EPOCH, to_datetime

_MICROSECOND: Final = timedelta(microseconds=1)


_STREAM_OF_ROOT: Final = {stream.topic_root: stream for stream in STREAMS}


_match_topic: Final = re.compile(f"({'|'.join(_STREAM_OF_ROOT)})/({IDENTITY})/telemetry").fullmatch


_LONGEST_TOPIC: Final = max(map(len, _STREAM_OF_ROOT)) + len("/") + 64 + len("/telemetry")


_TOPICS_KEPT: Final = 20_000
"""Twice the fleet of the design load; some 8 MB. Of a larger fleet every topic is taken apart anew."""


@lru_cache(_TOPICS_KEPT)
def _addressed(topic: str) -> tuple[Stream, str] | None:
    """The stream and the device that a topic belongs to."""
    matched = _match_topic(topic)
    return None if matched is None else (_STREAM_OF_ROOT[matched[1]], matched[2])


# Picks the figures of a reading with the energy of its interval, in the order of the columns, but for the last, the
# register: twice as fast as one by one.
_by_interval: Final = {
    stream: itemgetter(*(key for key in stream.columns if key != stream.register_key))
    for stream in WITH_ENERGY
    if not stream.optional and [*stream.columns][-1] == stream.register_key
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The span of timestamps that is accepted, relative to now; keeps hostile clocks from making partitions."""

    max_age: timedelta
    max_skew: timedelta

    def around(self, now: int) -> tuple[int, int]:
        """(oldest, newest) accepted timestamp, both in microseconds and inclusive."""
        return now - self.max_age // _MICROSECOND, now + self.max_skew // _MICROSECOND


def decode(
    topic: str, payload: bytes, *, oldest: int, newest: int, received_at: int, source: Source = "mqtt"
) -> tuple[Stream, Row] | DeadLetter:
    """One message as a row of its stream, or as a dead letter with the reason. Never raises on input.

    `oldest` and `newest` bound the timestamp, in microseconds, both inclusive.
    """
    addressed = _addressed(topic) if len(topic) <= _LONGEST_TOPIC else None
    if addressed is None:
        return _dead_letter(topic, payload, received_at, source, "bad-topic", f"no device id of {IDENTITY_RULE}")
    stream, identity = addressed
    if len(payload) > MAX_PAYLOAD_BYTES:
        return _dead_letter(
            topic,
            payload,
            received_at,
            source,
            "too-large",
            f"{len(payload)} bytes, at most {MAX_PAYLOAD_BYTES}",
        )
    try:
        reading = stream.validate(payload)
        since = datetime.fromisoformat(reading["timestamp"]) - EPOCH
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            return _dead_letter(topic, payload, received_at, source, "not-json", first["msg"])
        where = ".".join(map(str, first["loc"])) or "payload"
        said = TIMESTAMP_RULE if first["type"] == "string_pattern_mismatch" else first["msg"]
        return _dead_letter(topic, payload, received_at, source, "schema", f"{where}: {said}")
    except ValueError as error:
        return _dead_letter(topic, payload, received_at, source, "schema", f"timestamp: {error}")
    timestamp = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    claimed = reading.get(stream.id_key, identity)
    reason: Reason
    if claimed != identity:
        reason, detail = "identity-mismatch", f"payload says {str(claimed)[:64]!a}"
    elif stream.energy_key and (stream.energy_key in reading) == (stream.register_key in reading):
        reason, detail = "schema", f"exactly one of {stream.energy_key} and {stream.register_key}"
    elif not oldest <= timestamp <= newest:
        age = "older" if timestamp < oldest else "newer"
        reason, detail = "timestamp-out-of-range", f"{reading['timestamp']} is {age} than the accepted window"
    elif stream.energy_key in reading and stream in _by_interval:
        return stream, (identity, timestamp, *_by_interval[stream](reading), None, received_at)
    else:
        return stream, (identity, timestamp, *map(reading.get, stream.columns), received_at)
    return _dead_letter(topic, payload, received_at, source, reason, detail)


def encode(stream: Stream, row: Row) -> bytes:
    """A row as the payload it could have come from: `decode` turns it into the same row."""
    identity, timestamp, *values, _ = row
    figures = dict(zip(stream.columns, values, strict=True))
    payload = {stream.id_key: identity, **{key: value for key, value in figures.items() if value is not None}}
    payload["timestamp"] = to_datetime(timestamp).isoformat().replace("+00:00", "Z")
    return to_json(payload)


def _dead_letter(
    topic: str, payload: bytes, received_at: int, source: Source, reason: Reason, detail: str
) -> DeadLetter:
    root, _, _ = topic.partition("/")
    stream = _STREAM_OF_ROOT.get(root)
    return DeadLetter(
        received_at=received_at,
        source=source,
        stream=stream.name if stream else "unknown",
        topic=topic[:256].replace("\0", "\ufffd"),  # PostgreSQL's text takes no NUL
        payload=payload[:MAX_PAYLOAD_BYTES],
        reason=reason,
        detail=detail[:500],
    )
