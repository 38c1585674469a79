"""Where queries look in a few images at one moment of a run, as a picture, and many such pictures as a moving one."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from detr_lite.io import atomic_write
from detr_lite.structures import Detections
from detr_lite.viz.draw import class_name, draw_boxes, fit, label_font
from detr_lite.viz.heatmap import COLORMAP, overlay

OBJECTS = 2
"""So many objects of an image are shown."""

_PANEL, _GAP, _TITLE, _CAPTION, _FOOTER = 256, 10, 34, 24, 34  # pixels: three panels are 800 wide
_MILLISECONDS, _LAST_MILLISECONDS = 700, 3000
_INK, _FAINT, _PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)


@dataclass(frozen=True)
class SeenObject:
    """What the query that answers for an object looked at."""

    heat: Float[np.ndarray, "height width"]
    """As `token_heatmap` gives it."""
    span: tuple[float, float] | None
    """(width, height) of the image in tokens."""
    inside: float
    """Share of the attention inside the true box."""


@dataclass(frozen=True)
class SeenImage:
    """An image with some of its true objects, and for each what was seen of it."""

    image: Image.Image
    truth: Detections
    seen: tuple[SeenObject | None, ...]
    """In the order of `truth`; None where no query answers for the object."""


def attention_frame(images: Sequence[SeenImage], title: str) -> Image.Image:
    """A row for each image: its objects, and for each of them where its query looked, scaled to its own peak.

    The size depends on the images and not on what was seen, so that pictures of one run are all alike.
    """
    rows = [_row(image) for image in images]
    width = (OBJECTS + 1) * (_PANEL + _GAP) + _GAP
    heights = [max(panel.height for panel, _ in row) + _CAPTION + _GAP for row in rows]
    sheet = Image.new("RGB", (width, _TITLE + sum(heights) + _FOOTER), _PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((width / 2, _TITLE / 2), title, fill=_INK, font=label_font(16), anchor="mm")
    top = _TITLE
    for row, height in zip(rows, heights, strict=True):
        for column, (panel, caption) in enumerate(row):
            left = _GAP + column * (_PANEL + _GAP)
            sheet.paste(panel, (left + (_PANEL - panel.width) // 2, top))
            draw.text((left + _PANEL / 2, top + panel.height + 4), caption, fill=_INK, font=label_font(13), anchor="ma")
        top += height
    _draw_bar(sheet, draw, top)
    return sheet


def animate(frames: Sequence[Path], output: Path) -> None:
    """Join pictures to one that moves, a WebP; the last one stays longer.

    Not a GIF, whose 256 colours leave bands in a heatmap, and which is eight times as large.
    """
    pictures = [Image.open(frame).convert("RGB") for frame in frames]
    times = [_MILLISECONDS] * (len(pictures) - 1) + [_LAST_MILLISECONDS]
    options: dict[str, Any] = {"save_all": True, "append_images": pictures[1:], "duration": times, "loop": 0}
    atomic_write(output, lambda file: pictures[0].save(file, "WEBP", quality=85, method=2, **options))


def _row(seen: SeenImage) -> list[tuple[Image.Image, str]]:
    """Panels with their captions."""
    picture, boxes_xyxy = fit(seen.image, seen.truth.boxes_xyxy, _PANEL)
    labels, names = seen.truth.labels, seen.truth.class_names
    panels = [(draw_boxes(picture, boxes_xyxy, labels, names), "true objects")]
    for box, label, looked in zip(boxes_xyxy.tolist(), labels.tolist(), seen.seen, strict=True):
        name = class_name(label, names)
        if looked is None:
            panels.append((picture.convert("L").convert("RGB"), f"{name}: no query for it"))
            continue
        panel = overlay(picture, looked.heat, looked.span)
        draw = ImageDraw.Draw(panel)
        draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline=_INK, width=3)
        draw.rectangle(box, outline=_PAPER, width=1)  # a rim about the line, for heat of any colour
        panels.append((panel, f"{name}: {looked.inside:.0%} inside, peak {looked.heat.max():.1%}"))
    return panels


def _draw_bar(sheet: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> None:
    """The scale of the colours."""
    colors = COLORMAP(np.linspace(0, 1, 160))[None, :, :3]
    bar = Image.fromarray((255 * colors).astype(np.uint8)).resize((160, 12))
    left, middle = sheet.width // 2 - 80, top + _FOOTER // 2 - 4
    sheet.paste(bar, (left, middle - 6))
    draw.text((left - 6, middle), "no attention", fill=_FAINT, font=label_font(12), anchor="rm")
    draw.text((left + 166, middle), "the peak of each panel", fill=_FAINT, font=label_font(12), anchor="lm")
