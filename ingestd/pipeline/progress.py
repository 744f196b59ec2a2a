"""What has become of the rows of one flush so far, while the Flusher splits and repeats it."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import filterfalse
from typing import Final, NamedTuple

from ingestd.errors import DataStoreError, NoPartitionError, TransientStoreError
from ingestd.model.stream import STREAMS, Row, Stream
from ingestd.model.timestamps import MICROSECONDS_PER_DAY
from ingestd.pipeline.delivery import Batch, Delivery, StreamBatch

UNKNOWN_BEFORE_ISOLATING: Final = 3
"""So often may a batch fail for an unknown reason before the rows are tried one by one."""
UNKNOWN_BEFORE_REDUCING: Final = 20
"""The same for dead letters alone, half a minute or so: a dead letter is better kept as it is."""
GIVE_UP_AFTER: Final = 32
"""So many rows of a stream, or of a device, may fail one by one, and none go through, before the rest is not tried
singly."""


class Refused(NamedTuple):
    """A row that the database refused, and its error."""

    stream: Stream
    row: Row
    origin: int
    detail: str
    alone: bool  # it was the only row of the transaction


@dataclass(slots=True, kw_only=True)
class Progress:
    """The state of one flush. `deliveries` may grow while it lasts."""

    deliveries: list[Delivery]
    committed: dict[Stream, Counter[int]] = field(default_factory=lambda: {stream: Counter() for stream in STREAMS})
    taken: set[Stream] = field(default_factory=set)
    """Streams of which a transaction has gone through, with new rows or without."""
    rejected: list[Refused] = field(default_factory=list)
    """These rows are at fault. They become dead letters."""
    suspects: list[Refused] = field(default_factory=list)
    """Failed for an unknown reason. It is not known yet whether they are at fault."""
    _unknown_failures: Counter[bool] = field(default_factory=Counter)
    """Of parts with readings (True), and of parts with dead letters alone."""
    _refused: Counter[tuple[Stream, str]] = field(default_factory=Counter)
    """Rows of each device that failed alone, while none of the device went through."""
    _is_one_by_one: bool = False
    _singles: int = GIVE_UP_AFTER
    _tried: set[tuple[Stream, Row]] = field(default_factory=set)

    def stored(self, part: Batch, committed: Mapping[Stream, Counter[int]]) -> None:
        """A part has gone through."""
        self.taken |= part.readings.keys()
        if self._refused:
            for stream, batch in part.readings.items():
                for row in batch.rows:
                    self._refused.pop((stream, row[0]), None)
        self._singles = GIVE_UP_AFTER
        for stream, by_origin in committed.items():
            self.committed[stream].update(by_origin)

    def reject(self, part: Batch, error: DataStoreError) -> list[Batch]:
        """The rows are at fault: smaller parts to try, or rows named."""
        if isinstance(error, NoPartitionError):
            return self._reject_day(part, error)
        if len(part) > 1 and not self._is_refused_device(part):
            return self._smaller(part)
        self.rejected += self._named(part, str(error), alone=True)
        return []

    def give_up_untried(self, part: Batch) -> bool:
        """Reject the rest of a device of which enough rows were rejected; whether the part is such a rest."""
        if not self.rejected or not self._is_refused_device(part):
            return False
        (device,) = _devices(part)
        # From the newest on: the device's others were rejected just now.
        reasons = (one.detail for one in reversed(self.rejected) if (one.stream, one.row[0]) == device)
        if (reason := next(reasons, None)) is None:
            return False
        detail = f"not tried, as the device's others are refused: {reason}"
        self.rejected += self._named(part, detail, alone=True)
        return True

    def suspect(self, part: Batch, detail: str) -> list[Batch]:
        """The rows may be at fault: smaller parts to try, or none where smaller parts would show nothing more."""
        alone = len(part) == 1 or self._is_refused_device(part)
        if not alone and not all(map(self._is_given_up, part.readings)):
            return self._smaller(part)
        self.suspects += self._named(part, detail, alone=alone)
        return []

    def is_to_isolate(self, part: Batch, error: TransientStoreError) -> bool:
        """Whether a part that failed for this reason is tried in smaller parts, and not only repeated."""
        if error.known:
            return False
        self._unknown_failures[bool(part.readings)] += 1
        enough = UNKNOWN_BEFORE_ISOLATING if part.readings else UNKNOWN_BEFORE_REDUCING
        return self._unknown_failures[bool(part.readings)] >= enough

    def isolate(self, *, singles: int) -> None:
        """What follows is of a refused device: so many rows are tried one by one, and no error is waited for to pass.

        Once one of them goes through, as many as of any other.
        """
        self._unknown_failures[True] = UNKNOWN_BEFORE_ISOLATING
        self._is_one_by_one = True
        self._singles = singles

    def reject_confirmed(self) -> None:
        """Reject each suspect that failed alone while others of its stream went through."""
        self.rejected += filter(self._is_confirmed, self.suspects)
        self.suspects = list(filterfalse(self._is_confirmed, self.suspects))

    def give_up(self) -> None:
        """Reject all suspects. They become dead letters, and other rows no longer wait for them."""
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

    def _reject_day(self, part: Batch, error: NoPartitionError) -> list[Batch]:
        """All rows of a day that has no partition at once; the others are left to do."""
        (stream,) = (stream for stream in part.readings if stream.history == error.history)
        of_day, others = part.parted(stream, lambda row: row[1] // MICROSECONDS_PER_DAY == error.day)
        self.rejected += _refused(of_day, str(error), alone=True)
        return [others] if len(others) else []

    def _smaller(self, part: Batch) -> list[Batch]:
        """Halves, as one row in many may be at fault; of a refused device a few rows singly, as all may be."""
        if self._is_one_by_one and not part.dead_letters and len(_devices(part)) == 1:
            return part.singles(self._singles)
        return part.split()

    def _named(self, part: Batch, detail: str, *, alone: bool) -> list[Refused]:
        named = _refused(part, detail, alone=alone)
        if alone:
            self._refused.update((one.stream, one.row[0]) for one in named)
        return named

    def _is_refused_device(self, part: Batch) -> bool:
        """Whether all rows are of one device, and enough of its rows were refused."""
        devices = _devices(part)
        return len(devices) == 1 and self._refused[devices.pop()] >= self._singles

    def _is_confirmed(self, suspect: Refused) -> bool:
        return suspect.alone and suspect.stream in self.taken

    def _is_given_up(self, stream: Stream) -> bool:
        alone = sum(suspect.stream is stream and suspect.alone for suspect in self.suspects)
        return stream not in self.taken and alone >= GIVE_UP_AFTER


def _devices(part: Batch) -> set[tuple[Stream, str]]:
    return {(stream, row[0]) for stream, batch in part.readings.items() for row in batch.rows}


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
