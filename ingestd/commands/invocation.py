"""What commands have in common: they read the settings, and run on an event loop."""

import asyncio
import os
import pwd
import socket
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any, TypeVar

import click
import structlog

from ingestd import logs, sources
from ingestd.config import Settings

log = structlog.get_logger(__name__)

T = TypeVar("T")


def settings_of(context: click.Context) -> Settings:
    settings: Settings = context.obj()
    logs.set_up(level=settings.log_level, style=settings.log_format)
    if ignored := sources.injected(os.environ):
        log.debug("kubernetes_variables_ignored", variables=ignored)
    return settings


def who(command: str) -> str:
    """Who runs a command, for the audit."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name  # not by the environment, where anybody may be anybody
    except KeyError:  # an account without a name, as containers may have
        user = str(os.getuid())
    return f"command {command} ({user}@{socket.gethostname()})"


def run_to_end(main: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run to the end on uvloop where it is installed: about a third less CPU a message."""
    factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
    if find_spec("uvloop"):  # not on every platform
        import uvloop  # noqa: PLC0415

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main())
