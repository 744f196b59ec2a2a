"""What somebody tries who runs code as the daemon. Prints, as JSON, the name of each attempt and how it was refused."""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWUSER = 0x10000000
ADDR_NO_RANDOMIZE = 0x0040000
PTRACE_TRACEME = 0


def call(name: str, *arguments: int) -> None:
    """A function of the C library that gives -1 for an error."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def set_user_id_file() -> None:
    path = Path("/var/lib/ingestd/attack")
    path.touch()
    try:
        path.chmod(0o4755)
    finally:
        path.unlink()


ATTEMPTS: dict[str, Callable[[], object]] = {
    "to write a file where everybody may": lambda: Path("/srv/open/attack").write_text("x"),
    "to change the program": lambda: Path("/opt/ingestd/bin/ingestd").chmod(0o777),
    "to become root": lambda: os.setuid(0),
    "to make a file that runs as another user": set_user_id_file,
    "to make memory that is writable and executable": lambda: mmap.mmap(
        -1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    ),
    "to take a namespace of users": lambda: call("unshare", CLONE_NEWUSER),
    "to change its personality": lambda: call("personality", ADDR_NO_RANDOMIZE),
    "to trace a process": lambda: call("ptrace", PTRACE_TRACEME, 0, 0, 0),
    "to talk to the kernel by netlink": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0),
    "to read packets of others": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0),
    "to see processes of others": lambda: list(Path("/proc/1").iterdir()),
    "to see the hardware": lambda: Path("/proc/meminfo").read_text(),
    "to read home directories": lambda: list(Path("/home").iterdir()),
    "to read temporary files of others": lambda: Path("/tmp/of-others").read_text(),  # noqa: S108
    "to read the file of a credential": lambda: Path("/etc/ingestd/credentials/database_url").read_text(),
}


def main() -> None:
    refused: dict[str, str | None] = {}
    for name, attempt in ATTEMPTS.items():
        try:
            attempt()
        except OSError as error:
            refused[name] = str(error)
        else:
            refused[name] = None
    json.dump(refused, sys.stdout, indent=1)


if __name__ == "__main__":
    main()
