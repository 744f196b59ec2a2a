# ruff: noqa: SIM300 - expected == actual
"""`ingestd schema`: what the schema takes the decoder takes, and the other way round; in AsyncAPI's dialect too."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator

from ingestd.cli import commands
from ingestd.model import asyncapi
from ingestd.model.dead_letter import DeadLetter
from ingestd.model.decode import decode
from ingestd.model.message_schema import DIALECT, message_schema
from ingestd.model.stream import METER, STREAMS, VEHICLE

if TYPE_CHECKING:
    from ingestd.model.stream import Stream

VALIDATORS: Final = {stream: Draft202012Validator(message_schema(stream)) for stream in STREAMS}
TOPICS: Final = asyncapi.document()["components"]["schemas"]
OF_TOPICS: Final = {stream: Draft7Validator(TOPICS[stream.name]) for stream in STREAMS}
EVER: Final = 2**62
ID: Final = "dev-1"

timestamps = st.one_of(
    st.datetimes().map(lambda at: at.isoformat() + "Z"),
    st.sampled_from(
        [
            "2026-11-20T10:30:00Z",
            "2026-11-20t10:30:00.123456789z",
            "2026-11-20T24:00:00Z",
            "2026-11-20T10:30:00",
            "2026-11-20 10:30:00Z",
            "2026-11-20T10:30:00+05:30",
            "2026-11-20T10:30:00+24:00",
            "",
        ]
    ),
)
values = st.one_of(
    st.floats(min_value=-100, max_value=10_001),
    st.integers(-1, 2_000_000_000),
    st.none(),
    st.booleans(),
    st.text(max_size=3),
    st.sampled_from([0, 100, 1000, 10_000, 1e9, -60, 150, 1e300, "1", [], {}]),
)


def payloads(stream: Stream) -> st.SearchStrategy[dict[str, Any]]:
    """Mostly messages that could be, with members that are missing, wrong or unknown."""
    figures = dict.fromkeys((*stream.columns, "unknown"), values)
    good = {key: st.floats(min_value=0, max_value=100) for key in stream.columns}
    identity = {stream.id_key: st.sampled_from([ID, ID, 7, None])}
    stamp = {"timestamp": timestamps}
    energy = st.sampled_from(
        [(stream.energy_key,), (stream.register_key,), (), (stream.energy_key, stream.register_key)]
    )

    def drop(message: dict[str, Any], without: tuple[str, ...]) -> dict[str, Any]:
        return {key: value for key, value in message.items() if key not in without}

    plausible = st.builds(drop, st.fixed_dictionaries({**good, **stamp}, optional=identity), energy)
    return plausible | st.fixed_dictionaries({}, optional={**figures, **identity, **stamp})


def is_calendar_time(text: object) -> bool:
    try:
        datetime.fromisoformat(str(text).upper())
    except ValueError:
        return False
    return True


def assert_agreed(stream: Stream, message: object) -> bool:
    """Decoder and schemas take the message, or none of them does; returns which."""
    taken = bool(VALIDATORS[stream].is_valid(message))
    assert taken == OF_TOPICS[stream].is_valid(message)
    decoded = decode(stream.topic(ID), json.dumps(message).encode(), oldest=-EVER, newest=EVER, received_at=0)
    assert (not isinstance(decoded, DeadLetter)) == taken, decoded
    return taken


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
@given(data=st.data())
def test_the_schema_and_the_decoder_take_the_same(stream: Stream, data: st.DataObject) -> None:
    message = data.draw(payloads(stream))
    stamp = message.get("timestamp", "2026-11-20T10:30:00Z")
    assume(is_calendar_time(stamp) or not VALIDATORS[stream].is_valid(message))  # a schema knows no calendar

    assert_agreed(stream, message)


@pytest.mark.parametrize("message", [None, [], 1, "text", {}, [{"voltage": 230}]])
@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_what_is_no_message_is_taken_by_neither(stream: Stream, message: object) -> None:
    assert not assert_agreed(stream, message)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
def test_bounds_belong_to_what_is_taken_and_what_is_beyond_does_not(stream: Stream) -> None:
    members = message_schema(stream)["properties"]
    numbers = [key for key in stream.columns if key != stream.register_key]
    for key in numbers:
        low, high = members[key]["minimum"], members[key]["maximum"]
        message = dict.fromkeys(numbers, 1) | {"timestamp": "2026-11-20T10:30:00Z"}
        assert [True, True] == [assert_agreed(stream, message | {key: value}) for value in (low, high)]
        assert [False, False] == [assert_agreed(stream, message | {key: value}) for value in (low - 1, high + 1)]


@pytest.mark.parametrize("stream", [METER, VEHICLE], ids=lambda stream: stream.name)
def test_the_command_prints_a_schema_that_is_one(stream: Stream) -> None:
    printed = json.loads(CliRunner().invoke(commands, ["schema", stream.name]).stdout)

    Draft202012Validator.check_schema(printed)
    assert DIALECT == printed["$schema"]
    assert [stream.id_key, *sorted(stream.columns), "timestamp"] == [
        stream.id_key,
        *sorted(printed["properties"].keys() - {stream.id_key, "timestamp"}),
        "timestamp",
    ]


def test_the_command_prints_the_document_of_the_topics() -> None:
    assert asyncapi.document() == json.loads(CliRunner().invoke(commands, ["schema", "asyncapi"]).stdout)


def test_an_unknown_stream_is_refused_with_those_there_are() -> None:
    refused = CliRunner().invoke(commands, ["schema", "charger"])

    assert 2 == refused.exit_code
    assert "'meter', 'vehicle'" in refused.stderr
