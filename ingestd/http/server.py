"""The embedded web server: built from its ports, started and stopped by the composition root."""

from collections.abc import Callable
from typing import Final

from aiohttp import web

from ingestd.errors import IngestdError
from ingestd.http.intake import Intake
from ingestd.http.ports import (
    ANALYTICS,
    CONDITION,
    DEAD_LETTERS,
    EXPOSITION,
    INTAKE,
    MAPPINGS,
    THRESHOLD,
    Analytics,
    Condition,
    DeadLetters,
    Mappings,
)
from ingestd.http.problems import problems
from ingestd.http.routes import ROUTES

MAX_BODY_BYTES: Final = 4 * 1024 * 1024
"""Room for 10,000 ordinary readings of some 150 bytes, twice over."""
KEEP_ALIVE_SECONDS: Final = 75.0
SHUTDOWN_SECONDS: Final = 1.0
"""How long answers under way may take when the server stops."""


class HttpServer:
    """Listens from `start` to `stop`."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        intake: Intake,
        analytics: Analytics,
        mappings: Mappings,
        dead_letters: DeadLetters,
        condition: Callable[[], Condition],
        exposition: Callable[[], bytes],
        efficiency_threshold: float,
    ) -> None:
        self._host = host
        self._port = port
        self._app = web.Application(middlewares=[problems], client_max_size=MAX_BODY_BYTES)
        self._app[INTAKE] = intake
        self._app[ANALYTICS] = analytics
        self._app[MAPPINGS] = mappings
        self._app[DEAD_LETTERS] = dead_letters
        self._app[CONDITION] = condition
        self._app[EXPOSITION] = exposition
        self._app[THRESHOLD] = efficiency_threshold
        self._app.add_routes(ROUTES)
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            keepalive_timeout=KEEP_ALIVE_SECONDS,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )

    async def start(self) -> int:
        """Listen; returns the port, which the system chose where 0 was asked for. Raises IngestdError."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        try:
            await site.start()
        except OSError as error:
            raise IngestdError(f"cannot listen on {self._host}:{self._port}: {error.strerror or error}") from error
        port: int = self._runner.addresses[0][1]
        return port

    async def stop(self) -> None:
        await self._runner.cleanup()
