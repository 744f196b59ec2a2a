"""The publishers of a campaign. They note in SentReadings what was acknowledged."""

from __future__ import annotations

import http.client
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Self

from tests.faults.numbered import is_poison
from tests.support.devices import Device
from tests.support.readings import NOBODY_SUBSCRIBED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from concurrent.futures import Future
    from types import TracebackType

    from tests.faults.numbered import SentReadings
    from tests.support.daemon import Daemon

CLIENTS: Final = 4
POST_SECONDS: Final = 0.25
LAST_ACKNOWLEDGEMENTS_SECONDS: Final = 30.0
"""How long the last PUBACKs are waited for."""
POSTED: Final = 10
"""Readings in a request."""
FIRST_REFUSAL: Final = 0x80
"""Reason codes from here on are failures (MQTT 5.0 §2.4)."""


class Publishers:
    """A few MQTT clients at `rate` messages a second together, and one that posts over HTTP.

    Leaving waits until everything sent over MQTT is acknowledged, half a minute at most; in an error not at all.
    """

    def __init__(self, *, sent: SentReadings, broker_url: str, daemon: Daemon, rate: float) -> None:
        self._sent = sent
        self._broker_url = broker_url
        self._daemon = daemon
        self._rate = rate / CLIENTS
        self._last_wait = LAST_ACKNOWLEDGEMENTS_SECONDS
        self._stop = threading.Event()
        self._pool = ThreadPoolExecutor(CLIENTS + 1, thread_name_prefix="publisher")
        self._running: list[Future[None]] = []
        self.posted = 0
        """Readings acknowledged with a 201."""

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self._publish) for _ in range(CLIENTS)]
        self._running.append(self._pool.submit(self._post))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._last_wait = LAST_ACKNOWLEDGEMENTS_SECONDS if error is None else 0.0
        self._stop.set()
        self._pool.shutdown()
        for publisher in self._running:
            publisher.result()

    def _publish(self) -> None:
        with Device(self._broker_url) as device:
            while not self._stop.is_set():
                self._send(device, self._sent.take(max(1, int(self._rate))), within=5.0)
            self._send(device, range(0), within=self._last_wait)

    def _send(self, device: Device, numbers: Sequence[int], *, within: float) -> None:
        messages = (self._sent.message(number) for number in numbers)
        try:
            acknowledged = device.publish_many(messages, rate=self._rate, within=within)
        except TimeoutError:
            return  # the window is full while the broker is away; the device still tries
        for message in acknowledged:
            if message.reason_code != NOBODY_SUBSCRIBED and message.reason_code < FIRST_REFUSAL:
                self._sent.promise(message.payload)

    def _post(self) -> None:
        while not self._stop.wait(POST_SECONDS):
            messages = [self._sent.message(n) for n in self._sent.take(POSTED) if not (is_poison(n) and n % 2)]
            payloads = [payload for _, payload in messages]
            body = b"[" + b",".join(payloads) + b"]"
            while not self._stop.is_set():
                if self._settled(body) == len(payloads):
                    for payload in payloads:
                        self._sent.promise(payload)
                    self.posted += len(payloads)
                    break
                self._stop.wait(POST_SECONDS)

    def _settled(self, body: bytes) -> int:
        """Post the body; returns how many of its readings are accepted, duplicates or rejected by the answer."""
        try:
            answer = self._daemon.request(
                "POST", "/v1/telemetry", body=body, headers={"Content-Type": "application/json"}, timeout=5.0
            )
        except (OSError, http.client.HTTPException):
            return 0
        if answer.status != http.client.CREATED:
            return 0
        told = json.loads(answer.body)
        settled: int = told["accepted"] + told["duplicates"] + len(told["rejected"])
        return settled
