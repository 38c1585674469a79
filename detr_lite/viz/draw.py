"""Boxes with labels on images, and pairs of such images side by side."""

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

# Neighbors differ in hue and lightness, and none is so dark or so light that it is invisible on a photograph.
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
_WHITE: Color = (255, 255, 255)
_BLACK: Color = (20, 20, 20)
_MAX_NAME_LENGTH = 60
_MIN_SIDE = 480
"""Pixels of the longer side below which labels would cover most of an image."""


def class_color(label: int) -> Color:
    """RGB; always the same for a label. Labels that differ by a multiple of 20 share a color."""
    return _PALETTE[label % len(_PALETTE)]


LITERAL: Any = {"parse_math": False, "usetex": False}
"""For matplotlib texts that contain names from files: no part of them is parsed as mathtext or TeX."""


def class_name(label: int, class_names: Sequence[str]) -> str:
    return display_name(class_names[label]) if class_names else f"class {label}"


def display_name(name: str) -> str:
    """A name in one line of limited length."""
    name = printable(name)
    return name if len(name) <= _MAX_NAME_LENGTH else f"{name[: _MAX_NAME_LENGTH - 1]}…"


def draw_boxes(
    image: Image.Image,
    boxes_xyxy: Float[Tensor, "box 4"],
    labels: Int[Tensor, " box"],
    class_names: Sequence[str],
    scores: Float[Tensor, " box"] | None = None,
) -> Image.Image:
    """A copy of the image with each box and a tag with its class and, if given, its score.

    Boxes are in descending order of scores: the first one and its tag are drawn on top, and its tag is placed first.
    """
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    short_side = min(picture.size)
    # In proportion to the image, so that a large one is still legible when it is displayed small.
    line, font = 1 + short_side // 250, label_font(8 + short_side // 45)

    rectangles = [_rectangle(box, picture.size) for box in boxes_xyxy.tolist()]
    colors = [class_color(label) for label in labels.tolist()]
    for (left, top, right, bottom), color in reversed(list(zip(rectangles, colors, strict=True))):
        # A contrasting inner line, so that the box is visible on an image of its own color.
        inset, width = line, 1 + line // 4
        if min(right - left, bottom - top) > 2 * (inset + width):
            inside = (left + inset, top + inset, right - inset, bottom - inset)
            draw.rectangle(inside, outline=_text_color_on(color), width=width)
        draw.rectangle((left, top, right, bottom), outline=color, width=line)

    texts = [class_name(label, class_names) for label in labels.tolist()]
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores.tolist(), strict=True)]
    tags: list[Rectangle] = []
    for text, rectangle in zip(texts, rectangles, strict=True):
        tags.append(_place_tag(_tag_size(text, font), rectangle, tags, picture.size))
    for text, color, (left, top, right, bottom) in reversed(list(zip(texts, colors, tags, strict=True))):
        draw.rectangle((left, top, right - 1, bottom - 1), fill=color)
        draw.text(((left + right) / 2, (top + bottom) / 2), text, fill=_text_color_on(color), font=font, anchor="mm")
    return picture


def annotate(image: Image.Image, detections: Detections) -> Image.Image:
    """`draw_boxes` with scores; an image that is too small for labels is enlarged by an integer factor first."""
    factor = max(1, -(-_MIN_SIDE // max(image.size)))
    boxes_xyxy = detections.boxes_xyxy
    if factor > 1:
        image, boxes_xyxy = fit(image, boxes_xyxy, factor * max(image.size))
    return draw_boxes(image, boxes_xyxy, detections.labels, detections.class_names, detections.scores)


def fit(
    image: Image.Image, boxes_xyxy: Float[Tensor, "box 4"], longest_side: int
) -> tuple[Image.Image, Float[Tensor, "box 4"]]:
    """Resize an image and its boxes to a longest side, before labels are drawn, which must not be resized."""
    scale = longest_side / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    factors = boxes_xyxy.new_tensor([width / image.width, height / image.height]).repeat(2)
    return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), boxes_xyxy * factors


def side_by_side(
    pairs: Sequence[tuple[Image.Image, Image.Image]],
    titles: tuple[str, str] = ("ground truth", "prediction"),
    columns: int = 2,
) -> Image.Image:
    """A grid of pairs of images, `columns` pairs in a row, with the titles above each pair of columns."""
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
    grid = Image.new("RGB", size, _WHITE)
    draw = ImageDraw.Draw(grid)

    def left_edge(column: int, side: int) -> int:
        return wide + column * (pair_width + wide) + side * (cell_width + narrow)

    for column in range(columns):
        for side in (0, 1):
            middle = left_edge(column, side) + cell_width / 2
            draw.text((middle, wide // 2 + header / 2), titles[side], fill=_BLACK, font=font, anchor="mm")
    top = wide // 2 + header
    for row, height in zip(rows, row_heights, strict=True):
        for column, pair in enumerate(row):
            for side in (0, 1):
                image = pair[side]
                grid.paste(image, (left_edge(column, side) + (cell_width - image.width) // 2, top))
        top += height + wide
    return grid


def samples_sheet(
    items: Sequence[tuple[Image.Image, Detections, Detections]], threshold: float, panel: int = 320
) -> Image.Image:
    """Ground truth beside prediction for each (image, ground truth, prediction).

    Args:
        threshold: the lowest score of a prediction that is shown.
        panel: pixels of each image's longer side.
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
    return side_by_side(pairs, ("ground truth", f"prediction (score at least {threshold:g})"))


@lru_cache(maxsize=32)
def label_font(size: int) -> ImageFont.FreeTypeFont:
    """`size` in pixels."""
    # Matplotlib's, as Pillow's default font is limited to ASCII.
    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def _text_color_on(color: Color) -> Color:
    red, green, blue = color
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return _BLACK if luma > 120 else _WHITE


def _rectangle(box_xyxy: Sequence[float], size: tuple[int, int]) -> Rectangle:
    """In integer pixels, clipped to the image, with corners in order."""
    x0, y0, x1, y1 = (
        min(max(round(value), 0), limit - 1) for value, limit in zip(box_xyxy, (*size, *size), strict=True)
    )
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


def _tag_size(text: str, font: ImageFont.FreeTypeFont) -> tuple[int, int]:
    return round(font.getlength(text) + 0.5 * font.size), round(1.25 * font.size)


def _place_tag(
    tag_size: tuple[int, int], box: Rectangle, others: Sequence[Rectangle], image_size: tuple[int, int]
) -> Rectangle:
    """Above the box if there is space, else inside, below or beside it, where it overlaps the other tags least."""
    width, height = tag_size
    left, top, right, bottom = box
    corners = [(x, y) for y in (top - height, top, bottom - height, bottom) for x in (left, right - width)]
    corners += [(right, top), (left - width, top)]
    best: Rectangle | None = None
    min_overlap = float("inf")
    for x, y in corners:
        if not 0 <= y <= image_size[1] - height:
            continue
        x = max(0, min(x, image_size[0] - width))
        tag = (x, y, x + width, y + height)
        overlap = sum(_overlap(tag, other) for other in others)
        if overlap < min_overlap:
            best, min_overlap = tag, overlap
        if overlap == 0:
            break
    return best or (left, 0, left + width, height)  # the image is lower than a line of text


def _overlap(first: Rectangle, second: Rectangle) -> int:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0)
