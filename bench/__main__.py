"""`python -m bench`."""

from __future__ import annotations

import logging
import shlex
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import psycopg
import structlog

from bench import closing, connections, cost, drain, fleet, growth, latency, machine, million, reads, sustained
from bench.document import write_document
from bench.report import clear, read_json, write_json
from bench.sizes import Sizes
from bench.stage import Stage
from ingestd.errors import IngestdError

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT: Final = Path(__file__).parents[1]

SCENARIOS: Final[dict[str, Callable[[Stage, Sizes], dict[str, Any]]]] = {
    "drain": drain.measure,
    "sustained": sustained.measure,
    "cost": cost.measure,
    "fleet": fleet.measure,
    "latency": latency.measure,
    "reads": reads.measure,
    "growth": growth.measure,
    "closing": closing.measure,
    "connections": connections.measure,
    "million": million.measure,
}
LONG: Final = ("million",)
"""Measured only where asked for."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("scenarios", nargs=-1, type=click.Choice(list(SCENARIOS)))
@click.option(
    "--messages",
    type=click.IntRange(min=2),
    default=500_000,
    show_default=True,
    help="Length of the backlog that is drained; the fleets' are parts and multiples of it.",
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="How often everybody runs.")
@click.option(
    "--seconds",
    type=click.FloatRange(min=1),
    default=30.0,
    show_default=True,
    help="How long the sustained rate is held; whatever else runs at a given rate takes a part of that.",
)
@click.option(
    "--devices",
    type=click.IntRange(min=2),
    default=10_000,
    show_default=True,
    help="Whose history is read; each reports once a minute. Growth is measured with a two-hundredth of them.",
)
@click.option(
    "--history-days", type=click.IntRange(min=1), default=1, show_default=True, help="How long they have reported."
)
@click.option(
    "--kept-days",
    type=click.IntRange(min=1),
    show_default="all",
    help="Of how many of these days the readings are kept. The ledger tells of all.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=ROOT / "bench" / "out",
    show_default="bench/out",
    help="Where the JSON goes: one file a call, named by the time.",
)
@click.option(
    "--report",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Measure nothing, but write docs/performance.md and docs/performance.svg from this JSON.",
)
def bench(scenarios: tuple[str, ...], out: Path, report: Path | None, **sizes: Any) -> None:  # noqa: ANN401 - those of Sizes
    """Measure ingestd on this machine, on a PostgreSQL and a Mosquitto of its own that nothing remains of.

    \b
    drain      how fast a backlog goes from the broker's queue into committed rows, beside an unguaranteed
               pipe (mosquitto_sub | psql) and the programs that most projects of this kind consist of
    sustained  the highest rate that publisher, broker, database and daemon keep up with on this machine
    cost       CPU time a message at the design load and at 1,000 messages a second
    fleet      CPU time a message from a thousand devices up to a million, and the memory it takes
    latency    from publishing to the commit, by flush interval
    reads      routes over a day of history while readings come in, beside a bare handler with one query
    growth     routes over 1, 7 and 30 days of history, and its size
    closing    CPU time a reading of making the ledger
    connections  memory of the broker for each connected device
    million    a million devices report once a minute for ten minutes, while a quarter-hour of them is closed

    All but the last by default, which takes some nine minutes and 6 GB of disk; the last takes 15 minutes and 20 GB.
    Other work on the machine changes the absolute figures: only ratios, which are taken within a round, bear comparing
    between machines.
    """  # noqa: D301 - \b is click's
    if report is not None:
        for path in write_document(read_json(report), ROOT / "docs"):
            print(f"Written: {path}")
        return
    if sys.platform != "linux":
        raise click.ClickException("the benchmarks read /proc, so they need Linux")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that contexts are left, and nothing remains
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    path = out / f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}.json"
    results: dict[str, Any] = {
        "machine": machine.facts(),
        "command": shlex.join(["python", "-m", "bench", *sys.argv[1:]]),
    }
    print(machine.described(results["machine"]))
    for name in scenarios or (name for name in SCENARIOS if name not in LONG):
        results[name] = _measured(name, Sizes(**sizes))
        write_json(path, results)  # after each scenario, so that its figures are kept if a later one fails
    print(f"\nWritten: {path}\nTo publish it: python -m bench --report {path}")
    if failed := [name for name in SCENARIOS if "error" in results.get(name, {})]:
        raise click.ClickException(f"not measured: {', '.join(failed)}")


def _measured(name: str, sizes: Sizes) -> dict[str, Any]:
    """One scenario's figures, on servers of its own; or why there are none."""
    print()
    started = time.monotonic()
    try:
        with Stage() as stage:
            figures = SCENARIOS[name](stage, sizes)
    except (IngestdError, psycopg.Error, OSError) as error:
        clear()
        print(f"{name} failed: {error}", file=sys.stderr)
        return {"error": str(error)}
    finally:
        clear()
    seconds = round(time.monotonic() - started, 1)
    print(f"({name} took {seconds:.0f} s)")
    return {"took_seconds": seconds, **figures}


bench()
