"""ingestd as it runs: started, healthy, asked over HTTP, ended."""

from __future__ import annotations

import http.client
import math
import re
import sys
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Final

from bench.errors import BenchError
from bench.processes import Child, wait_until
from bench.stage import ingestd_environment
from ingestd.demo.servers import LoopbackPort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.stage import Place

COMMAND: Final = (sys.executable, "-m", "ingestd", "run")
START_SECONDS: Final = 30.0
ANSWER_SECONDS: Final = 30.0

_MADE_UNTIL: Final = re.compile(r"^ingestd_ledger_made_until_timestamp_seconds\{.*\} (\S+)$", re.MULTILINE)
_COMMITTED: Final = re.compile(r"^ingestd_committed_total\{.*\} (\S+)$", re.MULTILINE)


class Daemon:
    """A running ingestd; every method raises BenchError when it does not answer or has ended."""

    def __init__(self, child: Child, port: int) -> None:
        self._child = child
        self._port = port

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def committed(self) -> int:
        """Readings committed since its start."""
        return self.progress()[0]

    def progress(self) -> tuple[int, float | None]:
        """Readings committed since its start, and the Unix time up to which the ledger is made; None if not known."""
        _, text = self._get("/metrics")
        made_until = [float(value) for value in _MADE_UNTIL.findall(text)]
        return (
            sum(int(float(value)) for value in _COMMITTED.findall(text)),
            None if any(map(math.isnan, made_until)) else min(made_until),
        )

    def healthy(self) -> bool:
        """Whether it is connected to broker and database."""
        return self._child.listens(self._port) and self._get("/health")[0] == http.client.OK

    def cpu_seconds(self) -> float:
        return self._child.cpu_seconds()

    def stop(self) -> None:
        self._child.terminate()

    def _get(self, path: str) -> tuple[int, str]:
        with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=ANSWER_SECONDS)) as connection:
            try:
                connection.request("GET", path)
                answer = connection.getresponse()
                return answer.status, answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                raise BenchError(f"ingestd does not answer {path}: {error}\n{self._child.log_tail()}") from error


@contextmanager
def running(place: Place, **settings: str | float) -> Iterator[Daemon]:
    """An ingestd with default settings but for these, healthy; it has to be stopped before the context is left."""
    with closing(LoopbackPort()) as port:
        environment = ingestd_environment(
            mqtt_url=place.broker.url,
            database_url=place.dsn,
            http_port=port.number,
            log_format="json",
            **settings,
        )
        with Child(COMMAND, directory=place.directory, environment=environment) as child:
            daemon = Daemon(child, port.number)
            wait_until(daemon.healthy, "ingestd to be healthy", within=START_SECONDS)
            yield daemon
