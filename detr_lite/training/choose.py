"""Sizes that follow from the data where the settings leave them open, and why."""

from dataclasses import replace
from math import ceil

import numpy as np
from jaxtyping import Float32

from detr_lite.config import Config
from detr_lite.data.coco import CocoSplit

TOKENS_ACROSS = 2
"""So many tokens a typical object of the class with the smallest ones should span."""

LARGEST_SIDE = 640


def choose_sizes(config: Config, train: CocoSplit) -> tuple[Config, list[str]]:
    """The settings with image size, batch size and number of queries filled in, and a line of reason for each."""
    data, model, reasons = config.data, config.model, []
    if data.image_size is None:
        size, why = choose_image_size(train, config.model.strides[0], config.data.resize == "longest")
        data = replace(data, image_size=size)
        reasons.append(f"--data.image_size {size}: {why}")
    if data.batch_size is None:
        images = len(train.images)
        size = int(np.clip(2 ** int(np.log2(max(1, images / 32))), 4, 16))
        data = replace(data, batch_size=size)
        reasons.append(f"--data.batch_size {size}: {images:,} images make {ceil(images / size):,} steps an epoch")
    if model.num_queries is None:
        most = max(len(image.labels) for image in train.images)
        # Of lite's tokens several stand for one object; with fewer places than that, some objects would have none.
        each = float(config.loss.tokens_per_object) if model.name == "lite" else 1.5
        count = int(np.clip(10 * ceil(each * most / 10), 20, 300))
        model = replace(model, num_queries=count)
        reasons.append(
            f"--model.num_queries {count}: the fullest image holds {most} objects, {each:g} queries for each"
        )
    return replace(config, data=data, model=model), reasons


def choose_image_size(train: CocoSplit, stride: int, is_longest: bool) -> tuple[int, str]:
    """The size at which the class with the smallest objects spans some tokens, within what the images hold."""
    side = max if is_longest else min
    sides = np.array([side(image.height, image.width) for image in train.images])
    shares = np.concatenate(
        [_extents(image.boxes_xyxy) / length for image, length in zip(train.images, sides, strict=True)]
    )
    labels = np.concatenate([image.labels for image in train.images])
    largest = min(LARGEST_SIDE, 32 * ceil(float(np.median(sides)) / 32))
    if not len(labels):
        return largest, "no objects in the training images to go by"
    medians = {int(label): float(np.median(shares[labels == label])) for label in np.unique(labels)}
    smallest = min(medians, key=medians.__getitem__)
    wanted = 32 * ceil(TOKENS_ACROSS * stride / medians[smallest] / 32)
    name = train.categories[smallest].name
    why = f"{name}, the class with the smallest objects, measures {medians[smallest]:.1%} of an image's side"
    if wanted > largest:
        return largest, f"{why}; a larger size would show it better, and cost more"
    return max(wanted, min(128, largest)), f"{why}, then {TOKENS_ACROSS} tokens of {stride} pixels"


def _extents(boxes_xyxy: Float32[np.ndarray, "object 4"]) -> Float32[np.ndarray, " object"]:
    """Side of the square of the same area."""
    widths, heights = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).T
    extents: np.ndarray = np.sqrt(widths * heights)
    return extents
