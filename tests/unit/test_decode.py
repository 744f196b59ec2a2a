# ruff: noqa: SIM300 - expected == actual
"""What `decode` makes of good, odd and hostile messages: a row or a dead letter with the reason, never an exception."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic_core import from_json

from ingestd.model.dead_letter import MAX_PAYLOAD_BYTES, DeadLetter
from ingestd.model.decode import Window, decode, decode_object, encode, json_of
from ingestd.model.stream import METER, STREAMS, VEHICLE, is_identity
from ingestd.model.timestamps import EPOCH, to_datetime, to_microseconds
from tests.support.deliveries import NOW, SECOND

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingestd.model.dead_letter import Reason
    from ingestd.model.stream import Row, Stream

T = TypeVar("T")

OLDEST, NEWEST = Window(max_age=timedelta(days=90), max_skew=timedelta(minutes=5)).around(NOW)
RECEIVED_AT = NOW + 7

FIGURES: dict[Stream, dict[str, str]] = {
    METER: {"kwhConsumedAc": "0.42", "voltage": "231.5"},
    VEHICLE: {"soc": "85.5", "kwhDeliveredDc": "0.38", "batteryTemp": "28.5"},
}
BOUNDS: dict[Stream, dict[str, tuple[int, int]]] = {
    METER: {"kwhConsumedAc": (0, 10_000), "voltage": (0, 1000), "kwhConsumedAcRegister": (0, 10**9)},
    VEHICLE: {
        "soc": (0, 100),
        "kwhDeliveredDc": (0, 10_000),
        "batteryTemp": (-60, 150),
        "kwhDeliveredDcRegister": (0, 10**9),
    },
}


def figures_of(stream: Stream, changes: Mapping[str, T]) -> dict[str, str | T | None]:
    """Those of a good payload but for `changes`; a register among these stands in place of the interval."""
    figures: dict[str, str | T | None] = {**FIGURES[stream]}
    if stream.register_key in changes:
        figures[stream.energy_key] = None
    return {**figures, **changes}


def payload(stream: Stream, extra: str = "", /, **changes: str | None) -> bytes:
    """A good payload but for `changes`, which are raw JSON (None: left out), and with `extra` at the end."""
    fields: dict[str, str | None] = {"timestamp": '"2026-11-20T10:30:00Z"', **figures_of(stream, changes)}
    members = [f'"{key}":{value}' for key, value in fields.items() if value is not None]
    return f"{{{','.join(members)}{extra}}}".encode("utf-8", "surrogatepass")


def row(stream: Stream, at: int = NOW, /, **changes: float) -> Row:
    """What `payload` should become."""
    figures = figures_of(stream, changes)
    values = [figures.get(key) for key in stream.columns]
    return ("device-1", at, *(None if value is None else float(value) for value in values), RECEIVED_AT)


def decoded(stream: Stream, message: bytes, topic: str | None = None) -> tuple[Stream, Row] | DeadLetter:
    return decode(
        stream.topic("device-1") if topic is None else topic,
        message,
        oldest=OLDEST,
        newest=NEWEST,
        received_at=RECEIVED_AT,
    )


def padded(stream: Stream, size: int) -> bytes:
    """A good payload of exactly this many bytes."""
    missing = size - len(payload(stream, ',"x":""'))
    return payload(stream, f',"x":"{"a" * missing}"')


# Messages that are no reading, whichever stream they are for ---------------------------------------------------


class Bad(NamedTuple):
    """A message made from a good one, and why it is refused."""

    reason: Reason
    detail: str
    """The beginning of the dead letter's detail."""
    before: bytes = b""
    after: bytes = b""
    instead: bytes | None = None
    extra: str = ""
    timestamp: str | None = None

    def message(self, stream: Stream) -> bytes:
        if self.instead is not None:
            return self.instead
        changes = {} if self.timestamp is None else {"timestamp": self.timestamp}
        return self.before + payload(stream, self.extra, **changes) + self.after


