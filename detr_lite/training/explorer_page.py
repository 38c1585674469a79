"""The explorer's page of some images: of a user's, or of the validation images at the end of a run."""

import logging
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image

from detr_lite.box_ops import xywh_to_xyxy
from detr_lite.data.images.load import load_image
from detr_lite.data.records import ImageRecord, Split
from detr_lite.detector import Detector, Explained
from detr_lite.evaluation.attribution import ImageAttribution
from detr_lite.io import atomic_write
from detr_lite.structures import AttentionSelection, Detections, DetrLiteError
from detr_lite.text import reason_of
from detr_lite.training.object_outcomes import explain_outcome
from detr_lite.viz.explorer.models import ExploredModel, TrainingFrame
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.scene import PackedScene, pack_scene

logger = logging.getLogger(__name__)

EXPLORER = "explorer.html"
"""The page's name in a run folder."""

IMAGES, SECONDS, PAGE_BYTES = 8, 20.0, 10_000_000
"""Of the page at the end of a run: how many images, the time it may take, and its size at most."""


def explain_image(detector: Detector, image: Image.Image) -> Explained:
    """Detections with the attention that the page shows."""
    return detector.explain(image, AttentionSelection(encoder_mean=True, samples_only=True))


def pack_explained(
    detector: Detector,
    name: str,
    image: Image.Image,
    explained: Explained,
    truth: Detections | None,
    crowds: Detections | None,
    budget: int,
    attribution: ImageAttribution | None = None,
) -> PackedScene:
    """One image for the page, in at most `budget` bytes."""
    outcome = None if truth is None else explain_outcome(detector, explained, truth, crowds)
    return pack_scene(
        name,
        image,
        explained.detections,
        explained.attention,
        truth,
        budget,
        explained.by_query,
        outcome,
        attribution,
        crowds,
    )


def write_explorer(
    path: Path,
    scenes: Sequence[PackedScene],
    class_names: Sequence[str],
    threshold: float,
    layer: int | None = None,
    head: int | None = None,
    models: Sequence[ExploredModel] = (),
    history: Sequence[TrainingFrame] = (),
) -> int:
    """Write the page, whose arguments are those of `explorer_page`; returns its size in bytes."""
    text = explorer_page(scenes, class_names, threshold, layer, head, models, history).encode()
    atomic_write(path, lambda file: file.write(text), durable=False)
    return len(text)


def choose_images(count: int, most_telling: Iterable[int] = ()) -> list[int]:
    """Which of a split's `count` images to show, at most `IMAGES`: these first, then images evenly spaced."""
    evenly = [number * count // IMAGES for number in range(IMAGES)] if count > IMAGES else range(count)
    return list(dict.fromkeys([*most_telling, *evenly]))[:IMAGES]


def explore_split(
    detector: Detector,
    split: Split,
    images: Sequence[int],
    path: Path,
    threshold: float,
    seconds: float = SECONDS,
    models: Sequence[ExploredModel] = (),
    history: Sequence[TrainingFrame] = (),
) -> int:
    """Write a page of these images with their objects; returns how many it has. It stops before the time is used up.

    Images that cannot be read or explained are left out with a warning; without any, nothing is written and what was
    there is removed.

    Args:
        threshold: the initial score of the page.
        models: the detector with its facts, if they are known.
        history: attention at the evaluations of its run.
        seconds: for all images together; the slowest image so far says whether there is time for another.
    """
    scenes: list[PackedScene] = []
    start, slowest = time.monotonic(), 0.0
    for index in images:
        begin = time.monotonic()
        if scenes and begin - start + slowest > seconds:
            logger.info(f"{path.name} has {len(scenes)} of {len(images)} images: more take longer than {seconds:g} s")
            break
        record = split.images[index]
        try:
            image = load_image(record.path, (record.height, record.width), split.orientation.default)
            explained = explain_image(detector, image)
        except (OSError, DetrLiteError, torch.OutOfMemoryError) as error:
            logger.warning(f"{path.name} goes without {split.file_name(index)}: {reason_of(error)}")
            continue
        budget = (PAGE_BYTES - sum(len(frame.picture) for frame in history)) // len(images)
        truth, crowds = _truth(record, split), _crowds(record, split)
        scenes.append(pack_explained(detector, split.file_name(index), image, explained, truth, crowds, budget))
        slowest = max(slowest, time.monotonic() - begin)
    if scenes:
        write_explorer(path, scenes, detector.class_names, threshold, models=models, history=history)
    else:
        path.unlink(missing_ok=True)
    return len(scenes)


def _truth(record: ImageRecord, split: Split) -> Detections:
    return _annotated(torch.tensor(record.boxes_xyxy), torch.tensor(record.labels), split)


def _crowds(record: ImageRecord, split: Split) -> Detections:
    truth = split.ground_truth
    places = np.flatnonzero(truth.is_crowd & (truth.image_index == record.index))
    boxes_xywh = torch.from_numpy(truth.boxes_xywh[places]).float()
    return _annotated(xywh_to_xyxy(boxes_xywh), torch.from_numpy(truth.labels[places]), split)


def _annotated(boxes_xyxy: Float[torch.Tensor, "box 4"], labels: Int[torch.Tensor, " box"], split: Split) -> Detections:
    return Detections(
        boxes_xyxy,
        torch.ones(len(labels)),
        labels,
        torch.arange(len(labels)),
        tuple(category.name for category in split.categories),
    )
