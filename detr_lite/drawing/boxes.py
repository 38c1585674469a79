"""Boxes with labels on images."""

from collections.abc import Sequence

from jaxtyping import Float, Int
from PIL import Image, ImageDraw
from torch import Tensor

from detr_lite.drawing.crowded import LegendEntry, add_legend, are_crowded, are_too_many, short_names
from detr_lite.drawing.fonts import draw_text, drawable_name, text_length
from detr_lite.drawing.labels import Rectangle, place_labels
from detr_lite.text import printable

Color = tuple[int, int, int]

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


def class_name(label: int, class_names: Sequence[str]) -> str:
    return display_name(class_names[label]) if class_names else f"class {label}"


def drawn_class_name(label: int, class_names: Sequence[str]) -> str:
    """`class_name` for a picture: "class 3" also where no font has the name's characters."""
    return drawable_name(class_name(label, class_names), f"class {label}")


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
    are_guesses: bool = False,
) -> Image.Image:
    """A copy of the image with each box and a label with its class and, if given, its score.

    Boxes are in descending order of scores: the first one and its label are drawn on top, and its label is placed
    first. Where labels would cover the image or each other, they shrink to a letter or two, and a legend is added below
    the image, which then is higher.

    Args:
        are_guesses: draw dashed lines and hollow labels with a question mark, which nobody takes for detections.
    """
    picture = image.convert("RGB")
    draw = ImageDraw.Draw(picture)
    rectangles = [_rectangle(box, picture.size) for box in boxes_xyxy.tolist()]
    colors = [class_color(label) for label in labels.tolist()]
    for rectangle, color in reversed(list(zip(rectangles, colors, strict=True))):
        _draw_box(draw, rectangle, color, _line_width(picture), are_guesses)

    names = [drawn_class_name(label, class_names) for label in labels.tolist()]
    texts = [f"{name}?" for name in names] if are_guesses else names
    if scores is not None:
        texts = [f"{text} {score:.2f}" for text, score in zip(texts, scores.tolist(), strict=True)]
    size = font_size(picture)
    sizes = [_label_size(text, size) for text in texts]
    is_short = are_too_many(sizes, picture.size)
    placed = [] if is_short else place_labels(sizes, rectangles, picture.size)
    if is_short or are_crowded(placed):
        is_short, texts = True, short_names(names, labels.tolist())
        sizes = [_label_size(text, size) for text in texts]
        placed = place_labels(sizes, rectangles, picture.size, may_leave=False)
    for text, color, label in reversed(list(zip(texts, colors, placed, strict=True))):
        if text and (label.is_free or not is_short):  # of a crowd, color and legend tell the class of the others
            if label.leader:
                draw.line(label.leader, fill=_WHITE, width=2 * _line_width(picture) + 1)
                draw.line(label.leader, fill=color, width=_line_width(picture))
            _draw_label(draw, label.rectangle, text, color, size, are_guesses)
    if not is_short:
        return picture
    entries = {
        name: LegendEntry(text, name, names.count(name), color, text_color_on(color))
        for text, name, color in reversed(list(zip(texts, names, colors, strict=True)))
    }
    in_order = sorted(entries.values(), key=lambda entry: (-entry.count, entry.name))
    return add_legend(picture, in_order, None if scores is None else scores.tolist(), size)


def draw_legibly(
    image: Image.Image,
    boxes_xyxy: Float[Tensor, "box 4"],
    labels: Int[Tensor, " box"],
    class_names: Sequence[str],
    scores: Float[Tensor, " box"],
    are_guesses: bool = False,
) -> Image.Image:
    """`draw_boxes`; an image that is too small for labels is enlarged by an integer factor first."""
    factor = max(1, -(-_MIN_SIDE // max(image.size)))
    if factor > 1:
        image, boxes_xyxy = fit(image, boxes_xyxy, factor * max(image.size))
    return draw_boxes(image, boxes_xyxy, labels, class_names, scores, are_guesses)


def font_size(image: Image.Image) -> int:
    """Pixels, in proportion to the image, so that a large one is still legible when it is displayed small."""
    return 8 + min(image.size) // 45


def fit(
    image: Image.Image, boxes_xyxy: Float[Tensor, "box 4"], longest_side: int
) -> tuple[Image.Image, Float[Tensor, "box 4"]]:
    """Resize an image and its boxes to a longest side, before labels are drawn, which must not be resized."""
    scale = longest_side / max(image.size)
    width, height = (max(1, round(side * scale)) for side in image.size)
    factors = boxes_xyxy.new_tensor([width / image.width, height / image.height]).repeat(2)
    return image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS), boxes_xyxy * factors


def text_color_on(color: Color) -> Color:
    red, green, blue = color
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    return _BLACK if luma > 120 else _WHITE


def _line_width(image: Image.Image) -> int:
    return 1 + min(image.size) // 250


def _draw_box(draw: ImageDraw.ImageDraw, box: Rectangle, color: Color, line: int, is_dashed: bool) -> None:
    left, top, right, bottom = box
    if is_dashed:
        _draw_dashes(draw, box, color, line)
        return
    # A contrasting inner line, so that the box is visible on an image of its own color.
    inset, width = line, 1 + line // 4
    if min(right - left, bottom - top) > 2 * (inset + width):
        inside = (left + inset, top + inset, right - inset, bottom - inset)
        draw.rectangle(inside, outline=text_color_on(color), width=width)
    draw.rectangle(box, outline=color, width=line)


def _draw_dashes(draw: ImageDraw.ImageDraw, box: Rectangle, color: Color, line: int) -> None:
    """Dashes of the color on a line of the contrasting one, which is as visible on an image of any color."""
    left, top, right, bottom = box
    dash = 4 + 2 * line
    draw.rectangle(box, outline=text_color_on(color), width=line)
    for start in range(left, right + 1, 2 * dash):
        end = min(start + dash - 1, right)
        draw.rectangle((start, top, end, top + line - 1), fill=color)
        draw.rectangle((start, bottom - line + 1, end, bottom), fill=color)
    for start in range(top, bottom + 1, 2 * dash):
        end = min(start + dash - 1, bottom)
        draw.rectangle((left, start, left + line - 1, end), fill=color)
        draw.rectangle((right - line + 1, start, right, end), fill=color)


def _draw_label(
    draw: ImageDraw.ImageDraw, rectangle: Rectangle, text: str, color: Color, size: int, is_hollow: bool
) -> None:
    left, top, right, bottom = rectangle
    inside = (left, top, right - 1, bottom - 1)
    if is_hollow:
        draw.rectangle(inside, fill=_WHITE, outline=color)
    else:
        draw.rectangle(inside, fill=color)
    ink = _BLACK if is_hollow else text_color_on(color)
    draw_text(draw, ((left + right) / 2, (top + bottom) / 2), text, size, ink, "mm")


def _label_size(text: str, size: int) -> tuple[int, int]:
    return round(text_length(text, size) + 0.5 * size), round(1.25 * size)


def _rectangle(box_xyxy: Sequence[float], size: tuple[int, int]) -> Rectangle:
    """In integer pixels, clipped to the image, with corners in order."""
    x0, y0, x1, y1 = (
        min(max(round(value), 0), limit - 1) for value, limit in zip(box_xyxy, (*size, *size), strict=True)
    )
    return min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)
