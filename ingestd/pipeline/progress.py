"""What has become of the rows of one flush so far: the books the Flusher keeps while it splits and repeats."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import filterfalse
from typing import Final, NamedTuple

from ingestd.pipeline.delivery import Batch, Delivery, StreamBatch
from ingestd.telemetry import STREAMS, Row, Stream

HOPELESS_AFTER: Final = 32
"""So many rows of a stream may fail one by one, and none go through, before the rest is not tried singly."""


class Refused(NamedTuple):
    """A row that the database would not take, and what it said."""

    stream: Stream
    row: Row
    origin: int
    detail: str
    alone: bool  # it was the only row of the transaction


@dataclass(slots=True, kw_only=True)
class Progress:
    """The books of one flush. `deliveries` may grow while it lasts."""

    deliveries: list[Delivery]
    committed: dict[Stream, Counter[int]] = field(default_factory=lambda: {stream: Counter() for stream in STREAMS})
    taken: set[Stream] = field(default_factory=set)
    """Streams of which a transaction has gone through, with new rows or without."""
    rejected: list[Refused] = field(default_factory=list)
    """Theirs is the fault; they become dead letters."""
    suspects: list[Refused] = field(default_factory=list)
    """Failed for an unknown reason; whose fault it is will show."""
    unknown_failures: int = 0
    _tried: set[tuple[Stream, Row]] = field(default_factory=set)

    def stored(self, part: Batch, committed: Mapping[Stream, Counter[int]]) -> None:
        """A part has gone through."""
        self.taken |= part.readings.keys()
        for stream, by_origin in committed.items():
            self.committed[stream].update(by_origin)

    def reject(self, part: Batch, detail: str) -> list[Batch]:
        """The rows are at fault: smaller parts to try, or a single row named."""
        if len(part) > 1:
            return part.split()
        self.rejected += _refused(part, detail, alone=True)
        return []

    def suspect(self, part: Batch, detail: str) -> list[Batch]:
        """The rows may be at fault: smaller parts to try, or rows named where that tells nothing more."""
        if len(part) > 1 and not all(map(self._hopeless, part.readings)):
            return part.split()
        self.suspects += _refused(part, detail, alone=len(part) == 1)
        return []

    def convict(self) -> None:
        """Reject each suspect that failed alone while others of its stream went through."""
        self.rejected += filter(self._guilty, self.suspects)
        self.suspects = list(filterfalse(self._guilty, self.suspects))

    def give_up(self) -> None:
        """Reject all suspects: kept as dead letters they hold up nobody else."""
        self.rejected += self.suspects
        self.suspects = []

    def join(self, deliveries: list[Delivery]) -> Batch:
        """The suspects once more, together with what came meanwhile."""
        batch = Batch.of(deliveries, first_origin=len(self.deliveries), held=_grouped(self.suspects))
        self.deliveries += deliveries
        self.suspects = []
        return batch

    def repeats(self) -> Batch | None:
        """Other readings of this flush under the key of a rejected one: not duplicates, as that is not stored."""
        keys = {(refused.stream, refused.row[:2]) for refused in self.rejected}
        self._tried |= {(refused.stream, refused.row[:-1]) for refused in self.rejected}
        found: dict[tuple[Stream, Row], Refused] = {}
        for origin, delivery in enumerate(self.deliveries if keys else ()):
            for stream, rows in delivery.readings.items():
                for row in rows:
                    if (stream, row[:2]) in keys and (stream, row[:-1]) not in self._tried:
                        found.setdefault((stream, row[:2]), Refused(stream, row, origin, "", alone=True))
        self._tried |= {(repeat.stream, repeat.row[:-1]) for repeat in found.values()}
        readings = {stream: batch for stream, batch in _grouped(list(found.values())).items() if batch.rows}
        return Batch(readings=readings, dead_letters=[]) if readings else None

    def _guilty(self, suspect: Refused) -> bool:
        return suspect.alone and suspect.stream in self.taken

    def _hopeless(self, stream: Stream) -> bool:
        alone = sum(suspect.stream is stream and suspect.alone for suspect in self.suspects)
        return stream not in self.taken and alone >= HOPELESS_AFTER


def _refused(part: Batch, detail: str, *, alone: bool) -> list[Refused]:
    return [
        Refused(stream, row, origin, detail, alone)
        for stream, batch in part.readings.items()
        for row, origin in zip(batch.rows, batch.origins, strict=True)
    ]


def _grouped(refused: list[Refused]) -> dict[Stream, StreamBatch]:
    return {
        stream: StreamBatch(
            rows=[one.row for one in refused if one.stream is stream],
            origins=[one.origin for one in refused if one.stream is stream],
        )
        for stream in STREAMS
    }
