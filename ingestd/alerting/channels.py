"""Delivers changes of alerts to the broker and to a webhook."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import structlog
from pydantic_core import to_json

from ingestd.alerting.ports import AlertStore, Broker, Webhook
from ingestd.backoff import Backoff
from ingestd.errors import BrokerError, MessageTooLargeError, StoreError, WebhookError
from ingestd.model.alert import CLEARED_KEPT, Alert

log = structlog.get_logger(__name__)

RETRY_FIRST_SECONDS: Final = 1.0
RETRY_LONGEST_SECONDS: Final = 60.0
RETRY_JITTER: Final = (0.5, 1.0)
WATCH_LEASE: Final = timedelta(seconds=60)
"""Of several daemons one delivers. Another takes over if that one has not looked for this long."""
AT_ONCE: Final = 100


class Channel(ABC):
    """Delivers the changes in its outbox in order, each at least once. If a delivery fails, it is repeated."""

    name: ClassVar[str]

    def __init__(self, *, holder: str, store: AlertStore, interval: timedelta) -> None:
        """`holder` tells this daemon from others on the same database."""
        self._holder = holder
        self._store = store
        self._interval = interval

    async def run(self) -> None:
        """Deliver what is in the outbox, again and again."""
        backoff = Backoff(first=RETRY_FIRST_SECONDS, longest=RETRY_LONGEST_SECONDS, jitter=RETRY_JITTER)
        pause = self._interval.total_seconds()
        while True:
            await asyncio.sleep(pause)
            try:
                more = await self.deliver_some(datetime.now(UTC))
            except (StoreError, BrokerError, WebhookError) as error:
                log.warning("alert_delivery_failed", channel=self.name, reason=str(error))
                pause = backoff.next()
            else:
                backoff.reset()
                pause = 0 if more else self._interval.total_seconds()

    async def deliver_some(self, now: datetime) -> bool:
        """Deliver up to AT_ONCE changes.

        Returns whether there may be more. Raises StoreError, BrokerError, WebhookError.
        """
        if not await self._store.take_watch(self.name, holder=self._holder, now=now, lease=WATCH_LEASE):
            return False
        alerts = await self._store.undelivered(self.name, limit=AT_ONCE)
        if alerts:
            await self._deliver(alerts)
            await self._store.delivered(self.name, alerts)
        return len(alerts) == AT_ONCE

    @abstractmethod
    async def _deliver(self, alerts: Sequence[Alert]) -> None:
        """Deliver all of them. Raises BrokerError or WebhookError; then none counts as delivered."""


class BrokerChannel(Channel):
    """A retained message for each alert."""

    name = "mqtt"

    def __init__(self, *, holder: str, store: AlertStore, interval: timedelta, broker: Broker) -> None:
        super().__init__(holder=holder, store=store, interval=interval)
        self._broker = broker
        self._sessions_begun = 0

    async def deliver_some(self, now: datetime) -> bool:
        """If the broker may have lost its retained messages, deliver all active alerts again first."""
        begun = self._broker.sessions_begun
        if begun != self._sessions_begun:
            await self._store.deliver_again(self.name)
            self._sessions_begun = begun
        return await super().deliver_some(now)

    async def _deliver(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            try:
                await self._broker.publish(
                    alert.topic,
                    to_json(alert.described()),
                    expires_after=CLEARED_KEPT if alert.state == "cleared" else None,
                )
            except (
                MessageTooLargeError
            ) as error:  # the broker will never take it, and the next ones must not wait for it
                log.error("alert_too_large", reason=str(error))  # noqa: TRY400


class WebhookChannel(Channel):
    """One request for several alerts."""

    name = "webhook"

    def __init__(self, *, holder: str, store: AlertStore, interval: timedelta, webhook: Webhook) -> None:
        super().__init__(holder=holder, store=store, interval=interval)
        self._webhook = webhook

    async def _deliver(self, alerts: Sequence[Alert]) -> None:
        await self._webhook.post(to_json({"alerts": [alert.described() for alert in alerts]}))


def channel_names(*, has_webhook: bool) -> list[str]:
    """The names of the channels; with `has_webhook`, alerts are posted to a webhook too."""
    return [BrokerChannel.name, *([WebhookChannel.name] if has_webhook else [])]
