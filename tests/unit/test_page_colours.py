# ruff: noqa: SIM300 - expected == actual
"""The colours of the page can be told apart, in light and in dark (WCAG 2.2: 1.4.3 and 1.4.11)."""

from __future__ import annotations

import re
from itertools import product

import pytest

from tests.support.documents import ROOT

STYLE = (ROOT / "ingestd" / "web" / "page.css").read_text()
LOGIN = (ROOT / "ingestd" / "web" / "login.css").read_text()
PAIR = r"light-dark\((#\w+), (#\w+)\)"
COLOURS = {name: pair for name, *pair in re.findall(rf"--([a-z-]+): {PAIR};", STYLE)}
SCHEMES = {"light": 0, "dark": 1}
TEXTS = [
    *product(("text", "soft", "main", "bad"), ("page", "card")),
    ("bad", "bad-page"),
    ("warm", "card"),
]
SHAPES = [
    *product(("first", "second", "warm", "field", "main", "bad"), ("card",)),
    ("first", "page"),
    ("field", "page"),
]
"""Bars, lines, the borders of fields, and the ring around what has the focus."""


def luminance(colour: str) -> float:
    """Of #rrggbb or #rgb."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_contrast_of_black_on_white_is_21() -> None:
    assert pytest.approx(21.0) == contrast("#000", "#ffffff")
    assert pytest.approx(4.54, abs=0.01) == contrast("#767676", "#fff")


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("text", "ground"), TEXTS)
def test_texts_can_be_read(text: str, ground: str, scheme: str) -> None:
    at = SCHEMES[scheme]

    assert 4.5 <= contrast(COLOURS[text][at], COLOURS[ground][at])


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize(("shape", "ground"), SHAPES)
def test_shapes_can_be_seen(shape: str, ground: str, scheme: str) -> None:
    at = SCHEMES[scheme]

    assert 3.0 <= contrast(COLOURS[shape][at], COLOURS[ground][at])


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_button_that_acts_can_be_read(scheme: str) -> None:
    at = SCHEMES[scheme]
    (on_button,) = re.findall(rf"button\.main .*; color: {PAIR}", STYLE)

    assert 4.5 <= contrast(on_button[at], COLOURS["main"][at])


def test_the_login_has_the_colours_of_the_page() -> None:
    assert [] == re.findall(r"#[0-9a-f]{3,6};|rgb|light-dark", LOGIN)
