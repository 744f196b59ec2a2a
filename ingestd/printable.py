"""Text from outside, made fit for a terminal or a log: what could change what people see there is escaped."""

import unicodedata
from typing import Final

_ESCAPED: Final = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
"""Unicode's categories of control characters (ESC, CSI), of invisible formats (right to left), and of line ends."""


def printable(text: str, *, but: str = "") -> str:
    """The text with such characters as escapes; those of `but` stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in but or unicodedata.category(character) not in _ESCAPED else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
