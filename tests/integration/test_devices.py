# ruff: noqa: SIM300 - expected == actual
"""Lists of devices: who is online, who charges badly, in which order, page by page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingestd.model.device import DevicePage, LiveReading
from ingestd.model.stream import METER, STREAMS, VEHICLE, Stream
from ingestd.store.devices import Devices
from tests.support.energy import Sample
from tests.support.harness import Harness, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ingestd.model.device import Device, DeviceSort

MINUTE = timedelta(minutes=1)
QUARTER = timedelta(minutes=15)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ALL = DevicePage(online=None, below_threshold=False, sort="id", descending=False, after=None, limit=100)


@pytest.fixture
async def harness(shared_database_url: str) -> AsyncIterator[Harness]:
    async with opened(shared_database_url) as harness:
        harness.clear()
        yield harness


async def page(harness: Harness, stream: Stream, wanted: DevicePage = ALL) -> list[Device]:
    return await Devices(harness.pool, efficiencies=harness.fleet.efficiencies, offline_after=10 * MINUTE).page(
        stream, wanted
    )


async def ids(harness: Harness, stream: Stream, wanted: DevicePage = ALL) -> list[str]:
    return [device.newest.device_id for device in await page(harness, stream, wanted)]


async def heard(harness: Harness, stream: Stream, ago: Mapping[str, timedelta]) -> None:
    """Each of the devices has sent one reading, so long ago."""
    now = datetime.now(UTC)
    samples = [Sample(device=device, at=now - since, interval=1.0) for device, since in ago.items()]
    await harness.write(**{"meters" if stream is METER else "vehicles": samples})
    with psycopg.connect(harness.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {stream.live} SET received_at = ts".encode())  # noqa: S608


async def test_a_device_is_shown_as_it_was_last_heard(harness: Harness) -> None:
    at = datetime.now(UTC) - HOUR
    await harness.write(
        meters=[Sample(device="m", at=at - MINUTE, interval=1.0), Sample(device="m", at=at, register=9.5)],
        vehicles=[Sample(device="v", at=at, interval=0.25)],
    )

    (meter,), (vehicle,) = await page(harness, METER), await page(harness, VEHICLE)

    assert (
        LiveReading(
            device_id="m",
            timestamp=at,
            received_at=datetime(2000, 1, 1, tzinfo=UTC),
            figures={"voltage": 230.0, "kwhConsumedAcRegister": 9.5},
        )
        == meter.newest
    )
    assert {"soc": 50.0, "batteryTemp": 25.0, "kwhDeliveredDc": 0.25} == vehicle.newest.figures
    assert (None, "unmapped") == (meter.status, vehicle.status)


@pytest.mark.parametrize("stream", STREAMS, ids=lambda stream: stream.name)
async def test_a_device_is_online_for_the_time_that_is_set_for_it_or_for_all(harness: Harness, stream: Stream) -> None:
    await heard(harness, stream, {"all-9m": 9.9 * MINUTE, "all-11m": 10.1 * MINUTE})
    await heard(harness, stream, {"own-59m": 59 * MINUTE, "own-61m": 61 * MINUTE})
    for device in ("own-59m", "own-61m"):
        await harness.set(stream, device, offline_after=HOUR)

    online, offline = ["all-9m", "own-59m"], ["all-11m", "own-61m"]

    assert dict.fromkeys(online, True) | dict.fromkeys(offline, False) == {
        device.newest.device_id: device.online for device in await page(harness, stream)
    }
    assert online == await ids(harness, stream, replace(ALL, online=True))
    assert offline == await ids(harness, stream, replace(ALL, online=False))


async def charge(harness: Harness, ratios: Mapping[str, float]) -> None:
    """9.6 kWh AC for each of the vehicles, and so much of it in DC; they have reported for the whole of the day."""
    now = datetime.now(UTC)
    moments = [now - DAY + (n + 0.5) * QUARTER for n in range(96)]
    await harness.write(
        meters=[Sample(device=f"m-{v}", at=at, interval=0.1) for v in ratios for at in moments],
        vehicles=[Sample(device=v, at=at, interval=0.1 * ratio) for v, ratio in ratios.items() for at in moments],
    )
    for vehicle in ratios:
        await harness.map(vehicle, f"m-{vehicle}", now - 2 * DAY)


async def test_a_vehicle_is_judged_by_its_last_24_hours(harness: Harness) -> None:
    await charge(harness, {"good": 0.9, "bad": 0.5, "tolerated": 0.5, "idle": 0.0})
    with psycopg.connect(harness.url, autocommit=True) as connection:
        connection.execute("DELETE FROM meter_history WHERE meter_id = 'm-idle'")
    await harness.set(VEHICLE, "tolerated", threshold=0.4)
    await heard(harness, VEHICLE, {"stray": MINUTE, "gone": 3 * DAY})
    await harness.close(datetime.now(UTC))

    judged: dict[str, Any] = {
        device.newest.device_id: (device.efficiency_ratio, device.status) for device in await page(harness, VEHICLE)
    }

    assert {
        "bad": (pytest.approx(0.5), "below-threshold"),
        "gone": (None, "unmapped"),
        "good": (pytest.approx(0.9), "ok"),
        "idle": (None, "insufficient-data"),
        "stray": (None, "unmapped"),
        "tolerated": (pytest.approx(0.5), "ok"),
    } == judged
    assert ["bad"] == await ids(harness, VEHICLE, replace(ALL, below_threshold=True))


async def test_the_worst_come_first_by_efficiency_and_those_without_last(harness: Harness) -> None:
    await charge(harness, {"a": 0.9, "b": 0.5, "c": 0.7})
    await heard(harness, VEHICLE, {"d": MINUTE, "e": MINUTE})
    await harness.close(datetime.now(UTC))

    assert ["b", "c", "a", "d", "e"] == await ids(harness, VEHICLE, replace(ALL, sort="efficiency"))
    assert ["a", "c", "b", "e", "d"] == await ids(harness, VEHICLE, replace(ALL, sort="efficiency", descending=True))


@pytest.mark.parametrize("descending", [False, True], ids=["asc", "desc"])
@pytest.mark.parametrize(
    ("stream", "sort", "in_order"),
    [
        (METER, "id", ["A", "a-10", "a-9", "b"]),  # by bytes
        (METER, "lastSeen", ["b", "a-10", "a-9", "A"]),  # two at the same time, by id
        (VEHICLE, "id", ["A", "a-10", "a-9", "b"]),
        (VEHICLE, "lastSeen", ["b", "a-10", "a-9", "A"]),
        (VEHICLE, "efficiency", ["A", "a-10", "a-9", "b"]),  # nobody has any
    ],
)
async def test_pages_put_together_are_the_list(
    harness: Harness, stream: Stream, sort: DeviceSort, in_order: list[str], *, descending: bool
) -> None:
    await heard(harness, stream, {"b": 9 * MINUTE, "A": MINUTE, "a-9": 3 * MINUTE, "a-10": 3 * MINUTE})
    with psycopg.connect(harness.url, autocommit=True) as connection:
        connection.execute(
            f"UPDATE {stream.live} SET received_at = date_bin('1 minute', received_at, '2000-01-01Z')".encode()  # noqa: S608
        )

    found = []
    wanted = replace(ALL, sort=sort, descending=descending, limit=1)
    while devices := await page(harness, stream, wanted):
        found += [device.newest.device_id for device in devices]
        wanted = replace(wanted, after=wanted.place_of(devices[-1]))

    if descending and sort == "efficiency":
        in_order = sorted(in_order, reverse=True)
    elif descending:
        in_order = in_order[::-1]
    assert in_order == found
