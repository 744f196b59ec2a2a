"""Drain: how fast a backlog goes from the broker's queue into committed rows, and what that costs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from bench.backlog import Backlog
from bench.contestants import INGESTD, PIPE, START_SECONDS, Attempt, Contestant
from bench.processes import cpu_seconds, wait_until
from bench.report import Column, Table, medians, progress

if TYPE_CHECKING:
    from bench.stage import Place, Stage

CONTESTANTS: Final = (INGESTD, PIPE)
YARDSTICK: Final = PIPE
GIVE_UP_SECONDS: Final = 900.0
SETTLING_SECONDS: Final = 0.1
"""After the last commit come its acknowledgements; their CPU time counts, though the clock has stopped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drained:
    """One run; CPU is user and system time in microseconds a message."""

    seconds: float
    messages_per_second: float
    own_cpu: float
    postgres_cpu: float
    mosquitto_cpu: float
    peak_rss_bytes: int | None


def measure(stage: Stage, *, messages: int, rounds: int) -> dict[str, Any]:
    """Rounds in alternation: every second one in reverse order, so that no one always comes first."""
    progress("encoding the backlog")
    backlog = Backlog(messages=messages)
    print(
        f"Drain: {messages:,} QoS 1 messages of {backlog.devices:,} devices, from the broker's queue to committed rows"
    )
    table = _table()
    table.head()
    results: list[dict[str, dict[str, float | None]]] = []
    for number in range(1, rounds + 1):
        order = CONTESTANTS if number % 2 else CONTESTANTS[::-1]
        runs: dict[str, dict[str, float | None]] = {}
        for contestant in order:
            where = f"round {number} of {rounds}: {contestant.name}"
            runs[contestant.name] = asdict(drain(stage, contestant, backlog, where))
        yardstick = runs[YARDSTICK.name]["messages_per_second"] or 0.0
        for contestant in CONTESTANTS:
            run = runs[contestant.name]
            run["ratio"] = (run["messages_per_second"] or 0.0) / yardstick
            _print(table, str(number), contestant, run)
        results.append(runs)
    middle = {contestant.name: medians([runs[contestant.name] for runs in results]) for contestant in CONTESTANTS}
    for contestant in CONTESTANTS:
        _print(table, "median", contestant, middle[contestant.name])
    return {"messages": messages, "devices": backlog.devices, "rounds": results, "medians": middle}


def drain(stage: Stage, contestant: Contestant, backlog: Backlog, where: str) -> Drained:
    """One run on a fresh stage, verified. Raises BenchError when anything is missing in the end."""
    with stage.place() as place:
        progress(f"{where}, queueing {backlog.messages:,} messages")
        backlog.queue(place.broker.url, contestant.client_id)
        stage.checkpoint()
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
    attempt.verify()  # at once: what is not there now was not there when the clock stopped
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


def _table() -> Table:
    return Table(
        [
            Column("round"),
            Column("contestant"),
            Column("s", "{:.2f}".format),
            Column("msg/s", "{:,.0f}".format),
            Column("÷ pipe", "{:.2f}".format),
            Column("own CPU", "{:.1f} µs".format),
            Column("PostgreSQL", "{:.1f} µs".format),
            Column("Mosquitto", "{:.1f} µs".format),
            Column("peak RSS", lambda size: f"{size / 2**20:.0f} MiB"),
        ]
    )


def _print(table: Table, number: str, contestant: Contestant, run: dict[str, float | None]) -> None:
    figures = ("seconds", "messages_per_second", "ratio", "own_cpu", "postgres_cpu", "mosquitto_cpu", "peak_rss_bytes")
    table.row(number, contestant.name, *(run[figure] for figure in figures))
