"""A plot with two logarithmic axes, as SVG text: a few hundred bytes per line, no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 640, 400
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
COLOURS = ("#7f7f7f", "#d62728", "#1f77b4", "#2ca02c", "#9467bd", "#ff7f0e")
DASHES = ("2 3", "6 3", "", "", "8 2 2 2", "1 2")


@dataclass(frozen=True)
class Line:
    """points: (x, y), all above 0, in the order of x."""

    name: str
    points: Sequence[tuple[float, float]]


def line_plot(title: str, x_label: str, y_label: str, lines: Sequence[Line]) -> str:
    """The SVG. Raises ValueError when no line has a point, or one is not above 0."""
    points = [point for line in lines for point in line.points]
    if not points or min(min(point) for point in points) <= 0:
        raise ValueError(f"The plot {title!r} needs points above 0 on both axes; given: {points}.")
    xs, ys = sorted({x for x, _ in points}), [y for _, y in points]
    place = _Place(xs[0], xs[-1], min(ys), max(ys))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        _text(WIDTH / 2, 22, title, size=15),
        _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_label),
        f'<g transform="rotate(-90 16 {HEIGHT / 2:g})">{_text(16, HEIGHT / 2, y_label)}</g>',
    ]
    for x in xs:
        at = place.x(x)
        parts += [_rule(at, TOP, at, HEIGHT - BOTTOM), _text(at, HEIGHT - BOTTOM + 18, f"{x:g}")]
    for y in _ticks(min(ys), max(ys)):
        at = place.y(y)
        parts += [_rule(LEFT, at, WIDTH - RIGHT, at), _text(LEFT - 8, at + 4, f"{y:g}", anchor="end")]
    for at, line in enumerate(lines):
        parts += _drawn(line, place, at)
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True)
class _Place:
    """From values to pixels."""

    least_x: float
    most_x: float
    least_y: float
    most_y: float

    def x(self, value: float) -> float:
        return LEFT + _share(value, self.least_x, self.most_x) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - _share(value, self.least_y, self.most_y) * (HEIGHT - TOP - BOTTOM)


def _share(value: float, least: float, most: float) -> float:
    return 0.5 if least == most else math.log(value / least) / math.log(most / least)


def _ticks(least: float, most: float) -> list[float]:
    """1, 2 and 5 times powers of ten within the range; powers of ten alone in a long one."""
    steps = (1,) if most / least > 1000 else (1, 2, 5)
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    found = [step * 10.0**power for power in powers for step in steps]
    return [tick for tick in found if least <= tick <= most] or [least, most]


def _drawn(line: Line, place: _Place, at: int) -> list[str]:
    colour, dash = COLOURS[at % len(COLOURS)], DASHES[at % len(DASHES)]
    drawn = [(place.x(x), place.y(y)) for x, y in line.points]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in drawn)
    height = TOP + 12 + 20 * at
    style = f'fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dash}"'
    return [
        f'<polyline points="{path}" {style}/>',
        *(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in drawn),
        f'<polyline points="{WIDTH - RIGHT + 12},{height} {WIDTH - RIGHT + 36},{height}" {style}/>',
        _text(WIDTH - RIGHT + 42, height + 4, line.name, anchor="start"),
    ]


def _rule(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="#dddddd"/>'


def _text(x: float, y: float, text: str, *, size: int = 12, anchor: str = "middle") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(text)}</text>'
