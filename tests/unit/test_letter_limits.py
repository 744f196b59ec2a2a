# ruff: noqa: SIM300 - expected == actual
"""How many dead letters are stored: of each device in an hour, of devices that nobody knows, and in bytes."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from ingestd.pipeline.letter_limits import (
    LOG_SECONDS,
    MOST_UNKNOWN,
    NO_DEVICE,
    OTHERS,
    ROW_BYTES,
    WINDOW_SECONDS,
    LetterLimits,
)
from tests.support.deliveries import dead_letter

if TYPE_CHECKING:
    from collections.abc import Iterator, MutableMapping

    from ingestd.model.dead_letter import DeadLetter, Reason

PLENTY = 10**9


@pytest.fixture
def lines() -> Iterator[list[MutableMapping[str, object]]]:
    """What is logged."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    with capture_logs() as lines:
        yield lines
    structlog.configure(**before)


class Limits:
    """Limits with a clock that a test moves. Devices whose id begins with "known" have a live row."""

    def __init__(self, *, per_device: int = 100, most_bytes: int = PLENTY) -> None:
        self.now = 0.0
        self.suppressed: Counter[tuple[str, str, str]] = Counter()
        self.limits = LetterLimits(
            most_per_device=per_device,
            most_bytes=most_bytes,
            is_known=lambda _, identity: identity.startswith("known"),
            clock=lambda: self.now,
        )

    def stored(self, *letters: DeadLetter) -> int:
        return len(self.limits.kept(letters, self.suppressed))


def letter(device: str, *, reason: Reason = "not-json", payload: bytes = b"?") -> DeadLetter:
    return replace(dead_letter(), topic=f"meters/{device}/telemetry", reason=reason, payload=payload)


@pytest.mark.parametrize(
    ("stream", "topic", "device"),
    [
        ("meter", "meters/m-1/telemetry", "m-1"),
        ("vehicle", "vehicles/EV:1.b_-/telemetry", "EV:1.b_-"),
        ("meter", "meters/m-1", "m-1"),
        ("meter", "meters//telemetry", None),
        ("meter", "meters/\x1b[31m/telemetry", None),
        ("meter", f"meters/{'x' * 65}/telemetry", None),
        ("meter", "meters", None),
        ("unknown", "POST /v1/telemetry", None),
    ],
)
def test_the_device_of_a_dead_letter_is_the_second_part_of_its_topic(
    stream: str, topic: str, device: str | None
) -> None:
    assert device == replace(dead_letter(), stream=stream, topic=topic).device


def test_of_each_device_the_first_hundred_of_an_hour_are_stored_and_the_others_counted() -> None:
    limits = Limits()

    assert 100 == limits.stored(*[letter("known-1")] * 250)
    assert 30 == limits.stored(*[letter("known-2", reason="schema")] * 30)
    limits.now += WINDOW_SECONDS - 1
    assert 0 == limits.stored(letter("known-1", reason="schema"))
    assert {("meter", "mqtt", "not-json"): 150, ("meter", "mqtt", "schema"): 1} == limits.suppressed

    limits.now += 1
    assert 100 == limits.stored(*[letter("known-1")] * 250)


def test_messages_that_name_no_device_count_as_one_device() -> None:
    limits = Limits()

    assert 100 == limits.stored(*(letter(f"no id {number}") for number in range(250)))


def test_who_invents_devices_gets_no_further_than_with_a_hundred_of_them() -> None:
    limits = Limits()

    assert MOST_UNKNOWN + 100 == limits.stored(*(letter(f"invented-{number}") for number in range(10_000)))
    assert 99 * MOST_UNKNOWN == limits.stored(*(letter(f"invented-{number % 1000}") for number in range(100_000)))
    assert 100 == limits.stored(*[letter("known-1")] * 250)  # others have what they had