NOT_JSON = {
    "empty": Bad("not-json", "Invalid JSON: EOF", instead=b""),
    "white space": Bad("not-json", "Invalid JSON: EOF", instead=b" \r\n\t"),
    "a word": Bad("not-json", "Invalid JSON", instead=b"offline"),
    "a NUL byte": Bad("not-json", "Invalid JSON", instead=b"\0"),
    "7,000 open brackets": Bad("not-json", "Invalid JSON: recursion limit", instead=b"[" * 7000),
    "7,000 open brackets in an unknown key": Bad(
        "not-json", "Invalid JSON: recursion limit", instead=b'{"x":' + b"[" * 7000
    ),
    "single quotes": Bad("not-json", "Invalid JSON: key must be a string", instead=b"{'voltage':1}"),
    "two objects": Bad("not-json", "Invalid JSON: trailing", after=b"{}"),
    "trailing garbage": Bad("not-json", "Invalid JSON: trailing", after=b"x"),
    "a trailing NUL": Bad("not-json", "Invalid JSON: trailing", after=b"\0"),
    "a trailing comma": Bad("not-json", "Invalid JSON: trailing comma", extra=","),
    "a comment": Bad("not-json", "Invalid JSON", before=b"/* */"),
    "a byte order mark": Bad("not-json", "Invalid JSON", before=b"\xef\xbb\xbf"),
    "UTF-16": Bad("not-json", "Invalid JSON", instead=payload(METER).decode().encode("utf-16")),
    "UTF-16 without a mark": Bad("not-json", "Invalid JSON", instead=payload(METER).decode().encode("utf-16-le")),
    "an invalid UTF-8 byte": Bad("not-json", "Invalid JSON", instead=b'{"x":"\xff"}'),
    "an overlong UTF-8 sequence": Bad("not-json", "Invalid JSON", instead=b'{"x":"\xc0\x80"}'),
    "a surrogate in UTF-8": Bad("not-json", "Invalid JSON", extra=',"x":"\ud800"'),
    "an escaped lone surrogate": Bad("not-json", "Invalid JSON", extra=',"x":"\\ud800"'),
    "a raw control character in a string": Bad("not-json", "Invalid JSON: control", extra=',"x":"\0"'),
    "an integer of 5,000 digits in an unknown key": Bad("not-json", "Invalid JSON: number", extra=f',"x":{"1" * 5000}'),
}
NO_OBJECT = {
    "null": Bad("schema", "payload: ", instead=b"null"),
    "true": Bad("schema", "payload: ", instead=b"true"),
    "a number": Bad("schema", "payload: ", instead=b"42"),
    "a string": Bad("schema", "payload: ", instead=b'"2026-11-20T10:30:00Z"'),
    "an array": Bad("schema", "payload: ", instead=b"[]"),
    "a reading in an array": Bad("schema", "payload: ", instead=b"[" + payload(METER) + b"]"),
}
BAD_TIMESTAMPS = {
    "null": Bad("schema", "timestamp: ", timestamp="null"),
    "an epoch in seconds": Bad("schema", "timestamp: ", timestamp="1795170600"),
    "an epoch in milliseconds": Bad("schema", "timestamp: ", timestamp="1795170600000"),
    "an epoch as a string": Bad("schema", "timestamp: ", timestamp='"1795170600"'),
    "an array": Bad("schema", "timestamp: ", timestamp='["2026-11-20T10:30:00Z"]'),
    "an empty string": Bad("schema", "timestamp: ", timestamp='""'),
    "no offset": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00"'),
    "a date only": Bad("schema", "timestamp: ", timestamp='"2026-11-20"'),
    "a time only": Bad("schema", "timestamp: ", timestamp='"10:30:00Z"'),
    "no seconds": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30Z"'),
    "a space instead of T": Bad("schema", "timestamp: ", timestamp='"2026-11-20 10:30:00Z"'),
    "a space behind": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00Z "'),
    "a newline behind": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00Z\\n"'),
    "a NUL behind": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00Z\\u0000"'),
    "a week date": Bad("schema", "timestamp: ", timestamp='"2026-W47-5T10:30:00Z"'),
    "an ordinal date": Bad("schema", "timestamp: ", timestamp='"2026-324T10:30:00Z"'),
    "the basic format": Bad("schema", "timestamp: ", timestamp='"20261120T103000Z"'),
    "a comma for the fraction": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00,5Z"'),
    "a point without a fraction": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00.Z"'),
    "an offset without a colon": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00+0530"'),
    "an offset of hours only": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00+05"'),
    "an offset with a typographic minus": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00\u221205:00"'),
    "an offset of 24 hours": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00+24:00"'),
    "an offset of 60 minutes": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00+00:60"'),
    "the name of a zone": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:30:00 UTC"'),
    "Arabic digits": Bad("schema", "timestamp: ", timestamp='"\u0662\u0660\u0662\u0666-11-20T10:30:00Z"'),
    "a leap second": Bad("schema", "timestamp: ", timestamp='"2026-06-30T23:59:60Z"'),
    "hour 24": Bad("schema", "timestamp: ", timestamp='"2026-11-19T24:00:00Z"'),
    "minute 60": Bad("schema", "timestamp: ", timestamp='"2026-11-20T10:60:00Z"'),
    "month 13": Bad("schema", "timestamp: ", timestamp='"2026-13-20T10:30:00Z"'),
    "29 February of a common year": Bad("schema", "timestamp: ", timestamp='"2026-02-29T10:30:00Z"'),
    "year 0": Bad("schema", "timestamp: ", timestamp='"0000-01-01T00:00:00Z"'),
    "a year of five digits": Bad("schema", "timestamp: ", timestamp='"12026-11-20T10:30:00Z"'),
    "year 1": Bad("timestamp-out-of-range", "0001-", timestamp='"0001-01-01T00:00:00+23:59"'),
    "year 9999": Bad("timestamp-out-of-range", "9999-", timestamp='"9999-12-31T23:59:59-23:59"'),
    "the far future": Bad("timestamp-out-of-range", "2036-", timestamp='"2036-11-20T10:30:00Z"'),
    "the start of the Unix epoch": Bad("timestamp-out-of-range", "1970-", timestamp='"1970-01-01T00:00:00Z"'),
    "a microsecond older than the window": Bad(
        "timestamp-out-of-range",
        "2026-08-22T10:29:59.999999Z is older than the accepted window",
        timestamp='"2026-08-22T10:29:59.999999Z"',
    ),
    "a microsecond newer than the window": Bad(
        "timestamp-out-of-range",
        "2026-11-20T10:35:00.000001Z is newer than the accepted window",
        timestamp='"2026-11-20T10:35:00.000001Z"',
    ),
}
BAD_IDENTITIES = {
    "null": Bad("schema", "ID: ", extra=',"ID":null'),
    "a number": Bad("schema", "ID: ", extra=',"ID":1'),
    "an array": Bad("schema", "ID: ", extra=',"ID":["device-1"]'),
    "another": Bad("identity-mismatch", "payload says 'device-2'", extra=',"ID":"device-2"'),
    "empty": Bad("identity-mismatch", "payload says ''", extra=',"ID":""'),
    "in capitals": Bad("identity-mismatch", "payload says 'DEVICE-1'", extra=',"ID":"DEVICE-1"'),
    "with a NUL": Bad("identity-mismatch", r"payload says 'device-1\x00'", extra=',"ID":"device-1\\u0000"'),
    "with a look-alike": Bad("identity-mismatch", r"payload says 'd\u0435vice-1'", extra=',"ID":"d\u0435vice-1"'),
    "with an emoji": Bad("identity-mismatch", r"payload says '\U0001f600'", extra=',"ID":"\\ud83d\\ude00"'),
    "with a lone surrogate": Bad("not-json", "Invalid JSON", extra=',"ID":"\\udc00"'),
    "of 8,000 characters": Bad("identity-mismatch", f"payload says '{'a' * 64}'", extra=f',"ID":"{"a" * 8000}"'),
}
TOO_LARGE = {
    "10,000 keys": Bad("too-large", "", extra="".join(f',"{key}":1' for key in range(10_000))),
    "an endless string": Bad("too-large", "", extra=f',"x":"{"a" * 100_000}"'),
}

