"""A Delivery is what one read of a source brought; a Batch is several deliveries, merged for one transaction."""

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import compress
from operator import itemgetter
from types import MappingProxyType
from typing import Final, Protocol

from ingestd.model.dead_letter import DeadLetter, Reason, Source
from ingestd.model.stream import STREAMS, Row, Stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A reading that was decoded, and that became a dead letter all the same."""

    stream: Stream
    row: Row
    reason: Reason
    detail: str


@dataclass(slots=True, kw_only=True)
class Outcome:
    """The outcome of a delivery's readings; its dead letters are all stored.

    A reading that is neither committed nor rejected was stored before: it is a duplicate.
    """

    committed: dict[Stream, int] = field(default_factory=dict)
    rejected: list[Rejection] = field(default_factory=list)


class Origin(Protocol):
    """Where deliveries come from, and what acknowledges them."""

    def settle(self, deliveries: Sequence["Delivery"]) -> None:
        """Acknowledge these, in this order. Their transaction has committed, and `outcome` is set."""


@dataclass(slots=True, kw_only=True, eq=False)
class Delivery:
    """What one read of a source brought: rows and dead letters, which are settled together."""

    origin: Origin
    source: Source
    ticket: object
    """What the origin needs for the acknowledgement. Only the origin reads it."""
    size_bytes: int = 0
    readings: dict[Stream, list[Row]] = field(default_factory=lambda: {stream: [] for stream in STREAMS})
    dead_letters: list[DeadLetter] = field(default_factory=list)
    outcome: Outcome = field(default_factory=Outcome)
    received_at: float = field(default_factory=time.monotonic)

    def __len__(self) -> int:
        """Readings and dead letters together: messages."""
        return sum(map(len, self.readings.values())) + len(self.dead_letters)

    def counts(self) -> Iterator[tuple[str, int]]:
        """(stream name, messages), as the counters have it."""
        for stream, rows in self.readings.items():
            if rows:
                yield stream.name, len(rows)
        yield from Counter(letter.stream for letter in self.dead_letters).items()


@dataclass(slots=True, kw_only=True)
class StreamBatch:
    """The rows of one stream in one transaction.

    Keys (device, timestamp) are unique: of several rows the first is kept.
    """

    rows: list[Row]
    origins: list[int]
    """For each row the index of its delivery, so that outcomes can be counted by delivery."""

    def split(self) -> tuple["StreamBatch", "StreamBatch"]:
        half = len(self.rows) // 2
        return self[:half], self[half:]

    def __getitem__(self, rows: slice) -> "StreamBatch":
        return StreamBatch(rows=self.rows[rows], origins=self.origins[rows])

    def parted(self, at: int | None) -> tuple["StreamBatch", "StreamBatch"]:
        """The rows up to a moment, and all others."""
        if at is None or min(map(_timestamp, self.rows)) > at:
            return _NOTHING, self
        return self.where(lambda row: row[1] <= at)

    def where(self, wanted: Callable[[Row], bool]) -> tuple["StreamBatch", "StreamBatch"]:
        """The rows that are wanted, and all others."""
        chosen = [wanted(row) for row in self.rows]
        return self._chosen(chosen), self._chosen([not one for one in chosen])

    def _chosen(self, wanted: Sequence[bool]) -> "StreamBatch":
        return StreamBatch(rows=list(compress(self.rows, wanted)), origins=list(compress(self.origins, wanted)))


_key: Final = itemgetter(0, 1)
_identity: Final = itemgetter(0)
_timestamp: Final = itemgetter(1)
_NOTHING: Final = StreamBatch(rows=[], origins=[])
_TELLING: Final = 1000


@dataclass(slots=True, kw_only=True)
class Batch:
    """What goes to the store in one transaction."""

    readings: dict[Stream, StreamBatch]
    dead_letters: list[DeadLetter]

    @classmethod
    def of(
        cls,
        deliveries: Sequence[Delivery],
        *,
        first_origin: int = 0,
        held: Mapping[Stream, StreamBatch] = MappingProxyType({}),
    ) -> "Batch":
        """Merge deliveries into one batch, after the rows of `held`. The first delivery has index `first_origin`."""
        merged = {
            stream: _merge(held.get(stream, _NOTHING), [d.readings[stream] for d in deliveries], first_origin)
            for stream in STREAMS
        }
        return cls(
            readings={stream: batch for stream, batch in merged.items() if batch.rows},
            dead_letters=[letter for delivery in deliveries for letter in delivery.dead_letters],
        )

    def __len__(self) -> int:
        return sum(len(part.rows) for part in self.readings.values()) + len(self.dead_letters)

    def taken_at(self) -> int | None:
        """The timestamp of the reading in the middle, in microseconds: about when most readings were taken.

        None if they are few.
        """
        rows = max((part.rows for part in self.readings.values()), key=len, default=[])
        return rows[len(rows) // 2][1] if len(rows) >= _TELLING else None

    def parted(self, stream: Stream, wanted: Callable[[Row], bool]) -> tuple["Batch", "Batch"]:
        """One batch with the wanted rows of the stream, and one with all else."""
        if stream not in self.readings:
            return Batch(readings={}, dead_letters=[]), self
        chosen, others = self.readings[stream].where(wanted)
        left = {**self.readings, stream: others}
        return (
            Batch(readings={stream: chosen} if chosen.rows else {}, dead_letters=[]),
            Batch(readings={of: part for of, part in left.items() if part.rows}, dead_letters=self.dead_letters),
        )

    def of_devices(self, stream: Stream, identities: Collection[str]) -> tuple["Batch", "Batch"]:
        """One batch with the rows of these devices of the stream, and one with all else."""
        return self.parted(stream, lambda row: row[0] in identities)

    def by_device(self, stream: Stream) -> dict[str, "Batch"]:
        """The rows of a stream, device by device."""
        grouped: dict[str, StreamBatch] = {}
        batch = self.readings.get(stream, _NOTHING)
        for row, origin in zip(batch.rows, batch.origins, strict=True):
            of_device = grouped.setdefault(row[0], StreamBatch(rows=[], origins=[]))
            of_device.rows.append(row)
            of_device.origins.append(origin)
        return {identity: Batch(readings={stream: rows}, dead_letters=[]) for identity, rows in grouped.items()}

    def singles(self, most: int) -> list["Batch"]:
        """For readings of one stream: a part with all rows except `most` of them, then one part for each of these."""
        ((stream, batch),) = self.readings.items()
        parts = [batch[most:], *(batch[number : number + 1] for number in range(min(most, len(batch.rows))))]
        return [Batch(readings={stream: part}, dead_letters=[]) for part in parts if part.rows]

    def split(self) -> list["Batch"]:
        """Two parts or more, none empty: the streams and the dead letters, or else two halves."""
        parts = [Batch(readings={stream: batch}, dead_letters=[]) for stream, batch in self.readings.items()]
        if self.dead_letters:
            parts.append(Batch(readings={}, dead_letters=self.dead_letters))
        if len(parts) > 1:
            return parts
        if self.dead_letters:
            half = len(self.dead_letters) // 2
            return [
                Batch(readings={}, dead_letters=letters)
                for letters in (self.dead_letters[:half], self.dead_letters[half:])
            ]
        ((stream, batch),) = self.readings.items()
        return [Batch(readings={stream: half}, dead_letters=[]) for half in batch.split()]


def _merge(held: StreamBatch, added: Sequence[list[Row]], first_origin: int) -> StreamBatch:
    """All rows of a stream. Of several rows with the same key only the first, because COPY would fail."""
    rows = list(held.rows)
    origins = list(held.origins)
    for origin, more in enumerate(added, first_origin):
        rows += more
        origins += [origin] * len(more)
    # If all devices differ, as in large fleets, no key can come twice. This check costs less than comparing keys.
    if any(len(set(map(part, rows))) == len(rows) for part in (_identity, _key)):
        return StreamBatch(rows=rows, origins=origins)
    first: dict[Row, tuple[Row, int]] = {}
    for row, origin in zip(rows, origins, strict=True):
        first.setdefault(row[:2], (row, origin))
    return StreamBatch(rows=[row for row, _ in first.values()], origins=[origin for _, origin in first.values()])


def newest_per_device(rows: Sequence[Row]) -> list[Row]:
    """The newest row of each device, sorted by id, so that concurrent writers lock live rows in one order."""
    newest = {row[0]: row for row in sorted(rows, key=_timestamp)}
    return sorted(newest.values(), key=_identity)
