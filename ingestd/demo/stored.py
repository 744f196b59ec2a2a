"""Makes messages of readings that are stored: of the CSV that exports give."""

import csv
from collections.abc import AsyncIterator, Iterator
from datetime import datetime, timedelta

from pydantic_core import to_json

from ingestd.model.stream import Stream
from ingestd.mqtt.publisher import Message


async def batches(chunks: AsyncIterator[bytes], stream: Stream, *, shift: timedelta) -> AsyncIterator[list[Message]]:
    """The messages of each chunk of CSV; all timestamps are shifted. The first line has the names."""
    names: list[str] = []
    async for chunk in chunks:
        lines = csv.reader(chunk.decode().splitlines())
        names = names or next(lines)
        yield list(_messages(lines, names, stream, shift))


def _messages(lines: Iterator[list[str]], names: list[str], stream: Stream, shift: timedelta) -> Iterator[Message]:
    for line in lines:
        reading = dict(zip(names, line, strict=True))
        at = datetime.fromisoformat(reading["timestamp"]) + shift
        figures = {key: float(reading[key]) for key in stream.columns if reading[key]}
        payload = {stream.id_key: reading[stream.id_key], **figures, "timestamp": at.isoformat().replace("+00:00", "Z")}
        yield stream.topic(reading[stream.id_key]), to_json(payload)
