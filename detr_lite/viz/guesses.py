"""The best guesses of a model: what pictures show where no score reaches the threshold, always named as guesses."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from detr_lite.drawing.boxes import draw_legibly, font_size
from detr_lite.drawing.crowded import add_caption
from detr_lite.structures import Detections

GUESSES = 5
"""How many are shown of an image at most."""


@dataclass(frozen=True)
class Shown:
    """What a picture shows of an image's predictions."""

    detections: Detections
    below: float | None = None
    """The threshold that none of them reaches, if they are guesses."""


def detections_or_guesses(
    predictions: Detections, threshold: float | Sequence[float], overall: float | None = None
) -> Shown:
    """The detections of a score of at least `threshold`; if there are none, the best guesses below it.

    Args:
        threshold: one score, or one for each class.
        overall: what a picture calls the threshold, needed if there is one for each class.
    """
    detections = predictions.above(threshold)
    if len(detections) or not len(predictions):
        return Shown(detections)
    return Shown(predictions[:GUESSES], overall if isinstance(threshold, Sequence) else float(threshold))


def draw_guesses(image: Image.Image, guesses: Detections, below: float) -> Image.Image:
    """The image with its best guesses, dashed, and a caption that calls them so.

    Args:
        below: the threshold that none of them reaches.
    """
    boxes = (guesses.boxes_xyxy, guesses.labels, guesses.class_names, guesses.scores)
    picture = draw_legibly(image, *boxes, are_guesses=True)
    return add_caption(picture, guess_caption(below), font_size(picture))


def guess_caption(below: float) -> str:
    return f"best guesses, below the threshold {format_threshold(below)}"


def format_threshold(threshold: float) -> str:
    """With two digits if they are all it has: 0.50, but 0.005."""
    return f"{threshold:.2f}" if round(threshold, 2) == threshold else f"{threshold:g}"
