"""Tokens of the HTTP API in tests: a file of them, requests that show one, and logins with one."""

from __future__ import annotations

import http.client
import json
from contextlib import closing
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from itertools import count as counting
from typing import TYPE_CHECKING, get_args

from ingestd.demo.process import LOOPBACK
from ingestd.model.token import Scope, made
from ingestd.tokens import TokensFile
from tests.support.daemon import Response

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.daemon import Daemon

NOW = datetime.now(UTC)
SCOPES: tuple[Scope, ...] = get_args(Scope)
_addresses = counting(2)


def address() -> str:
    """A loopback address of its own, as failures are counted by address."""
    number = next(_addresses)
    return f"127.1.{number // 250}.{number % 250 + 1}"


def ask(
    daemon: Daemon, method: str, path: str, *, token: str | None = None, body: object = None, source: str | None = None
) -> Response:
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    return ask_with(daemon, method, path, headers, body=body, source=source)


def ask_with(
    daemon: Daemon, method: str, path: str, headers: dict[str, str], *, body: object = None, source: str | None = None
) -> Response:
    port = int(daemon.url.rpartition(":")[2])
    sent = {**headers, "Content-Type": "application/json"} if body is not None else headers
    with closing(
        http.client.HTTPConnection(LOOPBACK, port, timeout=30, source_address=(source or address(), 0))
    ) as connection:
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=sent)
        answer = connection.getresponse()
        return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())


def reading(meter: str) -> dict[str, object]:
    return {"meterId": meter, "kwhConsumedAc": 0.1, "voltage": 230, "timestamp": datetime.now(UTC).isoformat()}


class Tokens:
    """A file of tokens with one of each scope, and some that are worth nothing."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = TokensFile(path)
        self.of: dict[Scope, str] = {
            "read": self.add("reader", "read"),
            "ingest": self.add("sender", "ingest", devices=("meter:mine", "vehicle:mine-too")),
            "admin": self.add("administrator", "admin"),
        }
        self.gateway = self.add("gateway", "ingest", devices=("*",))
        self.hostile = self.add("hostile", "ingest", devices=("*",))
        self.expired = self.add("expired", *SCOPES, devices=("*",), expires_at=NOW - timedelta(seconds=1))
        self.revoked = self.add("revoked", *SCOPES, devices=("*",))
        self.file.revoke(self.revoked.split("_")[1], at=NOW)

    def add(self, name: str, *scopes: Scope, devices: tuple[str, ...] = (), expires_at: datetime | None = None) -> str:
        token, text = made(name=name, scopes=frozenset(scopes), devices=frozenset(devices), expires_at=expires_at)
        self.file.add(token)
        return text


def log_in(daemon: Daemon, token: str, *, source: str | None = None) -> Response:
    return ask_with(daemon, "POST", "/login", {}, body={"token": token}, source=source)


def cookie(answer: Response) -> str:
    """The cookie that the answer sets, as a browser sends it back."""
    ((name, morsel),) = SimpleCookie(answer.headers["set-cookie"]).items()
    return f"{name}={morsel.value}"