BAD = {
    f"{group}: {name}": bad
    for group, cases in (
        ("not JSON", NOT_JSON),
        ("no object", NO_OBJECT),
        ("timestamp", BAD_TIMESTAMPS),
        ("identity", BAD_IDENTITIES),
        ("too large", TOO_LARGE),
    )
    for name, bad in cases.items()
}


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_is_no_reading_is_a_dead_letter_with_the_reason(bad: Bad, stream: Stream) -> None:
    message = bad.message(stream).replace(b'"ID"', f'"{stream.id_key}"'.encode())

    letter = decoded(stream, message)

    assert isinstance(letter, DeadLetter), letter
    assert bad.reason == letter.reason
    assert letter.detail.startswith(bad.detail.replace("ID", stream.id_key)), letter.detail
    assert message[:MAX_PAYLOAD_BYTES] == letter.payload
    assert (stream.name, "mqtt", stream.topic("device-1"), RECEIVED_AT) == (
        letter.stream,
        letter.source,
        letter.topic,
        letter.received_at,
    )


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_every_truncation_of_a_payload_is_refused(stream: Stream) -> None:
    whole = payload(stream)

    letters = [decoded(stream, whole[:size]) for size in range(len(whole))]

    assert {"not-json"} == {letter.reason for letter in letters if isinstance(letter, DeadLetter)}
    assert len(whole) == sum(isinstance(letter, DeadLetter) for letter in letters)


