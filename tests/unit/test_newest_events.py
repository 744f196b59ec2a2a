# ruff: noqa: SIM300 - expected == actual
"""The newest events: how they are written, what a client gets that has seen some of them, and what is kept."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.http.newest_events import CHUNK_BYTES, REPLACED_AT_LEAST, NewestEvents, Wanted
from ingestd.model.device import Changed, LiveReading
from ingestd.model.stream import METER, VEHICLE, Stream

AT = datetime(2026, 11, 20, 10, tzinfo=UTC)
ALL = Wanted()


def reading(device_id: str, value: float = 1.0) -> LiveReading:
    return LiveReading(device_id=device_id, timestamp=AT, received_at=AT, figures={"voltage": value})


def changed(*devices: str, value: float = 1.0, stream: Stream = METER) -> Changed:
    return Changed(stream=stream, readings=[reading(device, value) for device in devices])


def parsed(frames: bytes) -> list[tuple[str, float]]:
    """Device and value of each event."""
    data = [json.loads(line.removeprefix("data: ")) for line in frames.decode().splitlines() if line[:5] == "data:"]
    return [(one.get("meterId", one.get("vehicleId")), one["voltage"]) for one in data]


def test_an_event_has_its_kind_an_id_and_one_line_of_data() -> None:
    events = NewestEvents()
    events.add(changed("m-1"))

    frame, number = events.after(0, ALL)

    kind, identity, data, *rest = frame.decode().split("\n")
    assert ("event: meter", ["", ""]) == (kind, rest)
    assert 1 == number == events.position(identity.removeprefix("id: "))
    assert (
        '{"meterId":"m-1","voltage":1.0,"timestamp":"2026-11-20T10:00:00Z","receivedAt":"2026-11-20T10:00:00Z"}'
        == data.removeprefix("data: ")
    )


def test_a_client_gets_what_comes_after_its_number_each_device_once() -> None:
    events = NewestEvents()
    events.add(changed("a", "b", "c"))
    _, number = events.after(0, ALL)
    for value in (2, 3, 4):
        events.add(changed("b", value=value))
    events.add(changed("a", value=5))

    assert [("b", 4), ("a", 5)] == parsed(events.after(number, ALL)[0])
    assert [("c", 1), ("b", 4), ("a", 5)] == parsed(events.after(0, ALL)[0])
    assert (b"", 7) == events.after(7, ALL)


def test_what_is_the_same_is_no_event() -> None:
    """A look that has failed half-way gives it again."""
    events = NewestEvents()
    events.add(changed("a"))
    events.add(changed("a"))

    assert (b"", 1) == events.after(1, ALL)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (ALL, ["x", "y", "x", "z"]),
        (Wanted(kind="meter"), ["x", "y"]),
        (Wanted(kind="vehicle"), ["x", "z"]),
        (Wanted(kind="vehicle", devices={"z", "x"}), ["x", "z"]),
        (Wanted(kind="meter", devices={"y", "nobody"}), ["y"]),
        (Wanted(kind="meter", devices={"z"}), []),
    ],
)
def test_only_events_that_are_wanted_come(wanted: Wanted, expected: list[str]) -> None:
    events = NewestEvents()
    events.add(changed("x", "y"))
    events.add(changed("x", "z", stream=VEHICLE))

    frames, number = events.after(0, wanted)

    assert (expected, 4) == ([device for device, _ in parsed(frames)], number)
    assert (b"", 4) == events.after(number, wanted)


@pytest.mark.parametrize("wanted", [ALL, Wanted(kind="meter", devices={f"m-{number}" for number in range(1000)})])
def test_much_comes_in_chunks_that_are_whole_and_in_order(wanted: Wanted) -> None:
    events = NewestEvents()
    events.add(changed(*(f"m-{number}" for number in range(1000))))
    number, got = 0, list[str]()
    while True:
        frames, number = events.after(number, wanted)
        if not frames:
            break
        assert len(frames) < CHUNK_BYTES + 1000
        got += [device for device, _ in parsed(frames)]

    assert [f"m-{number}" for number in range(1000)] == got


def test_a_device_that_is_gone_has_no_event() -> None:
    events = NewestEvents()
    events.add(changed("a", "b"))
    events.add(Changed(stream=METER, gone={"a", "nobody"}))

    assert ["b"] == [device for device, _ in parsed(events.after(0, ALL)[0])]
    assert b"" == events.after(0, Wanted(kind="meter", devices={"a"}))[0]
    events.add(changed("a"))
    assert ["b", "a"] == [device for device, _ in parsed(events.after(0, ALL)[0])]


@pytest.mark.parametrize(
    "text", ["", "1", "x-1", "{epoch}-", "{epoch}-x", "{epoch}-4", "{epoch}-٣", "{epoch}-1 ", "{other}-1"]
)
def test_an_id_that_is_none_of_ours_is_the_beginning(text: str) -> None:
    events = NewestEvents()
    events.add(changed("a", "b", "c"))
    epoch = events.after(0, ALL)[0].decode().partition("id: ")[2].partition("-")[0]
    other = f"{int(epoch, 16) ^ 1:08x}"

    assert 0 == events.position(text.format(epoch=epoch, other=other))
    assert 3 == events.position(f"{epoch}-3")


def test_what_was_replaced_does_not_pile_up() -> None:
    events = NewestEvents()
    for value in range(20 * REPLACED_AT_LEAST):
        events.add(changed("a", "b", value=value))

    assert len(events._in_order) <= 2 * 2 + REPLACED_AT_LEAST  # noqa: SLF001 - its memory is what this is about
    assert ["a", "b"] == [device for device, _ in parsed(events.after(0, ALL)[0])]


@given(
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=60),
    wanted=st.sampled_from([ALL, Wanted(kind="meter"), Wanted(kind="meter", devices={"a", "b"})]),
)
def test_a_client_that_looks_now_and_then_knows_the_newest_in_the_end(
    steps: list[tuple[str, bool]], wanted: Wanted
) -> None:
    events, number, known, newest = NewestEvents(), 0, dict[str, float](), dict[str, float]()
    for value, (device, looks) in enumerate(steps):
        events.add(changed(device, value=value))
        newest[device] = value
        if looks:
            frames, number = events.after(number, wanted)
            known |= parsed(frames)
    known |= parsed(events.after(number, wanted)[0])

    assert {
        device: value for device, value in newest.items() if not wanted.devices or device in wanted.devices
    } == known
