"""Writes what the Buffer holds to the Store, one flush at a time, and settles its deliveries.

A flush ends when each of its readings is committed, was stored before, or is kept as a dead letter. Until then it is
repeated.
"""

import asyncio
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog

from ingestd import failpoints
from ingestd.backoff import Backoff
from ingestd.errors import DataStoreError, OperatorStoreError, StoreError, TransientStoreError
from ingestd.metrics import Metrics
from ingestd.model.dead_letter import DeadLetter, Source
from ingestd.model.decode import encode
from ingestd.model.stream import Stream
from ingestd.model.timestamps import now_microseconds, to_datetime
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.delivery import Batch, Delivery, Origin, Rejection
from ingestd.pipeline.known_devices import KnownDevices
from ingestd.pipeline.letter_limits import LetterLimits
from ingestd.pipeline.progress import Progress
from ingestd.pipeline.refusals import Apart, Refusals

log = structlog.get_logger(__name__)

RETRY_FIRST_SECONDS: Final = 0.1
RETRY_LONGEST_SECONDS: Final = 2.0
RETRY_JITTER: Final = (0.75, 1.25)
SLOW_RETRY_SECONDS: Final = 5.0
"""The pause when the error needs an operator, or time."""
SUSPECT_ROUNDS: Final = 12
"""Rows that fail for an unknown reason are tried again this often, for a minute in all. Then they become dead letters,
so that they do not stop the other rows for ever."""
STALLED_SECONDS: Final = 30.0
"""A flush that takes longer is shown in `/health`, also if there is no error."""
STUCK_SECONDS: Final = 180.0
"""A flush without a step for this long is stuck. A step is one attempt to write, or the pause after it: an attempt
takes at most some 130 s, in which it connects (several hosts), prepares (60 s) and writes (60 s)."""
LETTERS_AT_ONCE: Final = 1000
"""Deciding about this many dead letters takes two milliseconds. Then other tasks of the event loop run."""
BACKLOG_AGE: Final = timedelta(minutes=15)
"""Readings that are older than this when they are committed are a backlog."""
BACKLOG_PAUSE_SECONDS: Final = 5.0
"""A backlog has ended when nothing was committed for this long."""


class Store(Protocol):
    """Stores batches."""

    async def write(self, batch: Batch) -> dict[Stream, Counter[int]]:
        """Commit the batch; return for each stream how many rows of each origin were new.

        Raises StoreError if it is not known whether anything was committed. To write the batch again is always safe.
        """

    async def live_devices(self) -> dict[Stream, set[str]]:
        """The ids of the devices with a live row. Raises StoreError."""


