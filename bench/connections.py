"""Connections: the broker's memory for devices that are connected and say nothing."""

from __future__ import annotations

import resource
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final

import psutil

from bench.errors import BenchError
from bench.mqtt import Client
from bench.report import Column, Table, progress

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stage import Stage

SPARE_FILES: Final = 100
"""Of those that this process may have open: for everything but connections."""


def measure(stage: Stage, sizes: Sizes) -> dict[str, Any]:
    """Bytes a connection; each has a session that is kept. The broker's own settings limit nothing."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most <= SPARE_FILES:
        raise BenchError(f"only {most} files may be open; `ulimit -n` has to be higher")
    devices = min(sizes.devices, most - SPARE_FILES)
    print("Connections: memory of the broker")
    table = Table([Column("connections", "{:,}".format), Column("memory", "{:,.0f} bytes each".format)])
    table.head()
    with stage.place() as place, ExitStack() as clients:
        progress(f"connections, {devices:,} devices")
        broker = psutil.Process(place.broker.pid)
        before = broker.memory_info().rss
        for number in range(devices):
            clients.enter_context(Client(place.broker.url, f"device-{number}"))
        each = (broker.memory_info().rss - before) / devices
    table.row(devices, each)
    return {"connections": devices, "broker_bytes_each": each}
