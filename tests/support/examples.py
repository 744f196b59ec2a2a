"""Programs of `examples/`, run as processes against a broker as it is shipped, and what of them is in the database."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Final, Self

import psycopg

from tests.support.documents import ROOT
from tests.support.polling import until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from types import TracebackType

EXAMPLES: Final = ROOT / "examples"
PYTHON_DEVICE: Final = (sys.executable, str(EXAMPLES / "python" / "device.py"))
ESP32: Final = EXAMPLES / "esp32"
DECLARATIONS: Final = ROOT / "tests" / "support" / "esp_idf"
STRICT: Final = ("gcc", "-Wall", "-Wextra", "-Werror", "-I", str(ESP32 / "main"))


def compiles(text: str) -> bool:
    """Whether gcc is there, with what this text includes."""
    return (
        shutil.which("gcc") is not None
        and subprocess.run(
            ["gcc", "-fsyntax-only", "-x", "c", "-"], input=text.encode(), capture_output=True, check=False, timeout=60
        ).returncode
        == 0
    )


class Program:
    """A device that prints the timestamp of each reading that it has measured. Leaving kills it."""

    def __init__(self, command: Sequence[str], directory: Path) -> None:
        self._command = command
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def measured(self) -> set[str]:
        """Timestamps, over all of its starts."""
        # A last line may be half written.
        return set((self._directory / "measured").read_text(encoding="utf-8").rpartition("\n")[0].splitlines())

    @property
    def errors(self) -> str:
        return (self._directory / "errors").read_text(encoding="utf-8")

    def start(self) -> None:
        with (self._directory / "measured").open("ab") as measured, (self._directory / "errors").open("ab") as errors:
            self._process = subprocess.Popen(
                self._command, cwd=self._directory, stdin=subprocess.DEVNULL, stdout=measured, stderr=errors
            )

    def measures(self, more: int) -> None:
        """Wait until there are so many more readings."""
        wanted = len(self.measured) + more

        def check() -> bool:
            assert self._process is not None
            assert self._process.poll() is None, self.errors
            return len(self.measured) >= wanted

        until(check, within=60)

    def kill(self) -> None:
        """As if it lost its power."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(30)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            error.add_note(f"The program says:\n{self.errors}")
        self.kill()


def stored(database_url: str, table: str, device: str) -> list[str]:
    """The timestamps of the history, as the devices write them."""
    column = f"{table.partition('_')[0]}_id"
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            f"SELECT ts AT TIME ZONE 'UTC' FROM {table} WHERE {column} = %s ORDER BY ts".encode(),  # noqa: S608
            (device,),
        ).fetchall()
    return [f"{at.isoformat(timespec='milliseconds')}Z" for (at,) in rows]


def filled_in(template: str, *, tags: dict[str, str], fields: dict[str, float], time: str) -> str:
    """What Go's text/template makes of the few expressions that the configuration of Telegraf uses."""
    values = {
        **{f'.Tag "{name}"': value for name, value in tags.items()},
        **{f'.Field "{name}"': str(value) for name, value in fields.items()},
        '.Time.UTC.Format "2006-01-02T15:04:05.000Z07:00"': time,
    }
    return re.sub(r"{{ (.*?) }}", lambda found: values[found[1]], template)
