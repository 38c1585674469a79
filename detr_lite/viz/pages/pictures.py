"""Images as JPEG thumbnails inside a page, whole or cut out around an object, with boxes drawn over them as SVG."""

import base64
import contextlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from detr_lite.data.images.files import Orientation
from detr_lite.data.images.load import load_image
from detr_lite.structures import DetrLiteError
from detr_lite.viz.close_up import part_around
from detr_lite.viz.pages.html import Html, element

LONGEST_SIDE = 480
"""Pixels of a picture; nothing is enlarged in the file."""

_QUALITY = 78

_RING = 0.03
"""A box whose sides are smaller shares of the picture's is encircled."""

_TAG = 0.032
"""Height of a box's text, as a share of the picture's longest side."""

Style = Literal["annotated", "other", "context"]
"""A solid line for what is annotated, a dashed one for what it is compared with, a thin one for all other objects."""


@dataclass(frozen=True)
class Mark:
    """A box on an image."""

    box_xyxy: tuple[float, float, float, float]
    """In pixels of the image; corners in any order, also outside it."""
    style: Style = "annotated"
    label: str = ""
    tag: str = ""
    """Written beside the box where the picture is shown large."""


@dataclass(frozen=True)
class View:
    """An image to be shown with boxes."""

    path: Path
    name: str
    size_wh: tuple[int, int] | None
    """As in the annotations; None or a wrong size shows the image upright."""
    marks: tuple[Mark, ...] = ()
    orientation: Orientation = "upright"
    """Of an image for which its size does not settle it."""


class PictureBudget:
    """Makes pictures until they would take more than this many bytes of the page."""

    def __init__(self, bytes: int) -> None:
        self.left = bytes

    def picture(self, view: View, focus: tuple[Mark, ...] = ()) -> Html | None:
        """The image with its boxes; a note in its place if it cannot be read; None once the budget is spent.

        Args:
            focus: boxes that are not drawn but must be visible, such as those of the picture beside this one.
        """
        try:
            image = _load(view)
        except DetrLiteError:
            return element("div", "cannot be opened", class_="frame missing")
        window = _window(image.size, (*view.marks, *focus))
        source = _jpeg(image, window)
        if len(source) > self.left:
            self.left = 0
            return None
        self.left -= len(source)
        left, top, right, bottom = window
        width, height = right - left, bottom - top
        shapes = [shape for mark in view.marks for shape in _shapes(mark, window)]
        overlay = element(
            "svg", *shapes, viewBox=f"{left} {top} {width} {height}", preserveAspectRatio="none", aria_hidden="true"
        )
        part = None if (width, height) == image.size else element("span", "part of the image", class_="part")
        marked = ", ".join(mark.label for mark in view.marks if mark.label)
        alt = f"{view.name}{': ' if marked else ''}{marked}"
        return element(
            "div",
            element("img", src=source, alt=alt, decoding="async"),
            overlay,
            part,
            class_="frame",
            style=f"--aspect: {width / height:.4f}",
        )


def _load(view: View) -> Image.Image:
    """In the orientation that the boxes refer to, if the size tells."""
    if view.size_wh is not None:
        with contextlib.suppress(DetrLiteError):
            return load_image(view.path, (view.size_wh[1], view.size_wh[0]), view.orientation)
    return load_image(view.path)


def _window(size: tuple[int, int], marks: tuple[Mark, ...]) -> tuple[int, int, int, int]:
    """The part of the image to show: all of it, unless what is marked in it is small."""
    boxes = [_sorted(mark.box_xyxy) for mark in marks if mark.style != "context"]
    whole = (0, 0, *size)
    if not boxes:
        return whole
    left, top = min(box[0] for box in boxes), min(box[1] for box in boxes)
    right, bottom = max(box[2] for box in boxes), max(box[3] for box in boxes)
    return part_around((left, top, right, bottom), size) or whole


def _shapes(mark: Mark, window: tuple[int, int, int, int]) -> list[Html]:
    """A dark and a light line each, so that a box is visible on any image; a ring around one that is hardly visible."""
    left, top, right, bottom = _sorted(mark.box_xyxy)
    origin_x, width = window[0], window[2] - window[0]
    extent = max(width, window[3] - window[1])
    box = {"x": left, "y": top, "width": right - left, "height": bottom - top}
    title = element("title", mark.label) if mark.label else None
    if mark.style == "context":
        return [element("rect", title, class_=mark.style, **box)]
    shapes = [element("rect", class_="shadow", **box), element("rect", title, class_=mark.style, **box)]
    if max(right - left, bottom - top) < _RING * extent:
        ring = {"cx": (left + right) / 2, "cy": (top + bottom) / 2, "r": 1.5 * _RING * extent}
        shapes += [element("circle", class_="shadow", **ring), element("circle", class_=mark.style, **ring)]
    if mark.tag:
        size = _TAG * extent
        y = top - 0.35 * size if top - window[1] > 1.4 * size else bottom + size
        # A tag that would reach beyond the picture ends where its box ends.
        is_early = left - origin_x + 0.55 * size * len(mark.tag) <= width
        x, anchor = (left, "start") if is_early else (right, "end")
        shapes.append(element("text", mark.tag, x=x, y=y, font_size=size, text_anchor=anchor, class_=mark.style))
    return shapes


def _sorted(box: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = box
    return min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)


def _jpeg(image: Image.Image, window: tuple[int, int, int, int]) -> str:
    """A data URI."""
    picture = image.crop(window)
    picture.thumbnail((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode('ascii')}"
