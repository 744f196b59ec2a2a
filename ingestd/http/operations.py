"""An operation of the API: a method and a path, what it asks and what it answers.

The same models read the request, make the answer, and describe both in the OpenAPI document.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar

from aiohttp import hdrs, web
from pydantic import BaseModel

from ingestd.http import parameters
from ingestd.http.conditional import conditional
from ingestd.http.parameters import Nothing, Question, StrictBody
from ingestd.http.shapes import Answer, answer
from ingestd.http.shared import shared

Content: TypeAlias = type[BaseModel] | str | None
"""A JSON object of this model, or a body of this media type; None: there is no body."""

Taken: TypeAlias = type[StrictBody] | Mapping[str, Any] | None
"""A body that is a JSON object of this model, or what this JSON Schema says; None: there is no body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    tag: str
    """The section of the document that it stands in."""
    handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    asks: type[Question] = Nothing
    """The query."""
    takes: Taken = None
    answers: Mapping[HTTPStatus, Content]
    problems: Collection[HTTPStatus] = ()
    """The statuses of problems that not every operation has."""

    @property
    def route(self) -> web.RouteDef:
        return web.RouteDef(self.method, self.path, self.handler, {})


_Asked = TypeVar("_Asked", bound=Question)
_Taken = TypeVar("_Taken", bound=StrictBody)
_Answered = TypeVar("_Answered", bound=Answer)


def asking(
    method: str,
    path: str,
    handler: Callable[[web.Request, _Asked], Awaitable[_Answered]],
    *,
    summary: str,
    tag: str,
    asks: type[_Asked],
    answers: type[_Answered],
    problems: Collection[HTTPStatus] = (),
    is_shared: bool = False,
) -> Operation:
    """An operation without a body, whose answer is a JSON object.

    `is_shared`: requests for the same address within a few seconds share the answer.
    """

    async def handle(request: web.Request) -> web.Response:
        return answer(await handler(request, parameters.question(request, asks)))

    answered = shared(handle) if is_shared else handle
    is_read = method == hdrs.METH_GET
    return Operation(
        method=method,
        path=path,
        summary=summary,
        tag=tag,
        handler=conditional(answered) if is_read else answered,
        asks=asks,
        answers={HTTPStatus.OK: answers} | ({HTTPStatus.NOT_MODIFIED: None} if is_read else {}),
        problems=problems,
    )


def raw(
    method: str,
    path: str,
    handler: Callable[[web.Request, _Asked], Awaitable[web.StreamResponse]],
    *,
    summary: str,
    tag: str,
    asks: type[_Asked],
    takes: Taken = None,
    answers: Mapping[HTTPStatus, Content],
    problems: Collection[HTTPStatus] = (),
) -> Operation:
    """An operation whose handler makes the response itself, and reads the body if there is one."""

    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(request, parameters.question(request, asks))

    return Operation(
        method=method,
        path=path,
        summary=summary,
        tag=tag,
        handler=handle,
        asks=asks,
        takes=takes,
        answers=answers,
        problems=problems,
    )


def taking(
    method: str,
    path: str,
    handler: Callable[[web.Request, _Taken], Awaitable[_Answered]],
    *,
    summary: str,
    tag: str,
    takes: type[_Taken],
    answers: type[_Answered],
    status: HTTPStatus = HTTPStatus.OK,
    problems: Collection[HTTPStatus] = (),
) -> Operation:
    """An operation with a body, whose answer is a JSON object too."""

    async def handle(request: web.Request) -> web.Response:
        parameters.question(request, Nothing)
        return answer(await handler(request, await parameters.body(request, takes)), status)

    return Operation(
        method=method,
        path=path,
        summary=summary,
        tag=tag,
        handler=handle,
        takes=takes,
        answers={status: answers},
        problems=problems,
    )
