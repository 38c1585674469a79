"""Where the queries of a user's own images look: a figure for each image, or one of what each query finds in all."""

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from matplotlib.figure import Figure
from PIL import Image

from detr_lite.data.annotations import listed
from detr_lite.data.image_sources import ImageFile, find_images, read_batches, refuse_unreadable
from detr_lite.detector import Detector, check_threshold
from detr_lite.io import atomic_write, check_output, drawing_names, refuse_links_out
from detr_lite.structures import AttentionSelection, Detections, DetrLiteError
from detr_lite.text import printable
from detr_lite.viz.figures.attention import Heads, attention_figure
from detr_lite.viz.figures.layers import layers_figure
from detr_lite.viz.figures.points import Point, points_figure
from detr_lite.viz.figures.query_boxes import QueryBoxes, query_boxes_figure

GUESSES = 3
"""So many are shown of an image in which nothing reaches the threshold."""

DPI, MOST_PIXELS = 180, 60_000
"""Of a figure, and of its height: matplotlib draws no more than 65,535."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "queries": ("layer", "heads"),
    "layers": ("detection", "heads"),
    "points": ("points", "heads"),
    "query_boxes": (),
}
"""What may be chosen of each figure."""

_KEPT = {
    "queries": AttentionSelection(encoder_layers=()),
    "layers": AttentionSelection(encoder_layers=()),
    "points": AttentionSelection(layers=()),
    "query_boxes": AttentionSelection(layers=(), encoder_layers=()),
}
"""The attention that each figure needs."""


@dataclass(frozen=True)
class Wanted:
    """A figure of an image, and what was chosen of it."""

    kind: str
    threshold: float
    layer: int | None
    heads: Heads
    detection: int
    points: tuple[Point, ...] | None
    """None: the centres of the best detections."""


def visualize(
    checkpoint: Path,
    source: Sequence[str],
    output: Path,
    figure: str = "queries",
    layer: str | None = None,
    heads: str | None = None,
    detection: int | None = None,
    points: Sequence[str] | None = None,
    threshold: float = 0.5,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write a PNG for each image, or query_boxes.png for all.

    Args:
        source: files, folders and patterns, as in `find_images`.
        output: folder; the figures lie in it as the images lie in their source.
        figure: "queries" for the detections with the cross-attention of their queries; "layers" for that of one
            detection, layer by layer; "points" for encoder self-attention; "query_boxes" for the boxes of each
            query on all images.
        layer: of the decoder, "last" (by default) or a number, counted from 0.
        heads: "all" (and their mean), "mean", or numbers with commas between, counted from 0; by default all, and the
            mean in a figure of points.
        detection: which one's layers, counted from 0; by default the best.
        points: such as "120,80", x and y in pixels of the original image; by default the centres of the best
            detections.

    Errors: a wrong argument, before anything is written; images that cannot be read, when all others are done.
    """
    check_threshold(threshold)
    check_options(figure, {"layer": layer, "heads": heads, "detection": detection, "points": points})
    if detection is not None and detection < 0:
        raise DetrLiteError(f"--detection is {detection}; it must be a number, counted from 0, the best one")
    wanted = Wanted(
        figure,
        threshold,
        read_layer(layer or "last"),
        read_heads(("mean" if figure == "points" else "all") if heads is None else heads),
        detection or 0,
        None if points is None else read_points(points),
    )
    images = find_images(source, output)
    check_output(output, overwrite)
    names: list[PurePath] = [PurePath("query_boxes.png")]
    if figure != "query_boxes":
        names = drawing_names([file.name for file in images], keep=(".png",))
    refuse_links_out(output, {(output / name).parent for name in names})
    detector = Detector.from_checkpoint(checkpoint, device)

    unreadable: list[ImageFile] = []
    if figure == "query_boxes":
        written = draw_query_boxes(detector, images, output / names[0], threshold, unreadable)
    else:
        written = draw_images(detector, dict(zip(images, names, strict=True)), output, wanted, unreadable)
    if written:
        print(f"written    {written:,} figure{'s' if written != 1 else ''} to {output}")
    refuse_unreadable(unreadable, len(images), output)


def draw_images(
    detector: Detector,
    figure_of: dict[ImageFile, PurePath],
    output: Path,
    wanted: Wanted,
    unreadable: list[ImageFile],
) -> int:
    """Write a figure for each image that can be read; says how many."""
    guessed: list[ImageFile] = []
    images = tuple(figure_of)
    for ((file, image),) in read_batches(images, 1, unreadable, "drawing"):
        try:
            figure, is_guess = draw_image(detector, image, wanted)
        except DetrLiteError as error:
            raise DetrLiteError(f"{file.path}: {error}") from error
        save(figure, output / figure_of[file])
        if is_guess:
            guessed.append(file)
    done, threshold = len(images) - len(unreadable), wanted.threshold
    if guessed:
        which = listed([file.path for file in guessed], most=3)
        print(f"note       no score reaches {threshold:g} in {len(guessed):,} of {done:,} images ({printable(which)}):")
        print("           there the best guesses are shown")
    return done


