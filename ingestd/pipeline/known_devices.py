"""The devices that have a live row. Beyond a limit, readings of all other devices are refused."""

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Final

from ingestd.model.stream import STREAMS, Row, Stream

READ_AGAIN_SECONDS: Final = 10.0
"""The live tables are read again at most this often. Devices may have been forgotten, or added by another daemon."""

_identity: Final = itemgetter(0)


class KnownDevices:
    """The ids of devices with a live row, by stream. Devices whose first reading is being stored are known too."""

    def __init__(self, *, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most` devices of all streams together."""
        self._most = most
        self._clock = clock
        self._read_at: float | None = None
        self._known: dict[str, set[str]] = {stream.name: set() for stream in STREAMS}
        self._added: list[tuple[str, str]] = []  # since the flush began: the live tables may not have them yet

    @property
    def room(self) -> int:
        """So many devices more can be added."""
        return max(0, self._most - sum(map(len, self._known.values())))

    @property
    def detail(self) -> str:
        """Why a device is refused."""
        return f"{self._most} devices are known, and no more are allowed"

    @property
    def may_be_read_again(self) -> bool:
        """Whether the live tables were last read long enough ago."""
        return self._read_at is None or self._clock() - self._read_at >= READ_AGAIN_SECONDS

    def begin_flush(self) -> None:
        """All devices that were added have a live row now, unless their readings were refused."""
        self._added.clear()

    def replace(self, live: Mapping[Stream, set[str]]) -> None:
        """These have a live row, as was read just now. Devices that were added in this flush stay known."""
        self._known = {stream.name: identities for stream, identities in live.items()}
        for stream, identity in self._added:
            self._known[stream].add(identity)
        self._read_at = self._clock()

    def is_known(self, stream: str, identity: str) -> bool:
        """`stream` is a name, which may be of no stream."""
        return identity in self._known.get(stream, ())

    def unknown(self, stream: Stream, rows: Iterable[Row]) -> list[str]:
        """The devices of the rows that are not known, each once, in order. Usually there are none."""
        known = self._known[stream.name]
        if known.issuperset(map(_identity, rows)):
            return []
        return [identity for identity in dict.fromkeys(map(_identity, rows)) if identity not in known]

    def add(self, stream: Stream, identities: Sequence[str]) -> Sequence[str]:
        """Add unknown devices while there is room. Returns the others."""
        room = self.room
        added = identities[:room]
        self._known[stream.name].update(added)
        self._added += ((stream.name, identity) for identity in added)
        return identities[room:]
