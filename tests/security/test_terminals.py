# ruff: noqa: SIM300 - expected == actual
"""What devices send does not command the terminal of those who look at it. Before, `show` printed ESC as it came."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.daemon import Daemon
from tests.support.devices import Device
from tests.support.polling import until
from tests.support.readings import count

if TYPE_CHECKING:
    from ingestd.demo.servers import PrivateMosquitto

TITLE = "\x1b]0;owned\x07"
"""Sets the title of a terminal's window."""


def test_dead_letters_are_shown_and_listed_without_control_characters(
    broker: PrivateMosquitto, database_url: str
) -> None:
    with Daemon(mqtt_url=broker.url, database_url=database_url, flush_interval=0.1) as daemon:
        daemon.wait_healthy()
        with Device(broker.url) as device:
            device.publish("meters/m-1/telemetry", f"{TITLE}\x9b31m\u202e\r\n\ttext".encode())
        daemon.request("POST", "/v1/telemetry", body={TITLE: 1, "meterId": "m-1"})
        until(lambda: count(database_url, "dead_letter") == 2)
        listed = daemon.command("dead-letters", "list")
        ids = [line.split("\t")[0] for line in listed.splitlines()[1:]]
        shown = "".join(daemon.command("dead-letters", "show", letter) for letter in ids)

    assert 2 == len(ids)
    assert [] == [character for character in listed + shown if character in "\x1b\x07\x9b\r\u202e"]
    assert r"payload: \x1b]0;owned\x07\x9b31m\u202e\r" in shown
