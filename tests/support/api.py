"""The HTTP API as a client sees it: mappings made, problems looked into."""

from __future__ import annotations

import http.client
import socket
from contextlib import closing
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from uuid import uuid4

from tests.support.daemon import Response
from tests.support.readings import rfc3339

if TYPE_CHECKING:
    from datetime import datetime

    from tests.support.daemon import Daemon

MAPPINGS = "/v1/analytics/mappings"
PROBLEM = "application/problem+json"


class Names:
    """Ids of devices that no other test has."""

    def __init__(self) -> None:
        suffix = uuid4().hex[:8]
        self.vehicle = f"EV-{suffix}"
        self.meter = f"m-{suffix}"
        self.other_meter = f"n-{suffix}"


def map_vehicle(daemon: Daemon, vehicle_id: str, meter_id: str, valid_from: datetime | None = None) -> Response:
    change = {"vehicleId": vehicle_id, "meterId": meter_id}
    if valid_from is not None:
        change["validFrom"] = rfc3339(valid_from)
    return daemon.request("POST", MAPPINGS, body=change)


def connected(daemon: Daemon) -> socket.socket:
    """A connection for bytes that no HTTP library would send."""
    url = urlsplit(daemon.url)
    assert url.hostname
    assert url.port
    return socket.create_connection((url.hostname, url.port), timeout=10)


def answer_on(client: socket.socket) -> Response:
    """The answer of the daemon; raises HTTPException if it is not HTTP."""
    with closing(http.client.HTTPResponse(client)) as answer:
        answer.begin()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def assert_problem(answer: Response, status: int, **members: object) -> str:
    """An RFC 9457 problem with these extension members; returns its detail."""
    assert (status, PROBLEM) == (answer.status, answer.headers["content-type"]), answer.body
    problem = answer.json()
    detail = problem.pop("detail")
    title = problem.pop("title")
    assert problem.pop("requestId") == answer.headers["x-request-id"]
    assert {"type": "about:blank", "status": status, **members} == problem
    assert title
    assert detail
    return str(detail)
