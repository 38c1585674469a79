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
LARGEST_IMAGE = 8
"""Megabytes of an image at most, whatever the page's budget."""
LARGE = 50
"""Megabytes of a page from which on browsers load it slowly."""


def explore(
    checkpoint: Sequence[Path],
    source: Sequence[str],
    page: Path,
    truth: Path | None = None,
    layer: str = "last",
    heads: str = "mean",
    threshold: float | Literal["best"] = 0.5,
    budget: float = 48,
    run: Path | None = None,
    attribution: int = 0,
    device: str = "auto",
    overwrite: bool = False,
) -> None:
    """Write one HTML file with all images, their detections, and the attention of queries and tokens.

    Args:
        checkpoint: with several, the page has each image as each model sees it, to be compared.
        source: files, folders and patterns, as in `find_images`.
        page: the file, or a folder, which gets `explorer.html`.
        truth: a COCO annotation file, in which images are looked up by file name.
        layer, heads, threshold: what the page shows at first: the layer's number or "last"; the head's number, or
            "mean" or "all" for the mean; the score, or "best" for the best one of all classes together.
        budget: most megabytes of the page, of which each image and model gets the same share, at most 8; what exceeds
            it is left out, and logged.
        run: run folder, whose pictures of attention in training the page shows; by default that of the checkpoint, if
            it is one.
        attribution: of how many detections of each image, those of highest score, the page shows what their scores
            depend on, too.

    Errors: a wrong argument, before anything is written; images that cannot be read, after all others are done.
    """
    from detr_lite.data.image_sources import ImageFile, find_images, read_batches, refuse_unreadable

    check_threshold(threshold)
    first_layer, first_head = _number("--layer", layer, ("last",)), _number("--heads", heads, ("mean", "all"))
    if budget <= 0:
        raise DetrLiteError(f"--budget is {budget:g}; it must be more than 0 megabytes")
    if attribution < 0:
        raise DetrLiteError(f"--attribution is {attribution}; it must be at least 0")
    page = page_file(page)
    images = find_images(source, page)
    if page.is_dir() or (page.exists() and not overwrite):
        remedy = "name a file" if page.is_dir() else "name another file, or give --overwrite"
        raise DetrLiteError(f"{page} exists already; {remedy}")
    for path in checkpoint:
        find_checkpoint(path)

    from detr_lite.attribution.attribute import attribute_best  # import torch, as nothing above does
    from detr_lite.cli.score_threshold import find_threshold
    from detr_lite.data.ground_truth import GroundTruthByFile
    from detr_lite.detector import Detector
    from detr_lite.training.explored_model import explored_model, names_of, run_beside, training_frames
    from detr_lite.training.explorer_page import explain_image, pack_explained, write_explorer
    from detr_lite.viz.explorer.scene import PackedScene

    truths = None if truth is None else GroundTruthByFile(truth)
    folders = [run] if run is not None else [run_beside(path) for path in checkpoint[:1]]
    history = [frame for folder in folders if folder is not None for frame in training_frames(folder)]
    detectors = [Detector.from_checkpoint(path, device) for path in checkpoint]
    if len({detector.orientation for detector in detectors}) > 1:
        raise DetrLiteError("--checkpoint: these models read images in different orientations; give them one by one")
    least = find_threshold(threshold, detectors[0], checkpoint[0]).overall  # the page has one for all classes
    models = [explored_model(*each) for each in zip(detectors, checkpoint, names_of(checkpoint), strict=True)]
    for_images = max(0.0, budget * MEGABYTE - sum(len(frame.picture) for frame in history))
    share = int(min(for_images / (len(images) * len(detectors)), LARGEST_IMAGE * MEGABYTE))

    scenes: list[PackedScene] = []
    unreadable: list[ImageFile] = []
    unlisted: list[ImageFile] = []
    for ((file, image),) in read_batches(images, 1, unreadable, "explaining", detectors[0].orientation):
        true = None if truths is None else truths.of(file.path)
        crowds = None if truths is None else truths.crowds_of(file.path)
        if truths is not None and true is None:
            unlisted.append(file)
        for detector in detectors:
            explained = explain_image(detector, image)
            for option, number, count in (
                ("--layer", first_layer, len(explained.attention.cross)),
                ("--heads", first_head, explained.attention.cross.shape[2]),
            ):
                if number is not None and number >= count:
                    raise DetrLiteError(f"{option} is {number}; this model has 0 to {count - 1}")
            attributed = attribute_best(detector, image, explained, attribution, least) if attribution else None
            scene = pack_explained(detector, file.name.as_posix(), image, explained, true, crowds, share, attributed)
            if scene.left_out:
                logger.warning("%s: left out for --budget: %s", printable(file.path), "; ".join(scene.left_out))
            scenes.append(scene)
    if scenes:
        names = detectors[0].class_names
        size = write_explorer(page, scenes, names, least, first_layer, first_head, models, history) / MEGABYTE
        shown = len(scenes) // len(detectors)
        if unlisted:
            files = printable(shorten_list([file.path for file in unlisted], 3))
            logger.warning("%s lists %d of %d images (not %s)", truth, shown - len(unlisted), shown, files)
        if size > LARGE:
            logger.warning("browsers load a page of this size slowly; give fewer images, or a smaller --budget")
        print(f"wrote {page}: {shown:,} image{'s' if shown != 1 else ''}, {size:.2f} MB")
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
