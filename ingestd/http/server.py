"""The embedded web server: built from its ports, started and stopped by the composition root."""

from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from ingestd.analytics import Judgement
from ingestd.errors import IngestdError
from ingestd.http.cancellation import carry_changes_through
from ingestd.http.exports import UNDER_WAY, end_exports
from ingestd.http.heavy import HEAVY_READS, HeavyReads
from ingestd.http.intake import Intake
from ingestd.http.ports import (
    ALERTS,
    ANALYTICS,
    CONDITION,
    DEAD_LETTERS,
    DEVICES,
    EXPORTS,
    EXPOSITION,
    INTAKE,
    JUDGEMENT,
    MAPPINGS,
    PING,
    SERIES,
    THRESHOLDS,
    Alerts,
    Analytics,
    Condition,
    DeadLetters,
    Devices,
    Exports,
    Mappings,
    Series,
    Thresholds,
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

    def __init__(  # noqa: PLR0913 - one for each port, all by name
        self,
        *,
        host: str,
        port: int,
        intake: Intake,
        analytics: Analytics,
        series: Series,
        devices: Devices,
        thresholds: Thresholds,
        mappings: Mappings,
        exports: Exports,
        dead_letters: DeadLetters,
        alerts: Alerts,
        condition: Callable[[], Condition],
        ping: Callable[[], Awaitable[None]],
        exposition: Callable[[], bytes],
        judgement: Judgement,
    ) -> None:
        self._host = host
        self._port = port
        self._app = web.Application(middlewares=[problems, carry_changes_through], client_max_size=MAX_BODY_BYTES)
        self._app[INTAKE] = intake
        self._app[ANALYTICS] = analytics
        self._app[SERIES] = series
        self._app[DEVICES] = devices
        self._app[THRESHOLDS] = thresholds
        self._app[MAPPINGS] = mappings
        self._app[EXPORTS] = exports
        self._app[UNDER_WAY] = set()
        self._app.on_shutdown.append(end_exports)
        self._app[DEAD_LETTERS] = dead_letters
        self._app[ALERTS] = alerts
        self._app[CONDITION] = condition
        self._app[PING] = ping
        self._app[HEAVY_READS] = HeavyReads()
        self._app[EXPOSITION] = exposition
        self._app[JUDGEMENT] = judgement
        self._app.add_routes(ROUTES)
        self._runner = web.AppRunner(
            self._app,
            access_log=None,
            handler_cancellation=True,
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
