"""Watches the broker's own count of the messages that it dropped. These are lost."""

from typing import Final

import mqtt5
import structlog

from ingestd.errors import BrokerError
from ingestd.metrics import Metrics
from ingestd.mqtt.requests import Requests

log = structlog.get_logger(__name__)

DROPPED_TOPIC: Final = "$SYS/broker/publish/messages/dropped"
"""Mosquitto's; a number since the broker's start, published at its sys_interval."""

_MOST_DIGITS: Final = 18


class DroppedMessages:
    """Shows the count as a metric, and logs an error whenever it grows: the queue of the broker is full."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._last: int | None = None
        self._bad_count_logged = False

    async def subscribe(self, requests: Requests) -> None:
        """Subscribe to the count. Not every broker publishes one."""
        try:
            refusal = await requests.subscribe_aside(DROPPED_TOPIC, max_qos=mqtt5.QoS.AT_MOST_ONCE)
        except BrokerError as error:
            refusal = str(error)
        if refusal is not None:
            log.warning("dropped_count_refused", topic=DROPPED_TOPIC, reason=refusal)

    def note(self, payload: bytes) -> None:
        """A new count from the broker."""
        if not payload.isdigit() or len(payload) > _MOST_DIGITS:
            if not self._bad_count_logged:
                log.warning("dropped_count_not_a_number", topic=DROPPED_TOPIC)
            self._bad_count_logged = True
            return
        dropped = int(payload)
        self._metrics.broker_dropped.set(dropped)
        if self._last is None and dropped:
            log.warning("broker_had_dropped_messages", dropped=dropped, topic=DROPPED_TOPIC)
        elif self._last is not None and dropped > self._last:
            log.error("broker_dropped_messages", dropped=dropped - self._last, topic=DROPPED_TOPIC)
        self._last = dropped
