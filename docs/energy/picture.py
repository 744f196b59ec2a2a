"""A picture of things that happen in time, as an SVG file. Positions have one digit behind the point."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape
from typing import Final

from ingestd.model.energy import HOUR, MINUTE, QUARTER, CountedReading
from ingestd.model.quarters import Quarters

WIDTH: Final = 800
LEFT: Final = 150
RIGHT: Final = 770
FONTS: Final = "system-ui, -apple-system, Segoe UI, Roboto, Helvetica, Arial, sans-serif"
INK, FAINT, LIGHT = "#222222", "#666666", "#e4e4e4"
METER, VEHICLE, OTHER, BAD = "#0072b2", "#00805c", "#8a6200", "#d04a00"


def number(value: float) -> str:
    return f"{round(value, 3):g}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Time:
    """A range of time, drawn from left to right."""

    start: int
    end: int

    def x(self, at: int) -> float:
        return LEFT + (RIGHT - LEFT) * (at - self.start) / (self.end - self.start)


@dataclass(slots=True, kw_only=True)
class Picture:
    """An SVG file on white ground, with words for those who cannot see it."""

    title: str
    description: str
    height: int
    parts: list[str] = field(default_factory=list)

    def text(
        self, x: float, y: float, words: str, *, anchor: str = "middle", colour: str = INK, bold: bool = False
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}"{weight}>{escape(words)}</text>'
        )

    def label(self, y: float, *lines: str) -> None:
        """What a row shows, to its left."""
        for row, words in enumerate(lines):
            self.text(10, y + 17 * row, words, anchor="start")

    def line(self, x1: float, y1: float, x2: float, y2: float, *, colour: str = FAINT, dashed: bool = False) -> None:
        dash = ' stroke-dasharray="4 3"' if dashed else ""
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"{dash}/>')

    def box(self, x1: float, x2: float, y: float, height: float, *, fill: str, stroke: str = "none") -> None:
        self.parts.append(
            f'<rect x="{x1:.1f}" y="{y:.1f}" width="{x2 - x1:.1f}" height="{height:.1f}" fill="{fill}"'
            f' stroke="{stroke}"/>'
        )

    def dot(self, x: float, y: float, *, colour: str = INK) -> None:
        self.parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>')

    def clock(self, time: Time, y: float, every: int) -> None:
        self.line(LEFT, y, RIGHT, y, colour=INK)
        for at in range(-(-time.start // every) * every, time.end + 1, every):
            self.line(time.x(at), y, time.x(at), y + 5, colour=INK)
            self.text(time.x(at), y + 19, f"{at // HOUR % 24:02}:{at % HOUR // MINUTE:02}", colour=FAINT)

    def band(self, time: Time, start: int, end: int, y: float, words: str, *, colour: str) -> None:
        """A range of time with words in it."""
        self.box(time.x(start), time.x(end), y, 22, fill="#ffffff", stroke=colour)
        self.text((time.x(start) + time.x(end)) / 2, y + 16, words, colour=colour)

    def readings(self, time: Time, ones: Iterable[CountedReading], y: float, *, colour: str) -> None:
        """Each as a dot at its time and a line over its interval, where that is known."""
        for one in ones:
            if one.since is not None and one.kwh > 0:
                self.line(time.x(one.since), y, time.x(one.at), y, colour=colour)
                self.line(time.x(one.since), y - 5, time.x(one.since), y + 5, colour=colour)
            self.dot(time.x(one.at), y, colour=colour)

    def bars(
        self, time: Time, rows: Quarters, y: float, scale: float, *, fill: Callable[[int], str], length: int = QUARTER
    ) -> None:
        """The kWh of quarter-hours or hours, upwards from y."""
        for start, row in sorted(rows.items()):
            if row.kwh > 0:
                x1, x2, height = time.x(start) + 1, time.x(start + length) - 1, row.kwh * scale
                self.box(x1, x2, y - height, height, fill=fill(start))
                self.text((x1 + x2) / 2, y - height - 4, number(row.kwh))

    def svg(self) -> str:
        size = f'viewBox="0 0 {WIDTH} {self.height}" width="{WIDTH}" height="{self.height}"'
        words = f'role="img" aria-labelledby="title desc" font-family="{FONTS}" font-size="13"'
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" {size} {words} stroke-width="1.5">',
                f'<title id="title">{escape(self.title)}</title>',
                f'<desc id="desc">{escape(self.description)}</desc>',
                '<rect width="100%" height="100%" fill="#ffffff"/>',
                *self.parts,
                "</svg>\n",
            ]
        )
