"""Boxes with labels on images, and sheets of them."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import matplotlib
from jaxtyping import Float, Int
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from detr_lite.structures import Detections
from detr_lite.text import printable

Color = tuple[int, int, int]
Rectangle = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels."""

# Neighbours differ in hue and lightness, and none is so dark or so pale that it is lost on a photograph.
_PALETTE: tuple[Color, ...] = (
    (230, 60, 50),
    (50, 90, 255),
    (40, 190, 70),
    (255, 190, 20),
    (190, 50, 220),
    (60, 210, 235),
    (255, 125, 20),
    (0, 125, 75),
    (255, 110, 185),
    (150, 225, 40),
    (125, 70, 215),
    (175, 120, 20),
    (0, 150, 180),
    (255, 160, 140),
    (185, 0, 110),
    (110, 165, 255),
    (0, 235, 170),
    (195, 130, 255),
    (180, 90, 120),
    (225, 225, 80),
)
_PAPER: Color = (255, 255, 255)
_INK: Color = (20, 20, 20)
_LONGEST_NAME = 60
_LEGIBLE = 480
"""Pixels that the longer side needs for labels to leave something of the image."""


def class_color(label: int) -> Color:
    """A label always has the same colour; with more than 20 classes some share one."""
    return _PALETTE[label % len(_PALETTE)]


LITERAL: Any = {"parse_math": False, "usetex": False}
"""For matplotlib's texts that somebody else wrote: what looks like a formula or like TeX is neither."""


def class_name(label: int, class_names: Sequence[str]) -> str:
    return written(class_names[label]) if class_names else f"class {label}"


def written(name: str) -> str:
    """A name as pictures show it: in one line, which has an end."""
    name = printable(name)
    return name if len(name) <= _LONGEST_NAME else f"{name[: _LONGEST_NAME - 1]}…"


def draw_boxes(
    image: Image.Image,
    boxes_xyxy: Float[Tensor, "box 4"],
    labels: Int[Tensor, " box"],
    class_names: Sequence[str],
    scores: Float[Tensor, " box"] | None = None,
) -> Image.Image:
    """A copy of the image with each box and a tag that names its class and, where given, its score.

    Give the best box first: it and its tag lie on top, and the tag has the first choice of place.
    """
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    short_side = min(picture.size)
    # Both grow with the image, so that a large one is still legible when it is shown small.
    line, font = 1 + short_side // 250, label_font(8 + short_side // 45)

    rectangles = [_rectangle(box, picture.size) for box in boxes_xyxy.tolist()]
    colors = [class_color(label) for label in labels.tolist()]
    for (left, top, right, bottom), color in reversed(list(zip(rectangles, colors, strict=True))):
        # A rim within, lest the line is lost on an image of its own colour.
        inset, rim = line, 1 + line // 4
        if min(right - left, bottom - top) > 2 * (inset + rim):
            inside = (left + inset, top + inset, right - inset, bottom - inset)
            draw.rectangle(inside, outline=_readable_on(color), width=rim)
        draw.rectangle((left, top, right, bottom), outline=color, width=line)

    texts = [class_name(label, class_names) for label in labels.tolist()]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores.tolist(), strict=True)]
    tags: list[Rectangle] = []
    for text, rectangle in zip(texts, rectangles, strict=True):
        tags.append(_place_tag(_tag_size(text, font), rectangle, tags, picture.size))
    for text, color, (left, top, right, bottom) in reversed(list(zip(texts, colors, tags, strict=True))):
        draw.rectangle((left, top, right - 1, bottom - 1), fill=color)
        draw.text(((left + right) / 2, (top + bottom) / 2), text, fill=_readable_on(color), font=font, anchor="mm")
    return picture


