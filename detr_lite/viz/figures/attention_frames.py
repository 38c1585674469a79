"""Cross-attention for a few images at one step of a training run as a picture, and an animation of such pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from detr_lite.drawing.boxes import draw_boxes, drawn_class_name, fit
from detr_lite.drawing.fonts import draw_text, label_font
from detr_lite.io import atomic_write
from detr_lite.structures import Detections
from detr_lite.viz.heatmap import COLORMAP, overlay

MAX_OBJECTS = 2
"""How many objects of an image are shown at most."""
MAX_FRAMES = 120
"""Of an animation: almost a minute and a half, and a file that a browser still decodes with ease."""

_PANEL, _GAP, _TITLE, _CAPTION, _FOOTER = 256, 10, 34, 24, 34  # pixels: three panels are 808 wide
_MILLISECONDS, _LAST_MILLISECONDS = 700, 3000
_BLACK, _GRAY, _WHITE = (20, 20, 20), (90, 90, 90), (255, 255, 255)


@dataclass(frozen=True)
class ObjectAttention:
    """Cross-attention of the query that is matched to an object."""

    heatmap: Float[np.ndarray, "height width"]
    """From `token_heatmap`."""
    span: tuple[float, float]
    """(width, height) of the image in tokens."""
    inside: float
    """Share of the attention inside the ground-truth box."""


@dataclass(frozen=True)
class ImageAttention:
    """An image with some of its ground-truth objects and the attention of each."""

    image: Image.Image
    truth: Detections
    objects: tuple[ObjectAttention | None, ...]
    """In the order of `truth`; None where no query is matched to the object."""


def attention_frame(images: Sequence[ImageAttention], title: str) -> Image.Image:
    """A row for each image: its objects, and for each of them its query's heatmap, scaled to its own peak.

    The size depends on the images alone, so that all frames of a run have the same size.
    """
    rows = [_row(image) for image in images]
    width = (MAX_OBJECTS + 1) * (_PANEL + _GAP) + _GAP
    heights = [max(panel.height for panel, _ in row) + _CAPTION + _GAP for row in rows]
    frame = Image.new("RGB", (width, _TITLE + sum(heights) + _FOOTER), _WHITE)
    draw = ImageDraw.Draw(frame)
    draw_text(draw, (width / 2, _TITLE / 2), title, 16, _BLACK, "mm")
    top = _TITLE
    for row, height in zip(rows, heights, strict=True):
        for column, (panel, caption) in enumerate(row):
            left = _GAP + column * (_PANEL + _GAP)
            frame.paste(panel, (left + (_PANEL - panel.width) // 2, top))
            position = (left + _PANEL / 2, top + panel.height + 4)
            draw_text(draw, position, caption, 13, _BLACK, "ma")
        top += height
    _draw_colorbar(frame, draw, top)
    return frame


def animate(frames: Sequence[Path], output: Path) -> None:
    """Join pictures into an animated WebP; the last one stays longer.

    More than `MAX_FRAMES` pictures are thinned out. Not a GIF, whose 256 colors leave bands in a heatmap, and which is
    eight times as large.
    """
    frames = thin_out(frames, MAX_FRAMES)
    durations = [_MILLISECONDS] * (len(frames) - 1) + [_LAST_MILLISECONDS]
    with Image.open(frames[0]) as file:
        first = file.convert("RGB")
    options: dict[str, Any] = {
        "save_all": True,
        "append_images": [_Frames(frames[1:])],
        "duration": durations,
        "loop": 0,
    }
    atomic_write(output, lambda file: first.save(file, "WEBP", quality=85, method=2, **options))


class _Frames:
    """Pictures as one multi-frame image, of which a single frame is decoded at a time.

    Pillow collects all of `append_images` in a list before it encodes the first, also those of a generator.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = paths
        self.n_frames = len(paths)

    def seek(self, frame: int) -> None:
        with Image.open(self.paths[frame]) as file:
            self.picture = file.convert("RGB")

    def __getattr__(self, name: str) -> Any:
        if name == "picture":  # nothing is decoded yet
            raise AttributeError(name)
        return getattr(self.picture, name)


def thin_out(frames: Sequence[Path], limit: int) -> Sequence[Path]:
    """At most `limit` (at least 2) frames at even distances; the first and the last are always among them."""
    if len(frames) <= limit:
        return frames
    return [frames[round(number * (len(frames) - 1) / (limit - 1))] for number in range(limit)]


def _row(image: ImageAttention) -> list[tuple[Image.Image, str]]:
    """Panels with their captions."""
    picture, boxes_xyxy = fit(image.image, image.truth.boxes_xyxy, _PANEL)
    labels, names = image.truth.labels, image.truth.class_names
    panels = [(draw_boxes(picture, boxes_xyxy, labels, names), "ground truth")]
    for box, label, attention in zip(boxes_xyxy.tolist(), labels.tolist(), image.objects, strict=True):
        name = drawn_class_name(label, names)
        if attention is None:
            panels.append((picture.convert("L").convert("RGB"), f"{name}: no matched query"))
            continue
        panel = overlay(picture, attention.heatmap, attention.span)
        draw = ImageDraw.Draw(panel)
        draw.rectangle([box[0] - 1, box[1] - 1, box[2] + 1, box[3] + 1], outline=_BLACK, width=3)
        draw.rectangle(box, outline=_WHITE, width=1)  # white within black is visible on any color of the heatmap
        panels.append((panel, f"{name}: {attention.inside:.0%} inside, peak {attention.heatmap.max():.1%}"))
    return panels


def _draw_colorbar(frame: Image.Image, draw: ImageDraw.ImageDraw, top: int) -> None:
    colors = COLORMAP(np.linspace(0, 1, 160))[None, :, :3]
    bar = Image.fromarray((255 * colors).astype(np.uint8)).resize((160, 12))
    left, middle = frame.width // 2 - 80, top + _FOOTER // 2 - 4
    frame.paste(bar, (left, middle - 6))
    draw.text((left - 6, middle), "no attention", fill=_GRAY, font=label_font(12), anchor="rm")
    draw.text((left + 166, middle), "the peak of each panel", fill=_GRAY, font=label_font(12), anchor="lm")
