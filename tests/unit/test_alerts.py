# ruff: noqa: SIM300 - expected == actual
"""When an alert is raised and when it is cleared, whatever is seen, and however long nobody watches."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.alerts import (
    BATTERY,
    BATTERY_MARGIN,
    CLOCK,
    EFFICIENCY,
    FLEET,
    IMPLAUSIBLE,
    KINDS,
    SILENT,
    Alert,
    DeadLetterShare,
    Observation,
    Watch,
    battery,
    charging,
    clock,
    retire,
    silence,
    step,
)
from ingestd.analytics import VehicleEfficiency

if TYPE_CHECKING:
    from ingestd.analytics import Status

START = datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINIMUM = 60 * SECOND
LIMIT = 60.0

HOT, WARM, COOL = LIMIT + 1, LIMIT - BATTERY_MARGIN / 2, LIMIT - BATTERY_MARGIN


def seen(celsius: float) -> Observation:
    return battery("EV-101", celsius=celsius, bound=LIMIT)


@dataclass
class Story:
    """What becomes of one alert when a battery is looked at every ten seconds."""

    alert: Alert | None = None
    now: datetime = START
    watched_since: datetime = START

    def look(self, *temperatures: float | None) -> list[str | None]:
        """The state after each look; None: there is no alert."""
        states: list[str | None] = []
        for celsius in temperatures:
            watch = Watch(now=self.now, since=self.watched_since, minimum=MINIMUM)
            self.alert = step(self.alert, None if celsius is None else seen(celsius), watch)
            states.append(self.alert.state if self.alert else None)
            self.now += 10 * SECOND
        return states

    def be_away(self) -> None:
        """Nobody watches for an hour."""
        self.now += timedelta(hours=1)
        self.watched_since = self.now


def active() -> Story:
    story = Story()
    assert "active" == story.look(*[HOT] * 7)[-1]
    return story


# Raising ---------------------------------------------------------------------------------------------------------


def test_an_alert_is_raised_once_the_condition_has_held_for_the_minimum_duration() -> None:
    story = Story()

    assert ["pending"] * 6 + ["active"] == story.look(*[HOT] * 7)
    assert story.alert is not None
    assert (START, START + MINIMUM) == (story.alert.since, story.alert.raised_at)


def test_at_the_limit_the_condition_does_not_hold_yet() -> None:
    assert [None] == Story().look(LIMIT)


@pytest.mark.parametrize("celsius", [LIMIT, WARM, COOL, None])
def test_a_pending_alert_goes_when_the_condition_does_not_hold_or_is_not_known(celsius: float | None) -> None:
    story = Story()

    assert ["pending"] * 6 + [None] == story.look(*[HOT] * 6, celsius)
    assert ["pending"] * 6 + ["active"] == story.look(*[HOT] * 7)


def test_time_in_which_nobody_watched_does_not_count_for_raising() -> None:
    story = Story()
    story.look(HOT)

    story.be_away()

    assert ["pending"] * 6 + ["active"] == story.look(*[HOT] * 7)
    assert story.alert is not None
    assert START == story.alert.since


# Clearing --------------------------------------------------------------------------------------------------------


def test_an_alert_is_cleared_once_the_condition_has_been_over_for_the_minimum_duration() -> None:
    story = active()

    assert ["active"] * 6 + ["cleared"] == story.look(*[COOL] * 7)
    assert story.alert is not None
    assert (START, START + MINIMUM, START + 130 * SECOND) == (
        story.alert.since,
        story.alert.raised_at,
        story.alert.cleared_at,
    )
    assert (COOL, "battery at 57 °C, limit 60 °C") == (story.alert.value, story.alert.detail)


def test_within_the_margin_an_alert_stays_however_long() -> None:
    assert {"active"} == set(active().look(*[WARM] * 100))


@pytest.mark.parametrize("celsius", [WARM, HOT, None])
def test_a_relapse_or_a_look_in_vain_makes_the_way_to_clearing_start_again(celsius: float | None) -> None:
    story = active()

    assert {"active"} == set(story.look(*[COOL] * 6, celsius))
    assert ["active"] * 6 + ["cleared"] == story.look(*[COOL] * 7)


def test_an_alert_of_which_nothing_is_known_stays() -> None:
    assert {"active"} == set(active().look(*[None] * 100))


def test_time_in_which_nobody_watched_does_not_count_for_clearing() -> None:
    story = active()
    story.look(COOL)

    story.be_away()

    assert ["active"] * 6 + ["cleared"] == story.look(*[COOL] * 7)


# Whatever happens ----------------------------------------------------------------------------------------------------

looks = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from([HOT, LIMIT, WARM, COOL, 20.0, None]), st.booleans()), max_size=60
)
"""Seconds since the look before, what is seen, and whether nobody watched meanwhile."""


@given(looks)
def test_nothing_is_raised_or_cleared_before_the_minimum_duration_and_times_never_run_backwards(
    looks: list[tuple[int, float | None, bool]],
) -> None:
    now = watched_since = START
    alert: Alert | None = None
    held_from: datetime | None = None  # the first of the looks that without exception saw the condition hold
    over_from: datetime | None = None  # and that saw it over
    for seconds, celsius, away in looks:
        now += seconds * SECOND
        if away:
            watched_since = now
        held_from = (held_from or now) if celsius == HOT else None
        over_from = (over_from or now) if celsius is not None and celsius <= COOL else None
        before, alert = (
            alert,
            step(
                alert,
                None if celsius is None else seen(celsius),
                Watch(now=now, since=watched_since, minimum=MINIMUM),
            ),
        )
        states = (before and before.state, alert and alert.state)
        if alert is None:
            assert states[0] in {None, "pending"}
            continue
        if states == ("pending", "active"):
            assert held_from is not None
            assert now - max(held_from, watched_since) >= MINIMUM
            assert now == alert.raised_at
        if alert.state == "cleared":
            assert "active" == states[0]
            assert over_from is not None
            assert now - max(over_from, watched_since) >= MINIMUM
            assert now == alert.cleared_at
        times = [t for t in (alert.since, alert.raised_at, alert.over_since, alert.cleared_at) if t]
        assert sorted(times) == times
        if alert.state == "cleared":
            alert = None


@given(st.lists(st.sampled_from([LIMIT, WARM, LIMIT - 0.1, COOL + 0.1]), max_size=50))
def test_within_the_margin_nothing_changes_in_either_state(temperatures: list[float]) -> None:
    assert not any(Story().look(*temperatures))
    assert all(state == "active" for state in active().look(*temperatures))


@given(st.floats(-60, 150), st.floats(-60, 150))
def test_no_condition_holds_and_is_over_at_once(celsius: float, bound: float) -> None:
    observation = battery("EV-101", celsius=celsius, bound=bound)

    assert not (observation.holds and observation.over)


# What is seen --------------------------------------------------------------------------------------------------------


def test_a_device_is_silent_beyond_its_bound_and_heard_again_within_half_of_it() -> None:
    def after(seconds: float) -> Observation:
        return silence(SILENT["meter"], "m", heard_at=START, bound=600.0, now=START + timedelta(seconds=seconds))

    assert [(False, True), (False, False), (False, False), (True, False)] == [
        (after(seconds).holds, after(seconds).over) for seconds in (300, 301, 600, 601)
    ]
    assert (601.0, "last heard at 2026-11-20T10:30:00Z") == (after(601).value, after(601).detail)


def efficiency(ratio: float | None, threshold: float = 0.85, status: Status = "ok") -> VehicleEfficiency:
    return VehicleEfficiency(
        vehicle_id="EV-101", efficiency_ratio=ratio, ac_kwh=10, dc_kwh=8, status=status, threshold=threshold
    )


@pytest.mark.parametrize(
    ("ratio", "threshold", "poor", "implausible"),
    [
        (0.80, 0.85, (True, False), (False, True)),
        (0.85, 0.85, (False, False), (False, True)),
        (0.87, 0.85, (False, True), (False, True)),
        (0.80, 0.75, (False, True), (False, True)),
        (0.985, 0.85, (False, True), (False, False)),
        (1.00, 0.85, (False, True), (False, False)),
        (1.01, 0.85, (False, True), (True, False)),
        (0.995, 0.99, (False, False), (False, False)),
        (1.00, 1.00, (False, True), (False, False)),
        (0.99, 1.00, (True, False), (False, False)),
    ],
)
def test_a_ratio_is_poor_below_the_vehicles_threshold_and_implausible_above_1(
    ratio: float, threshold: float, poor: tuple[bool, bool], implausible: tuple[bool, bool]
) -> None:
    observations = {o.kind: (o.holds, o.over) for o in charging(efficiency(ratio, threshold))}

    assert {EFFICIENCY: poor, IMPLAUSIBLE: implausible} == observations


def test_a_vehicle_without_a_ratio_says_nothing() -> None:
    assert [] == list(charging(efficiency(None, status="insufficient-data")))


def look_at_counters(share: DeadLetterShare, minute: float, received: int, dead: int) -> tuple[float, bool, bool]:
    observation = share.look(now=START + timedelta(minutes=minute), received=received, dead_lettered=dead)
    return observation.value, observation.holds, observation.over


def test_the_share_of_dead_letters_is_that_of_the_last_five_minutes() -> None:
    share = DeadLetterShare()

    assert (0.0, False, True) == look_at_counters(share, 0, 1000, 500)
    assert (0.02, True, False) == look_at_counters(share, 1, 2000, 520)
    assert (0.01, False, False) == look_at_counters(share, 4, 3000, 520)
    assert (0.01, False, False) == look_at_counters(share, 5, 3000, 520)
    assert (0.0, False, True) == look_at_counters(share, 6, 3000, 520)


def test_a_single_bad_message_among_a_few_is_no_alert_and_two_are() -> None:
    share = DeadLetterShare()
    look_at_counters(share, 0, 0, 0)

    assert (0.01, False, False) == look_at_counters(share, 1, 3, 1)
    assert (0.02, True, False) == look_at_counters(share, 2, 6, 2)


# What is shown -------------------------------------------------------------------------------------------------------


def test_kinds_are_as_many_as_they_have_names() -> None:
    assert 8 == len(set(KINDS))
    assert BATTERY in KINDS


def test_a_retired_device_has_its_active_alert_cleared_and_its_pending_one_forgotten() -> None:
    pending, raised = Story(), active()
    pending.look(HOT)
    assert pending.alert is not None
    assert raised.alert is not None

    assert None is retire(pending.alert, START)
    cleared = retire(raised.alert, START + timedelta(days=8))
    assert cleared is not None
    assert ("cleared", START + timedelta(days=8), "not heard for 7 days: retired") == (
        cleared.state,
        cleared.cleared_at,
        cleared.detail,
    )


@pytest.mark.parametrize(
    ("difference", "holds", "over"),
    [
        (timedelta(), False, True),
        (timedelta(minutes=5), False, False),
        (timedelta(minutes=5, seconds=1), True, False),
        (-timedelta(days=120), True, False),
        (-timedelta(minutes=2), False, True),
    ],
)
def test_clocks_that_differ_by_more_than_five_minutes_either_way_are_an_alert(
    difference: timedelta,
    holds: bool,  # noqa: FBT001
    over: bool,  # noqa: FBT001
) -> None:
    seen = clock(difference)

    assert (CLOCK, FLEET) == (seen.kind, seen.subject)
    assert (holds, over) == (seen.holds, seen.over)
