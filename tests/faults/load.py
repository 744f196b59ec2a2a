"""Readings under way while something fails, and the check that each acknowledged one is stored, once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tests.support.devices import Acknowledged, Device
from tests.support.polling import until
from tests.support.readings import count, endless, keys_promised, keys_stored

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ingestd.demo.servers import PrivateMosquitto
    from tests.support.daemon import Daemon


class Load:
    """A publisher that runs until the context ends. Then `acknowledged` is set."""

    def __init__(self) -> None:
        self.acknowledged: list[Acknowledged] = []


@contextmanager
def load(broker: PrivateMosquitto, *, rate: float) -> Iterator[Load]:
    """Readings at `rate` a second from another thread for as long as the context lasts."""
    stop = threading.Event()
    result = Load()

    def publish() -> list[Acknowledged]:
        with Device(broker.url) as device:
            return device.publish_many(endless(stop.is_set), rate=rate)

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        try:
            yield result
        finally:
            stop.set()
            result.acknowledged = publishing.result()


def wait_for_more(database_url: str, rows: int) -> None:
    before = count(database_url, "meter_history")
    until(lambda: count(database_url, "meter_history") > before + rows, within=20)


def wait_for_connection(daemon: Daemon, number: int) -> None:
    until(lambda: daemon.metric("ingestd_broker_connections_total") == number)


def assert_all_stored_once(load: Load, database_url: str) -> None:
    promised = keys_promised(load.acknowledged)
    assert len(promised) > 0
    until(lambda: promised <= set(keys_stored(database_url)), within=30)
    stored = keys_stored(database_url)
    assert len(set(stored)) == len(stored)


def assert_counters_balance(daemon: Daemon) -> None:
    """Each received message is counted by exactly one counter, and none is in flight."""
    until(lambda: daemon.metric("ingestd_in_flight") == 0)
    headings = ("committed", "duplicate", "dead_lettered")
    settled = sum(daemon.metric(f"ingestd_{heading}_total") for heading in headings)
    assert daemon.metric("ingestd_received_total") == settled
