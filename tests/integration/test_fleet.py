"""The whole fleet says what its devices say, whatever is closed and whatever comes late."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, LiteralString

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ingestd.errors import TooManyReadingsError
from ingestd.model.efficiency import Compared, EfficiencyPolicy, SegmentEnergy, Status, compare
from ingestd.model.energy import HOUR, MINUTE, QUARTER, Reading
from ingestd.model.periods import TimeRange, buckets_of, parse_bucket_length
from ingestd.model.quarters import Quarter
from ingestd.model.stream import METER, STREAMS, VEHICLE, Stream
from ingestd.model.timestamps import to_datetime, to_microseconds
from ingestd.store.fleet import Fleet
from ingestd.store.ledger_snapshot import LedgerSnapshots
from ingestd.store.pool import Snapshot
from tests.support.energy import Sample
from tests.support.harness import Harness, opened
from tests.support.streams import streams

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ingestd.store.queries import Statement

POLICY = EfficiencyPolicy(threshold=0.85, min_kwh=0.5, min_share=0.5, session_min_kw=0.3)
DAY = 24 * HOUR
SECOND = MINUTE // 60
NOW = to_microseconds(datetime.now(UTC))
START = NOW // HOUR * HOUR - 40 * HOUR
"""Of all streams: what they send later than 40 hours from then on has not been sent yet, for some."""


def samples(device: str, readings: list[Reading]) -> list[Sample]:
    return [
        Sample(device=device, at=to_datetime(START + one.at), interval=one.kwh, register=one.register)
        for one in readings
    ]


def window(start: int, end: int) -> TimeRange:
    return TimeRange(start=to_datetime(start), end=to_datetime(end))


async def of_devices(
    harness: Harness, stream: Stream, devices: list[str], start: int, end: int
) -> dict[str, tuple[float, int]]:
    """(kWh, readings) of those with something in the window."""
    found = {}
    async with LedgerSnapshots(harness.pool, rules=harness.rules).now() as at:
        for device in devices:
            energy = (await at.device(stream, device).energy(start, end)).total(start, end)
            if not energy.is_empty:
                found[device] = (round(energy.kwh, 6), energy.samples)
    return found


async def in_buckets(harness: Harness, stream: Stream, devices: list[str], edges: list[int]) -> list[float | None]:
    """kWh in each stretch between edges, None where nothing was sent."""
    sums = [Quarter() for _ in edges[1:]]
    async with LedgerSnapshots(harness.pool, rules=harness.rules).now() as at:
        for device in devices:
            energy = await at.device(stream, device).energy(edges[0], edges[-1], edges=edges)
            for into, its in zip(sums, energy.between(edges), strict=True):
                into.add(its)
    return [None if its.is_empty else its.kwh for its in sums]


async def compared(harness: Harness, vehicle: str, meter: str, start: int, end: int) -> Compared:
    async with LedgerSnapshots(harness.pool, rules=harness.rules).now() as at:
        dc = await at.device(VEHICLE, vehicle).energy(start, end)
        ac = await at.device(METER, meter).energy(start, end)
    segment = SegmentEnergy(start=start, end=end, meter=ac.quarters(start, end), vehicle=dc.quarters(start, end))
    found = compare([segment], all_dc=dc.total(start, end).kwh, policy=POLICY)
    assert found is not None
    return found


def rounded(figures: Compared) -> tuple[float, ...]:
    return tuple(round(figure, 6) for figure in (figures.ac, figures.dc, figures.all_ac, figures.all_dc))


EDGES = st.integers(0, 48).map(lambda number: START + number * HOUR) | st.integers(0, 200).map(
    lambda number: START + number * QUARTER
)


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_the_fleet_says_what_its_devices_say(database_url: str, data: st.DataObject) -> None:
    sent = {(stream, n): data.draw(streams()) for stream in STREAMS for n in range(3)}
    arrivals = sorted((one.at, n, stream.name, one) for (stream, n), readings in sent.items() for one in readings)
    late = data.draw(st.lists(st.integers(0, len(arrivals) - 1), max_size=4))
    names = {METER.name: "m", VEHICLE.name: "v"}

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            for n in range(3):
                await harness.map(f"v{n}", f"m{n}", to_datetime(START - DAY))
            fleet = Fleet(harness.snapshots, policy=POLICY)

            async def write(chosen: list[int]) -> None:
                for stream in STREAMS:
                    its = [arrivals[number] for number in chosen if arrivals[number][2] == stream.name]
                    its_samples = [s for _, n, name, one in its for s in samples(f"{names[name]}{n}", [one])]
                    if its_samples:
                        await harness.write(**{f"{stream.topic_root}": its_samples})

            in_time = [number for number in range(len(arrivals)) if number not in late]
            await write(in_time)
            until = data.draw(st.sampled_from([NOW, NOW - 20 * MINUTE, NOW - HOUR]))
            await harness.close(to_datetime(until))
            await write(late)
            await harness.close(to_datetime(until))
            start, end = sorted((data.draw(EDGES), data.draw(EDGES)))
            end = min(max(end, start + QUARTER), until + HOUR)
            start = min(start, end - QUARTER)
            meters = await of_devices(harness, METER, [f"m{n}" for n in range(3)], start, end)
            vehicles = await of_devices(harness, VEHICLE, [f"v{n}" for n in range(3)], start, end)
            each = [await compared(harness, f"v{n}", f"m{n}", start, end) for n in range(3)]

            found = await fleet.energy(window(start, end))

            assert (len(meters), len(vehicles)) == (found.meters, found.vehicles)
            assert pytest.approx(
                (sum(e for e, _ in meters.values()), sum(e for e, _ in vehicles.values())), abs=1e-4
            ) == (
                found.ac_kwh,
                found.dc_kwh,
            )
            assert rounded(sum_of(each)) == rounded(found.mapped)
            judged = [POLICY.judge(one) for one in each]
            assert {f"v{n}": (one.status, one.ratio) for n, one in enumerate(judged)} == {
                one.vehicle_id: (one.status, one.efficiency_ratio)
                for one in await fleet.efficiencies(window(start, end))
            }
            for bucket in ("30m", "10m") if end - start <= DAY else ("30m",):
                asked = buckets_of(window(start, end), parse_bucket_length(bucket), UTC)
                series = await fleet.series(window(start, end), asked)
                edges = [*(to_microseconds(one.within.start) for one in asked), end]
                for stream, kwh in (
                    (METER, [point.ac_kwh for point in series.points]),
                    (VEHICLE, [point.dc_kwh for point in series.points]),
                ):
                    expected = await in_buckets(harness, stream, [f"{names[stream.name]}{n}" for n in range(3)], edges)
                    assert [one if one is None else pytest.approx(one, abs=1e-4) for one in expected] == kwh

    asyncio.run(run())


@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_vehicles_whose_meters_are_shared_or_change_are_compared_as_single_ones(
    database_url: str, data: st.DataObject
) -> None:
    sent = {(stream, n): data.draw(streams()) for stream in STREAMS for n in range(3)}
    edge = st.integers(0, 48 * 60).map(lambda number: START + number * MINUTE + 7 * SECOND) | EDGES

    async def run() -> None:
        async with opened(database_url) as harness:
            harness.clear()
            for n in range(3):
                edges = sorted(data.draw(st.lists(edge, min_size=2, max_size=3, unique=True)))
                for since, until in pairwise(edges):
                    meter = f"m{data.draw(st.integers(0, 2))}"
                    await harness.map(f"v{n}", meter, to_datetime(since), to_datetime(until))
            for n in range(3):
                await harness.write(
                    meters=samples(f"m{n}", sent[METER, n]), vehicles=samples(f"v{n}", sent[VEHICLE, n])
                )
            await harness.close(to_datetime(data.draw(st.sampled_from([NOW, NOW - 20 * MINUTE, NOW - HOUR]))))
            start, end = sorted((data.draw(edge), data.draw(edge)))
            asked = window(start, max(end, start + QUARTER))

            found = await Fleet(harness.snapshots, policy=POLICY).efficiencies(asked)

            assert {
                one.vehicle_id: (one.status, one.efficiency_ratio, round(one.ac_kwh, 6)) for one in found
            } == await judged_singly(harness, [f"v{n}" for n in range(3)], asked)

    asyncio.run(run())


MANY: LiteralString = """
    SELECT ingestd_make_partition(parent, (now() AT TIME ZONE 'UTC')::date - back)
    FROM unnest(ARRAY['meter_history', 'vehicle_history']) AS parent, generate_series(0, 1) AS back;
    CREATE TEMP TABLE pair AS
    SELECT 'v' || n AS vehicle_id, 'm' || CASE WHEN n < 500 THEN n ELSE n / 2 * 2 END AS meter_id, n
    FROM generate_series(0, 999) AS n;
    CREATE TEMP TABLE time AS
    SELECT date_trunc('minute', now()) - back * interval '10 minutes' AS ts FROM generate_series(0, 18) AS back;
    INSERT INTO meter_history (meter_id, ts, kwh_consumed_ac, voltage, received_at)
    SELECT meter_id, ts, 1 + n % 7, 230, ts FROM pair, time ON CONFLICT DO NOTHING;
    INSERT INTO vehicle_history (vehicle_id, ts, soc, kwh_delivered_dc, battery_temp, received_at)
    SELECT vehicle_id, ts, 50, (1 + n % 7) * 0.4, 25, ts FROM pair, time;
    INSERT INTO vehicle_meter_mapping (vehicle_id, meter_id, valid_from)
    SELECT vehicle_id, meter_id, now() - CASE WHEN n < 500 THEN make_interval(mins => 50, secs => n) ELSE '1 day' END
    FROM pair
