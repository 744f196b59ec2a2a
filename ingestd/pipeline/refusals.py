"""Devices whose rows the database has refused of late.

Their rows are written last, and each device's apart: to find a row that is refused takes many transactions, and
nobody else shall wait for them.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

from ingestd.pipeline.delivery import Batch
from ingestd.pipeline.progress import Refused
from ingestd.telemetry import Row, Stream

APART_AFTER: Final = 3
"""Refused rows; a single bad reading says nothing about the next."""
APART_SECONDS: Final = 600.0
"""How long after its last refused row a device's rows are written apart."""
MOST_DEVICES: Final = 100
"""Where more devices than that are refused, the fault is hardly theirs."""


@dataclass(slots=True, kw_only=True)
class _Count:
    rows: int = 0
    until: float = 0.0  # monotonic seconds


class Refusals:
    """What is known of refused devices, from one flush to the next."""

    def __init__(self) -> None:
        self._counts: dict[tuple[Stream, str], _Count] = {}

    def note(self, refused: Iterable[Refused]) -> None:
        """Rows that became dead letters just now."""
        now = time.monotonic()
        self._counts = {device: count for device, count in self._counts.items() if now < count.until}
        for one in refused:
            device = one.stream, one.row[0]
            if device in self._counts or len(self._counts) < MOST_DEVICES:
                count = self._counts.setdefault(device, _Count())
                count.rows += 1
                count.until = now + APART_SECONDS

    def part(self, batch: Batch) -> tuple[Batch, list[Batch]]:
        """The batch without the rows of refused devices, and theirs, device by device."""
        now = time.monotonic()
        apart = []
        for (stream, identity), count in self._counts.items():
            if count.rows >= APART_AFTER and now < count.until:
                theirs, batch = batch.parted(stream, partial(_is_of, identity))
                if len(theirs):
                    apart.append(theirs)
        return batch, apart


def _is_of(identity: str, row: Row) -> bool:
    is_of: bool = row[0] == identity
    return is_of
