"""`python -m tests.faults.chaos --seconds 60 --seed 7`: everything fails, at random, under load.

Real servers, the daemon under a supervisor, proxies before both servers, publishers that note what is acknowledged,
and an oracle.
With `--daemons 3`, three daemons share the messages; each has proxies of its own, and each fault is for one of them.
The seed decides which faults come in which order and how hard they are; when exactly they come is up to the machine.
The last line is `lost 0 doubled 0 of N acknowledged, K faults, seed S`; the exit code says whether all was well.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psycopg

from ingestd.demo.servers import PrivateMosquitto, PrivatePostgres, ServerError
from ingestd.errors import StoreError
from tests.faults.numbered import SentReadings
from tests.faults.oracle import Verdict, close, compare, untrue_rows
from tests.faults.publishers import Publishers
from tests.faults.scene import Scene, Unit
from tests.faults.schedule import sequence
from tests.faults.supervisor import Supervisor
from tests.support.daemon import Daemon
from tests.support.proxy import Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RECOVERY_SECONDS: Final = 60.0
DRAIN_SECONDS: Final = 30.0
LATER: Final = timedelta(hours=3)
SESSIONS_OF_A_DAEMON: Final = 2
MEMORY_LIMIT: Final = 200.0  # MB
EXPECTED_EXITS: Final = frozenset({0, 1, 70, -signal.SIGKILL})
"""The daemon was asked to stop; could not start; a task failed; it was killed."""


@dataclass(slots=True, kw_only=True)
class Report:
    """The result of a campaign."""

    seed: int
    faults: Counter[str] = field(default_factory=Counter)
    worst: dict[str, float] = field(default_factory=dict)
    """Seconds to recover, by fault."""
    problems: list[str] = field(default_factory=list)
    verdict: Verdict = field(default_factory=Verdict)
    drained_in: float | None = None

    @property
    def good(self) -> bool:
        return self.verdict.good and not self.problems and self.drained_in is not None

    def note(self, fault: str, recovery: float | None) -> None:
        self.faults[fault] += 1
        if recovery is None:
            self.problems.append(f"not recovered {RECOVERY_SECONDS:.0f} s after: {fault}")
        else:
            self.worst[fault] = max(recovery, self.worst.get(fault, 0.0))

    def table(self) -> Iterator[str]:
        yield "| fault | times | worst recovery |"
        yield "|---|---|---|"
        for fault, times in sorted(self.faults.items()):
            worst = self.worst.get(fault)
            yield f"| {fault} | {times} | {'' if worst is None else f'{worst:.1f} s'} |"

    def last_line(self) -> str:
        verdict = self.verdict
        return (
            f"lost {len(verdict.lost)} doubled {len(verdict.doubled)} of {verdict.acknowledged} acknowledged, "
            f"{self.faults.total()} faults, seed {self.seed}"
        )


class Campaign:
    """One run, with servers of its own. It leaves no process and no database behind."""

    def __init__(self, *, seconds: float, seed: int, rate: float, only: str = "", daemons: int = 1) -> None:
        """Only faults whose names contain `only` are caused."""
        self._daemons = daemons
        self._seconds = seconds
        self._rate = rate
        self._only = only
        self._random = random.Random(seed)  # noqa: S311 - to be repeated, not to be secret
        self._report = Report(seed=seed)

    def run(self, keep_logs_in: Path) -> Report:
        """If anything went wrong, the logs are kept in `keep_logs_in`."""
        with ExitStack() as stack:
            postgres = stack.enter_context(PrivatePostgres())
            broker = stack.enter_context(PrivateMosquitto(persistence=True, config=["persistent_client_expiration 1d"]))
            # Each poisoned message is looked for in the end.
            settings: dict[str, str | float] = {"dead_letter_max_per_device": 1_000_000}
            if self._daemons > 1:
                settings |= {"mqtt_shared_group": "chaos", "mqtt_sessions": SESSIONS_OF_A_DAEMON * self._daemons}
            stack.callback(self._save_logs, keep_logs_in, [broker.log, postgres.log])
            units = [self._unit(stack, broker, postgres, settings, keep_logs_in) for _ in range(self._daemons)]
            self._sent = SentReadings()
            self._scene = Scene(
                random=self._random, postgres=postgres, broker=broker, units=units, settings=settings, unit=units[0]
            )
            daemons = [unit.supervisor.daemon for unit in units]
            for daemon in daemons:
                daemon.wait_healthy()
            with Publishers(sent=self._sent, broker_url=broker.url, daemon=daemons[0], rate=self._rate) as publishers:
                self._cause_faults()
            self._settle(postgres.dsn())
            self._close_ledger(postgres.dsn())
            self._print_report([unit.supervisor for unit in units], publishers)
        if self._report.good:
            shutil.rmtree(keep_logs_in)
        return self._report

    def _unit(
        self,
        stack: ExitStack,
        broker: PrivateMosquitto,
        postgres: PrivatePostgres,
        settings: dict[str, str | float],
        keep_logs_in: Path,
    ) -> Unit:
        """A daemon with proxies of its own, started."""
        to_postgres = stack.enter_context(Proxy(postgres.dsn()))
        to_broker = stack.enter_context(Proxy(broker.url))
        daemon = Daemon(mqtt_url=to_broker.url, database_url=to_postgres.url, **settings)
        stack.push(daemon)  # not entered: the supervisor starts it
        stack.callback(self._save_logs, keep_logs_in, [daemon.log])
        supervisor = stack.enter_context(Supervisor(daemon))
        return Unit(to_postgres=to_postgres, to_broker=to_broker, supervisor=supervisor)

    def _recovered(self) -> float | None:
        """Seconds until every daemon is healthy and has committed; None if that takes too long."""
        since = time.time()
        took = [
            unit.supervisor.wait_recovered(since, within=max(1.0, RECOVERY_SECONDS - (time.time() - since)))
            for unit in self._scene.units
        ]
        return None if None in took else time.time() - since

    def _cause_faults(self) -> None:
        """Cause one fault after the other until the time is over. After each, wait until all daemons have recovered."""
        end = time.monotonic() + self._seconds
        self._recovered()
        for fault in sequence(self._random, seconds=self._seconds, only=self._only, daemons=self._daemons):
            if time.monotonic() > end:
                break
            self._scene.unit = self._random.choice(self._scene.units)
            try:
                fault.cause(self._scene)
            except (AssertionError, psycopg.Error, ServerError) as error:
                self._report.problems.append(f"{fault.name}: {error!r}")
            self._report.note(fault.name, self._recovered())
        self._report.faults.update(self._scene.on_top)

    def _settle(self, database_url: str) -> None:
        """Ask the oracle until no reading is missing, or until DRAIN_SECONDS are over."""
        quiet_since = time.monotonic()
        while True:
            self._report.verdict = compare(self._sent, database_url)
            took = time.monotonic() - quiet_since
            if not self._report.verdict.lost:
                self._report.drained_in = took
                return
            if took > DRAIN_SECONDS:
                return
            time.sleep(0.5)

    def _close_ledger(self, database_url: str) -> None:
        """Close the ledger as of some hours later, so that every reading is decided."""
        later = datetime.now(UTC) + LATER
        try:
            asyncio.run(close(database_url, later))
        except (AssertionError, StoreError) as error:
            self._report.problems.append(f"the ledger was not closed: {error!r}")
            return
        self._report.verdict.untrue_rows = untrue_rows(database_url, later)

    def _print_report(self, supervisors: Sequence[Supervisor], publishers: Publishers) -> None:
        report, verdict = self._report, self._report.verdict
        memory = max((supervisor.memory for supervisor in supervisors), key=lambda memory: memory.highest)
        exits = sum((supervisor.exits for supervisor in supervisors), Counter[int]())
        report.problems += verdict.complaints()
        strange = {code: times for code, times in exits.items() if code not in EXPECTED_EXITS}
        if strange:
            report.problems.append(f"the daemon ended with {strange}")
        if memory.highest > MEMORY_LIMIT:
            report.problems.append(f"the daemon took {memory.highest:.0f} MB")
        drained = "not drained" if report.drained_in is None else f"drained in {report.drained_in:.1f} s"
        _say(
            *report.table(),
            f"exit codes of the daemons: {dict(sorted(exits.items()))}",
            f"memory of the largest daemon: first {memory.first:.0f} MB, lowest {memory.lowest:.0f}, "
            f"highest {memory.highest:.0f}, last {memory.last:.0f} in {memory.samples} samples",
            f"{verdict.rows} rows, {verdict.dead_letters} dead letters "
            f"({verdict.repeated_dead_letters} of them again), {publishers.posted} readings by HTTP; {drained}",
            f"{verdict.made} rows of the ledger, {verdict.stale} quarters stale at the end",
        )

    @staticmethod
    def _save_logs(directory: Path, logs: list[Path]) -> None:
        for log in logs:
            with suppress(OSError):
                shutil.copy(log, directory / f"{log.parent.name.removeprefix('ingestd-')}-{log.name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long faults go on")
    parser.add_argument("--seed", type=int, default=None, help="any number; at random where left out")
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second over MQTT")
    parser.add_argument("--daemons", type=int, default=1, help="so many share the messages")
    parser.add_argument("--only", default="", help="faults whose names have this in them")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(1_000_000)  # noqa: S311
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    _say(f"chaos for {options.seconds:.0f} s, seed {seed}")
    logs = Path(tempfile.mkdtemp(prefix="ingestd-chaos-"))
    try:
        campaign = Campaign(
            seconds=options.seconds, seed=seed, rate=options.rate, only=options.only, daemons=options.daemons
        )
        report = campaign.run(logs)
    except BaseException:
        _say(f"the logs are in {logs}")
        raise
    for problem in report.problems:
        _say(problem)
    if not report.good:
        _say(f"the logs are in {logs}")
    _say(report.last_line())
    sys.exit(not report.good)


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