class Flusher:
    """Takes deliveries from the buffer and has them stored; nothing else takes from it."""

    def __init__(
        self, *, buffer: Buffer, store: Store, devices: KnownDevices, letters: LetterLimits, metrics: Metrics
    ) -> None:
        self._buffer = buffer
        self._store = store
        self._devices = devices
        self._letters = letters
        self._metrics = metrics
        self.last_commit_at: float | None = None  # monotonic seconds
        self.arriving: datetime | None = None
        """The timestamp of the readings that arrive now; None if they are few."""
        self._busy_since: float | None = None  # the event loop's time
        self._step_at = 0.0  # the same
        self._reason: str | None = None
        self._refusals = Refusals()

    @property
    def reason(self) -> str | None:
        """Why the database takes no writes now; None if it does."""
        busy = 0.0 if self._busy_since is None else asyncio.get_running_loop().time() - self._busy_since
        if self._reason is None and busy > STALLED_SECONDS:
            return f"a flush has been under way for {busy:.0f} s"
        return self._reason

    @property
    def stuck(self) -> str | None:
        """Why nothing moves, though it should; None while it moves, also if every attempt ends with an error."""
        since_step = asyncio.get_running_loop().time() - self._step_at
        if self._busy_since is None and self._buffer.overdue > STUCK_SECONDS:
            return f"messages have been due for {self._buffer.overdue:.0f} s, and no flush begins"
        if self._busy_since is not None and since_step > STUCK_SECONDS:
            return f"a flush has made no step for {since_step:.0f} s"
        return None

    @property
    def is_backlog(self) -> bool:
        """Whether the readings that arrive now are a backlog: they are old, and were committed in the last seconds."""
        if self.arriving is None or self.last_commit_at is None:
            return False
        if time.monotonic() - self.last_commit_at > BACKLOG_PAUSE_SECONDS:
            return False
        return datetime.now(UTC) - self.arriving > BACKLOG_AGE

    async def run(self) -> None:
        """Flush until the buffer is closed and empty. If this is cancelled, the senders send the rest again."""
        while deliveries := await self._buffer.take():
            failpoints.reach("flush")
            await self.flush(deliveries)

    async def flush(self, deliveries: list[Delivery]) -> None:
        started = time.monotonic()
        self._busy_since = self._step_at = asyncio.get_running_loop().time()
        progress = Progress(deliveries=deliveries)
        self._devices.begin_flush()
        batch = Batch.of(deliveries)
        taken_at = batch.taken_at()
        self.arriving = None if taken_at is None else to_datetime(taken_at)
        batch = await self._within_limits(batch, progress)
        apart = await self._commit_apart(batch, progress)
        rounds = 0
        while True:
            if repeats := progress.repeats():
                await self._commit(repeats, progress)
            elif progress.suspects and rounds < SUSPECT_ROUNDS:
                # No row of the stream was committed, so the database may be at fault. They are tried again together
                # with what came meanwhile: where other rows of the stream are committed, these are at fault.
                rounds += 1
                await self._pause(progress.suspects[0].detail, SLOW_RETRY_SECONDS)
                joined = progress.join(self._buffer.take_now())
                await self._commit(await self._within_limits(joined, progress), progress)
            elif progress.suspects:
                log.error("suspects_given_up", rows=len(progress.suspects))
                progress.give_up()
            else:
                break
        await self._store_rejected(progress)
        self._refusals.note(progress.rejected, apart)
        self._settle(progress)
        self._busy_since = None
        self.last_commit_at = time.monotonic()
        self._metrics.flushed(
            self.last_commit_at - started,
            ((one.source, self.last_commit_at - one.received_at, len(one)) for one in progress.deliveries),
        )
        log.debug(
            "flushed",
            messages=sum(map(len, deliveries)),
            committed=sum(by_origin.total() for by_origin in progress.committed.values()),
            milliseconds=round((self.last_commit_at - started) * 1000, 1),
        )

    async def _within_limits(self, batch: Batch, progress: Progress) -> Batch:
        """The batch without readings of devices, and dead letters, that are beyond the limits."""
        for stream, part in batch.readings.items():
            unknown = self._devices.unknown(stream, part.rows)
            if len(unknown) > self._devices.room and self._devices.may_be_read_again:
                await self._read_devices()
                unknown = self._devices.unknown(stream, part.rows)
            if refused := self._devices.add(stream, unknown):
                theirs, batch = batch.of_devices(stream, set(refused))
                progress.refuse(theirs, self._devices.detail)
        letters: list[DeadLetter] = []
        for start in range(0, max(1, len(batch.dead_letters)), LETTERS_AT_ONCE):
            some = batch.dead_letters[start : start + LETTERS_AT_ONCE]
            letters += self._letters.kept(some, progress.suppressed)
            if start:
                await asyncio.sleep(0)
        return replace(batch, dead_letters=letters)

    async def _read_devices(self) -> None:
        """Read which devices have a live row, however long it takes: without that, good readings could be refused."""
        retry = Backoff(first=RETRY_FIRST_SECONDS, longest=RETRY_LONGEST_SECONDS, jitter=RETRY_JITTER)
        while True:
            try:
                self._devices.replace(await self._store.live_devices())
            except StoreError as error:
                await self._pause(str(error), retry.next())
            else:
                return

    async def _commit_apart(self, batch: Batch, progress: Progress) -> list[Apart]:
        """The batch without the devices that were refused lately, then each of these devices."""
        batch, apart = self._refusals.part(batch)
        await self._commit(batch, progress)
        for one in apart:
            progress.isolate(singles=one.singles)
            await self._commit_parts(one.parts, progress)
        return apart

    async def _commit(self, batch: Batch, progress: Progress) -> None:
        """Write every row of the batch. Where rows are at fault, the batch is split to find them."""
        await self._commit_parts([batch] if len(batch) else [], progress)

    async def _commit_parts(self, parts: list[Batch], progress: Progress) -> None:
        """Write all parts, the last first."""
        retry = Backoff(first=RETRY_FIRST_SECONDS, longest=RETRY_LONGEST_SECONDS, jitter=RETRY_JITTER)
        while parts:
            part = parts.pop()
            if not progress.give_up_untried(part):
                parts += await self._attempt(part, progress, retry)
        progress.reject_confirmed()

    async def _attempt(self, part: Batch, progress: Progress, retry: Backoff) -> list[Batch]:
        """Write one part; return what is left to do: nothing, the same part again, or smaller ones."""
        self._step_at = asyncio.get_running_loop().time()
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
            if self._reason is not None:
                log.info("flush_recovered", reason=self._reason)
                self._reason = None
            retry.reset()
            return []
        return [part]

    async def _refused_letters(self, letters: list[DeadLetter], refusal: str) -> list[Batch]:
        """Handle dead letters that the database refuses. Returns what is left to write. No letter is ever dropped.

        A letter that is refused alone is stored in a reduced form. If that is refused too, the table is at fault, and
        the letter is written again later.
        """
        part = Batch(readings={}, dead_letters=letters)
        if len(letters) > 1:
            return part.split()
        (letter,) = letters
        for reduced in letter.reduced(refusal):
            self._step_at = asyncio.get_running_loop().time()
            try:
                await self._store.write(Batch(readings={}, dead_letters=[reduced]))
            except StoreError as error:
                if isinstance(error, TransientStoreError) and error.known:
                    break  # an outage says nothing about the letter, which keeps its payload
                log.debug("reduced_dead_letter_refused", reason=str(error))
            else:
                log.error("dead_letter_reduced", reason=refusal, topic=letter.topic, payload_bytes=len(letter.payload))
                log.debug("payload_refused", payload=letter.payload.hex())
                return []
        await self._pause(refusal, SLOW_RETRY_SECONDS)
        return [part]

    async def _store_rejected(self, progress: Progress) -> None:
        """Store the rejected rows as dead letters, as far as the limits allow, however long it takes."""
        letters: list[DeadLetter] = []
        for number, refused in enumerate((*progress.rejected, *progress.of_unknown), 1):
            if number % LETTERS_AT_ONCE == 0:
                await asyncio.sleep(0)
            source = progress.deliveries[refused.origin].source
            if not self._letters.admit(refused.stream.name, refused.row[0], refused.reason):
                progress.suppressed[refused.stream.name, source, refused.reason] += 1
                continue
            letter = DeadLetter.of(
                received_at=now_microseconds(),
                source=source,
                stream=refused.stream.name,
                topic=refused.stream.topic(refused.row[0]),
                payload=encode(refused.stream, refused.row),
                reason=refused.reason,
                detail=refused.detail,
            )
            self._letters.note(letter)
            letters.append(letter)
        await self._commit(Batch(readings={}, dead_letters=letters), progress)

    async def _pause(self, reason: str, seconds: float) -> None:
        self._metrics.flush_retries.inc()
        if reason != self._reason:
            log.error("flush_failed", reason=reason)
        self._reason = reason
        await asyncio.sleep(seconds)
        self._step_at = asyncio.get_running_loop().time()

    def _settle(self, progress: Progress) -> None:
        """Set the outcomes, count every message, release the buffer, and let each origin acknowledge in the order of
        receipt.
        """
        deliveries = progress.deliveries
        for refused in (*progress.rejected, *progress.of_unknown):
            rejection = Rejection(stream=refused.stream, row=refused.row, reason=refused.reason, detail=refused.detail)
            deliveries[refused.origin].outcome.rejected.append(rejection)
        by_origin: dict[Origin, list[Delivery]] = {}
        for index, delivery in enumerate(deliveries):
            for stream, committed in progress.committed.items():
                delivery.outcome.committed[stream] = committed[index]
            by_origin.setdefault(delivery.origin, []).append(delivery)
        self._account(deliveries)
        for labels, count in progress.suppressed.items():
            self._metrics.suppressed(*labels, count)
        self._buffer.release(deliveries)
        for origin, settled in by_origin.items():
            origin.settle(settled)

    def _account(self, deliveries: list[Delivery]) -> None:
        """Count each message in exactly one counter. Counts are added up first, because looking up labels is slow."""
        committed: Counter[tuple[str, Source]] = Counter()
        duplicate: Counter[tuple[str, Source]] = Counter()
        dead: Counter[tuple[str, Source, str]] = Counter()
        for delivery in deliveries:
            for stream, new in delivery.outcome.committed.items():
                committed[stream.name, delivery.source] += new
                duplicate[stream.name, delivery.source] += len(delivery.readings[stream]) - new
            for rejection in delivery.outcome.rejected:
                duplicate[rejection.stream.name, delivery.source] -= 1
                dead[rejection.stream.name, delivery.source, rejection.reason] += 1
            for letter in delivery.dead_letters:
                dead[letter.stream, delivery.source, letter.reason] += 1
        for labels, count in committed.items():
            self._metrics.committed(*labels, count)
        for labels, count in duplicate.items():
            self._metrics.duplicate(*labels, count)
        for dead_labels, count in dead.items():
            self._metrics.dead_lettered(*dead_labels, count)
