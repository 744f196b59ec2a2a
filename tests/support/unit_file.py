"""The systemd unit, taken apart."""

from __future__ import annotations

from pathlib import Path
from typing import Final

UNIT: Final = Path(__file__).parents[2] / "deploy" / "ingestd.service"
_UNITS: Final = {"K": 2**10, "M": 2**20, "G": 2**30}


def values(name: str) -> list[str]:
    """The values of a setting, one for each time that it stands there."""
    lines = (line.partition("=") for line in UNIT.read_text(encoding="utf-8").splitlines() if line[:1] not in "#[")
    return [value for key, _, value in lines if key == name]


def value(name: str) -> str:
    """The value of a setting that stands there once."""
    (found,) = values(name)
    return found


def size(name: str) -> int:
    """Bytes."""
    text = value(name)
    return int(text[:-1]) * _UNITS[text[-1]] if text[-1] in _UNITS else int(text)
