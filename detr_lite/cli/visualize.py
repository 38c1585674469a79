"""`detr-lite visualize`: figures of the attention in a user's images; with --explore, one page of it."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any, Literal

from detr_lite.cli.command import CHECKPOINT_HELP, THRESHOLD_HELP, CommandParser, check_threshold, parse_threshold
from detr_lite.cli.explore import explore
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line
from detr_lite.weights.checkpoint_path import find_checkpoint

DESCRIPTION = """Draws the attention in images, as one PNG per image under its path in the source folder. --figure
queries: the detections with the cross-attention of their queries, mean of the heads and each head. layers: one
detection's, layer by layer. points: encoder self-attention of the tokens at chosen points. query_boxes: one
query_boxes.png, with the centers of the boxes that each query predicts over all images. Where no score reaches the
threshold, the five best guesses are shown, dashed and called so. --explore writes one interactive HTML page instead.
Files that cannot be read as images are named and skipped; the exit code is then 2."""

OPTIONS: dict[str, tuple[str, ...]] = {
    "queries": ("layer", "heads"),
    "layers": ("detection", "heads"),
    "points": ("points", "heads"),
    "query_boxes": (),
}
"""The options of each figure."""


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("visualize"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    several = f"{CHECKPOINT_HELP}; explore: several are shown side by side"
    add("--checkpoint", type=Path, required=True, nargs="+", metavar="PATH", help=several)
    add("--source", nargs="+", required=True, metavar="PATH", help="images, folders (recursive), patterns ('*.jpg')")
    add("--output", type=Path, metavar="DIR", help="folder for the figures, new or empty")
    add("--figure", help="queries, layers, points or query_boxes (default: queries)")
    add("--layer", help="queries, explore: last, or a decoder layer, counted from 0 (default: last)")
    add("--heads", help="all, mean or numbers such as 0,3 (default: all; points: mean; explore: mean or one number)")
    add("--detection", type=int, metavar="N", help="layers: which detection, 0 has the highest score (default: 0)")
    add("--points", nargs="+", metavar="X,Y", help="points: in pixels (default: centers of the best detections)")
    add("--explore", type=Path, nargs="?", const=True, metavar="PAGE.html", help="write a page, there or to --output")
    add("--truth", type=Path, metavar="JSON", help="explore: COCO annotations; images are looked up by file name")
    add("--budget", type=float, metavar="MB", help="explore: most megabytes of the page (default: 48)")
    add(
        "--run",
        type=Path,
        metavar="DIR",
        help="explore: run folder of attention in training (default: the checkpoint's)",
    )
    add(
        "--attribution",
        type=int,
        metavar="N",
        help="explore: also show what the scores of the N best detections depend on, and whether attention shows it; "
        "takes some 250 forward passes for each image and 90 for each detection",
    )
    add("--threshold", type=parse_threshold, default=0.5, metavar="SCORE", help=f"{THRESHOLD_HELP} (default: 0.5)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto, a GPU if there is one)")
    add("--overwrite", action="store_true", help="replace files of the same names in the output folder; others stay")
    given: dict[str, Any] = {name: value for name, value in vars(parser.parse_args(words)).items() if value is not None}
    page = given.pop("explore", None)
    if page in (None, True) and "output" not in given:
        parser.error("give --output" if page is None else "give --explore PAGE.html, or --output")
    if page not in (None, True) and "output" in given:
        parser.error("give --output or --explore PAGE.html, not both")
    for name in ("truth", "budget", "run", "attribution") if page is None else ("figure", "detection", "points"):
        if name in given:
            parser.error(f"--{name} {'needs' if page is None else 'cannot be combined with'} --explore")
    if page is None:
        checkpoints = given.pop("checkpoint")
        if len(checkpoints) > 1:
            parser.error("several checkpoints need --explore")
        visualize(checkpoint=checkpoints[0], **given)
    else:
        output = given.pop("output", None)
        explore(**given, page=output if page is True else page)


def visualize(
    checkpoint: Path,
    source: Sequence[str],
    output: Path,
    figure: str = "queries",
    layer: str | None = None,
    heads: str | None = None,
    detection: int | None = None,
    points: Sequence[str] | None = None,
    threshold: float | Literal["best"] = 0.5,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write a PNG for each image, or query_boxes.png for all.

    Args:
        source: files, folders and patterns, as in `find_images`.
        output: folder; the figures have the same relative paths as the images in their source.
        figure: "queries" for the detections with the cross-attention of their queries; "layers" for that of one
            detection, layer by layer; "points" for encoder self-attention; "query_boxes" for the boxes of each query
            over all images.
        layer: of the decoder, "last" (by default) or a number, counted from 0.
        heads: "all" (and their mean), "mean", or comma-separated numbers, counted from 0; by default all, and the mean
            in a figure of points.
        detection: which one's layers, counted from 0 in order of score; by default 0.
        points: such as "120,80", x and y in pixels of the original image; by default the centers of the
            highest-scoring detections.

    Errors: a wrong argument, before anything is written; images that cannot be read, after all others are done.
    """
    from detr_lite.data.image_sources import ImageFile, find_images, refuse_unreadable
    from detr_lite.io import check_output, drawing_names, refuse_links_out

    check_threshold(threshold)
    check_options(figure, {"layer": layer, "heads": heads, "detection": detection, "points": points})
    if detection is not None and detection < 0:
        raise DetrLiteError(f"--detection is {detection}; it must be at least 0, the one of the highest score")
    first_layer = parse_layer(layer or "last")
    shown_heads = parse_heads(("mean" if figure == "points" else "all") if heads is None else heads)
    places = None if points is None else parse_points(points)
    images = find_images(source, output)
    check_output(output, overwrite)
    names: list[PurePath] = [PurePath("query_boxes.png")]
    if figure != "query_boxes":
        names = drawing_names([file.name for file in images], keep=(".png",))
    refuse_links_out(output, {(output / name).parent for name in names})
    find_checkpoint(checkpoint)

    from detr_lite.cli.figures import FigureRequest, draw_images, draw_query_boxes  # import torch; nothing above does
    from detr_lite.cli.score_threshold import find_threshold
    from detr_lite.detector import Detector

    detector = Detector.from_checkpoint(checkpoint, device)
    request = FigureRequest(
        figure, find_threshold(threshold, detector, checkpoint), first_layer, shown_heads, detection or 0, places
    )

    unreadable: list[ImageFile] = []
    if figure == "query_boxes":
        written = draw_query_boxes(detector, images, output / names[0], request.threshold, unreadable)
    else:
        written = draw_images(detector, dict(zip(images, names, strict=True)), output, request, unreadable)
    if written:
        print(f"wrote {written:,} figure{'s' if written != 1 else ''} to {output}")
    refuse_unreadable(unreadable, len(images), output)


