"""`detr-lite visualize --explore`: one page that shows the attention behind the detections in a user's images."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from detr_lite.cli.command import check_threshold
from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list
from detr_lite.weights.checkpoint_path import find_checkpoint

logger = logging.getLogger(__name__)

MEGABYTE = 1_000_000
LARGE = 50
"""Megabytes of a page from which on browsers load it slowly."""


def explore(
    checkpoint: Path,
    source: Sequence[str],
    page: Path,
    truth: Path | None = None,
    layer: str = "last",
    heads: str = "mean",
    threshold: float | Literal["best"] = 0.5,
    budget: float = 8,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write one HTML file with all images, their detections, and the attention of queries and tokens.

    Args:
        source: files, folders and patterns, as in `find_images`.
        page: the file, or a folder, which gets `explorer.html`.
        truth: a COCO annotation file, in which images are looked up by file name.
        layer, heads, threshold: what the page shows at first: the layer's number or "last"; the head's number, or
            "mean" or "all" for the mean; the score, or "best" for the best one of all classes together.
        budget: most megabytes per image; what exceeds it is left out, and logged.

    Errors: a wrong argument, before anything is written; images that cannot be read, after all others are done.
    """
    from detr_lite.data.image_sources import ImageFile, find_images, read_batches, refuse_unreadable

    check_threshold(threshold)
    first_layer, first_head = _number("--layer", layer, ("last",)), _number("--heads", heads, ("mean", "all"))
    if budget <= 0:
        raise DetrLiteError(f"--budget is {budget:g}; it must be more than 0 megabytes")
    page = page_file(page)
    images = find_images(source, page)
    if page.is_dir() or (page.exists() and not overwrite):
        remedy = "name a file" if page.is_dir() else "name another file, or give --overwrite"
        raise DetrLiteError(f"{page} exists already; {remedy}")
    find_checkpoint(checkpoint)

    from detr_lite.cli.score_threshold import find_threshold  # import torch, as nothing above does
    from detr_lite.data.ground_truth import GroundTruthByFile
    from detr_lite.detector import Detector
    from detr_lite.training.explorer_page import explain_image, pack_explained, write_explorer
    from detr_lite.viz.explorer.scene import PackedScene

    truths = None if truth is None else GroundTruthByFile(truth)
    detector = Detector.from_checkpoint(checkpoint, device)
    least = find_threshold(threshold, detector, checkpoint).overall  # the page has one for all classes

    scenes: list[PackedScene] = []
    unreadable: list[ImageFile] = []
    unlisted: list[ImageFile] = []
    for ((file, image),) in read_batches(images, 1, unreadable, "explaining", detector.orientation):
        explained = explain_image(detector, image)
        for option, number, count in (
            ("--layer", first_layer, len(explained.attention.cross)),
            ("--heads", first_head, explained.attention.cross.shape[2]),
        ):
            if number is not None and number >= count:
                raise DetrLiteError(f"{option} is {number}; this model has 0 to {count - 1}")
        true = None if truths is None else truths.of(file.path)
        if truths is not None and true is None:
            unlisted.append(file)
        scene = pack_explained(file.name.as_posix(), image, explained, true, int(budget * MEGABYTE))
        if scene.left_out:
            logger.warning("%s: left out for --budget: %s", printable(file.path), "; ".join(scene.left_out))
        scenes.append(scene)
    if scenes:
        size = write_explorer(page, scenes, detector.class_names, least, first_layer, first_head) / MEGABYTE
        if unlisted:
            files = printable(shorten_list([file.path for file in unlisted], 3))
            logger.warning("%s lists %d of %d images (not %s)", truth, len(scenes) - len(unlisted), len(scenes), files)
        if size > LARGE:
            logger.warning("browsers load a page of this size slowly; give fewer images, or a smaller --budget")
        print(f"wrote {page}: {len(scenes):,} image{'s' if len(scenes) != 1 else ''}, {size:.2f} MB")
    refuse_unreadable(unreadable, len(images), page)


def page_file(page: Path) -> Path:
    """A path that ends in .html is the file; any other is a folder."""
    return page if page.suffix.lower() in (".html", ".htm") else page / "explorer.html"


def _number(option: str, given: str, words: tuple[str, ...]) -> int | None:
    """None for one of the words."""
    if given in words:
        return None
    if not given.isdecimal():
        allowed = " or ".join(f'"{word}"' for word in words)
        raise DetrLiteError(f"{option} is {given!r}; for a page it must be {allowed} or one number, counted from 0")
    return int(given)
