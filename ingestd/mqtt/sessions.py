"""All sessions that a daemon may hold. To alerting they are one: the first publishes, as its holder is who alerts."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import timedelta

from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.extras import Extra
from ingestd.mqtt.session import Session
from ingestd.pipeline.delivery import Delivery


class Sessions:
    """The sessions by client id, in order, whether they are held or not."""

    def __init__(
        self,
        client_ids: Sequence[str],
        *,
        address: BrokerAddress,
        window: Window,
        deliver: Callable[[Delivery], None],
        metrics: Metrics,
        read_delay: Callable[[], float],
        extras: Collection[Extra],
    ) -> None:
        self.by_id = {
            client_id: Session(
                address=replace(address, client_id=client_id),
                window=window,
                deliver=deliver,
                metrics=metrics,
                read_delay=read_delay,
                extras=extras,
            )
            for client_id in client_ids
        }
        self._first = self.by_id[client_ids[0]]

    @property
    def is_receiving(self) -> bool:
        return self._first.is_receiving

    @property
    def sessions_begun(self) -> int:
        return self._first.sessions_begun

    @property
    def sessions_lost(self) -> int:
        return sum(session.sessions_lost for session in self.by_id.values())

    async def publish(self, topic: str, payload: bytes, *, expires_after: timedelta | None) -> None:
        await self._first.publish(topic, payload, expires_after=expires_after)

    def hold(self, reason: str) -> None:
        """Stop reading from all, until `reason` is released."""
        for session in self.by_id.values():
            session.hold(reason)

    def release(self, reason: str) -> None:
        for session in self.by_id.values():
            session.release(reason)

    async def close(self) -> None:
        """Close all at once."""
        await asyncio.gather(*(session.close() for session in self.by_id.values()))
