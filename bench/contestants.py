"""A contestant stores a backlog of the broker in the database.

To add one, write a `Contestant` and an `Attempt`.
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, LiteralString, Protocol

from psycopg import sql

from bench.daemon import COMMAND, START_SECONDS
from bench.errors import BenchError
from bench.history import make_partitions
from bench.mqtt import RECEIVE_MAXIMUM
from bench.peers import batches, one_by_one
from bench.processes import Child, peak_rss, wait_until
from bench.stage import Place, find_psql, ingestd_environment
from ingestd.model.stream import STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import psycopg

    from bench.backlog import Backlog

_HISTORY_ROWS: Final = "SELECT (SELECT count(*) FROM meter_history) + (SELECT count(*) FROM vehicle_history)"
_LIVE_ROWS: Final = "SELECT (SELECT count(*) FROM meter_live) + (SELECT count(*) FROM vehicle_live)"


class Attempt(Protocol):
    """One run of a contestant; its processes have been started."""

    def finished(self) -> bool:
        """Whether all of the backlog is committed; cheap, as it is asked all the time. Raises BenchError."""

    def verify(self) -> None:
        """Raises BenchError unless the database holds what it should."""

    def cpu_seconds(self) -> float:
        """CPU time that the contestant's own processes have used so far."""

    def peak_rss(self) -> int | None:
        """The most memory in bytes; None where it is no single process."""

    def stop(self) -> None:
        """End in good order; raises BenchError if it does not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """`attempt` starts the processes, which connect as `client_id` to a session that the backlog waits in."""

    name: str
    client_id: str
    attempt: Callable[[Place, Backlog], AbstractContextManager[Attempt]]
    share: float = 1.0
    """The part of the backlog; less than 1 for contestants that would need minutes for all of it."""


class DaemonAttempt:
    """One process that stays, and writes to ingestd's tables: ingestd itself, or a peer."""

    def __init__(self, place: Place, backlog: Backlog, process: Child, watch: psycopg.Connection) -> None:
        self._place = place
        self._backlog = backlog
        self._process = process
        self._watch = watch
        self._rows_before = place.query(_HISTORY_ROWS)

    def finished(self) -> bool:
        """Looks for the last messages by their keys: all store in the order of receipt, as `verify` confirms."""
        if self._process.ended():
            raise BenchError(f"{self._process.name} ended by itself:\n{self._process.log_tail()}")
        return all(
            self._watch.execute(
                sql.SQL("SELECT FROM {} WHERE {} = %s AND ts = %s").format(
                    sql.Identifier(stream.history), sql.Identifier(stream.id_column)
                ),
                (last.device.identity, last.timestamp),
            ).fetchone()
            is not None
            for stream, last in self._backlog.last.items()
        )

    def verify(self) -> None:
        expect(self._place, "history rows", _HISTORY_ROWS, self._rows_before + self._backlog.messages)
        expect(self._place, "live rows", _LIVE_ROWS, self._backlog.devices)
        expect(self._place, "dead letters", "SELECT count(*) FROM dead_letter", 0)

    def cpu_seconds(self) -> float:
        return self._process.cpu_seconds()

    def peak_rss(self) -> int:
        return peak_rss(self._process.pid)

    def stop(self) -> None:
        self._process.terminate()


@contextmanager
def _attempt(
    place: Place, backlog: Backlog, command: Sequence[str], environment: Mapping[str, str]
) -> Iterator[DaemonAttempt]:
    with (
        place.connect() as watch,
        Child(command, directory=place.directory, environment=environment) as process,
    ):
        watch.prepare_threshold = 0
        yield DaemonAttempt(place, backlog, process, watch)


def _ingestd(place: Place, backlog: Backlog) -> AbstractContextManager[Attempt]:
    """With its default settings."""
    environment = ingestd_environment(mqtt_url=place.broker.url, database_url=place.dsn, http_port=0, log_format="json")
    return _attempt(place, backlog, COMMAND, environment)


def _peer(place: Place, backlog: Backlog, *, module: str) -> AbstractContextManager[Attempt]:
    make_partitions(place.dsn, since=backlog.before, until=datetime.now(UTC))
    command = [sys.executable, "-m", module, place.broker.url, place.dsn]
    return _attempt(place, backlog, command, ingestd_environment())


class PipeAttempt:
    """`mosquitto_sub | psql`: it ends when it has stored the backlog."""

    def __init__(self, place: Place, backlog: Backlog, processes: list[Child]) -> None:
        self._place = place
        self._backlog = backlog
        self._processes = processes

    def finished(self) -> bool:
        return all(process.ended() for process in self._processes)

    def verify(self) -> None:
        expect(self._place, "rows", "SELECT count(*) FROM raw", self._backlog.messages)

    def cpu_seconds(self) -> float:
        return sum(process.cpu_seconds() for process in self._processes)

    def peak_rss(self) -> None:
        return None

    def stop(self) -> None:
        """Ended already."""


@contextmanager
def _pipe(place: Place, backlog: Backlog) -> Iterator[PipeAttempt]:
    subscribe = [
        *("mosquitto_sub", "-h", "127.0.0.1", "-p", str(place.broker.port)),
        *("-V", "5", "-c", "-i", PIPE.client_id, "-q", "1", "-C", str(backlog.messages)),
        # Without this the broker would hand out 20 messages at a time.
        *("-D", "connect", "receive-maximum", str(RECEIVE_MAXIMUM)),
        *(word for stream in STREAMS for word in ("-t", stream.topic_filter)),
        *("-F", r"%t\t%p"),
    ]
    copy = [find_psql(), "-X", "-q", "-d", place.dsn, "-c", "COPY raw FROM STDIN"]
    with ExitStack() as resources, place.connect() as watch:
        watch.execute("CREATE TABLE raw (topic text, payload text)")
        psql = resources.enter_context(Child(copy, directory=place.directory, stdin=subprocess.PIPE))
        # psql shall not be still starting when messages come.
        copying: LiteralString = "SELECT FROM pg_stat_progress_copy"
        wait_until(lambda: watch.execute(copying).fetchone() is not None, "COPY", within=START_SECONDS)
        with psql.take_stdin() as pipe:
            subscriber = Child(subscribe, directory=place.directory, stdout=pipe)
        yield PipeAttempt(place, backlog, [psql, resources.enter_context(subscriber)])


def expect(place: Place, what: str, statement: LiteralString, expected: int) -> None:
    """Raises BenchError unless the query answers what is expected."""
    found = place.query(statement)
    if found != expected:
        raise BenchError(f"{found:,} {what} where {expected:,} should be")


INGESTD: Final = Contestant(name="ingestd", client_id="ingestd", attempt=_ingestd)
PIPE: Final = Contestant(name="pipe", client_id="pipe", attempt=_pipe)
"""Without any guarantee: text into a table without an index."""
BATCHES: Final = Contestant(
    name="batches",
    client_id=batches.CLIENT_ID,
    attempt=partial(_peer, module=batches.__name__),
    share=0.05,
)
ONE_BY_ONE: Final = Contestant(
    name="one-by-one",
    client_id=one_by_one.CLIENT_ID,
    attempt=partial(_peer, module=one_by_one.__name__),
    share=0.01,
)