FIELDS = [(stream, key) for stream in STREAMS for key in BOUNDS[stream]]
ENERGIES = [(stream, key) for stream in STREAMS for key in (stream.energy_key, stream.register_key)]
BAD_FIGURES = {
    "null": ("null", "schema"),
    "a string": ('"1"', "schema"),
    "an empty string": ('""', "schema"),
    "true": ("true", "schema"),
    "false": ("false", "schema"),
    "an array": ("[1]", "schema"),
    "an object": ('{"value":1}', "schema"),
    "NaN": ("NaN", "schema"),
    "Infinity": ("Infinity", "schema"),
    "minus Infinity": ("-Infinity", "schema"),
    "1e400": ("1e400", "schema"),
    "-1e400": ("-1e400", "schema"),
    "nan in a string": ('"NaN"', "schema"),
    "an integer of 400 digits": ("1" * 400, "schema"),
    "an integer of 5,000 digits": ("1" * 5000, "not-json"),
    "a leading zero": ("01", "not-json"),
    "a leading plus": ("+1", "not-json"),
    "no digit before the point": (".5", "not-json"),
    "no digit behind the point": ("1.", "not-json"),
    "a decimal comma": ("1,5", "not-json"),
    "hexadecimal": ("0x1", "not-json"),
    "an underscore": ("1_0", "not-json"),
}


@pytest.mark.parametrize(("stream", "key"), FIELDS, ids=[key for _, key in FIELDS])
@pytest.mark.parametrize(("figure", "reason"), BAD_FIGURES.values(), ids=BAD_FIGURES)
def test_what_is_no_finite_json_number_is_refused(stream: Stream, key: str, figure: str, reason: Reason) -> None:
    letter = decoded(stream, payload(stream, **{key: figure}))

    assert isinstance(letter, DeadLetter), letter
    assert reason == letter.reason
    assert letter.detail.startswith(f"{key}: " if reason == "schema" else "Invalid JSON: ")


@pytest.mark.parametrize(
    ("stream", "key"),
    [*(field for field in FIELDS if field not in ENERGIES), *((stream, "timestamp") for stream in STREAMS)],
)
def test_a_missing_field_is_refused_by_name(stream: Stream, key: str) -> None:
    letter = decoded(stream, payload(stream, **{key: None}))

    assert isinstance(letter, DeadLetter)
    assert ("schema", f"{key}: Field required") == (letter.reason, letter.detail)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@pytest.mark.parametrize("given_", ["both", "neither"])
def test_a_reading_has_the_energy_of_its_interval_or_its_register(stream: Stream, given_: str) -> None:
    figure = "1.5" if given_ == "both" else None

    letter = decoded(stream, payload(stream, **{stream.energy_key: figure, stream.register_key: figure}))

    assert isinstance(letter, DeadLetter)
    assert ("schema", f"exactly one of {stream.energy_key} and {stream.register_key}") == (letter.reason, letter.detail)


@pytest.mark.parametrize(("stream", "key"), ENERGIES, ids=[key for _, key in ENERGIES])
def test_a_null_beside_the_other_kind_of_energy_is_refused(stream: Stream, key: str) -> None:
    """As everywhere: a field is left out or has a value."""
    both = {stream.energy_key: "1.5", stream.register_key: "1.5", key: "null"}

    letter = decoded(stream, payload(stream, **both))

    assert isinstance(letter, DeadLetter)
    assert "schema" == letter.reason
    assert letter.detail.startswith(f"{key}: ")


def test_a_register_is_stored_as_it_was_sent_and_nothing_as_an_interval() -> None:
    meter = decoded(METER, payload(METER, kwhConsumedAcRegister="10760.25"))
    vehicle = decoded(VEHICLE, payload(VEHICLE, kwhDeliveredDcRegister="1e9"))

    assert (METER, ("device-1", NOW, None, 231.5, 10_760.25, RECEIVED_AT)) == meter
    assert (VEHICLE, ("device-1", NOW, 85.5, None, 28.5, 1e9, RECEIVED_AT)) == vehicle


def test_the_other_streams_energy_is_an_unknown_key() -> None:
    for key in ("kwhDeliveredDc", "kwhDeliveredDcRegister"):
        assert (METER, row(METER)) == decoded(METER, payload(METER, f',"{key}":1'))

        letter = decoded(METER, payload(METER, f',"{key}":1', kwhConsumedAc=None))

        assert isinstance(letter, DeadLetter)
        assert "exactly one of kwhConsumedAc and kwhConsumedAcRegister" == letter.detail


@pytest.mark.parametrize(("stream", "key"), FIELDS, ids=[key for _, key in FIELDS])
def test_a_figure_on_its_bound_is_stored_and_the_next_float_is_refused(stream: Stream, key: str) -> None:
    for bound, outwards in zip(BOUNDS[stream][key], (-math.inf, math.inf), strict=True):
        assert (stream, row(stream, **{key: bound})) == decoded(stream, payload(stream, **{key: str(bound)}))

        letter = decoded(stream, payload(stream, **{key: repr(math.nextafter(bound, outwards))}))

        assert isinstance(letter, DeadLetter), letter
        assert "schema" == letter.reason
        assert letter.detail.startswith(f"{key}: Input should be")


