"""PostgreSQL as Debian has it: another version than the wheel's, and with TLS."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ingestd.demo.servers import PrivatePostgres

BINARIES: Final = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)
MISSING: Final = "PostgreSQL of Debian is not installed (apt install postgresql)"


class DebianPostgres(PrivatePostgres):
    """The newest version that is installed."""

    def _find_binaries(self) -> Path:
        assert BINARIES is not None, MISSING
        return BINARIES.parent
