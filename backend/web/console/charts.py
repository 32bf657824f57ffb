"""Small charts as SVG, made of numbers only. Colours are classes, since a page may not have inline styles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

WIDTH, HEIGHT = 520, 150
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 16, 16, 24


@dataclass(frozen=True)
class Line:
    """A line over the versions: values of 0 to 1, None where there is none; `css` is its class."""

    values: tuple[float | None, ...]
    css: str


def bar(share: float, css: str = "") -> Markup:
    """Return a bar whose length is a share of 0 to 1."""
    return Markup(
        '<svg class="hbar {}" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        '<rect class="rest" width="100" height="8"/><rect class="value" width="{}" height="8"/></svg>'
    ).format(css, f"{100 * min(max(share, 0.0), 1.0):.1f}")


def stack(parts: Sequence[tuple[str, int]]) -> Markup:
    """Return a bar of parts, each a class and a count."""
    total, at, rects = sum(count for _, count in parts) or 1, 0.0, Markup("")
    for css, count in parts:
        width = 100 * count / total
        rects += Markup('<rect class="{}" x="{}" width="{}" height="8"/>').format(
            css, f"{at:.2f}", f"{max(width - 0.4, 0):.2f}"
        )
        at += width
    return Markup(
        '<svg class="stack" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">{}</svg>'
    ).format(rects)


def lines(names: Sequence[str], served: Sequence[bool], drawn: Sequence[Line], title: str) -> Markup:
    """Return a chart of lines over versions; a version that was never served has a hollow mark."""
    values = [value for line in drawn for value in line.values if value is not None]
    if not values:
        return Markup("")
    low, high = _bounds(min(values), max(values))
    parts = [_grid(low, high)]
    step = (WIDTH - _LEFT - _RIGHT) / max(len(names) - 1, 1)
    x = [_LEFT + step * number if len(names) > 1 else (WIDTH + _LEFT) / 2 for number in range(len(names))]
    for line in drawn:
        points = [
            (x[place], _y(value, low, high), served[place])
            for place, value in enumerate(line.values)
            if value is not None
        ]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top, _ in points)
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(line.css, path))
        parts += [
            Markup('<circle class="{}{}" cx="{}" cy="{}" r="4"/>').format(
                line.css, "" if full else " hollow", f"{left:.1f}", f"{top:.1f}"
            )
            for left, top, full in points
        ]
    every = -(-len(names) // 10)
    parts += [
        Markup('<text x="{}" y="{}" text-anchor="middle">{}</text>').format(f"{x[place]:.1f}", HEIGHT - 4, name)
        for place, name in enumerate(names)
        if (len(names) - 1 - place) % every == 0
    ]
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )


def _bounds(low: float, high: float) -> tuple[float, float]:
    """Return tenths around the values, at least two of them apart."""
    bottom, top = int(low * 10) / 10, min(-int(-high * 10 // 1) / 10, 1.0)
    while top - bottom < 0.19:
        bottom, top = max(bottom - 0.1, 0.0), min(top + 0.1, 1.0)
    return bottom, top


def _y(value: float, low: float, high: float) -> float:
    return HEIGHT - _BOTTOM - (value - low) / (high - low) * (HEIGHT - _TOP - _BOTTOM)


def _grid(low: float, high: float) -> Markup:
    tenths = round((high - low) * 10)
    marks = [low + 0.1 * number for number in range(0, tenths + 1, 2 if tenths > 5 else 1)]
    return Markup("").join(
        Markup('<line x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text x="0" y="{3}">{4} %</text>').format(
            _LEFT, WIDTH - _RIGHT, f"{_y(mark, low, high):.1f}", f"{_y(mark, low, high) + 4:.1f}", f"{100 * mark:.0f}"
        )
        for mark in marks
    )
