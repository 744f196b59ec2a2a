"""Watches the broker's own count of messages it dropped: readings lost before anybody could store them."""

from typing import Final

import structlog

from ingestd.metrics import Metrics

log = structlog.get_logger(__name__)

DROPPED_TOPIC: Final = "$SYS/broker/publish/messages/dropped"
"""Mosquitto's; a number since the broker's start, published at its sys_interval."""


class DroppedMessages:
    """The count as a metric, and an error in the log whenever it grows: the broker's queue overflows."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last: int | None = None

    def note(self, payload: bytes) -> None:
        """A new count from the broker."""
        if not payload.isdigit():
            return
        dropped = int(payload)
        self._metrics.broker_dropped.set(dropped)
        if self._last is None and dropped:
            log.warning("the broker has dropped messages since its start", dropped=dropped, topic=DROPPED_TOPIC)
        elif self._last is not None and dropped > self._last:
            log.error("the broker drops messages: its queue is full", dropped=dropped - self._last, topic=DROPPED_TOPIC)
        self._last = dropped
