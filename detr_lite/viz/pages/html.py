"""HTML that is escaped by construction: whatever is not `Html` already becomes text."""

import re
from html import escape

from detr_lite.text import printable


class Html(str):
    """Markup made by `element` or `join`, which is inserted as it is."""

    __slots__ = ()


Content = Html | str | int | None
"""What an element contains; None is nothing."""


def element(name: str, /, *content: Content, **attributes: str | int | float | bool | None) -> Html:
    """An HTML or SVG element.

    Args:
        attributes: an underscore stands for a hyphen, and one at the end is dropped (`class_`). True is an attribute
            without a value; False and None leave it out.
    """
    given = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{_text(_number(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{join(*content)}</{name}>")


def join(*content: Content) -> Html:
    return Html("".join(each if isinstance(each, Html) else _text(each) for each in content if each is not None))


def wrappable(text: str) -> Html:
    """The text with places to break a long path or name at: after slashes and underscores."""
    first, *others = re.split(r"(?<=[/\\_])(?=[^\W_])", text)
    return join(first, *(part for other in others for part in (element("wbr"), other)))


_VOID = ("br", "hr", "img", "input", "link", "meta", "wbr")


def _text(value: object) -> str:
    """Control characters are escaped as well: some cannot stand in HTML, others turn the order of letters around."""
    return escape(printable(value))


def _number(value: str | int | float) -> str:
    """Coordinates to a hundredth of a pixel, without needless digits."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
