"""Empties the Buffer into the Store, one transaction at a time, and settles what has committed.

Exactly one flush is under way at any time. A flush ends in one way only: every reading of it is
committed, was there already, or is kept as a dead letter. Until then it is repeated.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

import structlog

from ingestd.errors import DataStoreError, OperatorStoreError, TransientStoreError
from ingestd.metrics import Metrics
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.delivery import Batch, Delivery, Origin, Rejection, StreamBatch
from ingestd.telemetry import STREAMS, DeadLetter, Row, Source, Stream, encode, now_microseconds

log = structlog.get_logger(__name__)

RETRY_FIRST_SECONDS: Final = 0.1
RETRY_LONGEST_SECONDS: Final = 2.0
OPERATOR_RETRY_SECONDS: Final = 5.0
UNKNOWN_BEFORE_ISOLATING: Final = 3
"""So often may a batch fail for an unknown reason before the rows are tried one by one."""


class Store(Protocol):
    """Where batches go."""

    async def write(self, batch: Batch) -> dict[Stream, Counter[int]]:
        """Commit the batch; return for each stream how many rows of each origin were new.

        Raises a StoreError when nothing of it is known to have been committed. Repeating is always safe.
        """


class _Suspect(NamedTuple):
    """A single row that the database would not take, and what it said."""

    stream: Stream
    row: Row
    origin: int
    detail: str


@dataclass(slots=True, kw_only=True)
class _Progress:
    """What has become of the rows of one flush so far."""

    deliveries: list[Delivery]
    committed: dict[Stream, Counter[int]] = field(default_factory=lambda: {stream: Counter() for stream in STREAMS})
    rejected: list[_Suspect] = field(default_factory=list)
    suspects: list[_Suspect] = field(default_factory=list)
    """Failed alone for an unknown reason; guilty once neighbours of the same stream commit."""
    unknown_failures: int = 0
    delay: float = RETRY_FIRST_SECONDS

    def stored(self, committed: Mapping[Stream, Counter[int]]) -> None:
        for stream, by_origin in committed.items():
            self.committed[stream].update(by_origin)
        self.delay = RETRY_FIRST_SECONDS

    def next_delay(self) -> float:
        """Exponential, with jitter of a quarter so that several daemons do not come back in step."""
        delay = self.delay
        self.delay = min(delay * 2, RETRY_LONGEST_SECONDS)
        return delay * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret

    def convict(self) -> None:
        """Reject the suspects whose neighbours were stored: theirs is the fault, not the database's."""
        self.rejected += [suspect for suspect in self.suspects if self.committed[suspect.stream]]
        self.suspects = [suspect for suspect in self.suspects if not self.committed[suspect.stream]]


