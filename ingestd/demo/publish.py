"""Publishes as devices do, through aiomqtt (paho underneath): an MQTT implementation that is not the daemon's own."""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from ingestd.config import Settings
from ingestd.errors import BrokerError

# aiomqtt warns at every publish with more than ten under way, which is how this one works.
_quiet = logging.getLogger("ingestd.demo.aiomqtt")
_quiet.setLevel(logging.ERROR)

Message: TypeAlias = tuple[str, bytes]
"""Topic and payload."""

IN_FLIGHT: Final = 100
"""Messages whose PUBACK may be outstanding at once; paho is at its fastest from about here on."""


class Publisher:
    """A connected client; `publish` returns when the broker has acknowledged every message."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self._client = client
        self._refusals: Counter[str] = Counter()
        # aiomqtt takes any PUBACK for success; the reason code is known to paho alone.
        paho = client._client  # noqa: SLF001
        acknowledged: Callable[..., None] = paho.on_publish  # type: ignore[assignment]

        def on_publish(client: Any, userdata: Any, mid: int, reason: ReasonCode, properties: Any) -> None:  # noqa: ANN401
            if reason.is_failure:
                self._refusals[str(reason)] += 1
            acknowledged(client, userdata, mid, reason, properties)

        paho.on_publish = on_publish

    async def publish(
        self,
        messages: Iterable[Message],
        *,
        rate: float | None = None,
        progress: Callable[[int], None] = lambda _: None,
    ) -> int:
        """Publish with QoS 1, in order of the iterable but with several under way at once; returns how many.

        `rate` is in messages a second, as fast as possible where it is None. Raises BrokerError.
        """
        pending = iter(messages)
        started = time.monotonic()
        taken = 0

        async def publish_some() -> None:
            nonlocal taken
            for topic, payload in pending:
                taken += 1
                if rate is not None and (wait := started + taken / rate - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                await self._client.publish(topic, payload, qos=1)
                progress(1)

        try:
            async with asyncio.TaskGroup() as tasks:
                for number in range(IN_FLIGHT):
                    tasks.create_task(publish_some(), name=f"publish-{number}")
        except* aiomqtt.MqttError as errors:
            raise BrokerError(f"publishing stopped after {taken} messages: {errors.exceptions[0]}") from errors
        if self._refusals:
            ((reason, count),) = self._refusals.most_common(1)
            raise BrokerError(f"the broker refused {count} of {taken} messages: {reason}")
        return taken


@asynccontextmanager
async def connected(settings: Settings, *, client_id: str) -> AsyncIterator[Publisher]:
    """A publisher on the broker of the settings, under a client id of its own; raises BrokerError."""
    url = urlsplit(settings.mqtt_url)
    tls = settings.tls()
    client = aiomqtt.Client(
        url.hostname or "127.0.0.1",
        url.port or (8883 if tls else 1883),
        username=settings.mqtt_username,
        password=settings.mqtt_password.get_secret_value() if settings.mqtt_password else None,
        identifier=f"{client_id}-{secrets.token_hex(4)}",
        logger=_quiet,
        protocol=aiomqtt.ProtocolVersion.V5,
        max_inflight_messages=IN_FLIGHT,
        max_concurrent_outgoing_calls=IN_FLIGHT,
        tls_context=tls,
    )
    try:
        async with client:
            yield Publisher(client)
    except aiomqtt.MqttError as error:
        raise BrokerError(f"cannot publish to {settings.mqtt_url}: {error}") from error
