"""Pictures with more objects than there is space for labels: short labels with a legend below the picture; captions."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from detr_lite.drawing.fonts import draw_text, text_length
from detr_lite.drawing.labels import Label

Color = tuple[int, int, int]

_MANY = 6
"""Labels up to which nothing is crowded."""

_LABEL_SHARE, _COVERING_SHARE = 0.15, 0.15
"""Shares from which a picture is crowded: of its area under labels, and of labels that cover one another or objects."""

_LONGEST = 3
"""Letters of a short label."""

_WHITE, _BLACK, _AMBER = (255, 255, 255), (20, 20, 20), (255, 236, 179)


@dataclass(frozen=True)
class LegendEntry:
    """A class in the legend of a picture."""

    short: str
    """Its label in the picture, or "" if its color alone tells it."""
    name: str
    count: int
    color: Color
    ink: Color
    """Of the label's text."""


def are_too_many(sizes: Sequence[tuple[int, int]], image_size: tuple[int, int]) -> bool:
    """Whether labels of these sizes would take too much of the picture, wherever they are placed."""
    area = sum(width * height for width, height in sizes)
    return len(sizes) > _MANY and area > _LABEL_SHARE * image_size[0] * image_size[1]


def are_crowded(labels: Sequence[Label]) -> bool:
    """Whether too many of the placed labels cover each other or an object."""
    return len(labels) > _MANY and sum(not label.is_free for label in labels) > _COVERING_SHARE * len(labels)


def short_names(names: Sequence[str], numbers: Sequence[int]) -> list[str]:
    """The beginning of each name, as long as it takes to tell them apart; "" if all names are the same.

    Where three letters do not suffice, the class's number takes their place.
    """
    different = set(names)
    if len(different) == 1:
        return [""] * len(names)
    for length in range(1, _LONGEST + 1):
        if len({name[:length] for name in different}) == len(different):
            return [name[:length] for name in names]
    return [str(number) for number in numbers]


def add_legend(
    picture: Image.Image, entries: Sequence[LegendEntry], scores: Sequence[float] | None, size: int
) -> Image.Image:
    """The picture with a strip below it: how many objects of each class it shows, and the range of their scores.

    Args:
        size: of the font, in pixels.
    """
    gap, height = round(0.6 * size), round(1.7 * size)
    texts = [f"{entry.count} {entry.name}" for entry in entries]
    keys = [max(size, round(text_length(entry.short, size) + 0.5 * size)) for entry in entries]
    widths = [key + gap // 2 + text_length(text, size) for key, text in zip(keys, texts, strict=True)]
    note = "" if not scores else f"scores {min(scores):.2f} to {max(scores):.2f}"
    places, lines = _flow([*widths, text_length(note, size)], 2 * gap, picture.width - 2 * gap)
    strip = Image.new("RGB", (picture.width, lines * height + gap // 2), _WHITE)
    draw = ImageDraw.Draw(strip)
    for entry, text, key, (x, line) in zip(entries, texts, keys, places, strict=False):
        left, middle = gap + x, line * height + (height + gap // 2) / 2
        draw.rectangle((left, middle - 0.62 * size, left + key, middle + 0.62 * size), fill=entry.color)
        draw_text(draw, (left + key / 2, middle), entry.short, size, entry.ink, "mm")
        draw_text(draw, (left + key + gap // 2, middle), text, size, _BLACK, "lm")
    x, line = places[-1]
    draw_text(draw, (gap + x, line * height + (height + gap // 2) / 2), note, size, _BLACK, "lm")
    return _joined(picture, strip)


def add_caption(picture: Image.Image, caption: str, size: int) -> Image.Image:
    """The picture with a line of text in a strip below it, wrapped if it is wider than the picture."""
    words = caption.split()
    widths = [text_length(word, size) for word in words]
    pad, space = round(0.5 * size), text_length(" ", size)
    places, lines = _flow(widths, space, picture.width - 2 * pad)
    height = round(1.3 * size)
    strip = Image.new("RGB", (picture.width, lines * height + pad), _AMBER)
    draw = ImageDraw.Draw(strip)
    for word, (x, line) in zip(words, places, strict=True):
        draw_text(draw, (pad + x, pad / 2 + (line + 0.5) * height), word, size, _BLACK, "lm")
    return _joined(picture, strip)


def _flow(widths: Sequence[int | float], gap: int | float, room: int) -> tuple[list[tuple[float, int]], int]:
    """(x, line) of each item in lines of `room` pixels, and the number of lines."""
    x, line, places = 0.0, 0, []
    for width in widths:
        if x and x + width > room:
            x, line = 0.0, line + 1
        places.append((x, line))
        x += width + gap
    return places, line + 1


def _joined(picture: Image.Image, strip: Image.Image) -> Image.Image:
    joined = Image.new("RGB", (picture.width, picture.height + strip.height), _WHITE)
    joined.paste(picture, (0, 0))
    joined.paste(strip, (0, picture.height))
    return joined
