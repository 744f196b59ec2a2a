"""Those who are told of alerts: the broker, and a webhook."""

import asyncio
import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import ClassVar, Final

import structlog
from pydantic_core import to_json

from ingestd.alerting.ports import AlertStore, Broker, Webhook
from ingestd.errors import BrokerError, MessageTooLargeError, StoreError, WebhookError
from ingestd.model.alert import Alert

log = structlog.get_logger(__name__)

RETRY_FIRST_SECONDS: Final = 1.0
RETRY_LONGEST_SECONDS: Final = 60.0
PATIENCE: Final = timedelta(seconds=60)
"""Of several daemons one tells; another takes over when nothing was heard of it for so long."""
AT_ONCE: Final = 100
CLEARED_KEPT: Final = timedelta(days=1)
"""The broker forgets a message that an alert was cleared after this time."""


class Channel(ABC):
    """Tells what is in its outbox, in order, at least once, and for as long as it takes."""

    name: ClassVar[str]

    def __init__(self, *, holder: str, store: AlertStore, interval: timedelta) -> None:
        """`holder` tells this daemon from others on the same database."""
        self._holder = holder
        self._store = store
        self._interval = interval

    async def run(self) -> None:
        """Look into the outbox again and again."""
        delay = RETRY_FIRST_SECONDS
        pause = self._interval.total_seconds()
        while True:
            await asyncio.sleep(pause)
            try:
                more = await self.tell_some(datetime.now(UTC))
            except (StoreError, BrokerError, WebhookError) as error:
                log.warning("alerts could not be told; tried again", channel=self.name, reason=str(error))
                # Jitter keeps several daemons from coming back together.
                pause = random.uniform(delay / 2, delay)  # noqa: S311
                delay = min(delay * 2, RETRY_LONGEST_SECONDS)
            else:
                delay = RETRY_FIRST_SECONDS
                pause = 0 if more else self._interval.total_seconds()

    async def tell_some(self, now: datetime) -> bool:
        """Whether there may be more. Raises StoreError, BrokerError or WebhookError."""
        if not await self._store.take_watch(self.name, holder=self._holder, now=now, patience=PATIENCE):
            return False
        alerts = await self._store.untold(self.name, limit=AT_ONCE)
        if alerts:
            await self._tell(alerts)
            await self._store.told(self.name, alerts)
        return len(alerts) == AT_ONCE

    @abstractmethod
    async def _tell(self, alerts: Sequence[Alert]) -> None:
        """Where it raises BrokerError or WebhookError, none of them counts as told."""


class BrokerChannel(Channel):
    """A retained message for each alert."""

    name = "mqtt"

    def __init__(self, *, holder: str, store: AlertStore, interval: timedelta, broker: Broker) -> None:
        super().__init__(holder=holder, store=store, interval=interval)
        self._broker = broker
        self._sessions_begun = 0

    async def tell_some(self, now: datetime) -> bool:
        """Everything that is active once more, where the broker has lost its memory."""
        begun = self._broker.sessions_begun
        if begun != self._sessions_begun:
            await self._store.tell_again(self.name)
            self._sessions_begun = begun
        return await super().tell_some(now)

    async def _tell(self, alerts: Sequence[Alert]) -> None:
        for alert in alerts:
            try:
                await self._broker.publish(
                    f"ingestd/alerts/{alert.kind}/{alert.subject}",
                    to_json(alert.described()),
                    expires_after=CLEARED_KEPT if alert.state == "cleared" else None,
                )
            except MessageTooLargeError as error:  # never to be told, and the next ones must not wait for it
                log.error("an alert is too large for the broker, and is not told there", reason=str(error))  # noqa: TRY400


class WebhookChannel(Channel):
    """One request for several alerts."""

    name = "webhook"

    def __init__(self, *, holder: str, store: AlertStore, interval: timedelta, webhook: Webhook) -> None:
        super().__init__(holder=holder, store=store, interval=interval)
        self._webhook = webhook

    async def _tell(self, alerts: Sequence[Alert]) -> None:
        await self._webhook.post(to_json({"alerts": [alert.described() for alert in alerts]}))
