"""The state of each row of one flush, while the Flusher splits and repeats its batches."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import filterfalse
from typing import Final, NamedTuple

from ingestd.errors import DataStoreError, NoPartitionError, TransientStoreError
from ingestd.model.dead_letter import Reason
from ingestd.model.stream import STREAMS, Row, Stream
from ingestd.model.timestamps import MICROSECONDS_PER_DAY
from ingestd.pipeline.delivery import Batch, Delivery, StreamBatch

UNKNOWN_BEFORE_ISOLATING: Final = 3
"""After this many failures for an unknown reason, a batch is split, down to single rows."""
UNKNOWN_BEFORE_REDUCING: Final = 20
"""The same for a batch of dead letters, about half a minute. It is more, because a reduced letter loses something."""
GIVE_UP_AFTER: Final = 32
"""When this many rows of a stream or of a device have failed one by one, and none was stored, the others are not tried
one by one."""


class Refused(NamedTuple):
    """A row that the database refused, and its error; or a row of a device beyond the limit."""

    stream: Stream
    row: Row
    origin: int
    detail: str
    alone: bool  # it was the only row of the transaction
    reason: Reason = "database"


@dataclass(slots=True, kw_only=True)
class Progress:
    """The state of one flush. `deliveries` may grow while it lasts."""

    deliveries: list[Delivery]
    committed: dict[Stream, Counter[int]] = field(default_factory=lambda: {stream: Counter() for stream in STREAMS})
    taken: set[Stream] = field(default_factory=set)
    """Streams with rows in a transaction that has committed, new ones or not."""
    rejected: list[Refused] = field(default_factory=list)
    """Rows that are at fault. They become dead letters."""
    of_unknown: list[Refused] = field(default_factory=list)
    """Rows of unknown devices for which there is no room. They become dead letters too."""
    suppressed: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    """Dead letters that are not stored, by stream, source and reason."""
    suspects: list[Refused] = field(default_factory=list)
    """Rows that failed for an unknown reason. It is not known yet whether the rows or the database are at fault."""
    _unknown_failures: Counter[bool] = field(default_factory=Counter)
    """Number of failures: of parts with readings (True), and of parts with dead letters only (False)."""
    _refused: Counter[tuple[Stream, str]] = field(default_factory=Counter)
    """For each device the rows that failed alone since one of its rows was stored."""
    _is_one_by_one: bool = False
    _singles: int = GIVE_UP_AFTER
    _tried: set[tuple[Stream, Row]] = field(default_factory=set)

    def stored(self, part: Batch, committed: Mapping[Stream, Counter[int]]) -> None:
        """The transaction of a part has committed."""
        self.taken |= part.readings.keys()
        if self._refused:
            for stream, batch in part.readings.items():
                for row in batch.rows:
                    self._refused.pop((stream, row[0]), None)
        self._singles = GIVE_UP_AFTER
        for stream, by_origin in committed.items():
            self.committed[stream].update(by_origin)

    def refuse(self, part: Batch, detail: str) -> None:
        """The rows of the part are of unknown devices, and there is no room for them."""
        self.of_unknown += (one._replace(reason="unknown-device") for one in _refused(part, detail, alone=False))

    def reject(self, part: Batch, error: DataStoreError) -> list[Batch]:
        """Rows of the part are at fault. Returns smaller parts to try; rejects a row that is alone."""
        if isinstance(error, NoPartitionError):
            return self._reject_day(part, error)
        if len(part) > 1 and not self._is_refused_device(part):
            return self._smaller(part)
        self.rejected += self._named(part, str(error), alone=True)
        return []

    def give_up_untried(self, part: Batch) -> bool:
        """Reject the rows of a device that had enough rejected rows. Returns False if the part is not such rows."""
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
        """Rows of the part may be at fault. Returns smaller parts to try; none if these would show nothing more."""
        alone = len(part) == 1 or self._is_refused_device(part)
        if not alone and not all(map(self._is_given_up, part.readings)):
            return self._smaller(part)
        self.suspects += self._named(part, detail, alone=alone)
        return []

    def is_to_isolate(self, part: Batch, error: TransientStoreError) -> bool:
        """Whether a part that failed with this error is split, and not only repeated."""
        if error.known:
            return False
        self._unknown_failures[bool(part.readings)] += 1
        enough = UNKNOWN_BEFORE_ISOLATING if part.readings else UNKNOWN_BEFORE_REDUCING
        return self._unknown_failures[bool(part.readings)] >= enough

    def isolate(self, *, singles: int) -> None:
        """The next parts are of a refused device: `singles` rows are tried one by one, and at the first failure.

        Once one of them is stored, its rows are tried as those of any other device.
        """
        self._unknown_failures[True] = UNKNOWN_BEFORE_ISOLATING
        self._is_one_by_one = True
        self._singles = singles

    def reject_confirmed(self) -> None:
        """Reject each suspect that failed alone, if other rows of its stream were stored."""
        self.rejected += filter(self._is_confirmed, self.suspects)
        self.suspects = list(filterfalse(self._is_confirmed, self.suspects))

    def give_up(self) -> None:
        """Reject all suspects. They become dead letters, and other rows no longer wait for them."""
        self.rejected += self.suspects
        self.suspects = []

    def join(self, deliveries: list[Delivery]) -> Batch:
        """One batch of the suspects and of the deliveries that came since."""
        batch = Batch.of(deliveries, first_origin=len(self.deliveries), held=_grouped(self.suspects))
        self.deliveries += deliveries
        self.suspects = []
        return batch

    def repeats(self) -> Batch | None:
        """Other readings of this flush with the key of a rejected one.

        They are no duplicates, as that one is not stored.
        """
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
        """Reject all rows of a day that has no partition. Returns the others."""
        (stream,) = (stream for stream in part.readings if stream.history == error.history)
        of_day, others = part.parted(stream, lambda row: row[1] // MICROSECONDS_PER_DAY == error.day)
        self.rejected += _refused(of_day, str(error), alone=True)
        return [others] if len(others) else []

    def _smaller(self, part: Batch) -> list[Batch]:
        """Two halves, because one row of many may be at fault.

        For a refused device a few single rows: all may be at fault.
        """
        if self._is_one_by_one and not part.dead_letters and len(_devices(part)) == 1:
            return part.singles(self._singles)
        return part.split()

    def _named(self, part: Batch, detail: str, *, alone: bool) -> list[Refused]:
        named = _refused(part, detail, alone=alone)
        if alone:
            self._refused.update((one.stream, one.row[0]) for one in named)
        return named

    def _is_refused_device(self, part: Batch) -> bool:
        """Whether all rows are of one device, and enough rows of this device failed."""
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
