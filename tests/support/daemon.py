"""The daemon as users run it: a process with environment variables, which is asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from prometheus_client.parser import text_string_to_metric_families

from ingestd.demo.process import LOOPBACK, LoopbackPort
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:  # noqa: ANN401 - whatever the test expects
        return json.loads(self.body)


class Daemon:
    """`ingestd run`, with `settings` such as `flush_interval=0.1` as its INGESTD_ variables, and with `failpoints`.

    Entering starts it, leaving kills it; an error on the way out carries the end of its log. The HTTP port
    stays the same over restarts.
    """

    root = ROOT
    """The folder that has the package."""
    program: tuple[str, ...] = (sys.executable, "-m", "ingestd")

    def __init__(self, *, mqtt_url: str, database_url: str, **settings: str | float) -> None:
        self._port = LoopbackPort()
        # A directory of its own, so that no developer's .env is read.
        self._directory = Path(tempfile.mkdtemp(prefix="ingestd-daemon-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._failpoints = settings.pop("failpoints", "")
        given = {
            "mqtt_url": mqtt_url,
            "database_url": database_url,
            "http_port": self._port.number,
            "log_format": "json",
            **settings,
        }
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("INGESTD_")},
            "PYTHONPATH": str(self.root),
            **{f"INGESTD_{name.upper()}": str(value) for name, value in given.items()},
        }

    @property
    def environment(self) -> dict[str, str]:
        """That of the process: its settings are in it."""
        return dict(self._environment)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self._port.number}"

    @property
    def pid(self) -> int:
        return self._running.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative is the signal that ended it."""
        return None if self._process is None else self._process.poll()

    @property
    def log(self) -> Path:
        return self._directory / "daemon.log"

    def log_tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def start(self, **once: str | float) -> None:
        """Starts the process, the first time or again; does not wait until it is healthy.

        `once` are further settings, for this start only; so are `failpoints`.
        """
        armed = once.pop("failpoints", self._failpoints)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*self.program, "run", *(["--failpoints", str(armed)] if armed else [])],
                cwd=self._directory,
                env=self._environment | {f"INGESTD_{name.upper()}": str(value) for name, value in once.items()},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,
            )

    def command(self, *arguments: str) -> str:
        """Standard output of another `ingestd` command with the daemon's settings; it has to succeed."""
        finished = subprocess.run(
            [*self.program, *arguments],
            cwd=self._directory,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert finished.returncode == 0, finished.stderr
        return finished.stdout

    def connection(self, *, timeout: float) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(LOOPBACK, self._port.number, timeout=timeout)

    def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 30.0,
    ) -> Response:
        """`body` goes as JSON, bytes as they are; raises OSError when the daemon does not answer."""
        payload = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        sent = {} if body is None else {"Content-Type": "application/json"}
        with closing(self.connection(timeout=timeout)) as connection:
            connection.request(method, path, body=payload, headers={**sent, **(headers or {})})
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of that name which have these labels; 0.0 when there is none."""
        families = text_string_to_metric_families(self.request("GET", "/metrics").body.decode())
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def wait_healthy(self, *, within: float = 30.0) -> None:
        """Raises AssertionError when GET /health is not 200 in time, RuntimeError when the daemon ends."""

        def check() -> bool:
            if self.exit_code is not None:
                raise RuntimeError(f"the daemon ended with {self.exit_code}")
            try:
                return self.request("GET", "/health", timeout=1.0).status == http.client.OK
            except (OSError, http.client.HTTPException):
                return False

        until(check, within=within)

    def kill(self) -> None:
        """SIGKILL, as in a crash; returns when the process is gone."""
        self._running.kill()
        self._running.wait()

    def terminate(self, *, within: float = 30.0) -> int:
        """SIGTERM; returns the exit code, or raises subprocess.TimeoutExpired after `within` seconds."""
        self._running.terminate()
        return self._running.wait(within)

    def suspend(self) -> None:
        """SIGSTOP: the process is there and its connections are open, but it does nothing."""
        self._running.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._running.send_signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"The daemon's log ends with:\n{self.log_tail()}")
        elif self.exit_code is None:
            # SIGTERM if possible: only then the process writes its coverage data.
            with suppress(subprocess.TimeoutExpired):
                self.terminate(within=3)
        self.kill()
        self._port.close()
        shutil.rmtree(self._directory)

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the daemon was not started"
        return self._process
