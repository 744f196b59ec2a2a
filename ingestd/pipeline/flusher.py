"""Empties the Buffer into the Store, one transaction at a time, and settles what has committed.

Exactly one flush is under way at any time. A flush ends in one way only: every reading of it is
committed, was there already, or is kept as a dead letter. Until then it is repeated.
"""

import asyncio
import random
import time
from collections import Counter
from typing import TYPE_CHECKING, Final, Protocol

import structlog

from ingestd import failpoints
from ingestd.errors import DataStoreError, OperatorStoreError, StoreError, TransientStoreError
from ingestd.metrics import Metrics
from ingestd.model.dead_letter import DeadLetter, Source
from ingestd.model.decode import encode
from ingestd.model.stream import Stream
from ingestd.model.timestamps import now_microseconds, to_datetime
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.delivery import Batch, Delivery, Origin, Rejection
from ingestd.pipeline.progress import Progress
from ingestd.pipeline.refusals import Apart, Refusals

if TYPE_CHECKING:
    from datetime import datetime

log = structlog.get_logger(__name__)

RETRY_FIRST_SECONDS: Final = 0.1
RETRY_LONGEST_SECONDS: Final = 2.0
SLOW_RETRY_SECONDS: Final = 5.0
"""Between attempts that only an operator, or time, can help."""
SUSPECT_ROUNDS: Final = 12
"""After a minute of these, rows that fail for an unknown reason are kept as dead letters: nothing may stand in
the way of the others for ever."""
STALLED_SECONDS: Final = 30.0
"""A flush that takes longer without an error to show for it is a trouble, too."""


class Store(Protocol):
    """Where batches go."""

    async def write(self, batch: Batch) -> dict[Stream, Counter[int]]:
        """Commit the batch; return for each stream how many rows of each origin were new.

        Raises a StoreError when nothing of it is known to have been committed. Repeating is always safe.
        """


