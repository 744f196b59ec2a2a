"""A device: it measures, keeps its readings on disk, and publishes them to ingestd with QoS 1.

A reading leaves the disk only when the broker has acknowledged it. It is never changed on the way: sent again it has
the same timestamp, so ingestd knows it as a duplicate and stores it once.
"""

from __future__ import annotations

import argparse
import json
import queue
import signal
import sqlite3
import ssl
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Final

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from paho.mqtt.properties import Properties
    from paho.mqtt.reasoncodes import ReasonCode

IN_FLIGHT: Final = 20
"""Readings that may wait for their acknowledgement."""
KEPT: Final = 1_000_000
"""Readings on disk, about 100 MB. Beyond that the oldest are given up."""
NOBODY_SUBSCRIBED: Final = 0x10
"""The broker took the message and gave it to nobody: ingestd has never been connected, or has lost its session."""


def measure(kind: str, at: float) -> dict[str, object]:
    """Replace this: what the device measures. The keys are those of docs/contract.md.

    A cumulative register is better than the energy of an interval: if a reading gets lost, its energy does not.
    """
    kwh = round(at / 3600 % 1_000_000, 4)  # 1 kW, all the time
    if kind == "meter":
        return {"kwhConsumedAcRegister": kwh, "voltage": 230.0}
    return {"soc": 50.0, "kwhDeliveredDcRegister": round(0.9 * kwh, 4), "batteryTemp": 25.0}


class StoreError(Exception):
    """The file cannot be the store of this device; the message says why."""


class Store:
    """Readings on disk, oldest first, until the broker has acknowledged them. They survive a loss of power.

    A file is of one device, which its topic names, and of one process at a time.
    """

    def __init__(self, path: Path, *, topic: str) -> None:
        """Raises StoreError."""
        try:
            self._database = sqlite3.connect(path, isolation_level=None, timeout=1.0)
            self._database.execute("PRAGMA synchronous = FULL")
            self._database.execute("PRAGMA locking_mode = EXCLUSIVE")  # from the first transaction until the end
            owner = self._owner(topic)
        except sqlite3.Error as error:
            in_use = error.sqlite_errorname == "SQLITE_BUSY"
            why = "is in use: this device runs already" if in_use else f"cannot be used: {error}"
            raise StoreError(f"{path} {why}") from error
        if owner != topic:
            raise StoreError(f"{path} has the readings of {owner}: give --store another file")

    def _owner(self, topic: str) -> str:
        """Whose file this is; a new file is of this device."""
        self._database.execute("BEGIN EXCLUSIVE")
        self._database.execute("CREATE TABLE IF NOT EXISTS reading (number INTEGER PRIMARY KEY, payload TEXT)")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS device (one INTEGER PRIMARY KEY CHECK (one = 1), topic TEXT)"
        )
        self._database.execute("INSERT INTO device VALUES (1, ?) ON CONFLICT DO NOTHING", (topic,))
        ((owner,),) = self._database.execute("SELECT topic FROM device").fetchall()
        self._database.execute("COMMIT")
        return str(owner)

    def add(self, payload: str) -> None:
        self._database.execute("INSERT INTO reading (payload) VALUES (?)", (payload,))
        self._database.execute("DELETE FROM reading WHERE number <= (SELECT max(number) FROM reading) - ?", (KEPT,))

    def oldest(self, count: int) -> list[tuple[int, str]]:
        return self._database.execute(
            "SELECT number, payload FROM reading ORDER BY number LIMIT ?", (count,)
        ).fetchall()

    def remove(self, number: int) -> None:
        self._database.execute("DELETE FROM reading WHERE number = ?", (number,))


