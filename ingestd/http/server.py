"""The web server of the daemon."""

import asyncio
from functools import partial
from typing import Final

from aiohttp import hdrs, web

from ingestd.errors import IngestdError
from ingestd.http import documents
from ingestd.http.authorization import AUTHORIZATION, Authorization, authorize
from ingestd.http.bodies import BODIES, Bodies
from ingestd.http.broken import BROKEN, BrokenRequests
from ingestd.http.browsers import ALLOWED, Allowed, refuse_foreign, set_headers
from ingestd.http.cancellation import carry_changes_through
from ingestd.http.connection import SERVER_NAME, Connection
from ingestd.http.event_streams import EVENT_STREAMS, EventStreams, end_event_streams
from ingestd.http.exports import UNDER_WAY, end_exports
from ingestd.http.heavy import HEAVY_READS, HeavyReads
from ingestd.http.open_connections import OpenConnections
from ingestd.http.problems import problems
from ingestd.http.request_id import identify, set_request_id
from ingestd.http.request_metrics import count_requests, expect_routes
from ingestd.http.routes import OPERATIONS
from ingestd.http.services import SERVICES, Services
from ingestd.http.shared import SHARED_ANSWERS, SharedAnswers
from ingestd.http.tls_listener import BACKLOG, TlsListener
from ingestd.server_tls import ServerTls

SHUTDOWN_SECONDS: Final = 0.5
"""How long answers under way may take when the server stops. aiohttp then cancels them, and waits as long again."""


class HttpServer:
    """Listens from `start` to `stop`."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        allowed: Allowed,
        services: Services,
        authorization: Authorization,
        tls: ServerTls | None,
    ) -> None:
        self._host = host
        self._port = port
        self._app = web.Application(
            middlewares=[count_requests, identify, carry_changes_through, problems, refuse_foreign, authorize]
        )
        self._broken = BrokenRequests()
        self._connections = OpenConnections()
        self._app[ALLOWED] = allowed
        self._app[SERVICES] = services
        self._app[AUTHORIZATION] = authorization
        self._app[BROKEN] = self._broken
        self._app[BODIES] = Bodies()
        self._app[UNDER_WAY] = {}
        self._streams = EventStreams(services.changes, metrics=services.requests)
        self._app[EVENT_STREAMS] = self._streams
        self._app[HEAVY_READS] = HeavyReads()
        self._app[SHARED_ANSWERS] = SharedAnswers()
        self._app.on_shutdown.append(end_exports)
        self._app.on_shutdown.append(end_event_streams)
        self._app.add_routes(operation.route for operation in OPERATIONS)
        documents.prepare(self._app, OPERATIONS, are_tokens_used=authorization.is_required)
        expect_routes(self._app, services.requests)
        self._app.on_response_prepare.append(set_request_id)
        self._app.on_response_prepare.append(_name_the_server)
        self._app.on_response_prepare.append(set_headers)
        self._runner = web.AppRunner(
            self._app,
            handler_cancellation=True,
            shutdown_timeout=SHUTDOWN_SECONDS,
        )
        self._tls = tls
        self._listening: asyncio.Server | TlsListener | None = None

    async def start(self) -> int:
        """Listen; returns the port. The system chooses it if 0 was given. Raises IngestdError."""
        await self._runner.setup()
        try:
            return await self._listen()
        except (OSError, UnicodeError) as error:  # UnicodeError: the host cannot be a name
            reason = getattr(error, "strerror", None) or error
            raise IngestdError(f"cannot listen on {self._host}:{self._port}: {reason}") from error

    async def _listen(self) -> int:
        assert self._runner.server is not None  # noqa: S101 - made by setup
        loop = asyncio.get_running_loop()
        # Not by web.TCPSite, which makes connections of aiohttp's own class only.
        connection = partial(
            Connection, self._runner.server, loop=loop, broken=self._broken, connections=self._connections
        )
        if self._tls is None:
            self._listening = await loop.create_server(connection, self._host, self._port, backlog=BACKLOG)
            port: int = self._listening.sockets[0].getsockname()[1]
            return port
        self._listening = TlsListener(
            tls=self._tls,
            broken=self._broken,
            connections=self._connections,
            new_connection=lambda handshake: connection(handshake=handshake),
        )
        return await self._listening.listen(self._host, self._port)

    async def watch(self) -> None:
        """Accept connections with TLS, end those that keep the server waiting, feed event streams, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._streams.run(), name="http-event-streams")
            tasks.create_task(self._connections.watch(), name="http-watch")
            if isinstance(self._listening, TlsListener):
                tasks.create_task(self._listening.accept(), name="http-accept")

    async def stop(self) -> None:
        if self._listening is not None:
            self._listening.close()
        await self._runner.cleanup()


async def _name_the_server(_: web.Request, response: web.StreamResponse) -> None:
    """Set the headers that every answer has, also an answer that begins inside a route, such as an export."""
    response.headers[hdrs.SERVER] = SERVER_NAME
