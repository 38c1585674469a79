"""Line charts as inline SVG: each line has a dash pattern of its own, so that they are told apart without color."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

import numpy as np
from jaxtyping import Float

from detr_lite.viz.pages.charts import Marker
from detr_lite.viz.pages.html import Html, element

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 240, 52, 14, 26, 40
"""In the SVG's own units, and the margins around the lines."""
_MOST_POINTS = 600
"""Of a line: more could not be told apart and would only fill the page."""


@dataclass(frozen=True, eq=False)
class Line:
    """A series; values that are not finite are left out."""

    name: str
    x: Float[np.ndarray, " point"]
    y: Float[np.ndarray, " point"]
    has_dots: bool = False
    """For few values, such as those of a run's evaluations."""


def line_chart(
    label: str,
    lines: Sequence[Line],
    axis: str,
    y_range: tuple[float, float] | None = None,
    markers: Sequence[Marker] = (),
    is_log: bool = False,
    x_range: tuple[float, float] | None = None,
    diagonal: str = "",
) -> Html:
    """A figure with a heading, a legend and all lines.

    Args:
        axis: name and unit of the horizontal axis.
        y_range, x_range: by default from the values.
        is_log: logarithmic vertical axis; values that are not positive are left out.
        diagonal: what the line y = x means; it is drawn if this is given.
    """
    kept = [_finite(line, is_log) for line in lines]
    xs, ys = (np.concatenate([np.zeros(0), *(getattr(line, name) for line in kept)]) for name in ("x", "y"))
    x_low, x_high = _widened(*(x_range or (_least(xs), _most(xs))))
    y_low, y_high = _widened(*(y_range or (_least(ys), _most(ys))))

    def place_x(value: float) -> float:
        return _LEFT + (value - x_low) / (x_high - x_low) * (_WIDTH - _LEFT - _RIGHT)

    def place_y(value: float) -> float:
        share = (
            (log10(value) - log10(y_low)) / (log10(y_high) - log10(y_low))
            if is_log
            else (value - y_low) / (y_high - y_low)
        )
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    drawn: list[Html] = []
    for value in _log_ticks(y_low, y_high) if is_log else ticks(y_low, y_high, 4):
        y = place_y(value)
        drawn.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        drawn.append(element("text", f"{value:g}", x=_LEFT - 6, y=y + 4, text_anchor="end"))
    bottom = _HEIGHT - _BOTTOM
    for value in ticks(x_low, x_high, 6):
        x = place_x(value)
        drawn.append(element("line", x1=x, x2=x, y1=bottom, y2=bottom + 4, class_="tick"))
        drawn.append(element("text", _short(value), x=x, y=bottom + 17, text_anchor="middle"))
    drawn.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=bottom, y2=bottom, class_="tick"))
    drawn.append(element("text", axis, x=(_WIDTH + _LEFT) / 2, y=_HEIGHT - 6, text_anchor="middle"))
    if diagonal:
        low, high = max(x_low, y_low), min(x_high, y_high)
        ends = {"x1": place_x(low), "y1": place_y(low), "x2": place_x(high), "y2": place_y(high)}
        drawn.append(element("line", element("title", diagonal), class_="diagonal", **ends))
    for number, line in enumerate(kept):
        points = [(place_x(x), place_y(y)) for x, y in zip(line.x.tolist(), line.y.tolist(), strict=True)]
        if len(points) > 1:
            text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            drawn.append(element("polyline", element("title", line.name), points=text, class_=f"line-{number}"))
        if line.has_dots or len(points) == 1:
            for (x, y), value, step in zip(points, line.y.tolist(), line.x.tolist(), strict=True):
                title = element("title", f"{line.name}, {_short(step)}: {value:.3g}")
                drawn.append(element("circle", title, cx=x, cy=y, r=3, class_=f"dot-{number}"))
    for rank, marker in enumerate(sorted(markers, key=lambda each: each.value)):
        x = place_x(marker.value)
        # Of two, each has its text on its own side.
        is_left = rank == 0 if len(markers) > 1 else x >= _WIDTH / 2
        anchor, by = ("end", -6) if is_left else ("start", 6)
        drawn.append(element("line", x1=x, x2=x, y1=_TOP - 8, y2=bottom, class_="marker"))
        y = _TOP - 10 + 14 * max(0, rank - 1)
        drawn.append(element("text", marker.label, x=x + by, y=y, text_anchor=anchor, class_="marker-text"))
    svg = element("svg", *drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label, class_="chart")
    keys = _legend([line.name for line in lines]) if len(lines) > 1 else None
    return element("figure", element("figcaption", label, keys), svg, class_="plot")


def ticks(low: float, high: float, count: int) -> list[float]:
    """Round values between two bounds, about `count` of them, in steps of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / max(1, count)
    power = 10.0 ** floor(log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough * 0.999)
    return [round(number * step, 12) for number in range(ceil(low / step - 1e-9), floor(high / step + 1e-9) + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(floor(log10(low)), ceil(log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [value for value in values if low <= value <= high]
    return inside[:: max(1, len(inside) // 6)]


def _finite(line: Line, is_log: bool) -> Line:
    is_kept = np.isfinite(line.x) & np.isfinite(line.y) & ((line.y > 0) | (not is_log))
    x, y = line.x[is_kept], line.y[is_kept]
    if len(x) > _MOST_POINTS:  # the mean of each stretch
        stretches = np.array_split(np.arange(len(x)), _MOST_POINTS)
        x, y = (np.array([values[each].mean() for each in stretches]) for values in (x, y))
    return Line(line.name, x, y, line.has_dots)


def _least(values: np.ndarray) -> float:
    return float(values.min()) if len(values) else 0.0


def _most(values: np.ndarray) -> float:
    return float(values.max()) if len(values) else 1.0


def _widened(low: float, high: float) -> tuple[float, float]:
    """Different bounds, also for a single value; positive ones stay so."""
    return (low, high) if high > low else (low - 0.5 * abs(low), high + 0.5 * abs(high)) if low else (0.0, 1.0)


def _short(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:g}"


def _legend(names: Sequence[str]) -> Html:
    keys = (
        element(
            "span",
            element(
                "svg",
                element("line", x1=0, x2=26, y1=5, y2=5, class_=f"line-{number}"),
                viewBox="0 0 26 10",
                aria_hidden="true",
            ),
            name,
        )
        for number, name in enumerate(names)
    )
    return element("span", *keys, class_="legend lines")
