# ruff: noqa: SIM300 - expected == actual
"""Which devices are known, and how many more there may be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestd.model.stream import METER, STREAMS, VEHICLE
from ingestd.pipeline.known_devices import READ_AGAIN_SECONDS, KnownDevices
from tests.support.deliveries import meter_row, vehicle_row


def test_a_device_that_was_added_is_known_and_takes_room() -> None:
    devices = KnownDevices(most=3)

    assert ["a", "b"] == devices.unknown(METER, [meter_row("a"), meter_row("b"), meter_row("a", 1)])
    assert [] == devices.add(METER, ["a", "b"])

    assert [] == devices.unknown(METER, [meter_row("b", 2), meter_row("a", 3)])
    assert (True, False) == (devices.is_known("meter", "a"), devices.is_known("vehicle", "a"))
    assert 1 == devices.room


def test_the_limit_is_of_all_streams_together_and_the_first_to_come_are_taken() -> None:
    devices = KnownDevices(most=2)
    devices.add(METER, ["a"])

    assert ["a"] == devices.unknown(VEHICLE, [vehicle_row("a")])
    assert ["b", "c"] == devices.add(VEHICLE, ["a", "b", "c"])
    assert 0 == devices.room


def test_a_device_that_was_forgotten_makes_room_when_the_live_tables_are_read() -> None:
    now = [0.0]
    devices = KnownDevices(most=1, clock=lambda: now[0])
    assert devices.may_be_read_again
    devices.replace({METER: {"a"}, VEHICLE: set()})
    assert not devices.may_be_read_again
    assert ["b"] == devices.add(METER, ["b"])

    now[0] += READ_AGAIN_SECONDS
    assert devices.may_be_read_again
    devices.replace({METER: set(), VEHICLE: set()})

    assert [] == devices.add(METER, ["b"])
    assert ["a"] == devices.unknown(METER, [meter_row("a")])


def test_more_devices_than_are_allowed_stay_known_and_no_other_is_added() -> None:
    """As after the limit was lowered."""
    devices = KnownDevices(most=1)
    devices.replace({METER: {"a", "b", "c"}, VEHICLE: {"d"}})

    assert 0 == devices.room
    assert [] == devices.unknown(METER, [meter_row("c")])
    assert ["e"] == devices.add(VEHICLE, ["e"])


@given(st.lists(st.tuples(st.sampled_from(STREAMS), st.sampled_from("abcdefgh")), max_size=40), st.integers(0, 10))
def test_never_more_are_known_than_are_allowed_and_none_is_refused_while_there_is_room(
    seen: list[tuple[object, str]], most: int
) -> None:
    devices = KnownDevices(most=most)
    accepted: set[tuple[str, str]] = set()
    for stream, identity in seen:
        assert stream in (METER, VEHICLE)
        of = METER if stream is METER else VEHICLE
        row = meter_row(identity) if of is METER else vehicle_row(identity)
        refused = devices.add(of, devices.unknown(of, [row]))
        if not refused:
            accepted.add((of.name, identity))
        assert bool(refused) == ((of.name, identity) not in accepted)
        assert not refused or len(accepted) == most
        assert len(accepted) <= most
