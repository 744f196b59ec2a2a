"""The address of the broker, our account there, and how to connect."""

import asyncio
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import urlsplit

from aiohappyeyeballs import start_connection

from ingestd import tls
from ingestd.config import Settings
from ingestd.errors import BrokerError
from ingestd.model.stream import STREAMS

NEXT_ADDRESS_SECONDS: Final = 0.25
"""A name may have several addresses; the next is tried when one has not answered for this long (RFC 8305)."""

_Protocol = TypeVar("_Protocol", bound=asyncio.BaseProtocol)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAddress:
    """`tls` makes the TLS context. It is called at each connection, so that renewed certificates are used. Raises
    ConfigError.
    """

    url: str
    client_id: str
    username: str | None = None
    password: str | None = None
    shared_group: str | None = None
    tls: Callable[[], ssl.SSLContext | None] = lambda: None

    @classmethod
    def of(cls, settings: Settings) -> "BrokerAddress":
        password = settings.mqtt_password
        return cls(
            url=settings.mqtt_url,
            client_id=settings.mqtt_client_id,
            username=settings.mqtt_username,
            password=password.get_secret_value() if password else None,
            shared_group=settings.mqtt_shared_group,
            tls=settings.tls,
        )

    @property
    def host(self) -> str:
        return urlsplit(self.url).hostname or "127.0.0.1"

    @property
    def is_tls(self) -> bool:
        return urlsplit(self.url).scheme == "mqtts"

    @property
    def port(self) -> int:
        return urlsplit(self.url).port or (8883 if self.is_tls else 1883)

    @property
    def place(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def filters(self) -> list[str]:
        return filters(self.shared_group)

    async def dial(self, protocol_factory: Callable[[], _Protocol], *, within: float) -> _Protocol:
        """Connect to the first of the broker's addresses that answers. Raises BrokerError, ConfigError."""
        loop = asyncio.get_running_loop()
        context = await asyncio.to_thread(self.tls)  # reads files
        try:
            async with asyncio.timeout(within):
                found = await loop.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM)
                # Not by create_connection: uvloop's tries one address after the other, each for minutes.
                sock = await start_connection(found, happy_eyeballs_delay=NEXT_ADDRESS_SECONDS)
        except TimeoutError as error:
            raise BrokerError(f"no answer from {self.place}") from error
        except (OSError, UnicodeError) as error:  # the latter where it can be no name
            raise BrokerError(f"cannot reach {self.place}: {_in_words(error)}") from error
        try:
            async with asyncio.timeout(within):
                name = self.host if context else None
                _, protocol = await loop.create_connection(
                    protocol_factory, sock=sock, ssl=context, server_hostname=name
                )
        except TimeoutError as error:
            raise BrokerError(f"{self.place}: no answer to the TLS handshake; perhaps {tls.NO_TLS}") from error
        except ConnectionError as error:
            raise BrokerError(f"{self.place}: it ends the TLS handshake; perhaps {tls.NO_TLS}") from error
        except OSError as error:
            raise BrokerError(f"{self.place}: {tls.explain(error)}") from error
        return protocol


def filters(shared_group: str | None) -> list[str]:
    """What is subscribed to for telemetry."""
    prefix = f"$share/{shared_group}/" if shared_group else ""
    return [prefix + stream.topic_filter for stream in STREAMS]


def _in_words(error: OSError | UnicodeError) -> str:
    if isinstance(error, OSError) and error.errno and not isinstance(error, socket.gaierror):
        return os.strerror(error.errno)  # asyncio's own text does not say what is wrong
    return getattr(error, "strerror", None) or str(error)
