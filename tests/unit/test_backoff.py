# ruff: noqa: SIM300 - expected == actual
"""Pauses between attempts: each twice as long as the one before, up to the longest."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ingestd.backoff import Backoff


def without_jitter() -> Backoff:
    return Backoff(first=0.5, longest=3.0, jitter=(1.0, 1.0))


def test_each_pause_is_twice_as_long_up_to_the_longest() -> None:
    backoff = without_jitter()

    assert [0.5, 1.0, 2.0, 3.0, 3.0] == [backoff.next() for _ in range(5)]


def test_after_a_success_the_next_pause_is_the_first_again() -> None:
    backoff = without_jitter()
    for _ in range(4):
        backoff.next()

    backoff.reset()

    assert [0.5, 1.0] == [backoff.next(), backoff.next()]


def test_the_longest_pause_can_come_at_once() -> None:
    backoff = without_jitter()

    backoff.extend()

    assert [3.0, 3.0] == [backoff.next(), backoff.next()]


@given(st.floats(0.01, 10), st.floats(0.1, 1), st.floats(1, 2), st.integers(0, 4))
def test_a_pause_is_within_its_jitter(first: float, low: float, high: float, failures: int) -> None:
    backoff = Backoff(first=first, longest=1000.0, jitter=(low, high))
    for _ in range(failures):
        backoff.next()

    pause = backoff.next()

    exact = first * 2**failures
    assert exact * low * (1 - 1e-9) <= pause <= exact * high * (1 + 1e-9)
