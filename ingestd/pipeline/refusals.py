"""Devices whose rows the database has refused lately.

Their rows are written last, one device after the other. It takes many transactions to find a refused row, and the
rows of other devices must not wait for that.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, TypeAlias

from ingestd.model.stream import Stream
from ingestd.pipeline.delivery import Batch
from ingestd.pipeline.progress import GIVE_UP_AFTER, Refused

APART_AFTER: Final = 3
"""Refused rows. After fewer of them, a device is treated as any other: a single bad reading may be chance."""
APART_SECONDS: Final = 600.0
"""How long after its last refused row a device's rows are written apart."""
MOST_DEVICES: Final = 1000
"""If more devices are refused, the database is probably at fault, and not the devices."""

_Device: TypeAlias = tuple[Stream, str]


@dataclass(slots=True, kw_only=True)
class _Count:
    rows: int = 0
    in_a_row: int = 0
    """Rows that were written apart and refused since a row of the device was stored."""
    until: float = 0.0  # monotonic seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """The rows of a refused device in one batch."""

    device: _Device
    batch: Batch
    singles: int
    """This many rows are tried one by one, then the others are given up. 1 for a device that is always refused."""

    @property
    def parts(self) -> list[Batch]:
        """What to try, the last first: all rows at once; for a device that is always refused, one row."""
        return self.batch.singles(1) if self.singles == 1 else [self.batch]


class Refusals:
    """Remembers refused devices from one flush to the next."""

    def __init__(self) -> None:
        self._counts: dict[_Device, _Count] = {}

    def note(self, refused: Iterable[Refused], apart: Iterable[Apart]) -> None:
        """Note the rows that were refused in this flush. All other rows of `apart` were stored."""
        now = time.monotonic()
        rows = Counter((one.stream, one.row[0]) for one in refused)
        for one in apart:
            count, all_refused = self._counts[one.device], rows[one.device] == len(one.batch)
            count.in_a_row = count.in_a_row + len(one.batch) if all_refused else 0
        self._counts = {device: count for device, count in self._counts.items() if now < count.until}
        for device, number in rows.items():
            if device in self._counts or len(self._counts) < MOST_DEVICES:
                count = self._counts.setdefault(device, _Count())
                count.rows += number
                count.until = now + APART_SECONDS

    def part(self, batch: Batch) -> tuple[Batch, list[Apart]]:
        """The batch without the rows of refused devices, and a batch for each of these devices."""
        now = time.monotonic()
        known = {
            device: count for device, count in self._counts.items() if count.rows >= APART_AFTER and now < count.until
        }
        apart: list[Apart] = []
        for stream in {stream for stream, _ in known}:
            identities = {identity for of, identity in known if of is stream}
            theirs, batch = batch.of_devices(stream, identities)
            for identity, rows in theirs.by_device(stream).items():
                always = known[stream, identity].in_a_row >= APART_AFTER
                apart.append(Apart(device=(stream, identity), batch=rows, singles=1 if always else GIVE_UP_AFTER))
        return batch, apart
