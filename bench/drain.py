"""Drain: how fast a backlog goes from the broker's queue into committed rows, and what that costs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.backlog import Backlog
from bench.contestants import BATCHES, INGESTD, ONE_BY_ONE, PIPE, Attempt, Contestant
from bench.daemon import START_SECONDS
from bench.history import stopped_at
from bench.processes import cpu_seconds, wait_until
from bench.report import Column, Figures, Table, medians, progress

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stage import Place, Stage

CONTESTANTS: Final = (INGESTD, PIPE, BATCHES, ONE_BY_ONE)
GIVE_UP_SECONDS: Final = 900.0
SETTLING_SECONDS: Final = 0.1
"""The acknowledgements of the last commit come after the time was taken; their CPU time counts too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One run; CPU is user and system time in microseconds a message."""

    seconds: float
    messages_per_second: float
    own_cpu: float
    postgres_cpu: float
    mosquitto_cpu: float
    peak_rss_bytes: int | None


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """Run rounds; every second one in reverse order, so that no contestant is always first."""
    progress("encoding the backlogs")
    backlogs = {
        contestant.name: Backlog(messages=max(2, round(sizes.messages * contestant.share)))
        for contestant in CONTESTANTS
    }
    print(
        f"Drain: {sizes.messages:,} QoS 1 messages of {backlogs[INGESTD.name].devices:,} devices, from the broker's "
        f"queue to committed rows\n({backlogs[BATCHES.name].messages:,} of them for {BATCHES.name}, "
        f"{backlogs[ONE_BY_ONE.name].messages:,} for {ONE_BY_ONE.name})"
    )
    table = _table()
    table.head()
    results: list[dict[str, Figures]] = []
    for number in range(1, sizes.rounds + 1):
        order = CONTESTANTS if number % 2 else CONTESTANTS[::-1]
        runs: dict[str, Figures] = {}
        for contestant in order:
            where = f"drain, round {number} of {sizes.rounds}: {contestant.name}"
            with stage.place() as place:
                runs[contestant.name] = asdict(drain(place, contestant, backlogs[contestant.name], where))
        for contestant in CONTESTANTS:
            run = runs[contestant.name]
            run["of_pipe"] = _ratio(run, runs[PIPE.name])
            run["ingestd_times"] = _ratio(runs[INGESTD.name], run)
            _print(table, str(number), contestant, run)
        results.append(runs)
    middle = {contestant.name: medians([runs[contestant.name] for runs in results]) for contestant in CONTESTANTS}
    for contestant in CONTESTANTS:
        _print(table, "median", contestant, middle[contestant.name])
    return {
        "devices": backlogs[INGESTD.name].devices,
        "messages": {name: backlog.messages for name, backlog in backlogs.items()},
        "rounds": results,
        "medians": middle,
    }


def drain(place: Place, contestant: Contestant, backlog: Backlog, where: str) -> Drained:
    """One run. Raises BenchError when anything is missing in the end."""
    progress(f"{where}, queueing {backlog.messages:,} messages")
    backlog.queue(place.broker.url, contestant.client_id)
    stopped_at(place, backlog.before)
    place.checkpoint()
    logged = place.broker.log.stat().st_size
    progress(f"{where}, draining")
    with contestant.attempt(place, backlog) as attempt:
        _await_connection(place, attempt, contestant.client_id, logged)
        drained = _measure(place, attempt, backlog.messages)
        attempt.stop()
    return drained


def _await_connection(place: Place, attempt: Attempt, client_id: str, logged: int) -> None:
    """Returns when the broker's log, beyond what it held before, says that the contestant has connected."""
    sought = f" as {client_id} (".encode()

    def connected() -> bool:
        attempt.finished()  # raises where it has died instead
        with place.broker.log.open("rb") as log:
            log.seek(logged)
            return any(b"New client connected" in line and sought in line for line in log)

    wait_until(connected, f"{client_id} to connect", within=START_SECONDS)


def _measure(place: Place, attempt: Attempt, messages: int) -> Drained:
    started = time.monotonic()
    own, mosquitto, postgres = attempt.cpu_seconds(), cpu_seconds(place.broker.pid), cpu_seconds(place.postgres_pid)
    seconds = wait_until(attempt.finished, "the last commit", within=GIVE_UP_SECONDS) - started
    postgres = cpu_seconds(place.postgres_pid) - postgres
    attempt.verify()  # at once, so that a row that is missing now was also missing when the time was taken
    time.sleep(SETTLING_SECONDS)
    own, mosquitto = attempt.cpu_seconds() - own, cpu_seconds(place.broker.pid) - mosquitto
    return Drained(
        seconds=seconds,
        messages_per_second=messages / seconds,
        own_cpu=own / messages * 1e6,
        postgres_cpu=postgres / messages * 1e6,
        mosquitto_cpu=mosquitto / messages * 1e6,
        peak_rss_bytes=attempt.peak_rss(),
    )


def _ratio(run: Figures, other: Figures) -> float:
    return (run["messages_per_second"] or 0.0) / (other["messages_per_second"] or 1.0)


def _table() -> Table:
    return Table(
        [
            Column("round"),
            Column("contestant"),
            Column("s", "{:.1f}".format),
            Column("msg/s", "{:,.0f}".format),
            Column("÷ pipe", "{:.2f}".format),
            Column("ingestd ÷", "{:.1f}".format),
            Column("own CPU", "{:.1f} µs".format),
            Column("PostgreSQL", "{:.1f} µs".format),
            Column("Mosquitto", "{:.1f} µs".format),
            Column("peak RSS", lambda size: f"{size / 2**20:.0f} MiB"),
        ]
    )


def _print(table: Table, number: str, contestant: Contestant, run: Figures) -> None:
    figures = (
        *("seconds", "messages_per_second", "of_pipe", "ingestd_times"),
        *("own_cpu", "postgres_cpu", "mosquitto_cpu", "peak_rss_bytes"),
    )
    table.row(number, contestant.name, *(run[figure] for figure in figures))
