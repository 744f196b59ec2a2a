"""`python -m tests.faults.broker_loss`: what Mosquitto itself loses of what it has acknowledged, when it is killed.

That loss lies before ingestd: a message is gone that was never delivered. It is measured with a subscriber that is
away (everything is at stake) and with one that is connected and acknowledges at once (only what is on its way is),
for each way to set persistence. A device publishes QoS 1 until the broker is killed with SIGKILL; it is started
again, and a subscriber of the same session counts what is still there.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Final, NamedTuple

from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from ingestd.demo.process import LOOPBACK
from ingestd.demo.servers import PrivateMosquitto
from tests.support.devices import Device

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.devices import Acknowledged

TOPIC: Final = "meters/m-1/telemetry"
QUIET_SECONDS: Final = 1.0
"""If no message has come for this long, none is left."""


class Setting(NamedTuple):
    """Lines of mosquitto.conf, and what they are called in the table."""

    name: str
    persistence: bool
    lines: tuple[str, ...] = ()


SETTINGS: Final = (
    Setting("persistence off", persistence=False),
    Setting("autosave_interval 60 (as shipped)", persistence=True, lines=("autosave_interval 60",)),
    Setting("autosave_interval 1", persistence=True, lines=("autosave_interval 1",)),
    Setting(
        "autosave_on_changes true, autosave_interval 1000",
        persistence=True,
        lines=("autosave_on_changes true", "autosave_interval 1000"),
    ),
    Setting(
        "autosave_on_changes true, autosave_interval 1",
        persistence=True,
        lines=("autosave_on_changes true", "autosave_interval 1"),
    ),
)


class Subscriber:
    """A session like that of ingestd: the broker keeps it while nobody is connected."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._messages: SimpleQueue[bytes] = SimpleQueue()
        self._subscribed = threading.Event()
        self._client = Client(
            CallbackAPIVersion.VERSION2,
            client_id="ingestd",
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,
        )
        self._client.on_message = self._on_message
        self._client.on_subscribe = lambda *_: self._subscribed.set()

    def connect(self) -> None:
        properties = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
        properties.SessionExpiryInterval = 86_400
        properties.ReceiveMaximum = 65_000
        self._client.connect(LOOPBACK, self._port, clean_start=False, properties=properties)
        self._client.loop_start()
        self._client.subscribe(TOPIC, qos=1)
        if not self._subscribed.wait(10.0):
            raise TimeoutError("no SUBACK")

    def leave(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def received(self) -> Iterator[bytes]:
        """Payloads, until no more come."""
        while True:
            try:
                yield self._messages.get(timeout=QUIET_SECONDS)
            except Empty:
                return

    def _on_message(self, _client: Client, _userdata: object, message: MQTTMessage) -> None:
        self._messages.put(bytes(message.payload))


def measure(setting: Setting, *, seconds: float, rate: float, connected: bool) -> tuple[int, int]:
    """(messages that the broker acknowledged, how many of them were never delivered)."""
    with PrivateMosquitto(persistence=setting.persistence, config=setting.lines) as broker:
        before = Subscriber(broker.port)
        before.connect()
        if not connected:
            before.leave()
        acknowledged = _publish_until_killed(broker, seconds=seconds, rate=rate)
        got = set(before.received()) if connected else set()
        before.leave()
        broker.start()
        after = Subscriber(broker.port)
        after.connect()
        got |= set(after.received())
        after.leave()
    promised = {message.payload for message in acknowledged if message.reason_code == 0}
    return len(promised), len(promised - got)


def _publish_until_killed(broker: PrivateMosquitto, *, seconds: float, rate: float) -> list[Acknowledged]:
    stop = threading.Event()

    def messages() -> Iterator[tuple[str, bytes]]:
        number = 0
        while not stop.is_set():
            yield TOPIC, b"%d" % number
            number += 1

    def publish() -> list[Acknowledged]:
        with Device(broker.url) as device:
            return device.publish_many(messages(), rate=rate, within=1.0)

    with ThreadPoolExecutor(1) as pool:
        publishing = pool.submit(publish)
        time.sleep(seconds)
        broker.kill()
        stop.set()
        return publishing.result()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0, help="how long messages come before the kill")
    parser.add_argument("--rate", type=float, default=1000.0, help="messages a second")
    parser.add_argument("--times", type=int, default=3, help="how often each is measured")
    options = parser.parse_args()
    _say("| broker | subscriber | kills | acknowledged | lost | worst kill |", "|---|---|---|---|---|---|")
    for connected in (False, True):
        for setting in SETTINGS:
            runs = [
                measure(setting, seconds=options.seconds + 0.37 * n, rate=options.rate, connected=connected)
                for n in range(options.times)
            ]
            acknowledged, lost = sum(a for a, _ in runs), sum(lost for _, lost in runs)
            worst = max(lost / options.rate for _, lost in runs)
            _say(
                f"| {setting.name} | {'connected' if connected else 'away'} | {len(runs)} | {acknowledged} "
                f"| {lost} ({100 * lost / acknowledged:.1f} %) | {worst:.2f} s of readings |"
            )


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


if __name__ == "__main__":
    main()