def draw_image(detector: Detector, image: Image.Image, wanted: Wanted) -> tuple[Figure, bool]:
    """The figure, and whether it shows guesses, as nothing reaches the threshold."""
    explained = detector.explain(image, _KEPT[wanted.kind])
    maps, heads = explained.attention, wanted.heads
    found, most, note = explained.detections.above(wanted.threshold), None, ""
    if len(found) == 0:
        found, most, note = explained.detections, GUESSES, f"best guesses: no score reaches {wanted.threshold:g}"
    is_guess = bool(note)
    if wanted.kind == "layers":
        if wanted.detection and wanted.detection >= len(found):
            there = f"{len(found)} guesses" if is_guess else f"{len(found)} of a score of at least {wanted.threshold:g}"
            remedy = "" if is_guess else "; a lower --threshold lets more in"
            raise DetrLiteError(f"there is no --detection {wanted.detection}; there are {there}, from 0{remedy}")
        drawn = layers_figure(
            image, found, maps, wanted.detection, heads=heads, boxes_cxcywh=explained.boxes_cxcywh, note=note
        )
        return drawn, is_guess
    if wanted.kind == "points":
        if wanted.points is not None:
            return points_figure(image, wanted.points, maps, heads=heads), False
        points = centers(found)[:GUESSES]
        note = "points: centres of the best detections" + (f"; {note}" if note else "")
        return points_figure(image, points, maps, heads=heads, note=note), is_guess
    return attention_figure(
        image, found, maps, max_detections=most, layer=wanted.layer, heads=heads, note=note
    ), is_guess


def draw_query_boxes(
    detector: Detector, images: Sequence[ImageFile], path: Path, threshold: float, unreadable: list[ImageFile]
) -> int:
    """Write one figure of what each query finds in all images that can be read; says how many figures."""
    query_boxes = QueryBoxes()
    for ((_, image),) in read_batches(images, 1, unreadable, "predicting"):
        explained = detector.explain(image, _KEPT["query_boxes"])
        found = explained.detections.above(threshold)
        query_boxes.add(explained.boxes_cxcywh[-1, 0], image.size, found.queries)
    if query_boxes.images == 0:
        return 0
    save(query_boxes_figure(query_boxes, note=f"detection: score of at least {threshold:g}"), path)
    return 1


def save(figure: Figure, path: Path) -> None:
    dpi = min(DPI, MOST_PIXELS / figure.get_figheight())
    atomic_write(path, functools.partial(figure.savefig, format="png", dpi=dpi), durable=False)


def centers(found: Detections) -> list[Point]:
    """Of the boxes, each once, in pixels: a query may answer with several classes."""
    middles = ((found.boxes_xyxy[:, :2] + found.boxes_xyxy[:, 2:]) / 2).tolist()
    return list(dict.fromkeys((x, y) for x, y in middles))


def check_options(figure: str, given: dict[str, object]) -> None:
    """Errors: no figure of ours; an option that belongs to another one."""
    if figure not in OPTIONS:
        raise DetrLiteError(f"--figure is {figure!r}; it must be one of {', '.join(OPTIONS)}")
    for option, value in given.items():
        if value is not None and option not in OPTIONS[figure]:
            figures = " or ".join(name for name, options in OPTIONS.items() if option in options)
            raise DetrLiteError(f"--{option} does not belong to --figure {figure}; give it with --figure {figures}")


def read_layer(layer: str) -> int | None:
    """None is the last."""
    if layer == "last":
        return None
    if not layer.isdecimal():
        raise DetrLiteError(f'--layer is {layer!r}; it must be "last" or a number, counted from 0')
    return int(layer)


def read_heads(heads: str) -> Heads:
    """ "all", "mean" or numbers, each once."""
    if heads == "all":
        return "all"
    if heads == "mean":
        return "mean"
    numbers = heads.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise DetrLiteError(f'--heads is {heads!r}; it must be "all", "mean" or numbers such as 0,3, counted from 0')
    return list(dict.fromkeys(map(int, numbers)))


def read_points(points: Sequence[str]) -> tuple[Point, ...]:
    """(x, y) of texts such as "120,80", each once."""
    found = []
    for text in points:
        numbers = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*,\s*(\d+(?:\.\d*)?)\s*", text, flags=re.ASCII)
        if numbers is None:
            raise DetrLiteError(f"--points {text!r} is no point; give x,y in pixels of the image, such as 120,80")
        found.append((float(numbers[1]), float(numbers[2])))
    return tuple(dict.fromkeys(found))
