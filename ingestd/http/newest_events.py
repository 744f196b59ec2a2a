"""The newest event of each device, in the order of their changes, for all event streams together.

A client is a number: all events up to it were sent. So a slow client costs no memory: it is given the newest events of
the devices that have changed since, and not all events that there were.
"""

import re
import secrets
from bisect import bisect_right
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Final

from pydantic_core import to_json

from ingestd.http.shapes import rfc3339
from ingestd.model.device import Changed, LiveReading
from ingestd.model.stream import Stream

CHUNK_BYTES: Final = 32 * 1024
REPLACED_AT_LEAST: Final = 1000
"""So many events that newer ones have replaced are kept in any case."""

_EPOCH_BYTES: Final = 4
_match_id: Final = re.compile(rf"([0-9a-f]{{{2 * _EPOCH_BYTES}}})-([0-9]{{1,15}})").fullmatch
_number: Final = attrgetter("number")


@dataclass(slots=True, kw_only=True)
class _Event:
    number: int
    kind: str
    frame: bytes | None
    """As it is sent; None if a newer event has taken its place, or if the device was forgotten."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Of which devices a client wants events."""

    kind: str | None = None
    """The name of a stream; None: all."""
    devices: Collection[str] = field(default=())
    """Ids of devices of this kind; empty: all."""


class NewestEvents:
    """Filled by what the looks at the database have found."""

    def __init__(self) -> None:
        self._epoch = secrets.token_hex(_EPOCH_BYTES)  # numbers of another process mean nothing here
        self._number = 0
        self._newest: dict[tuple[str, str], _Event] = {}
        self._in_order: list[_Event] = []

    def add(self, changed: Changed) -> None:
        kind = changed.stream.name
        for reading in changed.readings:
            data = b"data: %b\n\n" % _data(changed.stream, reading)
            last = self._newest.get((kind, reading.device_id))
            if last is None or last.frame is None or not last.frame.endswith(data):  # the same after a failed look
                self._append((kind, reading.device_id), data, last)
        for device_id in changed.gone:
            if last := self._newest.pop((kind, device_id), None):
                last.frame = None
        if len(self._in_order) > 2 * len(self._newest) + REPLACED_AT_LEAST:
            self._in_order = [event for event in self._in_order if event.frame is not None]

    def position(self, last_event_id: str) -> int:
        """The number from which a client with this `Last-Event-ID` goes on; 0 if the id is not of this process."""
        matched = _match_id(last_event_id)
        if matched is None or matched[1] != self._epoch or int(matched[2]) > self._number:
            return 0
        return int(matched[2])

    def after(self, number: int, wanted: Wanted) -> tuple[bytes, int]:
        """Some of the events after this number, not many more than CHUNK_BYTES; the number up to which these are all.

        Nothing is left if there is no event.
        """
        chunk: list[bytes] = []
        size = 0
        for event in self._candidates(number, wanted):
            if event.frame is None:
                continue
            chunk.append(event.frame)
            size += len(event.frame)
            if size >= CHUNK_BYTES:
                return b"".join(chunk), event.number
        return b"".join(chunk), self._number

    def _candidates(self, number: int, wanted: Wanted) -> Iterable[_Event]:
        """Events after this number, in their order."""
        if wanted.devices:
            found = (self._newest.get((wanted.kind or "", device_id)) for device_id in wanted.devices)
            return sorted((event for event in found if event and event.number > number), key=_number)
        begin = bisect_right(self._in_order, number, key=_number)
        following = (self._in_order[place] for place in range(begin, len(self._in_order)))
        return (event for event in following if wanted.kind in {None, event.kind})

    def _append(self, device: tuple[str, str], data: bytes, last: _Event | None) -> None:
        self._number += 1
        frame = f"event: {device[0]}\nid: {self._epoch}-{self._number}\n".encode() + data
        if last is not None:
            last.frame = None
        event = _Event(number=self._number, kind=device[0], frame=frame)
        self._newest[device] = event
        self._in_order.append(event)


def _data(stream: Stream, reading: LiveReading) -> bytes:
    """As live.py answers, but no row of the database can be wrong here: that would end the daemon."""
    return to_json(
        {
            stream.id_key: reading.device_id,
            **reading.figures,
            "timestamp": rfc3339(reading.timestamp),
            "receivedAt": rfc3339(reading.received_at),
        }
    )
