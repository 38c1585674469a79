"""The figures of `detr-lite visualize`: one per image, or one of the boxes that each query predicts over all images."""

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from matplotlib.figure import Figure
from PIL import Image

from detr_lite.cli.score_threshold import ScoreThreshold
from detr_lite.data.image_sources import ImageFile, read_batches
from detr_lite.detector import Detector
from detr_lite.errors import DetrLiteError
from detr_lite.io import atomic_write
from detr_lite.structures import AttentionSelection, Detections
from detr_lite.text import printable, shorten_list
from detr_lite.viz.figures.attention import Heads, attention_figure
from detr_lite.viz.figures.attention_panels import boxes_of_last
from detr_lite.viz.figures.layers import layers_figure
from detr_lite.viz.figures.points import Point, points_figure
from detr_lite.viz.figures.query_boxes import QueryBoxes, query_boxes_figure
from detr_lite.viz.guesses import detections_or_guesses, guess_caption

logger = logging.getLogger(__name__)

_POINTS = 3
"""Detections whose centers are the points of a figure of points, if none are given."""

DPI, MAX_PIXELS = 180, 60_000
"""Of a figure, and of its height: matplotlib draws at most 65,535."""

_SELECTION = {
    "queries": AttentionSelection(encoder_layers=(), samples_only=True),
    "layers": AttentionSelection(encoder_layers=(), samples_only=True),
    "points": AttentionSelection(layers=()),
    "query_boxes": AttentionSelection(layers=(), encoder_layers=()),
}
"""The attention that each figure needs."""


@dataclass(frozen=True)
class FigureRequest:
    """Which figure to draw of each image, and its options."""

    kind: str
    threshold: ScoreThreshold
    layer: int | None
    heads: Heads
    detection: int
    points: tuple[Point, ...] | None
    """None: the centers of the highest-scoring detections."""


def draw_images(
    detector: Detector,
    figure_of: dict[ImageFile, PurePath],
    output: Path,
    request: FigureRequest,
    unreadable: list[ImageFile],
) -> int:
    """Write a figure for each readable image; returns their number."""
    guessed: list[ImageFile] = []
    images = tuple(figure_of)
    for ((file, image),) in read_batches(images, 1, unreadable, "drawing", detector.orientation):
        try:
            figure, is_guess = draw_image(detector, image, request)
        except DetrLiteError as error:
            raise DetrLiteError(f"{file.path}: {error}") from error
        save_figure(figure, output / figure_of[file])
        if is_guess:
            guessed.append(file)
    drawn = len(images) - len(unreadable)
    if guessed:
        files = printable(shorten_list([file.path for file in guessed], 3))
        logger.info(
            "no score reaches %s in %s of %s images (%s): their best guesses are shown, dashed",
            request.threshold.text, f"{len(guessed):,}", f"{drawn:,}", files,
        )  # fmt: skip
    return drawn


def draw_image(detector: Detector, image: Image.Image, request: FigureRequest) -> tuple[Figure, bool]:
    """The figure, and whether it shows predictions below the threshold, as none reaches it."""
    explained = detector.explain(image, _SELECTION[request.kind])
    maps, heads = explained.attention, request.heads
    shown = detections_or_guesses(explained.detections, request.threshold.scores, request.threshold.overall)
    detections, below, is_guess = shown.detections, shown.below, shown.below is not None
    if request.kind == "layers":
        if request.detection and request.detection >= len(detections):
            which = "best guesses" if is_guess else f"detections of a score of at least {request.threshold.text}"
            remedy = "" if is_guess else "; lower --threshold for more"
            raise DetrLiteError(
                f"there is no --detection {request.detection}: there are {len(detections)} {which}, counted from 0"
                f"{remedy}"
            )
        figure = layers_figure(
            image, detections, maps, request.detection, heads=heads, boxes_cxcywh=explained.boxes_cxcywh, below=below
        )
        return figure, is_guess
    if request.kind == "points":
        if request.points is not None:
            return points_figure(image, request.points, maps, heads=heads), False
        note = f"points: centers of the {'highest-scoring detections' if below is None else guess_caption(below)}"
        return points_figure(image, centers(detections)[:_POINTS], maps, heads=heads, note=note), is_guess
    return attention_figure(
        image, detections, maps, max_detections=None, layer=request.layer, heads=heads, below=below
    ), is_guess


def draw_query_boxes(
    detector: Detector, images: Sequence[ImageFile], path: Path, threshold: ScoreThreshold, unreadable: list[ImageFile]
) -> int:
    """Write one figure of the boxes that each query predicts over all readable images; returns how many figures."""
    query_boxes, boxes = QueryBoxes(), ""
    for ((_, image),) in read_batches(images, 1, unreadable, "predicting", detector.orientation):
        explained = detector.explain(image, _SELECTION["query_boxes"])
        detections = explained.detections.above(threshold.scores)
        boxes = boxes_of_last(len(explained.boxes_cxcywh))
        query_boxes.add(explained.boxes_cxcywh[-1, 0], image.size, detections.queries)
    if query_boxes.images == 0:
        return 0
    save_figure(query_boxes_figure(query_boxes, note=f"{boxes}; detected: score of at least {threshold.text}"), path)
    return 1


def save_figure(figure: Figure, path: Path) -> None:
    dpi = min(DPI, MAX_PIXELS / figure.get_figheight())
    atomic_write(path, functools.partial(figure.savefig, format="png", dpi=dpi), durable=False)


def centers(detections: Detections) -> list[Point]:
    """Centers of the boxes in pixels, each once: a query may be detected as several classes."""
    middles = ((detections.boxes_xyxy[:, :2] + detections.boxes_xyxy[:, 2:]) / 2).tolist()
    return list(dict.fromkeys((x, y) for x, y in middles))
