"""Ends the sessions that the broker keeps and the settings do not name, after storing what waits in them.

The way of a message is that of the daemon: the same buffer, flusher and writer, and acknowledgements after the commit.
"""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from ingestd.config import Settings
from ingestd.errors import BrokerError
from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.departure import Departure
from ingestd.pipeline.storing import Storing
from ingestd.store.session_locks import SessionLocks
from ingestd.store.writer import Writer

LOOK_SECONDS: Final = 1.0
"""The database ends the connection of the locks if it is asked nothing for 3 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """A session, and how it ended."""

    session: str
    messages: int
    """That were received from it, and stored."""
    reason: str | None
    """Why it has not ended; None if it has."""


async def leave(settings: Settings, *, report: Callable[[Left], None]) -> bool:
    """End one session after the other; returns whether all have ended. Raises StoreError, ConfigError."""
    dsn, wanted = settings.database_url.get_secret_value(), settings.session_ids
    all_ended = True
    async with AsyncExitStack() as resources:
        locks = SessionLocks(dsn, daemon=settings.mqtt_client_id, is_member=False)
        resources.push_async_callback(locks.close)
        existing = (await locks.look(wanted)).existing
        for session in sorted(existing.keys() - set(wanted)):
            if await locks.take(session, exists=True):
                left = await _leave(settings, locks, session, shared_group=existing[session])
            else:
                left = Left(session=session, messages=0, reason="a daemon holds it: start it again with these settings")
            if left.reason is None:
                await locks.ended(session)
            all_ended = all_ended and left.reason is None
            report(left)
    return all_ended


async def _leave(settings: Settings, locks: SessionLocks, session: str, *, shared_group: str | None) -> Left:
    writer = Writer(settings.database_url.get_secret_value())
    storing = Storing.of(settings, store=writer, metrics=Metrics())
    departure = Departure(
        address=BrokerAddress.of(settings),
        client_id=session,
        shared_group=shared_group,
        with_marker=settings.mqtt_probe,
        window=Window(max_age=settings.max_age, max_skew=settings.max_skew),
        deliver=storing.buffer.put,
    )
    storing.buffer.on_pressure(lambda on: departure.hold() if on else departure.release())
    reason = None
    async with AsyncExitStack() as resources:
        resources.push_async_callback(writer.close)
        await writer.open()
        storing.devices.replace(await writer.live_devices())
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_keep(locks, settings), name="locks")
            flushing = tasks.create_task(storing.flusher.run(), name="flusher")
            try:
                await departure.run()
            except BrokerError as error:
                reason = str(error)
            storing.buffer.close()
            await flushing
            watching.cancel()
    return Left(session=session, messages=departure.received, reason=reason)


async def _keep(locks: SessionLocks, settings: Settings) -> None:
    """Raises StoreError if the locks are lost: then a daemon may hold the session."""
    while True:
        await locks.look(settings.session_ids)
        await locks.wait(LOOK_SECONDS)