class Sender:
    """Publishes what is in the store. paho connects again by itself, and sends again what is not acknowledged."""

    def __init__(self, client: Client, store: Store, topic: str, *, retry: float) -> None:
        self._client, self._store, self._topic, self._retry = client, store, topic, retry
        self._under_way: dict[int, int] = {}  # message id to number
        self._paused_until = 0.0
        # paho calls from a thread of its own; the store is used by one thread only.
        self._answers: queue.Queue[tuple[int, int]] = queue.Queue()
        client.on_publish = self._on_publish

    def run(self, seconds: float) -> None:
        """Publish and take acknowledgements for so long."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._publish()
            try:
                self._take(*self._answers.get(timeout=min(left, 1.0)))
            except queue.Empty:
                continue

    def _publish(self) -> None:
        if not self._client.is_connected() or time.monotonic() < self._paused_until:
            return
        waiting = set(self._under_way.values())
        for number, payload in self._store.oldest(IN_FLIGHT):
            if number not in waiting:
                self._under_way[self._client.publish(self._topic, payload, qos=1).mid] = number

    def _take(self, message_id: int, reason: int) -> None:
        number = self._under_way.pop(message_id, None)
        if number is None:
            return
        if reason == 0:
            self._store.remove(number)
            return
        if time.monotonic() >= self._paused_until:  # once, also if all that is under way is refused
            why = "nobody is subscribed" if reason == NOBODY_SUBSCRIBED else f"the broker refuses it (0x{reason:02x})"
            print(f"not sent: {why}; it stays here and is sent again", file=sys.stderr)
        self._paused_until = time.monotonic() + self._retry

    def _on_publish(
        self, _client: Client, _data: object, message_id: int, reason: ReasonCode, _properties: Properties | None
    ) -> None:
        self._answers.put((message_id, reason.value))


def connected(options: argparse.Namespace) -> Client:
    """A client that connects, and connects again, in the background."""
    # MQTT 5, because its acknowledgement says whether the broker took the message.
    client = Client(
        CallbackAPIVersion.VERSION2, client_id=options.id, protocol=MQTTProtocolVersion.MQTTv5, userdata=Event()
    )
    client.max_inflight_messages_set(IN_FLIGHT)
    client.reconnect_delay_set(min_delay=1, max_delay=60)
    if options.password_file:
        # The account of a device has the name of the device.
        client.username_pw_set(options.id, options.password_file.read_text(encoding="utf-8").strip())
    if options.ca_file:
        context = ssl.create_default_context(cafile=options.ca_file)
        if options.certificate_file:
            context.load_cert_chain(options.certificate_file, options.key_file)
        client.tls_set_context(context)
    client.on_connect = on_connect
    client.on_connect_fail = on_connect_fail
    client.on_disconnect = on_disconnect
    client.connect_async(options.host, options.port, keepalive=30)
    client.loop_start()
    return client


def on_connect(
    client: Client, is_connected: Event, _flags: ConnectFlags, reason: ReasonCode, _properties: Properties | None
) -> None:
    if reason.is_failure:
        not_connected(reason)
    else:
        is_connected.set()
        print(f"connected to {client.host}:{client.port}", file=sys.stderr)


def on_connect_fail(_client: Client, _data: object) -> None:
    error = sys.exception()  # paho calls this from where it has caught it
    not_connected(error.strerror or error if isinstance(error, OSError) else "no answer")


def not_connected(reason: object) -> None:
    print(f"not connected: {reason}; it tries again", file=sys.stderr)


def on_disconnect(
    _client: Client, is_connected: Event, _flags: DisconnectFlags, reason: ReasonCode, _properties: Properties | None
) -> None:
    if is_connected.is_set():  # the end of a connection that was refused says nothing more
        print(f"disconnected: {reason}; it tries again", file=sys.stderr)
    is_connected.clear()


def moments(interval: float) -> Iterator[float]:
    """The times at which to measure: now, then whole multiples of the interval."""
    start = time.time()
    yield start
    number = start // interval
    while True:
        # After a suspension the times that have passed are left out.
        number = max(number + 1, time.time() // interval)
        yield number * interval


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kind", choices=("meter", "vehicle"), default="meter")
    parser.add_argument("--id", required=True, help="as in the topic; also the name of its account")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=1883)
    parser.add_argument("--password-file", type=Path, help="a file with the password")
    parser.add_argument("--ca-file", type=Path, help="TLS: the certificate of the broker's authority")
    parser.add_argument("--certificate-file", type=Path, help="TLS: the device's own certificate")
    parser.add_argument("--key-file", type=Path, help="TLS: its key")
    parser.add_argument("--store", type=Path, help="the file where readings wait (KIND-ID.db)")
    parser.add_argument("--interval", type=float, default=60.0, help="seconds between readings")
    parser.add_argument("--retry", type=float, default=30.0, help="seconds until what the broker refused is sent again")
    options = parser.parse_args()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    topic = f"{options.kind}s/{options.id}/telemetry"
    try:
        store = Store(options.store or Path(f"{options.kind}-{options.id}.db"), topic=topic)
    except StoreError as error:
        sys.exit(str(error))
    sender = Sender(connected(options), store, topic, retry=options.retry)
    for moment in moments(options.interval):
        sender.run(moment - time.time())
        timestamp = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        reading = {f"{options.kind}Id": options.id, **measure(options.kind, moment), "timestamp": timestamp}
        store.add(json.dumps(reading))
        print(timestamp, flush=True)


def end(_number: int, _frame: FrameType | None) -> None:
    """What is not acknowledged stays on disk."""
    sys.exit()


if __name__ == "__main__":
    main()
