"""Errors as RFC 9457 `application/problem+json`, whatever they come from."""

import asyncio
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Final

import structlog
from aiohttp import web
from pydantic_core import to_json

from ingestd.errors import BufferFullError, StoreError

log = structlog.get_logger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

RETRY_AFTER_SECONDS: Final = 5


class Problem(Exception):  # noqa: N818 - the RFC's word for it
    """Raised by a route; becomes the answer. Extra members are the RFC's extension members."""

    def __init__(self, status: HTTPStatus, detail: str, **members: object) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.members = members


def bad_parameter(name: str, detail: str, **members: object) -> Problem:
    """400 that names the parameter at fault."""
    return Problem(HTTPStatus.BAD_REQUEST, f"{name}: {detail}", parameter=name, **members)


def response(status: HTTPStatus, detail: str, headers: dict[str, str] | None = None, **members: object) -> web.Response:
    body = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        **members,
    }
    return web.Response(status=status, body=to_json(body), content_type="application/problem+json", headers=headers)


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a route raises into a problem; nobody ever sees a traceback or an HTML page."""
    retry = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    try:
        return await handler(request)
    except Problem as problem:
        later = retry if problem.status == HTTPStatus.SERVICE_UNAVAILABLE else None
        return response(problem.status, problem.detail, later, **problem.members)
    except BufferFullError as error:
        return response(HTTPStatus.SERVICE_UNAVAILABLE, f"cannot take readings in at the moment: {error}", retry)
    except StoreError as error:
        log.warning("request failed", path=request.path, reason=str(error))
        return response(HTTPStatus.SERVICE_UNAVAILABLE, "the database does not answer", retry)
    except web.HTTPException as error:
        status = HTTPStatus(error.status)
        kept = {name: value for name, value in error.headers.items() if name in {"Allow", "Location"}}
        return response(status, error.reason or status.phrase, kept)
    except web.RequestPayloadError:
        return response(HTTPStatus.BAD_REQUEST, "the body is not encoded as its headers say")
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("route failed", path=request.path)
        return response(HTTPStatus.INTERNAL_SERVER_ERROR, "an error of ours; it is in the log")
