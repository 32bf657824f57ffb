"""Charts over a probability, as SVG. Colours are classes, since a page may not have inline styles."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

from markupsafe import Markup

from taxonomist.backend.status.evaluation.curves import CurvePoint, ReliabilityBin

WIDTH, HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 28, 22, 46
_MARKS = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)


def curve_chart(points: Sequence[CurvePoint], threshold: float | None, axis: str, mark: str, title: str) -> Markup:
    """Return precision and coverage over the threshold, with a line at the one in force, which `mark` names."""
    parts = [_grid(axis)]
    if threshold is not None:
        parts.append(
            Markup(
                '<line class="mark" x1="{0}" x2="{0}" y1="{1}" y2="{2}"/><text x="{3}" y="15" {4}>{5}</text>'
            ).format(
                f"{_x(threshold):.1f}",
                _TOP,
                HEIGHT - _BOTTOM,
                f"{_x(threshold) + (-4 if threshold > 0.5 else 4):.1f}",
                Markup('text-anchor="end"') if threshold > 0.5 else "",
                mark,
            )
        )
    known = [(point.threshold or 0.0, point) for point in points]
    for css, values in (
        ("coverage", [(at, point.coverage) for at, point in known]),
        ("precision", [(at, point.precision) for at, point in known if point.precision is not None]),
    ):
        path = " ".join(f"{_x(at):.1f},{_y(value):.1f}" for at, value in values)
        parts.append(Markup('<polyline class="{}" points="{}"/>').format(css, path))
    return _chart(parts, title)


def reliability_chart(bins: Sequence[ReliabilityBin], axis: str, title: str) -> Markup:
    """Return the share that is right over the probability; larger marks are of more images."""
    most = max((found.images for found in bins), default=1)
    path = " ".join(f"{_x(found.probability):.1f},{_y(found.share):.1f}" for found in bins)
    parts = [
        _grid(axis),
        Markup('<line class="ideal" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_x(0), _y(0), _x(1), _y(1)),
        Markup('<polyline class="precision" points="{}"/>').format(path),
    ]
    parts += [
        Markup('<circle class="precision" cx="{}" cy="{}" r="{}"/>').format(
            f"{_x(found.probability):.1f}", f"{_y(found.share):.1f}", f"{2.5 + 5 * sqrt(found.images / most):.1f}"
        )
        for found in bins
    ]
    return _chart(parts, title)


def _chart(parts: Sequence[Markup], title: str) -> Markup:
    return Markup('<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        WIDTH, HEIGHT, title, Markup("").join(parts)
    )


def _x(share: float) -> float:
    return _LEFT + share * (WIDTH - _LEFT - _RIGHT)


def _y(share: float) -> float:
    return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)


def _grid(axis: str) -> Markup:
    across = Markup("").join(
        Markup('<line x1="{0}" x2="{1}" y1="{2}" y2="{2}"/><text x="0" y="{3}">{4} %</text>').format(
            _LEFT, WIDTH - _RIGHT, f"{_y(mark):.1f}", f"{_y(mark) + 4:.1f}", f"{100 * mark:.0f}"
        )
        for mark in _MARKS
    )
    below = Markup("").join(
        Markup('<text x="{}" y="{}" text-anchor="middle">{} %</text>').format(
            f"{_x(mark):.1f}", HEIGHT - _BOTTOM + 16, f"{100 * mark:.0f}"
        )
        for mark in _MARKS
    )
    name = Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(WIDTH - _RIGHT, HEIGHT - 6, axis)
    return across + below + name
