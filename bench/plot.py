"""Bar charts as SVG; no library, as there is not more to them than this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH: Final = 760
LABEL_WIDTH: Final = 190
VALUE_WIDTH: Final = 110
BAR_HEIGHT: Final = 16
LINE_HEIGHT: Final = 24
TITLE_HEIGHT: Final = 40
OURS: Final = "#1f6f8b"
OTHERS: Final = "#b8b8b8"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    label: str
    value: float
    text: str
    """The value as it is written beside the bar."""
    ours: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Bars that are compared with each other: the longest fills the width."""

    title: str
    bars: Sequence[Bar]


def chart(panels: Iterable[Panel]) -> str:
    """The panels below each other, as the text of an SVG file that reads on light and dark pages alike."""
    parts: list[str] = []
    top = 0
    for panel in panels:
        parts.append(
            f'<text x="0" y="{top + TITLE_HEIGHT - 12}" font-weight="bold" fill="#555">{escape(panel.title)}</text>'
        )
        top += TITLE_HEIGHT
        longest = max((bar.value for bar in panel.bars), default=0.0) or 1.0
        for bar in panel.bars:
            parts += _bar(bar, top, round((WIDTH - LABEL_WIDTH - VALUE_WIDTH) * bar.value / longest, 1))
            top += LINE_HEIGHT
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top + 8}" width="{WIDTH}" height="{top + 8}" '
        f'font-family="sans-serif" font-size="13">\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _bar(bar: Bar, top: int, length: float) -> list[str]:
    base = top + BAR_HEIGHT - 3
    colour = OURS if bar.ours else OTHERS
    return [
        f'<text x="{LABEL_WIDTH - 8}" y="{base}" text-anchor="end" fill="#555">{escape(bar.label)}</text>',
        f'<rect x="{LABEL_WIDTH}" y="{top}" width="{length}" height="{BAR_HEIGHT}" fill="{colour}"/>',
        f'<text x="{LABEL_WIDTH + length + 6:.1f}" y="{base}" fill="#555">{escape(bar.text)}</text>',
    ]
