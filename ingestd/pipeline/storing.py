"""The pipeline of a process, made from the settings: what waits, and what stores it."""

from dataclasses import dataclass
from typing import Final, Self

from ingestd.config import Settings
from ingestd.metrics import Metrics
from ingestd.pipeline.buffer import Buffer
from ingestd.pipeline.flusher import Flusher, Store
from ingestd.pipeline.known_devices import KnownDevices
from ingestd.pipeline.letter_limits import LetterLimits

FLUSH_MESSAGES: Final = 32_000
"""So many waiting messages are a batch. The broker sends at most RECEIVE_MAXIMUM (65,000) messages before it waits for
acknowledgements, so a batch is less than half of that: while one is committed, the next one comes in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Storing:
    """A buffer, the flusher that empties it into the store, and what the flusher knows of devices and dead letters."""

    buffer: Buffer
    devices: KnownDevices
    letters: LetterLimits
    flusher: Flusher

    @classmethod
    def of(cls, settings: Settings, *, store: Store, metrics: Metrics) -> Self:
        buffer = Buffer(
            metrics=metrics,
            max_messages=settings.buffer_max_messages,
            flush_at=min(FLUSH_MESSAGES, settings.buffer_max_messages),
            interval=settings.flush_interval.total_seconds(),
        )
        devices = KnownDevices(most=settings.max_devices)
        letters = LetterLimits(
            most_per_device=settings.dead_letter_max_per_device,
            most_bytes=settings.dead_letter_max_bytes,
            is_known=devices.is_known,
        )
        flusher = Flusher(buffer=buffer, store=store, devices=devices, letters=letters, metrics=metrics)
        return cls(buffer=buffer, devices=devices, letters=letters, flusher=flusher)
