"""Turns a message into a row of its stream, or into a dead letter with the reason.

A message has an address, which is its stream and its device, and a payload. The address of an MQTT message is its
topic, and its payload is bytes (`decode`). An element of an HTTP request has its address among its members, and is
parsed already (`decode_object`). From there on both are checked by the same rules.
"""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Any, Final

from pydantic import ValidationError
from pydantic_core import to_json

from ingestd.model.dead_letter import MAX_PAYLOAD_BYTES, UNKNOWN_STREAM, DeadLetter, Reason, Source
from ingestd.model.stream import IDENTITY, IDENTITY_RULE, STREAMS, TIMESTAMP_RULE, WITH_ENERGY, Row, Stream
from ingestd.model.timestamps import EPOCH, to_datetime

_MICROSECOND: Final = timedelta(microseconds=1)
_STREAM_OF_ROOT: Final = {stream.topic_root: stream for stream in STREAMS}
_match_topic: Final = re.compile(f"({'|'.join(_STREAM_OF_ROOT)})/({IDENTITY})/telemetry").fullmatch
_TOPICS_KEPT: Final = 20_000
"""Topics in the cache: twice the devices of the design load, some 8 MB. With more devices, topics are parsed again."""
_USUAL_TIMESTAMP: Final = 64
"""Characters. Fractions of a second may have any number of digits."""

# Picks the figures of a reading with the energy of its interval, in the order of the columns, without the register.
# The register is the last column, and no figure is optional.
_by_interval: Final = {
    stream: itemgetter(*(key for key in stream.columns if key != stream.register_key))
    for stream in WITH_ENERGY
    if not stream.optional and [*stream.columns][-1] == stream.register_key
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The accepted timestamps, relative to now. This limits the partitions that wrong clocks can cause."""

    max_age: timedelta
    max_skew: timedelta

    def around(self, now: int) -> tuple[int, int]:
        """(oldest, newest) accepted timestamp, both in microseconds and inclusive."""
        return now - self.max_age // _MICROSECOND, now + self.max_skew // _MICROSECOND


class _RefusedError(ValueError):
    """A message cannot become a reading."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


def decode(
    topic: str, payload: bytes, *, oldest: int, newest: int, received_at: int, source: Source = "mqtt"
) -> tuple[Stream, Row] | DeadLetter:
    """A message as a row of its stream, or as a dead letter. Never raises on input.

    `oldest` and `newest` bound the timestamp, in microseconds, both inclusive.
    """
    try:
        stream, identity = _address(topic)
        if len(payload) > MAX_PAYLOAD_BYTES:
            raise _too_large(len(payload))
        return stream, _row(stream, identity, stream.validate_json(payload), oldest, newest, received_at)
    except ValueError as error:
        return _dead_letter(topic, payload, _refusal(error), received_at, source)


def decode_object(
    stream: Stream, identity: str, item: dict[str, Any], *, oldest: int, newest: int, received_at: int
) -> tuple[Stream, Row] | DeadLetter:
    """The same for an element of an HTTP request. Its dead letter has the topic that the device would publish to."""
    try:
        reading = stream.validate_object(item)
        # All other readings are short, so their JSON need not be written to measure it.
        may_be_large = len(item) > len(reading) or len(reading["timestamp"]) > _USUAL_TIMESTAMP
        if may_be_large and (size := len(json_of(item))) > MAX_PAYLOAD_BYTES:
            raise _too_large(size)
        return stream, _row(stream, identity, reading, oldest, newest, received_at)
    except ValueError as error:
        payload = json_of(item)
        refusal = _refusal(error) if len(payload) <= MAX_PAYLOAD_BYTES else _too_large(len(payload))
        return _dead_letter(stream.topic(identity), payload, refusal, received_at, "http")


def json_of(item: object) -> bytes:
    """An element of a request as JSON."""
    return to_json(item, inf_nan_mode="constants")


def encode(stream: Stream, row: Row) -> bytes:
    """A row as a payload, which `decode` turns into the same row."""
    identity, timestamp, *values, _ = row
    figures = dict(zip(stream.columns, values, strict=True))
    payload = {stream.id_key: identity, **{key: value for key, value in figures.items() if value is not None}}
    payload["timestamp"] = to_datetime(timestamp).isoformat().replace("+00:00", "Z")
    return to_json(payload)


@lru_cache(_TOPICS_KEPT)
def _address(topic: str) -> tuple[Stream, str]:
    """The stream and the device of a topic. Raises _RefusedError, which is not cached: so bad topics take no memory."""
    matched = _match_topic(topic)
    if matched is None:
        raise _RefusedError("bad-topic", f"no device id of {IDENTITY_RULE}")
    return _STREAM_OF_ROOT[matched[1]], matched[2]


def _row(stream: Stream, identity: str, reading: dict[str, Any], oldest: int, newest: int, received_at: int) -> Row:
    """The row of a validated payload. Raises ValueError (_RefusedError is one)."""
    since = datetime.fromisoformat(reading["timestamp"]) - EPOCH
    timestamp = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    claimed = reading.get(stream.id_key, identity)
    if claimed != identity:
        raise _RefusedError("identity-mismatch", f"payload says {str(claimed)[:64]!a}")
    if stream.energy_key and (stream.energy_key in reading) == (stream.register_key in reading):
        raise _RefusedError("schema", f"exactly one of {stream.energy_key} and {stream.register_key}")
    if not oldest <= timestamp <= newest:
        age = "older" if timestamp < oldest else "newer"
        raise _RefusedError("timestamp-out-of-range", f"{reading['timestamp']} is {age} than the accepted window")
    if stream.energy_key in reading and stream in _by_interval:
        return (identity, timestamp, *_by_interval[stream](reading), None, received_at)
    return (identity, timestamp, *map(reading.get, stream.columns), received_at)


def _too_large(size: int) -> _RefusedError:
    return _RefusedError("too-large", f"{size} bytes, at most {MAX_PAYLOAD_BYTES}")


def _refusal(error: ValueError) -> _RefusedError:
    """The reason for which a payload cannot become a reading, from the exception."""
    match error:
        case _RefusedError():
            return error
        case ValidationError():
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            if first["type"] == "json_invalid":
                return _RefusedError("not-json", first["msg"])
            where = ".".join(map(str, first["loc"])) or "payload"
            said = TIMESTAMP_RULE if first["type"] == "string_pattern_mismatch" else first["msg"]
            return _RefusedError("schema", f"{where}: {said}")
        case _:
            return _RefusedError("schema", f"timestamp: {error}")


def _dead_letter(topic: str, payload: bytes, refusal: _RefusedError, received_at: int, source: Source) -> DeadLetter:
    stream = _STREAM_OF_ROOT.get(topic.partition("/")[0])
    return DeadLetter.of(
        received_at=received_at,
        source=source,
        stream=stream.name if stream else UNKNOWN_STREAM,
        topic=topic,
        payload=payload,
        reason=refusal.reason,
        detail=refusal.detail,
    )