# Messages that look odd and are readings -----------------------------------------------------------------------

ODD = {
    "white space around": (" \r\n{}\t", NOW),
    "nothing in capitals": ("2026-11-20t10:30:00z", NOW),
    "a capital T and a small z": ("2026-11-20T10:30:00z", NOW),
    "an offset east": ("2026-11-20T16:00:00+05:30", NOW),
    "an offset west": ("2026-11-20T00:00:00-10:30", NOW),
    "the greatest offset": ("2026-11-21T10:29:00+23:59", NOW),
    "no offset known": ("2026-11-20T10:30:00-00:00", NOW),
    "an offset of nothing": ("2026-11-20T10:30:00+00:00", NOW),
    "a fraction of 1 digit": ("2026-11-20T10:30:00.5Z", NOW + SECOND // 2),
    "a fraction of 6 digits": ("2026-11-20T10:30:00.000001Z", NOW + 1),
    "a fraction of 9 digits, cut": ("2026-11-20T10:30:00.123456999Z", NOW + 123_456),
    "a fraction of 8,000 digits, cut": (f"2026-11-20T10:30:00.{'9' * 8000}Z", NOW + 999_999),
    "as old as is accepted": ("2026-08-22T10:30:00Z", OLDEST),
    "as new as is accepted": ("2026-11-20T10:35:00Z", NEWEST),
}


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@pytest.mark.parametrize(("text", "at"), ODD.values(), ids=ODD)
def test_an_odd_timestamp_of_rfc_3339_is_the_instant_it_names(stream: Stream, text: str, at: int) -> None:
    if "{}" in text:
        message = text.replace("{}", payload(stream).decode()).encode()
    else:
        message = payload(stream, timestamp=json.dumps(text))

    assert (stream, row(stream, at)) == decoded(stream, message)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@pytest.mark.parametrize(
    "extra",
    [
        '"firmware":"1.2.3"',
        '"x":null',
        '"":0',
        '"x":{"y":[1,{"z":null}],"voltage":"many"}',
        f'"x":{"[" * 100}{"]" * 100}',
        '"x":1e999',
        '"\\u0000":"\\u0000"',
        '"\u043a\u0412\u0442":"\U0001f50c"',
        '"Timestamp":"yesterday","TIMESTAMP":0',
        '"__proto__":{},"__class__":"x"',
        ",".join(f'"{key}":{key}' for key in range(600)),
    ],
    ids=lambda extra: ascii(extra)[:40],
)
def test_unknown_keys_are_not_looked_at(stream: Stream, extra: str) -> None:
    assert (stream, row(stream)) == decoded(stream, payload(stream, f",{extra}"))


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_the_id_of_the_other_stream_is_an_unknown_key(stream: Stream) -> None:
    (other,) = set(STREAMS) - {stream}

    assert (stream, row(stream)) == decoded(stream, payload(stream, f',"{other.id_key}":7'))


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_the_id_may_stand_in_the_payload_too(stream: Stream) -> None:
    assert (stream, row(stream)) == decoded(stream, payload(stream, f',"{stream.id_key}":"device-1"'))


@pytest.mark.parametrize(("stream", "key"), FIELDS, ids=[key for _, key in FIELDS])
def test_of_a_key_given_twice_the_last_counts(stream: Stream, key: str) -> None:
    twice = payload(stream, f',"{key}":1.5', **{key: '"many"'})
    assert (stream, row(stream, **{key: 1.5})) == decoded(stream, twice)

    letter = decoded(stream, payload(stream, f',"{key}":"many"', **{key: "1.5"}))

    assert isinstance(letter, DeadLetter)
    assert letter.detail.startswith(f"{key}: ")


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_of_an_id_given_twice_the_last_counts(stream: Stream) -> None:
    key = stream.id_key

    assert (stream, row(stream)) == decoded(stream, payload(stream, f',"{key}":"x","{key}":"device-1"'))
    assert isinstance(decoded(stream, payload(stream, f',"{key}":"device-1","{key}":"x"')), DeadLetter)


@pytest.mark.parametrize(("stream", "key"), FIELDS, ids=[key for _, key in FIELDS])
@pytest.mark.parametrize("figure", ["0", "-0", "-0.0", "0e5", "7", "7.25", "1e1", "1E+1", "1e-320", "5e-324", "1e-999"])
def test_every_way_to_write_a_json_number_is_read(stream: Stream, key: str, figure: str) -> None:
    expected = row(stream, **{key: float(figure)})

    assert (stream, expected) == decoded(stream, payload(stream, **{key: figure}))


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_a_figure_is_a_float_however_it_was_written(stream: Stream) -> None:
    for energy, absent in ((stream.energy_key, stream.register_key), (stream.register_key, stream.energy_key)):
        read = decoded(stream, payload(stream, **{**dict.fromkeys(FIGURES[stream], "1"), energy: "1", absent: None}))

        assert not isinstance(read, DeadLetter)
        assert [float if key != absent else type(None) for key in stream.columns] == [
            type(figure) for figure in read[1][2:-1]
        ]


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_an_escaped_key_is_the_key(stream: Stream) -> None:
    message = payload(stream).replace(b'"timestamp"', b'"\\u0074imestamp"')

    assert (stream, row(stream)) == decoded(stream, message)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_8192_bytes_are_stored_and_8193_are_refused(stream: Stream) -> None:
    assert (stream, row(stream)) == decoded(stream, padded(stream, 8192))

    letter = decoded(stream, padded(stream, 8193))

    assert isinstance(letter, DeadLetter)
    assert ("too-large", "8193 bytes, at most 8192") == (letter.reason, letter.detail)
    assert padded(stream, 8193)[:8192] == letter.payload


# Topics ----------------------------------------------------------------------------------------------------------

GOOD_IDENTITIES = ["a", "EV-101", "meter-001", "a.b_c:d-e", ".", "..", "-", "0", "A" * 64, "null", "telemetry"]
BAD_TOPICS = {
    "empty": "",
    "the root": "meters",
    "no telemetry": "meters/device-1",
    "an empty id": "meters//telemetry",
    "a slash in the id": "meters/a/b/telemetry",
    "a slash before": "/meters/device-1/telemetry",
    "a slash behind": "meters/device-1/telemetry/",
    "a newline in the id": "meters/device\n1/telemetry",
    "a newline behind the id": "meters/device-1\n/telemetry",
    "a newline behind": "meters/device-1/telemetry\n",
    "a NUL in the id": "meters/device\0/telemetry",
    "a lone surrogate in the id": "meters/\ud800/telemetry",
    "SQL": "meters/'; DROP TABLE meter_history; --/telemetry",
    "a look-alike": "meters/d\u0435vice-1/telemetry",
    "Arabic digits": "meters/\u0661\u0662/telemetry",
    "a full-width letter": "meters/\uff21/telemetry",
    "a combining accent": "meters/e\u0301/telemetry",
    "a zero-width space": "meters/device\u200b1/telemetry",
    "an emoji": "meters/\U0001f600/telemetry",
    "a space": "meters/device 1/telemetry",
    "a wildcard": "meters/+/telemetry",
    "another wildcard": "meters/#",
    "a percent": "meters/%2e/telemetry",
    "65 characters": f"meters/{'a' * 65}/telemetry",
    "300 characters": f"meters/{'a' * 300}/telemetry",
    "65,000 characters": f"meters/{'a' * 65_000}/telemetry",
    "the root in capitals": "Meters/device-1/telemetry",
    "telemetry in capitals": "meters/device-1/Telemetry",
    "the singular": "meter/device-1/telemetry",
    "another root": "chargers/device-1/telemetry",
    "a shared subscription": "$share/group/meters/device-1/telemetry",
    "the broker's own": "$SYS/broker/version",
}


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@pytest.mark.parametrize("identity", GOOD_IDENTITIES)
def test_the_identity_is_the_middle_of_the_topic(stream: Stream, identity: str) -> None:
    read = decoded(stream, payload(stream), stream.topic(identity))

    assert (stream, (identity, *row(stream)[1:])) == read


@pytest.mark.parametrize("topic", BAD_TOPICS.values(), ids=BAD_TOPICS)
def test_a_topic_of_no_device_is_refused_and_kept(topic: str) -> None:
    letter = decoded(METER, payload(METER), topic)

    assert isinstance(letter, DeadLetter), letter
    assert "bad-topic" == letter.reason
    assert topic.replace("\0", "\ufffd")[:256] == letter.topic
    assert ("meter" if topic.startswith("meters") else "unknown") == letter.stream


def test_the_topic_says_which_stream_it_is() -> None:
    assert (METER, row(METER)) == decoded(METER, payload(METER), "meters/device-1/telemetry")
    assert (VEHICLE, row(VEHICLE)) == decoded(VEHICLE, payload(VEHICLE), "vehicles/device-1/telemetry")

    letter = decoded(VEHICLE, payload(METER), "vehicles/device-1/telemetry")

    assert isinstance(letter, DeadLetter)
    assert ("vehicle", "schema") == (letter.stream, letter.reason)


def test_a_bad_topic_is_found_before_a_bad_payload() -> None:
    letter = decode("chargers/x", b"?" * 9000, oldest=OLDEST, newest=NEWEST, received_at=RECEIVED_AT, source="http")

    assert isinstance(letter, DeadLetter)
    assert ("bad-topic", "unknown", "http") == (letter.reason, letter.stream, letter.source)


# Properties ------------------------------------------------------------------------------------------------------

streams = st.sampled_from(STREAMS)
identities = st.from_regex(r"[A-Za-z0-9._:-]{1,64}", fullmatch=True)
any_topic = st.one_of(
    st.text(max_size=80),
    st.builds("{}/{}/telemetry".format, st.sampled_from(["meters", "vehicles", "x"]), st.text(max_size=80)),
    st.builds(lambda stream, identity: stream.topic(identity), streams, identities),
)
json_numbers = st.one_of(st.floats(), st.integers(), st.floats(-100, 11_000), st.integers(-100, 11_000))
json_values = json_numbers | st.none() | st.booleans() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
any_keys = st.sampled_from(
    [*(key for stream in STREAMS for key in (stream.id_key, *stream.columns)), "timestamp", "x"],
)
any_timestamp = st.one_of(
    st.just("2026-11-20T10:30:00Z"),
    st.datetimes(timezones=st.none() | st.just(UTC)).map(datetime.isoformat),
    st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"),
)
half_right = st.builds(
    lambda stream, changes, timestamp: json.dumps(
        {**dict.fromkeys(FIGURES[stream], 1.5), "timestamp": timestamp, **changes}
    ).encode(),
    streams,
    st.dictionaries(any_keys, json_values, max_size=4),
    any_timestamp,
)
mangled = st.builds(
    lambda message, at, junk: message[: at % len(message)] + junk + message[at % len(message) + len(junk) :],
    half_right,
    st.integers(min_value=0),
    st.binary(max_size=3),
)
any_payload = st.one_of(st.binary(max_size=200), half_right, mangled)


@given(any_topic, any_payload)
def test_decode_never_raises(topic: str, message: bytes) -> None:
    result = decode(topic, message, oldest=OLDEST, newest=NEWEST, received_at=RECEIVED_AT)

    if not isinstance(result, DeadLetter):
        stream, (identity, timestamp, *figures, received_at) = result
        assert stream.topic(identity) == topic
        assert is_identity(identity)
        assert OLDEST <= timestamp <= NEWEST
        assert RECEIVED_AT == received_at
        assert len(stream.columns) == len(figures)
        sent = {key for key, figure in zip(stream.columns, figures, strict=True) if figure is not None}
        assert set(stream.columns) - sent in ({stream.energy_key}, {stream.register_key})


elements = st.builds(
    lambda stream, changes, timestamp: {**dict.fromkeys(FIGURES[stream], 1.5), "timestamp": timestamp, **changes},
    streams,
    st.dictionaries(any_keys, json_values | st.just("device-1") | st.just(10**400) | st.just("a" * 9000), max_size=4),
    any_timestamp | st.integers(8000, 8200).map(lambda digits: f"2026-11-20T10:30:00.{'0' * digits}Z"),
)


@given(streams, elements)
@example(METER, {"kwhConsumedAc": 1, "voltage": 230, "timestamp": "2026-11-20T10:30:00Z", "type": "meter"})
@example(METER, {"kwhConsumedAc": math.nan, "voltage": math.inf, "timestamp": "2026-11-20T10:30:00Z"})
@example(METER, {"kwhConsumedAc": True, "voltage": "230", "timestamp": 5})
@example(METER, {"voltage": None, "x": ["a" * 9000]})
@example(VEHICLE, {})
def test_an_element_of_a_request_becomes_what_the_same_message_becomes(stream: Stream, sent: dict[str, Any]) -> None:
    message = json.dumps(sent).encode()
    element = from_json(message)
    bounds: dict[str, Any] = {"oldest": OLDEST, "newest": NEWEST, "received_at": RECEIVED_AT}

    by_http = decode_object(stream, "device-1", element, **bounds)

    for payload in [json_of(element)] + [message] * (len(message) <= MAX_PAYLOAD_BYTES):  # the latter has spaces, too
        by_mqtt = decode(stream.topic("device-1"), payload, **bounds)
        if isinstance(by_mqtt, DeadLetter):
            assert isinstance(by_http, DeadLetter), by_http
            assert (by_mqtt.stream, by_mqtt.topic, by_mqtt.reason) == (by_http.stream, by_http.topic, by_http.reason)
            assert json_of(element)[:MAX_PAYLOAD_BYTES] == by_http.payload
        else:
            assert by_mqtt == by_http
            assert repr(by_mqtt[1]) == repr(by_http[1])  # floats, where the JSON had integers


@given(streams, st.data())
def test_no_figure_out_of_bounds_gets_through(stream: Stream, data: st.DataObject) -> None:
    absent = data.draw(st.sampled_from([stream.energy_key, stream.register_key]))
    figures: dict[str, Any] = {key: data.draw(json_numbers) for key in stream.columns if key != absent}
    message = json.dumps({**figures, "timestamp": "2026-11-20T10:30:00Z"}).encode()

    read = decoded(stream, message)

    within = all(BOUNDS[stream][key][0] <= figure <= BOUNDS[stream][key][1] for key, figure in figures.items())
    assert within == (not isinstance(read, DeadLetter))
    if not isinstance(read, DeadLetter):
        assert [float(figures[key]) if key in figures else None for key in stream.columns] == list(read[1][2:-1])


@given(streams, identities, st.integers(OLDEST, NEWEST), st.data())
def test_what_is_encoded_decodes_to_the_same_row(
    stream: Stream, identity: str, timestamp: int, data: st.DataObject
) -> None:
    absent = data.draw(st.sampled_from([stream.energy_key, stream.register_key]))
    figures = [None if key == absent else data.draw(st.floats(*BOUNDS[stream][key])) for key in stream.columns]
    given_row = (identity, timestamp, *figures, RECEIVED_AT)

    read = decoded(stream, encode(stream, given_row), stream.topic(identity))

    assert (stream, given_row) == read
    assert not isinstance(read, DeadLetter)
    assert list(map(repr, given_row)) == list(map(repr, read[1]))  # tells -0.0 from 0.0


@given(
    moment=st.datetimes(),
    offset=st.integers(-1439, 1439),
    separator=st.sampled_from("Tt"),
    digits=st.integers(0, 9),
)
@example(moment=datetime.min, offset=1439, separator="T", digits=0)  # noqa: DTZ901 - the offset comes from the test
@example(moment=datetime.max, offset=-1439, separator="T", digits=9)  # noqa: DTZ901
def test_a_timestamp_is_the_instant_that_datetime_says(
    moment: datetime, offset: int, separator: str, digits: int
) -> None:
    fraction = f"{moment.microsecond:06}999"[:digits]
    text = f"{moment:%H:%M:%S}{'.' if fraction else ''}{fraction}{'-' if offset < 0 else '+'}"
    text = f"{moment.date().isoformat()}{separator}{text}{abs(offset) // 60:02}:{abs(offset) % 60:02}"
    cut = moment.microsecond // 10 ** max(0, 6 - digits) * 10 ** max(0, 6 - digits)
    expected = moment.replace(microsecond=cut, tzinfo=timezone(timedelta(minutes=offset))) - EPOCH

    read = decode(
        "meters/device-1/telemetry",
        payload(METER, timestamp=json.dumps(text)),
        oldest=-(2**62),
        newest=2**62,
        received_at=0,
    )

    assert not isinstance(read, DeadLetter), text
    assert expected // timedelta(microseconds=1) == read[1][1]


@given(st.datetimes(timezones=st.just(UTC)))
def test_microseconds_become_the_same_datetime_again(moment: datetime) -> None:
    assert moment == to_datetime(to_microseconds(moment))


@given(
    st.one_of(any_topic, st.text(alphabet="\0a/", max_size=400), st.just("meters/\0/telemetry")),
    st.one_of(any_payload, st.builds(bytes.__mul__, st.binary(min_size=1, max_size=3), st.integers(0, 9000))),
)
def test_a_dead_letter_fits_its_table(topic: str, message: bytes) -> None:
    letter = decode(topic, message, oldest=OLDEST, newest=NEWEST, received_at=RECEIVED_AT)

    if isinstance(letter, DeadLetter):
        assert "\0" not in letter.topic + letter.detail
        assert len(letter.topic) <= 256
        assert len(letter.detail) <= 500
        assert message[:MAX_PAYLOAD_BYTES] == letter.payload


@given(any_topic, any_payload)
def test_a_detail_is_printable_on_one_line(topic: str, message: bytes) -> None:
    letter = decode(topic, message, oldest=OLDEST, newest=NEWEST, received_at=RECEIVED_AT)

    if isinstance(letter, DeadLetter):
        assert letter.detail.isprintable()


def test_the_window_is_counted_from_now() -> None:
    window = Window(max_age=timedelta(days=1), max_skew=timedelta(seconds=2))

    assert (NOW - 86_400 * SECOND, NOW + 2 * SECOND) == window.around(NOW)


def test_a_stream_subscribes_to_every_device() -> None:
    assert ["meters/+/telemetry", "vehicles/+/telemetry"] == [stream.topic_filter for stream in STREAMS]