def annotate(image: Image.Image, found: Detections) -> Image.Image:
    """`draw_boxes` with scores, of the image enlarged by a whole factor where it is too small to write on."""
    factor = max(1, -(-_LEGIBLE // max(image.size)))
    boxes_xyxy = found.boxes_xyxy
    if factor > 1:
        image, boxes_xyxy = fit(image, boxes_xyxy, factor * max(image.size))
    return draw_boxes(image, boxes_xyxy, found.labels, found.class_names, found.scores)


def fit(
    image: Image.Image, boxes_xyxy: Float[Tensor, "box 4"], longest_side: int
) -> tuple[Image.Image, Float[Tensor, "box 4"]]:
    """Enlarge or reduce an image together with its boxes, before drawing: a label drawn on a small image is mush."""
    scale = longest_side / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    factors = boxes_xyxy.new_tensor([width / image.width, height / image.height]).repeat(2)
    return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), boxes_xyxy * factors


def side_by_side(
    pairs: Sequence[tuple[Image.Image, Image.Image]],
    titles: tuple[str, str] = ("truth", "prediction"),
    columns: int = 2,
) -> Image.Image:
    """A sheet of pairs, `columns` pairs in a row, with the titles above each pair of columns."""
    columns = max(1, min(columns, len(pairs)))
    rows = [pairs[start : start + columns] for start in range(0, len(pairs), columns)]
    images = [image for pair in pairs for image in pair]
    cell_width = max((image.width for image in images), default=200)
    row_heights = [max(image.height for pair in row for image in pair) for row in rows]

    narrow, wide = max(4, cell_width // 80), max(12, cell_width // 14)  # within a pair, between pairs
    font = label_font(max(12, cell_width // 20))
    header = round(1.6 * font.size)
    pair_width = 2 * cell_width + narrow
    size = (columns * (pair_width + wide) + wide, wide // 2 + header + sum(row_heights) + len(rows) * wide)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)

    def left_edge(column: int, side: int) -> int:
        return wide + column * (pair_width + wide) + side * (cell_width + narrow)

    for column in range(columns):
        for side in (0, 1):
            middle = left_edge(column, side) + cell_width / 2
            draw.text((middle, wide // 2 + header / 2), titles[side], fill=_INK, font=font, anchor="mm")
    top = wide // 2 + header
    for row, height in zip(rows, row_heights, strict=True):
        for column, pair in enumerate(row):
            for side in (0, 1):
                image = pair[side]
                sheet.paste(image, (left_edge(column, side) + (cell_width - image.width) // 2, top))
        top += height + wide
    return sheet


def samples_sheet(
    items: Sequence[tuple[Image.Image, Detections, Detections]], threshold: float, panel: int = 320
) -> Image.Image:
    """Truth beside prediction for (image, truth, prediction); predictions below the threshold are left out.

    Every image is brought to `panel` pixels at its longer side.
    """
    pairs = []
    for image, truth, prediction in items:
        shown = prediction.above(threshold)
        enlarged, truth_xyxy = fit(image, truth.boxes_xyxy, panel)
        _, shown_xyxy = fit(image, shown.boxes_xyxy, panel)
        pairs.append(
            (
                draw_boxes(enlarged, truth_xyxy, truth.labels, truth.class_names),
                draw_boxes(enlarged, shown_xyxy, shown.labels, shown.class_names, shown.scores),
            )
        )
    return side_by_side(pairs, ("truth", f"prediction (score at least {threshold:g})"))


@lru_cache(maxsize=32)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """`size` in pixels."""
    # Matplotlib's, not Pillow's own, which has no letters but ASCII's.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _readable_on(color: Color) -> Color:
    red, green, blue = color
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return _INK if luma > 120 else _PAPER


def _rectangle(box_xyxy: Sequence[float], size: tuple[int, int]) -> Rectangle:
    """Whole pixels inside the image; a box that was given upside down or outside is drawn where it is nearest."""
    x0, y0, x1, y1 = (
        min(max(round(value), 0), limit - 1) for value, limit in zip(box_xyxy, (*size, *size), strict=True)
    )
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _tag_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    return round(font.getlength(text) + 0.5 * font.size), round(1.25 * font.size)


def _place_tag(
    tag_size: tuple[int, int], box: Rectangle, taken: Sequence[Rectangle], image_size: tuple[int, int]
) -> Rectangle:
    """Above the box if there is room, else inside, below or beside it; if all are taken, where it hides least."""
    width, height = tag_size
    left, top, right, bottom = box
    corners = [(x, y) for y in (top - height, top, bottom - height, bottom) for x in (left, right - width)]
    corners += [(right, top), (left - width, top)]
    best: Rectangle | None = None
    least = float("inf")
    for x, y in corners:
        if not 0 <= y <= image_size[1] - height:
            continue
        x = max(0, min(x, image_size[0] - width))
        place = (x, y, x + width, y + height)
        hidden = sum(_overlap(place, other) for other in taken)
        if hidden < least:
            best, least = place, hidden
        if hidden == 0:
            break
    return best or (left, 0, left + width, height)  # an image lower than a line of text


def _overlap(first: Rectangle, second: Rectangle) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)
