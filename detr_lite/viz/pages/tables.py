"""Tables of numbers that a click on a heading sorts."""

from collections.abc import Sequence

from detr_lite.viz.pages.html import Content, Html, element, join, wrappable

_LIMIT = 40
"""Rows that are visible at first."""

Cell = str | tuple[float, str] | tuple[float, str, float]
"""A text; a number with its text; or these with a share of 1 that is drawn as a bar."""


def number_table(caption: str, heads: Sequence[str], rows: Sequence[Sequence[Cell]], intro: str = "") -> Html:
    """A table whose first column has names and whose others have numbers.

    Args:
        rows: the first cell is the name.
    """
    columns = [
        element("th", element("button", head, type="button"), scope="col", class_="number" if place else None)
        for place, head in enumerate(heads)
    ]
    body = [
        element(
            "tr",
            element("th", wrappable(str(row[0])), scope="row"),
            *(_cell(cell) for cell in row[1:]),
            class_="more" if place >= _LIMIT else None,
        )
        for place, row in enumerate(rows)
    ]
    table = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", *columns)),
        element("tbody", *body),
        class_="sortable",
    )
    rest = len(rows) - _LIMIT
    button = element("button", f"Show all {len(rows):,}", type="button", class_="show-all") if rest > 0 else None
    note = element("p", intro, class_="note") if intro else None
    return join(note, element("div", table, class_="scroll"), button)


def fact_table(caption: str, rows: Sequence[tuple[str, Content]]) -> Html:
    """Names and what they are."""
    body = [
        element("tr", element("th", wrappable(name), scope="row"), element("td", content)) for name, content in rows
    ]
    table = element("table", element("caption", caption), element("tbody", *body), class_="settings")
    return element("div", table, class_="scroll")


def _cell(cell: Cell) -> Html:
    if isinstance(cell, str):
        return element("td", cell, class_="number")
    value, text, *share = cell
    bar = element("span", class_="meter", style=f"--share: {min(1.0, max(0.0, share[0])):.3f}") if share else None
    return element("td", bar, text, class_="number", data_value=f"{value:.6g}")
