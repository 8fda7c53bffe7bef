"""Curves as inline SVG, whose colours follow the page; numbers show where the mouse is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from rawdiff.report.scales import Scale, scale_of, short, tick_texts

WIDTH, HEIGHT = 440, 220
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 26
MAX_POINTS = 160


@dataclass(frozen=True)
class Series:
    """Values at steps, drawn in the page's colour `colour`, such as "c1"."""

    name: str
    points: Sequence[tuple[float, float]]
    colour: str = "c1"

    @property
    def last(self) -> str:
        return short(self.points[-1][1])


@dataclass(frozen=True)
class Chart:
    """Curves over steps under a title, and what there is to see."""

    title: str
    note: str
    series: Sequence[Series]
    from_zero: bool = False

    @property
    def svg(self) -> Markup:
        return draw_curves(self)


def curve(
    lines: Sequence[Mapping[str, float]], key: str, name: str = "", colour: str = "c1"
) -> Series | None:
    """A key of the log over steps; None where fewer than two lines have it.

    Of many lines, neighbours are averaged.
    """
    points = [
        (line["step"], line[key]) for line in lines if key in line and math.isfinite(line[key])
    ]
    if len(points) < 2:
        return None
    return Series(name or key, thinned(points), colour)


def thinned(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """MAX_POINTS at most: means of neighbours; the last point of all stays the last step."""
    size = -(-len(points) // MAX_POINTS)
    if size == 1:
        return list(points)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(y for _, y in group) / len(group)) for group in groups]


def draw_curves(chart: Chart) -> Markup:
    """The chart without its title and legend."""
    across = [x for series in chart.series for x, _ in series.points]
    x_scale = Scale(min(across), max(across) if max(across) > min(across) else min(across) + 1)
    y_scale = scale_of(
        [y for series in chart.series for _, y in series.points], from_zero=chart.from_zero
    )
    parts = [*_grid(x_scale, y_scale)]
    for series in chart.series:
        places = " ".join(f"{_x(x_scale, x)},{_y(y_scale, y)}" for x, y in series.points)
        end_x, end_y = series.points[-1]
        colour = escape(series.colour)
        parts.append(f'<polyline class="line {colour}" points="{places}"/>')
        place = f'cx="{_x(x_scale, end_x)}" cy="{_y(y_scale, end_y)}"'
        parts.append(f'<circle class="end {colour}" {place} r="3"/>')
    parts += _readings(chart, x_scale)
    return Markup(
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(chart.title)}">'
        + "".join(parts)
        + "</svg>"
    )


def _grid(x_scale: Scale, y_scale: Scale) -> list[str]:
    parts, bottom = [], HEIGHT - BOTTOM
    ticks = y_scale.ticks()
    for tick, number in zip(ticks, tick_texts(ticks), strict=True):
        y = _y(y_scale, tick)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        text = f'<text class="tick" x="{LEFT - 7}" y="{y}" dy="0.35em" text-anchor="end">'
        parts.append(f"{text}{number}</text>")
    parts.append(f'<text class="tick" x="{LEFT}" y="{bottom + 18}">step</text>')
    ticks = x_scale.ticks()
    for tick, number in zip(ticks, tick_texts(ticks), strict=True):
        x = _x(x_scale, tick)
        if x < LEFT + 40:  # there stands what the numbers are
            continue
        anchor = "end" if x > WIDTH - RIGHT - 12 else "middle"
        text = f'<text class="tick" x="{x}" y="{bottom + 18}" text-anchor="{anchor}">'
        parts.append(f"{text}{number}</text>")
    parts.append(
        f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{bottom}" y2="{bottom}"/>'
    )
    return parts


def _readings(chart: Chart, x_scale: Scale) -> list[str]:
    """A strip at each step that shows a thin line and all numbers there under the mouse."""
    values: dict[float, list[str]] = {}
    for series in chart.series:
        for x, y in series.points:
            values.setdefault(x, []).append(f"{series.name}: {y:.4g}")
    steps = sorted(values)
    parts = []
    for i, step in enumerate(steps):
        x = _x(x_scale, step)
        left = (_x(x_scale, steps[i - 1]) + x) / 2 if i else x
        right = (_x(x_scale, steps[i + 1]) + x) / 2 if i + 1 < len(steps) else x
        text = escape("\n".join([f"step {step:,.0f}", *values[step]]))
        strip = f'x="{left:.1f}" width="{max(right - left, 1):.1f}"'
        height = f'y="{TOP}" height="{HEIGHT - TOP - BOTTOM}"'
        parts.append(
            f'<g class="reading"><title>{text}</title><rect {strip} {height}/>'
            f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/></g>'
        )
    return parts


def _x(scale: Scale, value: float) -> float:
    return round(LEFT + scale.place(value) * (WIDTH - LEFT - RIGHT), 1)


def _y(scale: Scale, value: float) -> float:
    return round(HEIGHT - BOTTOM - scale.place(value) * (HEIGHT - TOP - BOTTOM), 1)