def test_what_the_database_refuses_is_stored_whatever_its_number_as_it_can_be_replayed() -> None:
    limits = Limits(most_bytes=1000 * (ROW_BYTES + 200))

    assert 500 == limits.stored(*[letter("known-1", reason="database")] * 500)
    assert 100 == limits.stored(*[letter("known-1")] * 250)
    assert limits.stored(*[letter("known-1", reason="database")] * 5000) < 2000  # but the table is not to grow for ever


def test_no_more_bytes_are_stored_than_are_allowed_and_a_purge_makes_room() -> None:
    limits = Limits(most_bytes=1_000_000, per_device=PLENTY)
    large = letter("known-1", payload=bytes(8192))
    taken = limits.stored(*[large] * 1000)

    assert taken * 8192 < 1_000_000 + 8192
    assert (taken + 1) * (8192 + ROW_BYTES + 200) > 1_000_000
    assert 0 == limits.stored(large)
    assert 1001 - taken == limits.suppressed.total()

    before = limits.limits.added_bytes
    limits.limits.note(large)  # while it was measured
    limits.limits.measured(500_000, added_before=before)
    assert limits.stored(*[large] * 1000) in range(55, 61)


def test_the_letters_of_the_hour_before_the_start_count() -> None:
    limits = Limits()
    limits.limits.restore([("meter", "known-1", 90), ("meter", None, 100), ("vehicle", "known-2", 7)])

    assert 10 == limits.stored(*[letter("known-1")] * 50)
    assert 0 == limits.stored(letter("no id"))
    assert 50 == limits.stored(*[letter("known-2")] * 50)  # a meter of that name


def test_who_sent_how_many_is_known_once() -> None:
    limits = Limits(per_device=2)
    limits.stored(*[letter("known-1")] * 5, *[letter("invented")] * 3, letter("no id"))

    assert {"meter known-1": 5, "meter invented": 3, NO_DEVICE: 1} == limits.limits.take_counts()
    assert {} == limits.limits.take_counts()
    limits.stored(*(letter(f"invented-{number}") for number in range(1000)))
    assert 1000 - (MOST_UNKNOWN - 1) == limits.limits.take_counts()[OTHERS]


def test_one_line_a_minute_says_whose_letters_are_no_longer_stored(lines: list[MutableMapping[str, object]]) -> None:
    limits = Limits(per_device=1)
    limits.stored(*[letter("known-0")] * 1000)
    for number in range(1, 30):
        limits.stored(*[letter(f"known-{number}")] * 100)
    limits.now += LOG_SECONDS
    limits.stored()
    limits.now += LOG_SECONDS
    limits.stored(letter("known-1"))

    assert [(1, ["meter known-0"]), (29, [f"meter known-{number}" for number in range(1, 6)])] == [
        (line["count"], line["senders"]) for line in lines
    ]


def test_one_line_an_hour_says_that_the_table_is_full(lines: list[MutableMapping[str, object]]) -> None:
    limits = Limits(per_device=PLENTY, most_bytes=0)
    for _ in range(3600):
        limits.now += 2
        limits.stored(letter("known-1"))

    assert [("dead_letters_full", 0)] * 2 == [(line["event"], line["max_bytes"]) for line in lines]


@given(
    st.lists(st.tuples(st.floats(0, 2 * WINDOW_SECONDS), st.sampled_from(["known-1", "known-2", "x", "y y"]))),
    st.integers(0, 4),
)
def test_in_no_window_are_more_stored_than_allowed_and_none_is_dropped_before(
    sent: list[tuple[float, str]], per_device: int
) -> None:
    limits = Limits(per_device=per_device)
    windows: list[Counter[str]] = [Counter()]
    began = 0.0
    for pause, device in sent:
        limits.now += pause
        if limits.now >= began + WINDOW_SECONDS:
            began = limits.now
            windows.append(Counter())
        is_stored = bool(limits.stored(letter(device)))
        assert (windows[-1][device] < per_device) == is_stored
        windows[-1][device] += 1
    stored = sum(min(number, per_device) for window in windows for number in window.values())
    assert len(sent) == stored + limits.suppressed.total()
