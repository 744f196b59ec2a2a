"""What alerting needs of the store, the broker and the webhook. Tests have fakes for some of them."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Protocol

from ingestd.model.alert import Alert, Change, Found
from ingestd.model.answers import VehicleEfficiency
from ingestd.model.periods import TimeRange
from ingestd.model.stream import Stream


class AlertStore(Protocol):
    """Where alerts are kept. Every method raises StoreError. ingestd.store.alerts says what each does."""

    async def take_watch(self, task: str, *, holder: str, now: datetime, lease: timedelta) -> datetime | None: ...
    async def silent(self, stream: Stream, *, now: datetime, offline_after: timedelta, limit: int) -> Found: ...
    async def hot(self, *, bound: float, now: datetime, limit: int) -> Found: ...
    async def open(self, kind: str) -> dict[str, Alert]: ...
    async def retired(self, stream: Stream, kinds: Sequence[str], *, now: datetime) -> list[Alert]: ...
    async def save(self, changes: Sequence[Change], *, channels: Sequence[str]) -> None: ...
    async def active(self) -> Mapping[str, int]: ...
    async def purge(self, *, until: datetime) -> None: ...
    async def undelivered(self, channel: str, *, limit: int) -> list[Alert]: ...
    async def delivered(self, channel: str, alerts: Sequence[Alert]) -> None: ...
    async def deliver_again(self, channel: str) -> None: ...


class Efficiencies(Protocol):
    """The efficiencies of vehicles. Every method raises StoreError."""

    async def closed_hours(self) -> TimeRange | None:
        """The last 24 whole hours (UTC) that are closed; None before there are any."""

    async def efficiencies(self, window: TimeRange) -> Sequence[VehicleEfficiency]: ...


class Broker(Protocol):
    """Takes retained messages."""

    @property
    def is_receiving(self) -> bool:
        """Whether telemetry can arrive. If not, a silent device is no sign of a fault."""

    @property
    def sessions_begun(self) -> int:
        """How often the broker did not know our session. It may have lost retained messages as well."""

    @property
    def sessions_lost(self) -> int:
        """How often the broker had lost our session, with the messages that waited in it."""

    async def publish(self, topic: str, payload: bytes, *, expires_after: timedelta | None) -> None:
        """Publish with QoS 1, retained if the broker can. Returns after the PUBACK.

        Raises BrokerError, or MessageTooLargeError if the broker takes no message of this size.
        """


class Webhook(Protocol):
    """The web server of an operator."""

    async def post(self, body: bytes) -> None:
        """Post, and return after an answer of success. Raises WebhookError."""
