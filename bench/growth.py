"""Growth: whether routes stay as fast while history grows, and how much room it takes."""

from __future__ import annotations

import itertools
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, LiteralString, NamedTuple

from bench.asking import ask
from bench.daemon import running
from bench.history import make_history
from bench.reads import LIVE, OF_DEVICE, PERFORMANCE, device_urls, duration_columns, some_vehicles
from bench.report import Column, Figures, Table, medians, progress

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stage import Stage

DAYS: Final = (1, 7, 30)
ROUTES: Final = (LIVE, PERFORMANCE)
SHARE: Final = 1 / 200
"""Of the devices whose history is read: thirty days of them all would be 432 million rows."""
PART: Final = 1 / 15
"""Of the time that the sustained rate is held for: how long a route is asked at a time."""

_SIZES: LiteralString = """
    SELECT json_build_object(
        'history_bytes', sum(pg_table_size(oid)) FILTER (WHERE relname LIKE '%\\_history%'),
        'index_bytes', sum(pg_indexes_size(oid)) FILTER (WHERE relname LIKE '%\\_history%'),
        'ledger_bytes', sum(pg_total_relation_size(oid)) FILTER (WHERE relname ~ '_(quarter|hour)_')
    )
    FROM pg_class
    WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
"""


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """All lengths of history exist at the same time and take turns; `of_a_day` is a p99 as a multiple of a day's."""
    devices = max(2, round(sizes.devices * SHARE))
    print(f"Growth: {OF_DEVICE.rate:.0f} requests/s over the history of {devices:,} devices")
    table = Table(
        [
            Column("round"),
            Column("days"),
            Column("route".ljust(11)),
            *duration_columns(),
            Column("÷ a day", "{:.2f}".format),
        ]
    )
    table.head()
    vehicles = some_vehicles(devices, requests=max(1, round(OF_DEVICE.rate * sizes.seconds * PART)))
    rounds: list[dict[tuple[str, int], Figures]] = []
    with ExitStack() as resources:
        lengths = {days: _length(resources, stage, devices, days) for days in DAYS}
        for number in range(1, sizes.rounds + 1):
            runs: dict[tuple[str, int], Figures] = {}
            for route in ROUTES:
                for days in DAYS if number % 2 else DAYS[::-1]:
                    progress(f"growth, round {number} of {sizes.rounds}: {route} over {days} days")
                    url = lengths[days].urls[route]
                    runs[route, days] = ask([url.format(vehicle) for vehicle in vehicles], rate=OF_DEVICE.rate)
            for route, days in itertools.product(ROUTES, DAYS):
                run = runs[route, days]
                run["of_a_day"] = (run["p99"] or 0.0) / (runs[route, DAYS[0]]["p99"] or 1.0)
                table.row(number, days, route, *run.values())
            rounds.append(runs)
    middle = {key: medians([runs[key] for runs in rounds]) for key in itertools.product(ROUTES, DAYS)}
    for (route, days), figures in middle.items():
        table.row("median", days, route, *figures.values())
    return {
        "devices": devices,
        "lengths": [
            {"days": days, **lengths[days].room, **{route: middle[route, days] for route in ROUTES}} for days in DAYS
        ],
    }


class _Length(NamedTuple):
    """A database with so many days of history, and a daemon over it."""

    room: dict[str, int]
    urls: dict[str, str]


def _length(resources: ExitStack, stage: Stage, devices: int, days: int) -> _Length:
    progress(f"growth, making history of {days} days")
    place = resources.enter_context(stage.place())
    rows = make_history(place, devices=devices, days=days)
    place.checkpoint()
    daemon = resources.enter_context(running(place))
    resources.callback(daemon.stop)
    return _Length({"rows": rows, **place.query(_SIZES)}, device_urls(daemon.url))
