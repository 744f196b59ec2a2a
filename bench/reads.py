"""Reads: how fast routes answer over a day of history while readings come in."""

from __future__ import annotations

import random
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final

from bench.asking import ask
from bench.backlog import SEED, fleet
from bench.daemon import START_SECONDS, running
from bench.history import make_history
from bench.load import Load
from bench.peers import bare_route
from bench.processes import Child, wait_until
from bench.report import Column, Figures, Table, medians, progress
from bench.stage import ingestd_environment
from ingestd.demo.servers import LoopbackPort
from ingestd.telemetry import VEHICLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.sizes import Sizes
    from bench.stage import Place, Stage

INGESTED: Final = 500.0
"""Readings a second that come in meanwhile."""
ASKED: Final = 50.0
"""Requests a second."""
PART: Final = 1 / 10
"""Of the time that the sustained rate is held for: how long a route is asked at a time."""
BARE: Final = "bare"
LIVE: Final = "live"
PERFORMANCE: Final = "performance"


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """Routes take turns. `of_bare` is a figure as a multiple of the bare handler's in the same round."""
    with stage.place() as place:
        progress(f"reads, making history: {sizes.devices:,} devices, {sizes.history_days} days")
        rows = make_history(place, devices=sizes.devices, days=sizes.history_days)
        place.checkpoint()
        print(
            f"Reads: {ASKED:.0f} requests/s over {rows:,} rows of history while {INGESTED:.0f} readings/s come in; "
            f"bare is an aiohttp handler with one query"
        )
        table = Table(
            [Column("round"), Column("route".ljust(11)), *duration_columns(), Column("÷ bare", "{:.1f}".format)]
        )
        table.head()
        with (
            running(place) as daemon,
            _bare(place) as bare_url,
            Load(place.broker.url, rate=INGESTED, devices=sizes.devices) as load,
        ):
            bases = {BARE: f"{bare_url}/{{}}", **route_urls(daemon.url)}
            vehicles = some_vehicles(sizes.devices, requests=max(1, round(ASKED * sizes.seconds * PART)))
            rounds: list[dict[str, Figures]] = []
            for number in range(1, sizes.rounds + 1):
                runs: dict[str, Figures] = {}
                for route in bases if number % 2 else reversed(bases):
                    progress(f"reads, round {number} of {sizes.rounds}: {route}")
                    runs[route] = ask([bases[route].format(vehicle) for vehicle in vehicles], rate=ASKED)
                    load.check()
                for route in bases:
                    runs[route]["of_bare"] = (runs[route]["p50"] or 0.0) / (runs[BARE]["p50"] or 1.0)
                    table.row(number, route, *runs[route].values())
                rounds.append(runs)
            middle = {route: medians([runs[route] for runs in rounds]) for route in bases}
            for route in bases:
                table.row("median", route, *middle[route].values())
            load.stop()
            daemon.stop()
    return {
        "rows": rows,
        "ingested_per_second": INGESTED,
        "asked_per_second": ASKED,
        "rounds": rounds,
        "medians": middle,
    }


def duration_columns() -> list[Column]:
    """For the figures of `ask`."""
    return [Column(title, lambda seconds: f"{1000 * seconds:.1f} ms") for title in ("p50", "p99", "max")]


def route_urls(url: str) -> dict[str, str]:
    """With a place for the vehicle."""
    return {
        LIVE: f"{url}/v1/analytics/vehicle/{{}}/live",
        PERFORMANCE: f"{url}/v1/analytics/performance/{{}}",
    }


def some_vehicles(devices: int, *, requests: int) -> list[str]:
    """Of a fleet, one for each request, in no order."""
    vehicles = [device.identity for device in fleet(devices) if device.stream is VEHICLE]
    return random.Random(SEED).choices(vehicles, k=requests)  # noqa: S311 - the same ones every time


@contextmanager
def _bare(place: Place) -> Iterator[str]:
    with closing(LoopbackPort()) as port:
        command = [sys.executable, "-m", bare_route.__name__, str(port.number), place.dsn]
        with Child(command, directory=place.directory, environment=ingestd_environment()) as child:
            wait_until(lambda: child.listens(port.number), "the bare handler", within=START_SECONDS)
            yield f"http://127.0.0.1:{port.number}"
            child.terminate()