class Flusher:
    """The one consumer of the buffer."""

    def __init__(self, *, buffer: Buffer, store: Store, metrics: Metrics) -> None:
        self._buffer = buffer
        self._store = store
        self._metrics = metrics
        self.last_commit_at: float | None = None  # monotonic seconds
        self.trouble: str | None = None
        """Why the database does not take our writes at the moment; None when all is well."""

    async def run(self) -> None:
        """Flush until the buffer is closed and empty. Cancelled: what is not settled comes again from its source."""
        while deliveries := await self._buffer.take():
            await self._flush(deliveries)

    async def _flush(self, deliveries: list[Delivery]) -> None:
        started = time.monotonic()
        progress = _Progress(deliveries=deliveries)
        await self._commit(Batch.of(deliveries), progress)
        while progress.suspects:
            # Rows failed alone, but no neighbour was stored either: the rows may not be at fault at all.
            # What came meanwhile joins them, so that the next round can tell.
            await self._pause(progress.suspects[0].detail, OPERATOR_RETRY_SECONDS)
            joining = self._buffer.take_now()
            batch = Batch.of(joining, first_origin=len(deliveries), held=_regroup(progress.suspects))
            progress.suspects = []
            deliveries += joining
            await self._commit(batch, progress)
        self._settle(deliveries, progress)
        self.last_commit_at = time.monotonic()
        self._metrics.flushed(self.last_commit_at - started)
        log.debug(
            "flushed",
            messages=sum(map(len, deliveries)),
            committed=sum(by_origin.total() for by_origin in progress.committed.values()),
            milliseconds=round((self.last_commit_at - started) * 1000, 1),
        )

    async def _commit(self, batch: Batch, progress: _Progress) -> None:
        """Bring every row of the batch to an end, splitting where the database objects to the rows themselves."""
        rejected_before = len(progress.rejected)
        parts = [batch]
        while parts:
            parts += await self._attempt(parts.pop(), progress)
        progress.convict()
        letters = [
            _dead_letter(suspect, progress.deliveries[suspect.origin].source)
            for suspect in progress.rejected[rejected_before:]
        ]
        while letters and await self._attempt(Batch(readings={}, dead_letters=letters), progress):
            pass

    async def _attempt(self, part: Batch, progress: _Progress) -> list[Batch]:
        """Write one part; return what is left to do: nothing, the same part again, or smaller ones."""
        try:
            progress.stored(await self._store.write(part))
        except DataStoreError as error:
            if part.readings:
                return _narrow(part, str(error), progress.rejected)
            # A dead letter is made to fit: refusing it is the table's fault, and it must not be lost.
            await self._pause(str(error), OPERATOR_RETRY_SECONDS)
        except OperatorStoreError as error:
            await self._pause(str(error), OPERATOR_RETRY_SECONDS)
        except TransientStoreError as error:
            progress.unknown_failures += not error.known
            if part.readings and progress.unknown_failures >= UNKNOWN_BEFORE_ISOLATING and not error.known:
                return _narrow(part, str(error), progress.suspects)
            await self._pause(str(error), progress.next_delay())
        else:
            if self.trouble is not None:
                log.info("the database takes writes again", after=self.trouble)
                self.trouble = None
            return []
        return [part]

    async def _pause(self, trouble: str, seconds: float) -> None:
        self._metrics.flush_retries.inc()
        if trouble != self.trouble:
            log.error("the database does not take writes; the batch is kept and repeated", reason=trouble)
        self.trouble = trouble
        await asyncio.sleep(seconds)

    def _settle(self, deliveries: list[Delivery], progress: _Progress) -> None:
        """Close the ledger, make room, and tell every origin in the order of receipt."""
        for stream, row, index, detail in progress.rejected:
            deliveries[index].outcome.rejected.append(Rejection(stream=stream, row=row, detail=detail))
        by_origin: dict[Origin, list[Delivery]] = {}
        for index, delivery in enumerate(deliveries):
            for stream, committed in progress.committed.items():
                delivery.outcome.committed[stream] = committed[index]
            by_origin.setdefault(delivery.origin, []).append(delivery)
        self._account(deliveries)
        self._buffer.release(deliveries)
        for origin, settled in by_origin.items():
            origin.settle(settled)

    def _account(self, deliveries: list[Delivery]) -> None:
        """Every reading under exactly one heading of the ledger; added up first, as labels are slow to look up."""
        committed: Counter[tuple[str, Source]] = Counter()
        duplicate: Counter[tuple[str, Source]] = Counter()
        dead: Counter[tuple[str, Source, str]] = Counter()
        for delivery in deliveries:
            for stream, new in delivery.outcome.committed.items():
                committed[stream.name, delivery.source] += new
                duplicate[stream.name, delivery.source] += len(delivery.readings[stream]) - new
            for rejection in delivery.outcome.rejected:
                duplicate[rejection.stream.name, delivery.source] -= 1
                dead[rejection.stream.name, delivery.source, "database"] += 1
            for letter in delivery.dead_letters:
                dead[letter.stream, delivery.source, letter.reason] += 1
        for labels, count in committed.items():
            self._metrics.committed(*labels, count)
        for labels, count in duplicate.items():
            self._metrics.duplicate(*labels, count)
        for dead_labels, count in dead.items():
            self._metrics.dead_lettered(*dead_labels, count)


def _narrow(part: Batch, detail: str, singles: list[_Suspect]) -> list[Batch]:
    """Smaller parts in place of one that failed; of a single row only its name is left."""
    if len(part) > 1:
        return part.split()
    ((stream, batch),) = part.readings.items()
    singles.append(_Suspect(stream, batch.rows[0], batch.origins[0], detail))
    return []


def _regroup(suspects: list[_Suspect]) -> dict[Stream, StreamBatch]:
    return {
        stream: StreamBatch(
            rows=[suspect.row for suspect in suspects if suspect.stream is stream],
            origins=[suspect.origin for suspect in suspects if suspect.stream is stream],
        )
        for stream in STREAMS
    }


def _dead_letter(suspect: _Suspect, source: Source) -> DeadLetter:
    return DeadLetter(
        received_at=now_microseconds(),
        source=source,
        stream=suspect.stream.name,
        topic=suspect.stream.topic(suspect.row[0]),
        payload=encode(suspect.stream, suspect.row),
        reason="database",
        detail=suspect.detail[:500].replace("\0", "\ufffd"),
    )
