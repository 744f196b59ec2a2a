# ruff: noqa: SIM300 - expected == actual
"""When an alert is raised and when it is cleared, whatever is seen, and however long nobody watches."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.alerting.open_alerts import OpenAlerts
from ingestd.model.alert import (
    BATTERY,
    CLOCK,
    DEVICE_KINDS,
    EFFICIENCY,
    FLEET,
    IMPLAUSIBLE,
    KINDS,
    SILENT,
    SUMMARY,
    Alert,
    Found,
    Observation,
    Watch,
    retire,
    step,
)
from ingestd.model.answers import VehicleEfficiency
from ingestd.model.observations import (
    BATTERY_MARGIN,
    STATUS,
    DeadLetterShare,
    battery,
    charging,
    clock,
    efficiency,
    silence,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ingestd.model.efficiency import Status

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


def vehicle(ratio: float | None, status: Status, *, threshold: float = 0.85, name: str = "EV-101") -> VehicleEfficiency:
    return VehicleEfficiency(
        vehicle_id=name, efficiency_ratio=ratio, ac_kwh=10, dc_kwh=8, status=status, threshold=threshold
    )


@pytest.mark.parametrize(
    ("ratio", "status", "threshold", "poor", "implausible"),
    [
        (0.80, "below-threshold", 0.85, (True, False), (False, True)),
        (0.85, "ok", 0.85, (False, False), (False, True)),
        (0.87, "ok", 0.85, (False, True), (False, True)),
        (0.80, "ok", 0.75, (False, True), (False, True)),
        (0.985, "ok", 0.85, (False, True), (False, False)),
        (1.00, "ok", 0.85, (False, True), (False, False)),
        (1.01, "implausible", 0.85, (False, True), (True, False)),
        (0.995, "ok", 0.99, (False, False), (False, False)),
        (1.00, "ok", 1.00, (False, True), (False, False)),
        (0.99, "below-threshold", 1.00, (True, False), (False, False)),
    ],
)
def test_a_vehicle_is_judged_by_its_status_and_is_over_beyond_a_margin(
    ratio: float, status: Status, threshold: float, poor: tuple[bool, bool], implausible: tuple[bool, bool]
) -> None:
    found = {kind: efficiency(kind, vehicle(ratio, status, threshold=threshold)) for kind in STATUS}

    assert {EFFICIENCY: poor, IMPLAUSIBLE: implausible} == {
        kind: (seen.holds, seen.over) for kind, seen in found.items() if seen
    }


@pytest.mark.parametrize(
    ("ratio", "status", "holds"),
    [(0.85 - 1e-13, "ok", False), (0.85 - 1e-13, "below-threshold", True), (0.9, "below-threshold", True)],
)
def test_the_status_decides_and_not_the_ratio(ratio: float, status: Status, holds: bool) -> None:  # noqa: FBT001
    seen = efficiency(EFFICIENCY, vehicle(ratio, status))

    assert seen is not None
    assert (holds, False) == (seen.holds, seen.over)


@pytest.mark.parametrize("kind", STATUS)
def test_a_vehicle_without_a_ratio_says_nothing(kind: str) -> None:
    assert None is efficiency(kind, vehicle(None, "insufficient-data"))


def test_of_many_vehicles_some_are_looked_at_and_the_others_counted() -> None:
    vehicles = [vehicle(0.8, "below-threshold", name=f"EV-{number}") for number in range(5)]
    vehicles += [vehicle(0.9, "ok", name="EV-good"), vehicle(0.9, "ok", name="EV-better")]

    def found(limit: int) -> tuple[set[str], int]:
        looked = charging(EFFICIENCY, vehicles, with_alert={"EV-4", "EV-better", "EV-unmapped"}, limit=limit)
        return set(looked.seen), looked.others

    assert ({"EV-4", "EV-better"}, 4) == found(3)
    assert ({"EV-4", "EV-better", "EV-0", "EV-1"}, 2) == found(5)
    assert ({"EV-4", "EV-better", "EV-0", "EV-1", "EV-2", "EV-3"}, 0) == found(1000)


# Many at once --------------------------------------------------------------------------------------------------------

MOST = 10


@dataclass
class Fleet:
    """Batteries that are looked at every ten seconds, with at most MOST alerts of their own."""

    hot: set[str] = field(default_factory=set)
    alerts: dict[str, Alert] = field(default_factory=dict)
    summary: Alert | None = None
    now: datetime = START
    changed: list[tuple[str, str]] = field(default_factory=list)
    """(kind, state) of each change of state that a channel is to deliver."""

    def heat(self, first: int, last: int) -> None:
        self.hot |= {f"EV-{number}" for number in range(first, last + 1)}

    def cool_down(self, vehicles: Iterable[str]) -> None:
        self.hot -= set(vehicles)

    def _found(self, limit: int) -> Found:
        new = sorted(self.hot - set(self.alerts))
        looked = new[: max(limit - len(self.alerts), 0)]
        degrees = {name: HOT if name in self.hot else COOL for name in (*self.alerts, *looked)}
        return Found(
            seen={name: battery(name, celsius=celsius, bound=LIMIT) for name, celsius in degrees.items()},
            others=len(new) - len(looked),
        )

    def look(self, times: int = 1) -> None:
        for _ in range(times):
            kept = OpenAlerts(kind=BATTERY, alerts=self.alerts, summary=self.summary, most=MOST)
            watch = Watch(now=self.now, since=START, minimum=MINIMUM)
            for before, after in kept.changes(self._found(kept.limit), watch):
                self._keep(before, after)
            self.now += 10 * SECOND

    def _keep(self, before: Alert | None, after: Alert | None) -> None:
        changed = after or before
        assert changed is not None
        still_open = after if after and after.state != "cleared" else None
        if changed.kind == SUMMARY[BATTERY]:
            self.summary = still_open
        elif still_open:
            self.alerts = {**self.alerts, changed.subject: still_open}
        else:
            self.alerts = {name: alert for name, alert in self.alerts.items() if name != changed.subject}
        if after and after.state != "pending" and (before is None or before.state != after.state):
            self.changed.append((after.kind, after.state))

    def state(self) -> tuple[int, int, str | None, float | None]:
        """How many alerts are pending and active; the state of the summary and its number of devices."""
        states = [alert.state for alert in self.alerts.values()]
        summary = (self.summary.state, self.summary.value) if self.summary else (None, None)
        return (states.count("pending"), states.count("active"), *summary)


def test_as_many_as_may_be_have_alerts_of_their_own_and_no_summary() -> None:
    fleet = Fleet()
    fleet.heat(1, MOST)
    fleet.look(7)

    assert (0, MOST, None, None) == fleet.state()


def test_for_one_more_there_is_a_summary_which_comes_first_and_once() -> None:
    fleet = Fleet()
    fleet.heat(1, MOST + 1)
    fleet.look(6)
    assert (MOST, 0, "pending", MOST + 1) == fleet.state()

    fleet.look(20)

    assert (0, MOST, "active", MOST + 1) == fleet.state()
    assert [(SUMMARY[BATTERY], "active"), *[(BATTERY, "active")] * MOST] == fleet.changed


def test_a_summary_shows_how_many_there_are_now_without_a_change_of_state() -> None:
    fleet = Fleet()
    fleet.heat(1, 20)
    fleet.look(7)
    fleet.changed.clear()

    fleet.heat(21, 5000)
    fleet.look()

    assert (0, MOST, "active", 5000) == fleet.state()
    assert fleet.summary is not None
    assert "battery-over-temperature: 5000 devices; at most 10 have an alert of their own" == fleet.summary.detail
    assert [] == fleet.changed


def test_a_summary_that_was_not_raised_yet_goes_when_there_are_fewer() -> None:
    fleet = Fleet()
    fleet.heat(1, MOST + 1)
    fleet.look(3)

    fleet.cool_down({"EV-1"})
    fleet.look(7)

    assert None is fleet.summary
    assert SUMMARY[BATTERY] not in {kind for kind, _ in fleet.changed}


def test_within_the_margin_a_summary_stays_and_no_alert_is_opened() -> None:
    fleet = Fleet()
    fleet.heat(1, MOST + 1)
    fleet.look(7)
    own = set(fleet.alerts)

    fleet.cool_down(sorted(own)[:1])
    fleet.look(50)

    assert (0, MOST - 1, "active", MOST) == fleet.state()


def test_a_summary_is_cleared_below_the_margin_and_the_rest_has_alerts_again() -> None:
    fleet = Fleet()
    fleet.heat(1, MOST + 5)
    fleet.look(7)
    fleet.changed.clear()

    fleet.cool_down([*sorted(fleet.alerts)[:4], *sorted(fleet.hot - set(fleet.alerts))[:2]])
    assert 9 == len(fleet.hot)
    fleet.look(7)
    assert (0, MOST - 4, None, None) == fleet.state()
    assert [(SUMMARY[BATTERY], "cleared"), *[(BATTERY, "cleared")] * 4] == fleet.changed
    fleet.look(7)

    assert (0, 9, None, None) == fleet.state()
    assert fleet.hot == set(fleet.alerts)


def test_a_fleet_that_comes_back_one_by_one_does_not_open_an_alert_for_each_device() -> None:
    fleet = Fleet()
    fleet.heat(1, 500)
    fleet.look(7)
    for number in range(1, 501):
        fleet.cool_down({f"EV-{number}"})
        fleet.look()
    fleet.look(20)

    assert (0, 0, None, None) == fleet.state()
    assert 1 == fleet.changed.count((SUMMARY[BATTERY], "active"))
    assert 1 == fleet.changed.count((SUMMARY[BATTERY], "cleared"))
    assert 2 * MOST >= fleet.changed.count((BATTERY, "active"))


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40), st.integers(0, 12)), max_size=30))
def test_whatever_happens_few_are_open_and_everybody_has_an_alert_or_is_counted(
    story: list[tuple[bool, int, int]],
) -> None:
    fleet = Fleet()
    for heats, number, times in story:
        if heats:
            fleet.heat(number, number + 8)
        else:
            fleet.cool_down({f"EV-{n}" for n in range(number, number + 8)})
        fleet.look(times)
        assert MOST >= len(fleet.alerts)
    fleet.look(30)

    assert fleet.summary or fleet.hot == set(fleet.alerts)
    assert None is fleet.summary or len(fleet.hot) == fleet.summary.value


def look_at_counters(share: DeadLetterShare, minute: float, received: int, dead: int) -> tuple[float, bool, bool]:
    observation = share.look(now=START + timedelta(minutes=minute), received=received, dead_lettered=dead, by_sender={})
    return observation.value, observation.holds, observation.over


def test_the_share_of_dead_letters_is_that_of_the_last_five_minutes() -> None:
    share = DeadLetterShare()

    assert (0.0, False, True) == look_at_counters(share, 0, 1000, 500)
    assert (0.02, True, False) == look_at_counters(share, 1, 2000, 520)
    assert (0.01, False, False) == look_at_counters(share, 4, 3000, 520)
    assert (0.01, False, False) == look_at_counters(share, 5, 3000, 520)
    assert (0.0, False, True) == look_at_counters(share, 6, 3000, 520)


def test_the_share_of_dead_letters_names_who_sent_most_of_them_in_the_last_five_minutes() -> None:
    share = DeadLetterShare()

    def detail(minute: float, dead: int, **by_sender: int) -> str:
        now = START + timedelta(minutes=minute)
        return share.look(now=now, received=1000 * minute, dead_lettered=dead, by_sender=by_sender).detail

    start = "messages of the last 5 min became dead letters"
    assert f"0 of 0 {start}" == detail(0, 500, before=500)
    assert f"100 of 1000 {start}; most are of a: 60, 60%" == detail(1, 600, a=60, b=40)
    assert f"140 of 2000 {start}; most are of b: 80, 57%" == detail(2, 640, b=40)
    assert f"40 of 5000 {start}; most are of b: 40, 100%" == detail(6, 640)
    assert f"5 of 5000 {start}; most are of a: 7, 100%" == detail(7, 645, a=7)  # two of them are not settled yet
    assert f"0 of 13000 {start}" == detail(20, 645)


def test_a_single_bad_message_among_a_few_is_no_alert_and_two_are() -> None:
    share = DeadLetterShare()
    look_at_counters(share, 0, 0, 0)

    assert (0.01, False, False) == look_at_counters(share, 1, 3, 1)
    assert (0.02, True, False) == look_at_counters(share, 2, 6, 2)


# What is shown -------------------------------------------------------------------------------------------------------


def test_kinds_are_as_many_as_they_have_names() -> None:
    assert 13 == len(set(KINDS))
    assert set(KINDS) > {*DEVICE_KINDS, *SUMMARY.values()}


@pytest.mark.parametrize("kind", DEVICE_KINDS)
def test_a_summary_concerns_no_single_device(kind: str) -> None:
    alerts = OpenAlerts(kind=kind, alerts={}, summary=None, most=1)
    ((_, summary),) = alerts.changes(Found(seen={}, others=2), Watch(now=START, since=START, minimum=SECOND))

    assert summary is not None
    assert (f"{kind}-summary", None, 2) == tuple(summary.described()[key] for key in ("kind", "deviceId", "value"))


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