class Flusher:
    """The one consumer of the buffer."""

    def __init__(self, *, buffer: Buffer, store: Store, metrics: Metrics) -> None:
        self._buffer = buffer
        self._store = store
        self._metrics = metrics
        self.last_commit_at: float | None = None  # monotonic seconds
        self.arriving: datetime | None = None
        """When the readings were taken that come in at the moment; None where they are too few to tell."""
        self._busy_since: float | None = None  # the event loop's time
        self._trouble: str | None = None
        self._refusals = Refusals()

    @property
    def trouble(self) -> str | None:
        """Why the database does not take our writes at the moment; None when all is well."""
        busy = 0.0 if self._busy_since is None else asyncio.get_running_loop().time() - self._busy_since
        if self._trouble is None and busy > STALLED_SECONDS:
            return f"a flush has been under way for {busy:.0f} s"
        return self._trouble

    async def run(self) -> None:
        """Flush until the buffer is closed and empty. Cancelled: what is not settled comes again from its source."""
        while deliveries := await self._buffer.take():
            failpoints.reach("flush")
            await self.flush(deliveries)

    async def flush(self, deliveries: list[Delivery]) -> None:
        started = time.monotonic()
        self._busy_since = asyncio.get_running_loop().time()
        progress = Progress(deliveries=deliveries)
        batch = Batch.of(deliveries)
        taken_at = batch.taken_at()
        self.arriving = None if taken_at is None else to_datetime(taken_at)
        apart = await self._commit_apart(batch, progress)
        rounds = 0
        while True:
            if repeats := progress.repeats():
                await self._commit(repeats, progress)
            elif progress.suspects and rounds < SUSPECT_ROUNDS:
                # Nothing of the stream went through, so it may not be the rows' fault at all. Once more after
                # a while, with what came meanwhile: neighbours that go through would tell.
                rounds += 1
                await self._pause(progress.suspects[0].detail, SLOW_RETRY_SECONDS)
                await self._commit(progress.join(self._buffer.take_now()), progress)
            elif progress.suspects:
                log.error("rows kept as dead letters, to let others pass", rows=len(progress.suspects))
                progress.give_up()
            else:
                break
        await self._bury(progress)
        self._refusals.note(progress.rejected, apart)
        self._settle(progress)
        self._busy_since = None
        self.last_commit_at = time.monotonic()
        self._metrics.flushed(self.last_commit_at - started)
        log.debug(
            "flushed",
            messages=sum(map(len, deliveries)),
            committed=sum(by_origin.total() for by_origin in progress.committed.values()),
            milliseconds=round((self.last_commit_at - started) * 1000, 1),
        )

    async def _commit_apart(self, batch: Batch, progress: Progress) -> list[Apart]:
        """The batch first without the devices that were refused of late, then each of these."""
        batch, apart = self._refusals.part(batch)
        await self._commit(batch, progress)
        for one in apart:
            progress.isolate(singles=one.singles)
            await self._commit_parts(one.parts, progress)
        return apart

    async def _commit(self, batch: Batch, progress: Progress) -> None:
        """Try every row of the batch, splitting where the database objects to the rows themselves."""
        await self._commit_parts([batch], progress)

    async def _commit_parts(self, parts: list[Batch], progress: Progress) -> None:
        """The last part first."""
        retry = _Backoff()
        while parts:
            part = parts.pop()
            if not progress.give_up_untried(part):
                parts += await self._attempt(part, progress, retry)
        progress.convict()

    async def _attempt(self, part: Batch, progress: Progress, retry: "_Backoff") -> list[Batch]:
        """Write one part; return what is left to do: nothing, the same part again, or smaller ones."""
        try:
            progress.stored(part, await self._store.write(part))
        except DataStoreError as error:
            if part.readings:
                return progress.reject(part, error)
            return await self._refused_letters(part.dead_letters, str(error))
        except OperatorStoreError as error:
            await self._pause(str(error), SLOW_RETRY_SECONDS)
        except TransientStoreError as error:
            if progress.is_to_isolate(part, error):
                if part.readings:
                    return progress.suspect(part, str(error))
                return await self._refused_letters(part.dead_letters, str(error))
            await self._pause(str(error), retry.next())
        else:
            if self._trouble is not None:
                log.info("the database takes writes again", after=self._trouble)
                self._trouble = None
            retry.reset()
            return []
        return [part]

    async def _refused_letters(self, letters: list[DeadLetter], refusal: str) -> list[Batch]:
        """What is left to do about dead letters that the database does not take; they are never given up.

        One that is refused for a reason of its own is kept reduced. Where that is refused too, it is the table's fault.
        """
        part = Batch(readings={}, dead_letters=letters)
        if len(letters) > 1:
            return part.split()
        (letter,) = letters
        for reduced in letter.reduced(refusal):
            try:
                await self._store.write(Batch(readings={}, dead_letters=[reduced]))
            except StoreError as error:
                if isinstance(error, TransientStoreError) and error.known:
                    break  # an outage says nothing about the letter, which keeps its payload
                log.debug("a reduced dead letter is refused as well", reason=str(error))
            else:
                log.error(
                    "a dead letter is refused as it is; kept reduced", reason=refusal, payload=letter.payload.hex()
                )
                return []
        await self._pause(refusal, SLOW_RETRY_SECONDS)
        return [part]

    async def _bury(self, progress: Progress) -> None:
        """Store the rejected rows as dead letters, however long it takes."""
        letters = [
            DeadLetter.of(
                received_at=now_microseconds(),
                source=progress.deliveries[refused.origin].source,
                stream=refused.stream.name,
                topic=refused.stream.topic(refused.row[0]),
                payload=encode(refused.stream, refused.row),
                reason="database",
                detail=refused.detail,
            )
            for refused in progress.rejected
        ]
        if letters:
            await self._commit(Batch(readings={}, dead_letters=letters), progress)

    async def _pause(self, trouble: str, seconds: float) -> None:
        self._metrics.flush_retries.inc()
        if trouble != self._trouble:
            log.error("the database does not take writes; the batch is kept and repeated", reason=trouble)
        self._trouble = trouble
        await asyncio.sleep(seconds)

    def _settle(self, progress: Progress) -> None:
        """Close the ledger, make room, and tell every origin in the order of receipt."""
        deliveries = progress.deliveries
        for refused in progress.rejected:
            rejection = Rejection(stream=refused.stream, row=refused.row, detail=refused.detail)
            deliveries[refused.origin].outcome.rejected.append(rejection)
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


class _Backoff:
    """Exponential, with jitter of a quarter so that several daemons do not come back in step."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._seconds = RETRY_FIRST_SECONDS

    def next(self) -> float:
        seconds = self._seconds
        self._seconds = min(seconds * 2, RETRY_LONGEST_SECONDS)
        return seconds * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret
