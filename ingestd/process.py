"""The process of the daemon: signals, systemd, garbage collection."""

import asyncio
import gc
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog

log = structlog.get_logger(__name__)

NOTIFY_SECONDS: Final = 1.0
"""systemd takes a state at once; if it hangs, the event loop must not wait for it."""


def tune_garbage_collection() -> None:
    """Collect garbage less often: the many rows hold no reference cycles. This saves 5 % of the CPU of a message."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@asynccontextmanager
async def stop_signals(*, within: float, on_hangup: Callable[[], None]) -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM or SIGINT sets; a second signal ends the process at once.

    So does a stop that takes longer than `within` seconds, whatever hangs.

    SIGHUP calls `on_hangup`.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        if stop.is_set():
            _exit_at_once()
        stop.set()
        loop.call_later(within, _exit_at_once)

    handlers = {signal.SIGTERM: on_signal, signal.SIGINT: on_signal, signal.SIGHUP: on_hangup}
    for number, handler in handlers.items():
        loop.add_signal_handler(number, handler)
    try:
        yield stop
    finally:
        for number in handlers:
            loop.remove_signal_handler(number)


def _exit_at_once() -> None:
    log.error("exited_before_drained")
    sys.stderr.flush()
    os._exit(1)


def notify_systemd(state: str) -> None:
    """Report the state to systemd (sd_notify(3)), if it started us."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.settimeout(NOTIFY_SECONDS)
            notify.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError as error:
        log.warning("systemd_not_notified", state=state.partition("\n")[0], reason=str(error))


@contextmanager
def reload_notified(*, is_ready: bool) -> Iterator[None]:
    """Tell systemd that files are read again, and when that is done. Before READY it must not be told so."""
    if is_ready:
        notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
    try:
        yield
    finally:
        if is_ready:
            notify_systemd("READY=1")


def watchdog_seconds() -> float | None:
    """How long systemd waits for a sign of life (WatchdogSec=) before it ends us; None: for ever."""
    microseconds = os.environ.get("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or os.environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    return int(microseconds) / 1_000_000 or None
