"""Reads: how fast routes answer over a day of history while readings come in: those of one device, and of the fleet."""

from __future__ import annotations

import random
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from bench.asking import CONNECTIONS, ask
from bench.backlog import SEED, fleet
from bench.daemon import START_SECONDS, running
from bench.history import make_history
from bench.load import Load
from bench.peers import bare_route
from bench.processes import Child, wait_until
from bench.report import Column, Figures, Table, medians, progress
from bench.stage import ingestd_environment
from ingestd.demo.servers import LoopbackPort
from ingestd.model.stream import VEHICLE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.sizes import Sizes
    from bench.stage import Place, Stage

INGESTED: Final = 500.0
"""Readings a second that come in meanwhile."""
BARE: Final = "bare"
LIVE: Final = "live"
PERFORMANCE: Final = "performance"


class Kind(NamedTuple):
    """How routes of a kind are asked."""

    rate: float
    """Requests a second."""
    part: float
    """Of the time that the sustained rate is held for: how long a route is asked at a time."""
    connections: int
    anew: bool
    """Whether every answer has to be a new one."""


OF_DEVICE: Final = Kind(rate=50.0, part=1 / 10, connections=CONNECTIONS, anew=False)
OF_FLEET: Final = Kind(rate=1.0, part=1, connections=1, anew=True)


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """Routes take turns. `of_bare` is a figure as a multiple of the bare handler's in the same round."""
    with stage.place() as place:
        progress(f"reads, making history: {sizes.devices:,} devices, {sizes.history_days} days")
        rows = make_history(place, devices=sizes.devices, days=sizes.history_days, kept_days=sizes.kept_days)
        place.checkpoint()
        print(
            f"Reads: {OF_DEVICE.rate:.0f} requests/s, of the fleet {OF_FLEET.rate:.0f}, over {rows:,} rows of history "
            f"and a ledger of {sizes.history_days} days\nwhile {INGESTED:.0f} readings/s come in; "
            f"bare is an aiohttp handler with one query"
        )
        table = Table(
            [Column("round"), Column("route".ljust(13)), *duration_columns(), Column("÷ bare", "{:.1f}".format)]
        )
        table.head()
        with (
            running(place) as daemon,
            _bare(place) as bare_url,
            Load(place.broker.url, rate=INGESTED, devices=sizes.devices) as load,
        ):
            urls = {BARE: f"{bare_url}/{{}}", **device_urls(daemon.url), **_fleet_urls(daemon.url)}
            rounds: list[dict[str, Figures]] = []
            for number in range(1, sizes.rounds + 1):
                runs: dict[str, Figures] = {}
                for route in urls if number % 2 else reversed(urls):
                    progress(f"reads, round {number} of {sizes.rounds}: {route}")
                    runs[route] = _asked(urls[route], sizes)
                    load.check()
                for route in urls:
                    runs[route]["of_bare"] = (runs[route]["p50"] or 0.0) / (runs[BARE]["p50"] or 1.0)
                    table.row(number, route, *runs[route].values())
                rounds.append(runs)
            middle = {route: medians([runs[route] for runs in rounds]) for route in urls}
            for route in urls:
                table.row("median", route, *middle[route].values())
            load.stop()
            daemon.stop()
    return {
        "rows": rows,
        "ledger_days": sizes.history_days,
        "ingested_per_second": INGESTED,
        "asked_per_second": OF_DEVICE.rate,
        "asked_of_fleet_per_second": OF_FLEET.rate,
        "rounds": rounds,
        "medians": middle,
    }


def duration_columns() -> list[Column]:
    """For the figures of `ask`."""
    return [Column(title, lambda seconds: f"{1000 * seconds:.1f} ms") for title in ("p50", "p99", "max")]


def device_urls(url: str) -> dict[str, str]:
    """With a place for the vehicle."""
    return {
        LIVE: f"{url}/v1/analytics/vehicle/{{}}/live",
        PERFORMANCE: f"{url}/v1/analytics/performance/{{}}",
        "series": f"{url}/v1/analytics/vehicle/{{}}/series",
        "sessions": f"{url}/v1/analytics/vehicle/{{}}/sessions",
    }


def _fleet_urls(url: str) -> dict[str, str]:
    return {
        "fleet": f"{url}/v1/analytics/fleet",
        "fleet series": f"{url}/v1/analytics/fleet/series",
        "list": f"{url}/v1/vehicles",
        "by efficiency": f"{url}/v1/vehicles?sort=efficiency",
    }


def _asked(url: str, sizes: Sizes) -> Figures:
    kind = OF_DEVICE if "{}" in url else OF_FLEET
    vehicles = some_vehicles(sizes.devices, requests=max(1, round(kind.rate * sizes.seconds * kind.part)))
    return ask(
        [url.format(vehicle) for vehicle in vehicles], rate=kind.rate, connections=kind.connections, anew=kind.anew
    )


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
