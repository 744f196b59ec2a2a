"""Decodes dead letters again. Those that are readings now are stored, and deleted from the table of dead letters.

After a crash in between there are both, the reading and the dead letter; the next replay finds a duplicate.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, NamedTuple

from ingestd.errors import DataStoreError
from ingestd.model.dead_letter import DeadLetter, DeadLetterFilter, Reason, Refusal, Replayed
from ingestd.model.decode import Window, decode
from ingestd.model.stream import Row, Stream
from ingestd.model.timestamps import now_microseconds
from ingestd.pipeline.delivery import Batch, StreamBatch
from ingestd.pipeline.known_devices import KnownDevices
from ingestd.store.dead_letters import PAGE, DeadLetters
from ingestd.store.pool import Pool
from ingestd.store.writer import Writer


class LetterReplay:
    """Readings of unknown devices are stored if there is room for these devices. Every method raises StoreError.

    The audit has what is asked for at the beginning, and the result at the end.
    """

    def __init__(self, pool: Pool, *, dsn: str, window: Window, max_devices: int) -> None:
        self._letters = DeadLetters(pool)
        self._dsn = dsn
        self._window = window
        self._max_devices = max_devices

    async def all(self, wanted: DeadLetterFilter, *, who: str, progress: Callable[[int], None]) -> Replayed:
        """Every letter that passes the filter; the result has no refusals, because they may be very many.

        `progress` is called with the number of letters that were decoded since its last call.
        """
        result = Replayed()
        async with self._audited(who, result, filter=asdict(wanted)) as replay:
            before = None
            while letters := await self._letters.page(wanted, limit=PAGE, before=before):
                before = letters[-1].id
                await replay.turn(letters)
                result.refusals.clear()
                progress(len(letters))
        return result

    async def page(self, wanted: DeadLetterFilter, *, limit: int, before: int | None, who: str) -> Replayed:
        """The letters of one page, the newest first, with ids below `before`."""
        result = Replayed()
        asked = {**asdict(wanted), "limit": limit, "before": before}
        async with self._audited(who, result, filter=asked) as replay:
            letters = await self._letters.page(wanted, limit=limit, before=before)
            await replay.turn(letters)
        result.next_before = letters[-1].id if len(letters) == limit else None
        return result

    async def one(self, letter_id: int, *, who: str) -> Replayed | None:
        """One letter; None if there is none of this id."""
        letter = await self._letters.get(letter_id)
        if letter is None:
            return None
        result = Replayed()
        async with self._audited(who, result, id=letter_id) as replay:
            await replay.turn([letter])
        return result

    @asynccontextmanager
    async def _audited(self, who: str, result: Replayed, **asked: object) -> AsyncIterator["_Turns"]:
        await self._letters.record("dead-letters-replayed", who, **asked)
        devices = KnownDevices(most=self._max_devices)
        writer = Writer(self._dsn)
        try:
            devices.replace(await writer.live_devices())
            yield _Turns(self._letters, writer, devices, self._window, result)
        finally:
            await writer.close()
        counts = {"stored": result.stored, "duplicates": result.duplicates, "refused": result.refused}
        await self._letters.record("dead-letters-replayed", who, **counts)


class _Decoded(NamedTuple):
    letter_id: int
    stream: Stream
    row: Row


class _Turns:
    """Decodes letters again and stores the readings, some at a time; adds to the result."""

    def __init__(
        self, letters: DeadLetters, writer: Writer, devices: KnownDevices, window: Window, result: Replayed
    ) -> None:
        self._letters = letters
        self._writer = writer
        self._devices = devices
        self._window = window
        self._result = result

    async def turn(self, letters: Sequence[Any]) -> None:
        now = now_microseconds()
        oldest, newest = self._window.around(now)
        good: list[_Decoded] = []
        for letter in letters:
            decoded = decode(letter.topic, letter.payload, oldest=oldest, newest=newest, received_at=now)
            if isinstance(decoded, DeadLetter):
                self._refuse(letter.id, decoded.reason, decoded.detail)
            elif self._is_refused(*decoded):
                self._refuse(letter.id, "unknown-device", self._devices.detail)
            else:
                good.append(_Decoded(letter.id, *decoded))
        await self._letters.delete(await self._store(good))

    def _refuse(self, letter_id: int, reason: Reason, detail: str) -> None:
        self._result.refused += 1
        self._result.refusals.append(Refusal(letter_id=letter_id, reason=reason, detail=detail))

    def _is_refused(self, stream: Stream, row: Row) -> bool:
        return bool(self._devices.add(stream, self._devices.unknown(stream, [row])))

    async def _store(self, decoded: list[_Decoded]) -> list[int]:
        """Store readings together, or one by one if the database refuses one; returns the ids of their letters."""
        rows: dict[Stream, dict[Row, Row]] = {}
        for _, stream, row in decoded:
            rows.setdefault(stream, {}).setdefault(row[:2], row)
        batch = Batch(
            readings={
                stream: StreamBatch(rows=list(by_key.values()), origins=[0] * len(by_key))
                for stream, by_key in rows.items()
            },
            dead_letters=[],
        )
        try:
            committed = await self._writer.write(batch)
        except DataStoreError as error:
            if len(decoded) == 1:
                self._refuse(decoded[0].letter_id, "database", str(error))
                return []
            return [letter_id for one in decoded for letter_id in await self._store([one])]
        new = sum(by_origin.total() for by_origin in committed.values())
        self._result.stored += new
        self._result.duplicates += len(decoded) - new
        return [one.letter_id for one in decoded]
