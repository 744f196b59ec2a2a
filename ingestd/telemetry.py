"""What devices send: the two streams, declared once, and `decode`, which turns a message into a row.

Pure: no input or output. A third stream is one declaration here and one migration in sql/.

Inside the house a timestamp is a whole number of microseconds since 2000-01-01T00:00Z, PostgreSQL's own
epoch and unit for timestamptz: comparing, hashing and storing it costs a fraction of a datetime's.
"""

import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from operator import itemgetter
from typing import Annotated, Any, Final, Literal, NotRequired, TypeAlias

from pydantic import Field, StringConstraints, TypeAdapter, ValidationError
from pydantic_core import to_json
from typing_extensions import TypedDict  # typing's own serves pydantic from Python 3.12 on

EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
MICROSECONDS_PER_DAY: Final = 86_400_000_000

MAX_PAYLOAD_BYTES: Final = 8192
"""The contract's limit for one message."""

Reason: TypeAlias = Literal[
    "not-json", "schema", "identity-mismatch", "bad-topic", "timestamp-out-of-range", "too-large", "database"
]
Source: TypeAlias = Literal["mqtt", "http"]

Row: TypeAlias = tuple[Any, ...]
"""One reading: (device id: str, timestamp: int, *figures in the stream's column order, received_at: int)."""

IDENTITY_RULE: Final = "1 to 64 of A-Z a-z 0-9 . _ : -"
_IDENTITY: Final = r"[A-Za-z0-9._:-]{1,64}"
is_identity: Final = re.compile(_IDENTITY).fullmatch

TIMESTAMP_RULE: Final = "an RFC 3339 timestamp with an offset, such as 2026-11-20T10:30:00Z"
# RFC 3339 §5.6 allows lower case; upper-cased by the validator so that `fromisoformat` takes it.
Timestamp: TypeAlias = Annotated[
    str,
    StringConstraints(
        strict=True,
        to_upper=True,
        # Hours and the offset are bounded here, as Python's releases differ on hour 24 and offset +00:60.
        pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]([01][0-9]|2[0-3]):[0-9]{2}:[0-9]{2}(\.[0-9]+)?"
        r"([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$",
    ),
]
_Identity: TypeAlias = Annotated[str, Field(strict=True)]


def _number(low: float, high: float) -> Any:  # noqa: ANN401 - a pydantic field description has no narrower type
    """A JSON number within [low, high]; no string, no boolean, nothing that is not finite."""
    return Field(strict=True, ge=low, le=high, allow_inf_nan=False)


_KilowattHours: TypeAlias = Annotated[float, _number(0, 10_000)]
_Register: TypeAlias = Annotated[float, _number(0, 1_000_000_000)]  # kWh


class MeterPayload(TypedDict):
    """What a meter or charger sends: the energy of the interval ending at the timestamp, or its cumulative register."""

    meterId: NotRequired[_Identity]
    kwhConsumedAc: NotRequired[_KilowattHours]
    kwhConsumedAcRegister: NotRequired[_Register]
    voltage: Annotated[float, _number(0, 1000)]  # V
    timestamp: Timestamp


class VehiclePayload(TypedDict):
    """What a vehicle sends: the energy of the interval ending at the timestamp, or its cumulative register."""

    vehicleId: NotRequired[_Identity]
    soc: Annotated[float, _number(0, 100)]  # %
    kwhDeliveredDc: NotRequired[_KilowattHours]
    kwhDeliveredDcRegister: NotRequired[_Register]
    batteryTemp: Annotated[float, _number(-60, 150)]  # °C
    timestamp: Timestamp


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Stream:
    """One kind of device: where its messages come from, what they hold, where they go."""

    name: Literal["meter", "vehicle"]
    topic_root: str
    id_key: str
    columns: dict[str, str]
    """JSON key -> column of the history and live tables, in COPY order; every one is double precision."""
    energy_key: str
    """Energy of the interval, kWh. Exactly one of this and `register_key` is sent, the other is NULL in the row."""
    register_key: str
    """Cumulative energy, kWh."""
    averaged_key: str
    """The figure whose mean over time means something."""
    validate: Callable[[bytes], dict[str, Any]]
    """JSON bytes -> the payload as a dict; raises pydantic's ValidationError."""

    @property
    def topic_filter(self) -> str:
        return f"{self.topic_root}/+/telemetry"

    @property
    def id_column(self) -> str:
        return f"{self.name}_id"

    @property
    def history(self) -> str:
        return f"{self.name}_history"

    @property
    def live(self) -> str:
        return f"{self.name}_live"

    @property
    def row_columns(self) -> list[str]:
        """The columns of the history and live tables in the order of a Row."""
        return [self.id_column, "ts", *self.columns.values(), "received_at"]

    @property
    def copy_types(self) -> tuple[str, ...]:
        """PostgreSQL types of a Row's fields for binary COPY; there a bigint of microseconds is a timestamptz."""
        return ("text", "int8", *("float8" for _ in self.columns), "int8")

    def topic(self, identity: str) -> str:
        return f"{self.topic_root}/{identity}/telemetry"


