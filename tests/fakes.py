"""Fakes of the clock, the store, the sources and the network. They are passed by constructors."""

from __future__ import annotations

import asyncio
import functools
import selectors
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar

from ingestd.errors import StoreError, TransientStoreError
from ingestd.model.stream import STREAMS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence

    from ingestd.model.dead_letter import DeadLetter
    from ingestd.model.stream import Row, Stream
    from ingestd.pipeline.delivery import Batch, Delivery

P = ParamSpec("P")
T = TypeVar("T")


class _SkippingSelector(selectors.DefaultSelector):
    """Moves the clock forward where others would wait."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("everybody waits, and no timer will ever wake anybody")
        self.now += timeout
        return super().select(0)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and jumps to the next timer: an hour of `asyncio.sleep` takes no time."""

    def __init__(self) -> None:
        self._clock = _SkippingSelector()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Runs an async test, or one example of it, in a VirtualTimeLoop of its own."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            return runner.run(test(*args, **kwargs))

    return run


def clock() -> float:
    """Seconds since the test began, as its event loop sees them."""
    return asyncio.get_running_loop().time()


class FakeOrigin:
    """A source that notes what was settled, and calls `watch` each time."""

    def __init__(self, watch: Callable[[], None] = lambda: None) -> None:
        self.settlements: list[list[Delivery]] = []
        self._watch = watch

    @property
    def settled(self) -> list[Delivery]:
        return [delivery for settlement in self.settlements for delivery in settlement]

    def settle(self, deliveries: Sequence[Delivery]) -> None:
        self.settlements.append(list(deliveries))
        self._watch()


class AnswerLostError(TransientStoreError):
    """In a FakeStore's script: the transaction commits, and the connection goes before the answer comes."""


class Write(NamedTuple):
    """One call of FakeStore.write."""

    at: float
    batch: Batch


def _no_objection(_stream: Stream, _row: Row) -> StoreError | None:
    return None


class FakeStore:
    """Keeps rows by key as PostgreSQL does: all of a write or nothing, and what is there already stays.

    A write fails with the next error of `script` (None: it does not fail; at its end: never again), or with
    what `objection` says about the first row it minds, or `letter_objections` about the first dead letter, or with
    `letter_objection` where it holds dead letters at all.
    """

    def __init__(
        self,
        script: Iterable[StoreError | None] = (),
        *,
        objection: Callable[[Stream, Row], StoreError | None] = _no_objection,
        letter_objection: StoreError | None = None,
        letter_objections: Callable[[DeadLetter], StoreError | None] = lambda _: None,
        seconds: float = 0.0,
    ) -> None:
        self.objection = objection
        self.letter_objection = letter_objection
        self._letter_objections = letter_objections
        self.watch: Callable[[], None] = lambda: None
        self.rows: dict[Stream, dict[tuple[str, int], Row]] = {stream: {} for stream in STREAMS}
        self.dead_letters: list[DeadLetter] = []
        self.writes: list[Write] = []
        self.reads = 0
        """How often the live devices were read."""
        self.read_script: Iterator[StoreError] = iter(())
        self.forgotten: set[str] = set()
        self._script: Iterator[StoreError | None] = iter(script)
        self._seconds = seconds
        self._busy = False

    async def write(self, batch: Batch) -> dict[Stream, Counter[int]]:
        assert not self._busy, "two flushes at once"
        self._busy = True
        try:
            self.writes.append(Write(clock(), batch))
            self.watch()
            await asyncio.sleep(self._seconds)
            return self._commit(batch)
        finally:
            self._busy = False

    async def live_devices(self) -> dict[Stream, set[str]]:
        self.reads += 1
        if (error := next(self.read_script, None)) is not None:
            raise error
        return {stream: {identity for identity, _ in rows} - self.forgotten for stream, rows in self.rows.items()}

    def _commit(self, batch: Batch) -> dict[Stream, Counter[int]]:
        scripted = next(self._script, None)
        if scripted is not None and not isinstance(scripted, AnswerLostError):
            raise scripted
        for stream, part in batch.readings.items():
            for row in part.rows:
                if (error := self.objection(stream, row)) is not None:
                    raise error
        if batch.dead_letters and self.letter_objection is not None:
            raise self.letter_objection
        for letter in batch.dead_letters:
            if (refusal := self._letter_objections(letter)) is not None:
                raise refusal
        committed = {stream: self._insert(stream, part.rows, part.origins) for stream, part in batch.readings.items()}
        self.dead_letters += batch.dead_letters
        if scripted is not None:
            raise scripted
        return committed

    def _insert(self, stream: Stream, rows: Sequence[Row], origins: Sequence[int]) -> Counter[int]:
        assert len(rows) == len({row[:2] for row in rows}), "a key twice in one batch"
        held = self.rows[stream]
        new: Counter[int] = Counter()
        for row, origin in zip(rows, origins, strict=True):
            if (row[0], row[1]) not in held:
                held[row[0], row[1]] = row
                new[origin] += 1
        return new


class FakeTransport(asyncio.Transport):
    """The transport of a Connection: it keeps what is written, and closes as asyncio's transports do."""

    def __init__(self, protocol: asyncio.BaseProtocol) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.reading = True
        self.aborted = False
        self._protocol = protocol
        self._closing = False

    @property
    def written(self) -> bytes:
        return b"".join(self.writes)

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self._closing, "written to a transport that is closing"
        self.writes.append(bytes(data))

    def is_closing(self) -> bool:
        return self._closing

    def pause_reading(self) -> None:
        assert self.reading, "paused twice"
        self.reading = False

    def resume_reading(self) -> None:
        assert not self.reading, "resumed without a pause"
        self.reading = True

    def close(self) -> None:
        self.lose(None)

    def abort(self) -> None:
        self.aborted = True
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """Close the connection. The protocol is told in the next turn of the event loop."""
        if not self._closing:
            self._closing = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, error)