"""
"""Vehicles whose mapping began within the last hour, and as many that share their meter with another one."""


async def test_a_thousand_vehicles_that_sums_will_not_do_for_take_a_few_statements(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(MANY)
    statements = 0
    fetch = Snapshot.fetch

    async def counted(self: Snapshot, statement: Statement, parameters: Mapping[str, object]) -> list[Any]:
        nonlocal statements
        statements += 1
        return await fetch(self, statement, parameters)

    async with opened(database_url) as harness:
        await harness.close(datetime.now(UTC))
        asked = TimeRange(start=datetime.now(UTC) - timedelta(hours=2), end=datetime.now(UTC))
        some = [f"v{n}" for n in range(0, 1000, 125)]
        singly = await judged_singly(harness, some, asked)
        monkeypatch.setattr(Snapshot, "fetch", counted)

        found = await Fleet(harness.snapshots, policy=POLICY).efficiencies(asked)

    assert len(found) == 1000
    assert statements < 100
    assert singly == {
        one.vehicle_id: (one.status, one.efficiency_ratio, round(one.ac_kwh, 6))
        for one in found
        if one.vehicle_id in some
    }


async def test_who_is_known_whole_is_compared_by_sums_alone(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = window(START, START + 2 * HOUR)
    each = Snapshot.each
    statements: list[bytes] = []

    def noted(self: Snapshot, statement: Statement, parameters: Mapping[str, object]) -> AsyncIterator[Any]:
        statements.append(statement.text)
        return each(self, statement, parameters)

    async with opened(database_url) as harness:
        readings = [Reading(at=number * MINUTE, kwh=0.1) for number in range(-1, 200)]
        await harness.write(meters=samples("m0", readings), vehicles=samples("v0", readings))
        await harness.map("v0", "m0", to_datetime(START - DAY))
        await harness.close(datetime.now(UTC))
        monkeypatch.setattr(Snapshot, "each", noted)

        (found,) = await Fleet(harness.snapshots, policy=POLICY).efficiencies(asked)

    assert (found.status, found.efficiency_ratio) == ("ok", 1.0)
    assert statements
    assert not [text for text in statements if b"touched" in text]


async def test_buckets_that_cut_quarters_are_refused_where_they_have_too_many_readings(database_url: str) -> None:
    asked = window(START, START + HOUR)
    async with opened(database_url) as harness:
        readings = [Reading(at=number * MINUTE, kwh=0.1) for number in range(1, 61)]
        await harness.write(meters=samples("m0", readings))
        fleet = Fleet(harness.snapshots, policy=POLICY, most_readings=59)
        await fleet.series(asked, buckets_of(asked, parse_bucket_length("15m"), UTC))

        with pytest.raises(TooManyReadingsError, match="60 readings are in this window, at most 59"):
            await fleet.series(asked, buckets_of(asked, parse_bucket_length("10m"), UTC))


async def test_who_was_silent_for_longer_than_history_reaches_begins_behind_the_last_row(database_url: str) -> None:
    asked = window(NOW - 6 * DAY, NOW)
    hourly = [
        Sample(device="m0", at=to_datetime(START - 3 * DAY + n * HOUR + 7 * MINUTE), register=100.0 + n)
        for n in range(6)
    ]
    async with opened(database_url, history=timedelta(days=1)) as harness:
        await harness.write(meters=hourly)
        await harness.close(to_datetime(NOW - HOUR))
        before = await harness.fleet.energy(asked)
        with psycopg.connect(database_url) as connection:
            connection.execute("DELETE FROM meter_history")
        await harness.write(meters=[Sample(device="m0", at=to_datetime(NOW - MINUTE), register=107.0)])

        found = await harness.fleet.energy(asked)

    # The energy of the gap begins in the quarter of the last row, which is not made anew.
    assert pytest.approx(5.0) == before.ac_kwh
    assert pytest.approx(7.0, abs=0.01) == found.ac_kwh


async def judged_singly(
    harness: Harness, vehicles: list[str], asked: TimeRange
) -> dict[str, tuple[Status, float | None, float]]:
    """Those that are mapped: status, ratio and AC."""
    found = {}
    for vehicle in vehicles:
        one = await harness.performances.of_vehicle(vehicle, asked)
        if one is not None and one.compared is not None:
            found[vehicle] = one.judgement.status, one.judgement.ratio, round(one.ac_kwh or 0.0, 6)
    return found


def sum_of(figures: list[Compared]) -> Compared:
    whole = Compared()
    for one in figures:
        whole.add(one)
    return whole


async def test_a_register_that_was_silent_for_longer_than_history_is_kept_goes_on_from_its_last_row(
    database_url: str,
) -> None:
    now = datetime.now(UTC)
    began = now.replace(minute=0, second=0, microsecond=0) - timedelta(days=10)
    async with opened(database_url, history=timedelta(days=2)) as harness:
        await harness.write(
            meters=[Sample(device="m", at=began + timedelta(minutes=n), register=100 + n // 60) for n in range(180)]
        )
        await harness.close(now)
        with psycopg.connect(database_url, autocommit=True) as connection:
            for day in {began.date(), (began + timedelta(hours=3)).date()}:
                connection.execute(f"DROP TABLE IF EXISTS meter_history_{day:%Y%m%d}".encode())
        back = now - timedelta(seconds=20)
        await harness.write(meters=[Sample(device="m", at=back, register=110)])
        asked = TimeRange(start=began + timedelta(days=8, hours=12), end=began + timedelta(days=9))

        fleet = (await harness.fleet.energy(asked)).ac_kwh
        async with harness.snapshots.now() as moment:
            window = to_microseconds(asked.start), to_microseconds(asked.end)
            of_device = (await moment.device(METER, "m").energy(*window)).total(*window).kwh

        await harness.close(now + timedelta(hours=1))
        made = (await harness.fleet.energy(asked)).ac_kwh
        assert pytest.approx(made) == fleet
        assert pytest.approx(made) == of_device


async def test_a_bucket_from_which_a_later_reading_takes_all_energy_has_none(database_url: str) -> None:
    """An hour's energy is spread over it until the next reading shows that it flowed at its end."""
    begin = datetime(2026, 11, 2, 11, tzinfo=UTC)
    hour = timedelta(hours=1)
    async with opened(database_url) as harness:
        await harness.write(
            meters=[Sample(device="m", at=begin, interval=0.0), Sample(device="m", at=begin + hour, interval=4.0)]
        )
        await harness.close(begin + hour + timedelta(minutes=16))
        asked = TimeRange(start=begin, end=begin + hour)
        buckets = buckets_of(asked, parse_bucket_length("15m"), UTC)
        before = [point.ac_kwh for point in (await harness.fleet.series(asked, buckets)).points]
        await harness.write(meters=[Sample(device="m", at=begin + hour + timedelta(minutes=20), interval=1.0)])

        after = [point.ac_kwh for point in (await harness.fleet.series(asked, buckets)).points]
        edges = [to_microseconds(begin + number * timedelta(minutes=15)) for number in range(5)]
        of_device = await in_buckets(harness, METER, ["m"], edges)

    assert before == [1.0, 1.0, 1.0, 1.0]
    assert after[:2] == [None, None]
    assert of_device == after
