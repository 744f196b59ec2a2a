"""A session without a daemon: what it receives is settled at once."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from ingestd.metrics import Metrics
from ingestd.model.decode import Window
from ingestd.mqtt.address import BrokerAddress
from ingestd.mqtt.session import Session

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable

    from ingestd.pipeline.delivery import Delivery

WINDOW = Window(max_age=timedelta(days=90), max_skew=timedelta(minutes=5))


def new_session(
    url: str,
    client_id: str | None = None,
    *,
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    shared_group: str | None = None,
    on_delivery: Callable[[Delivery], None] = lambda _: None,
    **options: Any,  # noqa: ANN401 - Session's own
) -> Session:
    def settle_at_once(delivery: Delivery) -> None:
        on_delivery(delivery)
        delivery.origin.settle([delivery])

    return Session(
        address=BrokerAddress(url=url, client_id=client_id or uuid4().hex, tls=tls, shared_group=shared_group),
        window=WINDOW,
        deliver=settle_at_once,
        **{"metrics": Metrics(), **options},
    )


@asynccontextmanager
async def connected(url: str, client_id: str | None = None, **options: Any) -> AsyncIterator[Session]:  # noqa: ANN401
    """Opened, and kept alive until the context is left."""
    session = new_session(url, client_id, **options)
    await session.open()
    running = asyncio.create_task(session.run())
    try:
        yield session
    finally:
        await session.close()
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