METER: Final = Stream(
    name="meter",
    topic_root="meters",
    id_key="meterId",
    columns={
        "kwhConsumedAc": "kwh_consumed_ac",
        "voltage": "voltage",
        "kwhConsumedAcRegister": "kwh_consumed_ac_register",
    },
    energy_key="kwhConsumedAc",
    register_key="kwhConsumedAcRegister",
    averaged_key="voltage",
    validate=TypeAdapter(MeterPayload).validator.validate_json,
)
VEHICLE: Final = Stream(
    name="vehicle",
    topic_root="vehicles",
    id_key="vehicleId",
    columns={
        "soc": "soc",
        "kwhDeliveredDc": "kwh_delivered_dc",
        "batteryTemp": "battery_temp",
        "kwhDeliveredDcRegister": "kwh_delivered_dc_register",
    },
    energy_key="kwhDeliveredDc",
    register_key="kwhDeliveredDcRegister",
    averaged_key="batteryTemp",
    validate=TypeAdapter(VehiclePayload).validator.validate_json,
)
STREAMS: Final = (METER, VEHICLE)

_STREAM_OF_ROOT: Final = {stream.topic_root: stream for stream in STREAMS}
_match_topic: Final = re.compile(f"({'|'.join(_STREAM_OF_ROOT)})/({_IDENTITY})/telemetry").fullmatch
_LONGEST_TOPIC: Final = max(map(len, _STREAM_OF_ROOT)) + len("/") + 64 + len("/telemetry")
_TOPICS_KEPT: Final = 20_000
"""Twice the fleet of the design load; some 8 MB. Of a larger fleet every topic is taken apart anew."""


@lru_cache(_TOPICS_KEPT)
def _addressed(topic: str) -> tuple[Stream, str] | None:
    """The stream and the device that a topic belongs to."""
    matched = _match_topic(topic)
    return None if matched is None else (_STREAM_OF_ROOT[matched[1]], matched[2])


# Picks the figures of a reading with the energy of its interval, in the order of the columns. Their last, the register,
# is not among them.
_by_interval: Final = {
    stream: itemgetter(*(key for key in stream.columns if key != stream.register_key)) for stream in STREAMS
}


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A message nobody can use, kept with the reason."""

    received_at: int  # microseconds, as in Row
    source: Source
    stream: Literal["meter", "vehicle", "unknown"]
    topic: str
    payload: bytes  # capped at MAX_PAYLOAD_BYTES
    reason: Reason
    detail: str

    def reduced(self, refusal: str) -> Iterator["DeadLetter"]:
        """What to keep of it where the database refuses it as it is: in ASCII, and at last without the payload."""
        topic = _ascii(self.topic)
        yield replace(self, topic=topic, detail=_ascii(f"{self.detail} (in ASCII: {refusal})")[:500])
        detail = f"{self.detail} (without its payload, which is in the log: {refusal})"
        yield replace(self, topic=topic, detail=_ascii(detail)[:500], payload=b"")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii").replace("\0", "\\x00")


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The span of timestamps that is accepted, relative to now; keeps hostile clocks from making partitions."""

    max_age: timedelta
    max_skew: timedelta

    def around(self, now: int) -> tuple[int, int]:
        """(oldest, newest) accepted timestamp, both in microseconds and inclusive."""
        return now - self.max_age // _MICROSECOND, now + self.max_skew // _MICROSECOND


def to_microseconds(moment: datetime) -> int:
    """An aware datetime as microseconds since 2000-01-01T00:00Z."""
    since = moment - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def to_datetime(microseconds: int) -> datetime:
    return EPOCH + timedelta(microseconds=microseconds)


_UNIX_TO_EPOCH: Final = 946_684_800_000_000


def now_microseconds() -> int:
    return time.time_ns() // 1000 - _UNIX_TO_EPOCH


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
    elif (stream.energy_key in reading) == (stream.register_key in reading):
        reason, detail = "schema", f"exactly one of {stream.energy_key} and {stream.register_key}"
    elif not oldest <= timestamp <= newest:
        age = "older" if timestamp < oldest else "newer"
        reason, detail = "timestamp-out-of-range", f"{reading['timestamp']} is {age} than the accepted window"
    elif stream.energy_key in reading:
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
