# ruff: noqa: SIM300 - expected == actual
"""Lists of devices: who is online, who charges badly, in which order, page by page."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from ingestd.analytics import DevicePage, LiveReading
from ingestd.store.devices import Devices
from ingestd.telemetry import METER, STREAMS, VEHICLE, Stream
from tests.support.energy import Sample
from tests.support.house import House, opened

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from ingestd.analytics import Device, DeviceSort

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
ALL = DevicePage(online=None, below_threshold=False, sort="id", descending=False, after=None, limit=100)


@pytest.fixture
async def house(shared_database_url: str) -> AsyncIterator[House]:
    async with opened(shared_database_url) as house:
        house.clear()
        yield house


async def page(house: House, stream: Stream, wanted: DevicePage = ALL) -> list[Device]:
    return await Devices(house.reads, analytics=house.analytics, offline_after=10 * MINUTE).page(stream, wanted)


async def ids(house: House, stream: Stream, wanted: DevicePage = ALL) -> list[str]:
    return [device.newest.device_id for device in await page(house, stream, wanted)]


async def heard(house: House, stream: Stream, ago: Mapping[str, timedelta]) -> None:
    """Each of the devices has sent one reading, so long ago."""
    now = datetime.now(UTC)
    samples = [Sample(device=device, at=now - since, interval=1.0) for device, since in ago.items()]
    await house.write(**{"meters" if stream is METER else "vehicles": samples})
    with psycopg.connect(house.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {stream.live} SET received_at = ts".encode())  # noqa: S608


async def test_a_device_is_shown_as_it_was_last_heard(house: House) -> None:
    at = datetime.now(UTC) - HOUR
    await house.write(
        meters=[Sample(device="m", at=at - MINUTE, interval=1.0), Sample(device="m", at=at, register=9.5)],
        vehicles=[Sample(device="v", at=at, interval=0.25)],
    )

    (meter,), (vehicle,) = await page(house, METER), await page(house, VEHICLE)

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
async def test_a_device_is_online_for_the_time_that_is_set_for_it_or_for_all(house: House, stream: Stream) -> None:
    await heard(house, stream, {"all-9m": 9.9 * MINUTE, "all-11m": 10.1 * MINUTE})
    await heard(house, stream, {"own-59m": 59 * MINUTE, "own-61m": 61 * MINUTE})
    with psycopg.connect(house.url, autocommit=True) as connection:
        connection.cursor().executemany(
            "INSERT INTO device_setting (kind, id, offline_after) VALUES (%s, %s, '1 h')",
            [(stream.name, device) for device in ("own-59m", "own-61m")],
        )

    online, offline = ["all-9m", "own-59m"], ["all-11m", "own-61m"]

    assert dict.fromkeys(online, True) | dict.fromkeys(offline, False) == {
        device.newest.device_id: device.online for device in await page(house, stream)
    }
    assert online == await ids(house, stream, replace(ALL, online=True))
    assert offline == await ids(house, stream, replace(ALL, online=False))


async def charge(house: House, ratios: Mapping[str, float]) -> None:
    """4 kWh AC for each of the vehicles, and so much of it in DC; they have reported for the whole of the day."""
    now = datetime.now(UTC)
    moments = [now - DAY + (n + 0.5) * HOUR for n in range(24)]
    await house.write(
        meters=[Sample(device=f"m-{v}", at=at, interval=4 / 24) for v in ratios for at in moments],
        vehicles=[Sample(device=v, at=at, interval=4 * ratio / 24) for v, ratio in ratios.items() for at in moments],
    )
    for vehicle in ratios:
        await house.map(vehicle, f"m-{vehicle}", now - 2 * DAY)


async def test_a_vehicle_is_judged_by_its_last_24_hours(house: House) -> None:
    await charge(house, {"good": 0.9, "bad": 0.5, "tolerated": 0.5, "idle": 0.0})
    with psycopg.connect(house.url, autocommit=True) as connection:
        connection.execute("INSERT INTO device_setting VALUES ('vehicle', 'tolerated', 0.4)")
        connection.execute("DELETE FROM meter_history WHERE meter_id = 'm-idle'")
    await heard(house, VEHICLE, {"stray": MINUTE, "gone": 3 * DAY})

    judged: dict[str, Any] = {
        device.newest.device_id: (device.efficiency_ratio, device.status) for device in await page(house, VEHICLE)
    }

    assert {
        "bad": (pytest.approx(0.5), "below-threshold"),
        "gone": (None, "unmapped"),
        "good": (pytest.approx(0.9), "ok"),
        "idle": (None, "insufficient-data"),
        "stray": (None, "unmapped"),
        "tolerated": (pytest.approx(0.5), "ok"),
    } == judged
    assert ["bad"] == await ids(house, VEHICLE, replace(ALL, below_threshold=True))


async def test_the_worst_come_first_by_efficiency_and_those_without_last(house: House) -> None:
    await charge(house, {"a": 0.9, "b": 0.5, "c": 0.7})
    await heard(house, VEHICLE, {"d": MINUTE, "e": MINUTE})

    assert ["b", "c", "a", "d", "e"] == await ids(house, VEHICLE, replace(ALL, sort="efficiency"))
    assert ["a", "c", "b", "e", "d"] == await ids(house, VEHICLE, replace(ALL, sort="efficiency", descending=True))


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
    house: House, stream: Stream, sort: DeviceSort, in_order: list[str], *, descending: bool
) -> None:
    await heard(house, stream, {"b": 9 * MINUTE, "A": MINUTE, "a-9": 3 * MINUTE, "a-10": 3 * MINUTE})
    with psycopg.connect(house.url, autocommit=True) as connection:
        connection.execute(f"UPDATE {stream.live} SET received_at = date_trunc('minute', received_at)".encode())  # noqa: S608

    found = []
    wanted = replace(ALL, sort=sort, descending=descending, limit=1)
    while devices := await page(house, stream, wanted):
        found += [device.newest.device_id for device in devices]
        wanted = replace(wanted, after=wanted.place_of(devices[-1]))

    if descending and sort == "efficiency":
        in_order = sorted(in_order, reverse=True)
    elif descending:
        in_order = in_order[::-1]
    assert in_order == found
