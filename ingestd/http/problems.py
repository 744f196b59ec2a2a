"""All errors are answered as RFC 9457 `application/problem+json`."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Annotated, Any, Final, Literal

import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ingestd.errors import (
    ArchiveError,
    BufferFullError,
    ReplicaConflictError,
    ReplicaError,
    StoreError,
    WorkerAwayError,
)
from ingestd.http import request_id
from ingestd.http.broken import BROKEN
from ingestd.model.stream import Stream

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RETRY_AFTER_SECONDS: Final = 5
_WORKER_AWAY: Final = (
    "a worker of the database does not answer, and the answer needs rows that it has; other devices can be asked about"
)
_HEADERS: Final = {
    HTTPStatus.SERVICE_UNAVAILABLE: {"Retry-After": str(RETRY_AFTER_SECONDS)},
    HTTPStatus.UNSUPPORTED_MEDIA_TYPE: {"Accept": "application/json", "Accept-Encoding": "identity"},
}
"""Headers of every answer of a status."""


def _absent(description: str) -> Any:  # noqa: ANN401 - a pydantic field description has no narrower type
    """A member that other problems do not have."""
    return Field(description=description, exclude_if=lambda value: value is None)


class ProblemDetails(BaseModel):
    """A problem (RFC 9457). Further members depend on the problem."""

    model_config = ConfigDict(extra="allow", alias_generator=to_camel, validate_by_name=True, serialize_by_alias=True)

    type: Literal["about:blank"] = "about:blank"
    title: str
    status: int
    detail: str
    request_id: str
    parameter: Annotated[str | None, _absent("the parameter, or the field of the body, that is wrong")] = None
    smallest_bucket: Annotated[str | None, _absent("a bucket that will do")] = None
    reason: Annotated[str | None, _absent("of a reading that is refused")] = None


class Problem(Exception):  # noqa: N818 - the RFC's word for it
    """A route raises it, and it becomes the answer. Further members are extension members (RFC 9457 §3.2)."""

    def __init__(self, status: HTTPStatus, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.members = members


def bad_parameter(name: str, detail: str, **members: object) -> Problem:
    """400 that names the parameter at fault."""
    return Problem(HTTPStatus.BAD_REQUEST, f"{name}: {detail}", parameter=name, **members)


def unknown(stream: Stream, device_id: str | None) -> Problem:
    """404: the device has never sent a reading."""
    return Problem(HTTPStatus.NOT_FOUND, f"no {stream.name} {device_id} is known")


def response(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None, **members: object) -> web.Response:
    identity = request_id.current()
    headers = _HEADERS.get(status, {}) | {request_id.HEADER: identity} | (headers or {})
    body = ProblemDetails.model_validate(
        {"title": status.phrase, "status": status.value, "detail": detail, "requestId": identity, **members}
    )
    content = body.model_dump_json().encode()
    return web.Response(status=status, body=content, content_type="application/problem+json", headers=headers)


def of_aiohttp(error: web.HTTPException) -> web.Response:
    """The answer to what aiohttp itself refuses."""
    status = HTTPStatus(error.status)
    kept = {name: value for name, value in error.headers.items() if name in {"Allow", "Location"}}
    return response(status, error.reason or status.phrase, kept)


def _outage(error: StoreError) -> str:
    if isinstance(error, ReplicaConflictError):
        return "the replica for reading ended the query to go on with replication; ask again"
    if isinstance(error, ReplicaError):
        return "the replica for reading does not answer"
    if isinstance(error, WorkerAwayError):
        return _WORKER_AWAY
    return "the database does not answer"


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answers what a route raises with a problem. No client sees a traceback or an HTML page."""
    try:
        return await handler(request)
    except Problem as problem:
        return response(problem.status, problem.detail, None, **problem.members)
    except BufferFullError as error:
        return response(HTTPStatus.SERVICE_UNAVAILABLE, f"cannot take readings in at the moment: {error}")
    except StoreError as error:
        log.warning("request_failed", path=request.path, reason=str(error))
        return response(HTTPStatus.SERVICE_UNAVAILABLE, _outage(error))
    except ArchiveError as error:
        log.warning("archive_not_read", path=request.path, reason=str(error))
        return response(HTTPStatus.SERVICE_UNAVAILABLE, "the archive cannot be read")
    except web.HTTPException as error:
        return of_aiohttp(error)
    except ConnectionError as error:
        request.app[BROKEN].note(f"the client is gone: {error}", remote=request.remote)
        raise
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("route_failed", path=request.path)
        return response(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours; it is in the log")
