"""A systemd of the test's own: process 1 in namespaces of its own, which starts only what the test gives it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.polling import until

if TYPE_CHECKING:
    from types import TracebackType

SCRIPT: Final = Path(__file__).with_suffix(".sh")
PYTHON: Final = Path("/usr/bin") / f"python{sys.version_info.major}.{sys.version_info.minor}"
"""The interpreter of the system: that of the tests may be where no other account can reach it."""
_BEGIN: Final = """[Unit]
DefaultDependencies=no
Wants=systemd-journald.service commands.service
"""
_COMMANDS: Final = """[Unit]
DefaultDependencies=no
After=systemd-journald.service
[Service]
ExecStart=/bin/bash /srv/shared/commands.sh
"""
_COMMANDS_SH: Final = """
touch /srv/shared/booted
while true; do
	for command in /srv/shared/*.command; do
		[ -e "$command" ] || continue
		timeout 60 bash "$command" >"${command%.command}.output" 2>&1
		rm "$command"
	done
	sleep 0.05
done
"""


def _removed(cgroup: Path) -> bool:
    try:
        cgroup.rmdir()
    except OSError:  # processes that were killed are still in it
        return not cgroup.exists()
    return True


class BootError(Exception):
    """Namespaces, mounts, cgroups or systemd are refused on this machine, or the script that prepares failed."""


def missing() -> str | None:
    """Why there can be none here."""
    if not sys.platform.startswith("linux") or os.geteuid() != 0:
        return "needs Linux and root"
    for needed in ("/lib/systemd/systemd", "/bin/bash", str(PYTHON)):
        if not Path(needed).exists():
            return f"there is no {needed}"
    return None if shutil.which("unshare") and _cgroups() else "there is no unshare, or no cgroup of version 2"


def _cgroups() -> Path | None:
    """Where the cgroups of version 2 are mounted."""
    found = re.search(r"^\S+ (\S+) cgroup2 ", Path("/proc/mounts").read_text(encoding="utf-8"), re.MULTILINE)
    return Path(found[1]) if found else None


class PrivateSystemd:
    """Entering boots it, within 30 s, or raises BootError; leaving ends all of its processes.

    `prepare` is a script that runs before, with the files of this machine underneath, which it cannot change.
    `units` are copied to /etc/systemd/system. The network is that of this machine.
    """

    def __init__(self, *, prepare: str, units: list[Path]) -> None:
        self.shared = Path(tempfile.mkdtemp(prefix="ingestd-systemd-"))
        (self.shared / "units").mkdir()
        for unit in units:
            shutil.copy(unit, self.shared / "units")
        (self.shared / "units" / "begin.target").write_text(_BEGIN)
        (self.shared / "units" / "commands.service").write_text(_COMMANDS)
        (self.shared / "commands.sh").write_text(_COMMANDS_SH)
        (self.shared / "prepare.sh").write_text(prepare)
        cgroups = _cgroups()
        assert cgroups
        self._cgroup = cgroups / self.shared.name
        self._log = self.shared / "boot.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._commands = 0

    def run(self, command: str) -> str:
        """The output of a command inside, whether it succeeds or not."""
        self._commands += 1
        place = self.shared / f"{self._commands}.new"
        place.write_text(command)
        pending = place.rename(place.with_suffix(".command"))
        until(lambda: not pending.exists(), within=70)
        return place.with_suffix(".output").read_text(errors="replace")

    def __enter__(self) -> Self:
        try:
            self._cgroup.mkdir()
        except OSError as error:
            raise BootError(str(error)) from error
        namespaces = ["unshare", "--mount", "--pid", "--fork", "--ipc", "--uts", "--cgroup", "--kill-child=KILL"]
        # It joins the cgroup before it takes a namespace of cgroups, whose root this is then.
        joins = ["/bin/bash", "-c", 'echo $$ >"$0/cgroup.procs"; exec "$@"', str(self._cgroup)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*joins, *namespaces, "/bin/bash", str(SCRIPT), str(self.shared)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        with suppress(AssertionError):
            until(lambda: self._ended() or (self.shared / "booted").exists(), within=30)
        if (self.shared / "booted").exists():
            return self
        reason = self._log.read_text(errors="replace")[-500:]
        self.__exit__(None, None, None)
        raise BootError(reason)

    def _ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process
        self._process.kill()  # and with it process 1 inside, and with that all others
        self._process.wait()
        groups = sorted((path for path in self._cgroup.rglob("*") if path.is_dir()), reverse=True)
        for group in [*groups, self._cgroup]:
            until(partial(_removed, group), within=5)
        shutil.rmtree(self.shared)
