"""Rows as PostgreSQL's binary COPY format (PostgreSQL manual, COPY, "Binary Format").

Packed here rather than with psycopg's `write_row` because it is the hottest loop of the daemon: one
`struct.pack` a row, a third of the time. A timestamp goes in as it is held: microseconds since 2000-01-01.
"""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ingestd.telemetry import Row

HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"
ROWS_PER_CHUNK: Final = 1000
"""Packing this many takes about a millisecond, after which the event loop has its turn."""

_SIZES: Final = {"q": 8, "d": 8, "i": 4}


def pack(rows: Sequence[Row], formats: str) -> Iterator[bytes]:
    """Chunks of a COPY stream. `formats` has a struct letter (q, d, i) for each field behind the id."""
    yield HEADER
    arguments: list[Any] = [1 + len(formats), 0, b""]
    for letter in formats:
        arguments += [_SIZES[letter], 0]
    packers: dict[int, struct.Struct] = {}
    layout = "".join(f"i{letter}" for letter in formats)
    for start in range(0, len(rows), ROWS_PER_CHUNK):
        packed = []
        for row in rows[start : start + ROWS_PER_CHUNK]:
            identity = row[0].encode()
            length = len(identity)
            packer = packers.get(length)
            if packer is None:
                packer = packers[length] = struct.Struct(f"!hi{length}s{layout}")
            arguments[1] = length
            arguments[2] = identity
            arguments[4::2] = row[1:]
            packed.append(packer.pack(*arguments))
        yield b"".join(packed)
    yield TRAILER