def check_options(figure: str, given: dict[str, object]) -> None:
    """Errors: an unknown figure; an option that belongs to another one."""
    if figure not in OPTIONS:
        raise DetrLiteError(f"--figure is {figure!r}; it must be one of {', '.join(OPTIONS)}")
    for option, value in given.items():
        if value is not None and option not in OPTIONS[figure]:
            figures = " or ".join(name for name, options in OPTIONS.items() if option in options)
            raise DetrLiteError(f"--{option} does not belong to --figure {figure}; give it with --figure {figures}")


def parse_layer(layer: str) -> int | None:
    """None is the last."""
    if layer == "last":
        return None
    if not layer.isdecimal():
        raise DetrLiteError(f'--layer is {layer!r}; it must be "last" or a number, counted from 0')
    return int(layer)


def parse_heads(heads: str) -> Literal["all", "mean"] | list[int]:
    """ "all", "mean" or numbers, each once."""
    if heads == "all":
        return "all"
    if heads == "mean":
        return "mean"
    numbers = heads.split(",")
    if not all(number.strip().isdecimal() for number in numbers):
        raise DetrLiteError(f'--heads is {heads!r}; it must be "all", "mean" or numbers such as 0,3, counted from 0')
    return list(dict.fromkeys(map(int, numbers)))


def parse_points(points: Sequence[str]) -> tuple[tuple[float, float], ...]:
    """(x, y) of texts such as "120,80", each once."""
    parsed = []
    for text in points:
        numbers = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*,\s*(\d+(?:\.\d*)?)\s*", text, flags=re.ASCII)
        if numbers is None:
            raise DetrLiteError(f"--points {text!r} is not a point; give x,y in pixels of the image, such as 120,80")
        parsed.append((float(numbers[1]), float(numbers[2])))
    return tuple(dict.fromkeys(parsed))
