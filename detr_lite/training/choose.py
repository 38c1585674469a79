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

CHOSEN = {"data": ("image_size", "batch_size"), "model": ("num_queries",), "optim": ("backbone_factor",)}
"""The settings that may be left open."""


def choose_sizes(config: Config, train: CocoSplit) -> tuple[Config, list[str]]:
    """The settings with all that was left open filled in, and a line of reason for each."""
    data, model, optim, reasons = config.data, config.model, config.optim, []
    if data.image_size is None:
        size, why = choose_image_size(train, config.model.strides[0], config.data.resize == "longest")
        data = replace(data, image_size=size)
        reasons.append(f"--data.image_size {size}: {why}")
    if data.batch_size is None:
        images = len(train.images)
        size = int(np.clip(2 ** int(np.log2(max(1, images / 32))), 4, 16))
        data = replace(data, batch_size=size)
        reasons.append(
            f"--data.batch_size {size}: {images:,} images make {ceil(images / size):,} steps an epoch on one device"
        )
    if model.num_queries is None:
        most = max(len(image.labels) for image in train.images)
        # Of lite's tokens several stand for one object; with fewer places than that, some objects would have none.
        each = float(config.loss.tokens_per_object) if model.name == "lite" else 1.5
        wanted = 10 * ceil(each * most / 10)
        count = int(np.clip(wanted, 20, 300))
        model = replace(model, num_queries=count)
        limit = "" if count == wanted else ", at least 20" if count > wanted else ", at most 300"
        reasons.append(
            f"--model.num_queries {count}: the fullest image holds {most} objects, {each:g} queries for each{limit}"
        )
    if optim.backbone_factor is None:
        has_learned = model.pretrained or model.init_from is not None
        optim = replace(optim, backbone_factor=0.1 if has_learned else 1.0)
        if has_learned:
            reasons.append("--optim.backbone_factor 0.1: the backbone has learned already")
    return replace(config, data=data, model=model, optim=optim), reasons


def keep_choices(config: Config, before: Config) -> Config:
    """What is left open, as a run that is resumed had it: data that have grown would choose otherwise."""
    filled = {
        section: replace(
            getattr(config, section),
            **{
                name: getattr(getattr(before, section), name)
                for name in names
                if getattr(getattr(config, section), name) is None
            },
        )
        for section, names in CHOSEN.items()
    }
    return replace(config, **filled)


def choose_image_size(train: CocoSplit, stride: int, is_longest: bool) -> tuple[int, str]:
    """The size at which the class with the smallest objects spans some tokens, within what the images hold."""
    side = max if is_longest else min
    sides = np.array([side(image.height, image.width) for image in train.images])
    shares = np.concatenate(
        [_extents(image.boxes_xyxy) / length for image, length in zip(train.images, sides, strict=True)]
    )
    labels = np.concatenate([image.labels for image in train.images])
    # Of the larger images, as small ones are not enlarged; but not of a single huge one.
    largest = min(LARGEST_SIDE, 32 * ceil(float(np.percentile(sides, 90)) / 32))
    if not len(labels):
        return largest, "no objects in the training images to go by"
    medians = {int(label): float(np.median(shares[labels == label])) for label in np.unique(labels)}
    smallest = min(medians, key=medians.__getitem__)
    wanted = 32 * ceil(TOKENS_ACROSS * stride / max(medians[smallest], 1e-6) / 32)
    name = train.categories[smallest].name
    why = f"{name}, the class with the smallest objects, measures {medians[smallest]:.1%} of an image's side"
    if wanted > largest:
        limit = (
            "a larger size would show it better, and cost more" if largest == LARGEST_SIDE else "images are no larger"
        )
        return largest, f"{why}; {limit}"
    return max(wanted, min(128, largest)), f"{why}, then {TOKENS_ACROSS} tokens of {stride} pixels"


def _extents(boxes_xyxy: Float32[np.ndarray, "object 4"]) -> Float32[np.ndarray, " object"]:
    """Side of the square of the same area."""
    widths, heights = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).T
    extents: np.ndarray = np.sqrt(widths * heights)
    return extents
