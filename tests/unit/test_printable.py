# ruff: noqa: SIM300 - expected == actual
"""Text from outside does not command a terminal: neither in a command's output nor in a line of the log."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from ingestd import logs
from ingestd.printable import printable

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def _log_as_before() -> Iterator[None]:
    """Afterwards, what a test has set up is gone."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = handlers
    root.setLevel(level)


def test_control_characters_are_escaped_and_the_rest_stays() -> None:
    assert r"\x1b[31mred\x9b\x00\r\n" == printable("\x1b[31mred\x9b\x00\r\n")
    assert "\\u202e\\u2028\\ufeff" == printable("\u202e\u2028\ufeff")
    assert "Zähler 5 °C, 電気" == printable("Zähler 5 °C, 電気")
    assert "a\nb\\x1b" == printable("a\nb\x1b", but="\n")


@pytest.mark.usefixtures("_log_as_before")
def test_a_line_of_the_log_has_no_control_characters_of_others(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up(level="info", style="console")
    log = structlog.get_logger("test")
    try:
        raise ValueError("\x1b]0;owned\x07")  # noqa: TRY301 - to be logged
    except ValueError:
        log.exception("route_failed", path="/\x1b[2J", reason="no\n2026 [info] forged")
    told = capsys.readouterr().err

    assert "\x07" not in told
    assert "\x1b]" not in told
    assert "\x1b[2J" not in told
    assert r"/\x1b[2J" in told
    assert "\n2026 [info]" not in told
    assert r"ValueError: \x1b]0;owned\x07" in told
