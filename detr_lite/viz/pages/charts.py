"""Charts as inline SVG, readable without color: values stand beside their bars, series differ in pattern too."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from detr_lite.viz.pages.html import Html, element, join, wrappable

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 640, 220, 44, 12, 26, 40
"""Of a histogram, in the SVG's own units, and the margins around its bars."""


@dataclass(frozen=True)
class Marker:
    """A vertical line in a histogram with its meaning, such as the size of a token."""

    value: float
    label: str


def bar_table(
    caption: str,
    heads: Sequence[str],
    names: Sequence[str],
    values: Sequence[Sequence[int | float]],
    texts: Sequence[Sequence[str]] | None = None,
    full: Sequence[int | float | None] | None = None,
    limit: int = 30,
) -> Html:
    """A table with a row for each name, in which each value is a bar with its text.

    Args:
        heads: of the columns, the first one that of the names.
        values: of each column, for each name.
        texts: as shown; by default whole numbers.
        full: of each column the value of a full bar; None, and the default, is the column's largest.
        limit: rows that are visible at first.
    """
    peaks = [
        whole or max([float(value) for value in column], default=0.0) or 1.0
        for whole, column in zip(full or [None] * len(values), values, strict=True)
    ]
    if texts is None:
        texts = [[f"{value:,.0f}" for value in column] for column in values]
    rows = [
        element(
            "tr",
            element("th", wrappable(name), scope="row"),
            *(
                element("td", _bar(column[row] / peak, number), element("span", text[row]), class_="bar-cell")
                for number, (column, peak, text) in enumerate(zip(values, peaks, texts, strict=True))
            ),
        )
        for row, name in enumerate(names)
    ]
    head = element("thead", element("tr", *(element("th", each, scope="col") for each in heads)))

    def table(some: Sequence[Html]) -> Html:
        shown = element("table", element("caption", caption), head, element("tbody", *some), class_="bars")
        return element("div", shown, class_="scroll")

    if len(rows) <= limit:
        return table(rows)
    rest = element("details", element("summary", f"{len(rows) - limit:,} more"), table(rows[limit:]))
    return join(table(rows[:limit]), rest)


def histogram(
    label: str,
    edges: Float[np.ndarray, " edge"],
    counts: Sequence[tuple[str, Sequence[int]]],
    ticks: Sequence[tuple[float, str]],
    axis: str,
    markers: Sequence[Marker] = (),
) -> Html:
    """Shares of several series over bins of equal width in the picture, whatever their edges are.

    Args:
        label: what the chart shows, for screen readers and as its heading.
        counts: name and counts of each series; each is drawn as shares of its own total.
        ticks: positions, in the unit of the edges, and their texts.
        axis: name and unit of the horizontal axis.
    """
    place = np.linspace(_LEFT, _WIDTH - _RIGHT, len(edges))
    floor, drawn = _HEIGHT - _BOTTOM, []
    shares = [(name, np.asarray(values) / max(1, int(np.sum(values)))) for name, values in counts]
    peak = max([float(values.max(initial=0)) for _, values in shares], default=0.0) or 1.0
    for number, (name, values) in enumerate(shares):
        width = (place[1] - place[0]) / len(shares)
        for bin, share in enumerate(values.tolist()):
            height = share / peak * (floor - _TOP)
            title = element("title", f"{name}, {edges[bin]:.3g} to {edges[bin + 1]:.3g}: {share:.1%}")
            x = float(place[bin] + number * width)
            box = {"x": x + 0.5, "y": floor - height, "width": float(width) - 1, "height": height}
            drawn.append(element("rect", title, class_=f"series-{number}", **box))
    for value, text in ticks:
        x = float(np.interp(value, edges, place))
        drawn.append(element("line", x1=x, x2=x, y1=floor, y2=floor + 4, class_="tick"))
        drawn.append(element("text", text, x=x, y=floor + 17, text_anchor="middle"))
    for fraction in (0.5, 1.0):
        y = floor - fraction * (floor - _TOP)
        drawn.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y, y2=y, class_="grid"))
        drawn.append(element("text", f"{fraction * peak:.0%}", x=_LEFT - 6, y=y + 4, text_anchor="end"))
    drawn.append(element("line", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=floor, y2=floor, class_="tick"))
    drawn.append(element("text", axis, x=(_WIDTH + _LEFT) / 2, y=_HEIGHT - 6, text_anchor="middle"))
    for marker in markers:
        x = float(np.interp(marker.value, edges, place))
        anchor = "start" if x < _WIDTH / 2 else "end"
        drawn.append(element("line", x1=x, x2=x, y1=_TOP - 8, y2=floor, class_="marker"))
        drawn.append(
            element(
                "text",
                marker.label,
                x=x + (6 if anchor == "start" else -6),
                y=_TOP - 10,
                text_anchor=anchor,
                class_="marker-text",
            )
        )
    svg = element("svg", *drawn, viewBox=f"0 0 {_WIDTH} {_HEIGHT}", role="img", aria_label=label, class_="chart")
    return element("figure", element("figcaption", label, legend([name for name, _ in counts])), svg, class_="plot")


def legend(names: Sequence[str]) -> Html:
    """Which pattern is which series."""
    keys = (
        element(
            "span",
            element(
                "svg",
                element("rect", width=14, height=10, class_=f"series-{number}"),
                viewBox="0 0 14 10",
                aria_hidden="true",
            ),
            name,
        )
        for number, name in enumerate(names)
    )
    return element("span", *keys, class_="legend")


def patterns() -> Html:
    """The hatching of the second series, once for a page."""
    lines = element("path", d="M-1 5 L5 -1 M0 8 L8 0 M3 9 L9 3", class_="hatch-line")
    ground = element("rect", width=8, height=8, class_="hatch-ground")
    pattern = element("pattern", ground, lines, id="hatch", width=8, height=8, patternUnits="userSpaceOnUse")
    return element("svg", element("defs", pattern), class_="visually-hidden", aria_hidden="true")


def _bar(share: float, series: int) -> Html:
    rect = element("rect", width=round(100 * share, 2), height=10, class_=f"series-{series}")
    return element("svg", rect, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
