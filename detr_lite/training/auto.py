"""What the settings leave open, chosen from the data and the machine, and why: sizes, rates, device."""

from collections.abc import Sequence
from dataclasses import replace
from math import ceil

import numpy as np
import torch
from jaxtyping import Float32

from detr_lite.build import require
from detr_lite.config import Config, DataConfig
from detr_lite.data.records import OrientationCount, Split
from detr_lite.grouping import places_of_each
from detr_lite.model.backbone import has_first_stage
from detr_lite.structures import DetrLiteError
from detr_lite.training.before_torch import ACCELERATORS, refuse_unknown_accelerator
from detr_lite.training.default_lr import batch_text, default_lr
from detr_lite.weights.checkpoint_path import source_name
from detr_lite.weights.pretrained_source import SourceSettings, source_settings

TOKENS_ACROSS = 2.5
"""Tokens that a typical object of the class with the smallest objects should span (docs/small_data.md)."""

SMALLEST_SIDE, PRETRAINED_SIDE = 128, 224
"""The smallest size that is chosen for a backbone with random weights, and for one that has learned on ImageNet, whose
pictures had 224 pixels or more."""
FEW_IMAGES = 512
"""So many photographs or fewer are augmented strongly."""
LARGEST_SIDE = 640
LARGE_SIDE = 448
"""Above it one processor core makes fewer than about 500 steps of four images in twenty minutes."""

CHOSEN = {
    "data": ("image_size", "resize", "batch_size", "orientation", "augmentation"),
    "model": ("num_queries", "freeze_first_stage"),
    "optim": ("optimizer", "lr", "backbone_lr_factor", "accumulate_grad_batches"),
}
"""The settings that may be left open."""


def device_type(accelerator: str) -> str:
    """torch's name of the device that an accelerator means on this machine.

    Errors: no such accelerator, or none of its devices here.
    """
    refuse_unknown_accelerator(accelerator)
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    for device in ACCELERATORS[accelerator]:
        if available[device]:
            return device
    raise DetrLiteError(f"--trainer.accelerator {accelerator}: torch finds no such device here; give auto or cpu")


def open_source_settings(config: Config) -> SourceSettings | None:
    """Those of the source of a model of transformers, if the run's settings leave something open that it decides.

    Errors: those of `source_settings`.
    """
    data, model = config.data, config.model
    if model.source is None or None not in (data.image_size, data.resize, model.num_queries):
        return None
    return source_settings(source_name(model.source))


def choose_sizes(
    config: Config, train: Split, source: SourceSettings | None = None, processes: int = 1
) -> tuple[Config, list[str]]:
    """The settings with all open ones chosen, and a line of reason for each choice.

    Args:
        source: of a model of transformers.
        processes: that train together, each on batches of its own.
    """
    config, reasons = _as_source(config, source)
    data, model, optim = config.data, config.model, config.optim
    if data.orientation is None:
        data = replace(data, orientation=train.orientation.default)
        reasons += orientation_reason(train.orientation)
    if data.image_size is None or data.resize is None:
        least = PRETRAINED_SIDE if model.pretrained else SMALLEST_SIDE
        data, lines = choose_image_size(data, train, config.model.strides[0], least)
        reasons += lines
    if data.batch_size is None:
        side = require("data.image_size", data.image_size)
        size, why = _batch_size(len(train.images), side, device_type(config.trainer.accelerator), processes)
        data = replace(data, batch_size=size)
        reasons.append(f"--data.batch_size {size}: {why}")
    if model.num_queries is None:
        most = int(train.images.counts.max())
        # lite selects several tokens for one object; with fewer queries than that, some objects would get none.
        each = float(config.loss.one_to_many_topk) if model.name == "lite" else 1.5
        wanted = 10 * ceil(each * most / 10)
        count = int(np.clip(wanted, 20, 300))
        model = replace(model, num_queries=count)
        limit = "" if count == wanted else ", at least 20" if count > wanted else ", at most 300"
        reasons.append(
            f"--model.num_queries {count}: the fullest image holds {most} objects, {each:g} queries for each{limit}"
        )
    is_trained = bool(model.pretrained) or model.init_from is not None or model.source is not None
    if data.augmentation is None:
        # Of few images a pretrained backbone sees each so often that variety pays (docs/small_data.md); from random
        # weights, or where a run of minutes sees each image a few times, it only makes learning harder.
        needs_variety = is_trained and len(train.images) <= FEW_IMAGES
        data = replace(data, augmentation="photographs" if needs_variety else "light")
        why = f"{len(train.images):,} images" + ("" if needs_variety or is_trained else ", and random weights")
        reasons.append(f"--data.augmentation {data.augmentation}: {why}")
    if model.freeze_first_stage is None:
        can_freeze = is_trained and model.source is None and has_first_stage(model.backbone)
        model = replace(model, freeze_first_stage=can_freeze)
        if model.freeze_first_stage:
            # As in DETR: it cost no AP on photographs, and makes steps faster (docs/small_data.md).
            reasons.append("--model.freeze_first_stage true: the weights of the backbone are trained already")
    if optim.accumulate_grad_batches is None:
        optim = replace(optim, accumulate_grad_batches=1)
    if optim.optimizer is None:
        optim = replace(optim, optimizer="muon" if model.name == "lite" else "adamw")
    if optim.backbone_lr_factor is None:
        factor = 1.0 if not is_trained else 0.05 if optim.optimizer == "muon" else 0.1
        optim = replace(optim, backbone_lr_factor=factor)
        if is_trained:
            reasons.append(f"--optim.backbone_lr_factor {factor:g}: the backbone's weights are trained already")
    config = replace(config, data=data, model=model, optim=optim)
    if optim.lr is None:
        config = replace(config, optim=replace(optim, lr=default_lr(config, processes)))
        width = "" if model.source is not None else f", width {model.dim}"
        why = f"{optim.optimizer}, {batch_text(config, processes)}{width}"
        reasons.append(f"--optim.lr {config.optim.lr:g}: {why}")
    return config, reasons


def _as_source(config: Config, source: SourceSettings | None) -> tuple[Config, list[str]]:
    """What a model of transformers was trained with, where it is open: size, resize rule, number of queries."""
    data, model, reasons = config.data, config.model, []
    if source is None:
        return config, []
    if data.image_size is None:
        data = replace(data, image_size=source.resize.size)
        reasons.append(f"--data.image_size {data.image_size}: {model.source} was trained with it")
    if data.resize is None:
        data = replace(data, resize=source.resize.kind)
        reasons.append(f"--data.resize {data.resize}: {model.source} was trained with it")
    if model.num_queries is None:
        model = replace(model, num_queries=source.architecture["num_queries"])
    return replace(config, data=data, model=model), reasons


def orientation_reason(count: OrientationCount) -> list[str]:
    """Nothing for data without EXIF orientations that sizes settle."""
    if not count.stored and not count.upright:
        return []
    agree = "as stored" if not count.upright else "as viewers show them" if not count.stored else "in both ways"
    settled = count.stored + count.upright
    return [f"--data.orientation {count.default}: {settled:,} images with EXIF orientation are annotated {agree}"]


def _batch_size(images: int, side: int, device: str, processes: int) -> tuple[int, str]:
    if device == "cpu":
        # There an image takes as long in a large step as in a small one, and in the same minutes steps are what counts
        # (docs/small_data.md), until there are hundreds of them.
        if side > LARGE_SIDE:
            return 2, f"on a processor, where steps of {side} pixels are slow and many small ones teach more"
        return 4, "on a processor, where many small steps teach more than a few large ones"
    size = int(np.clip(2 ** int(np.log2(max(1, images / processes / 128))), 4, 16))
    steps = ceil(images / size / processes)
    together = "on one device" if processes == 1 else f"with {processes} processes"
    return size, f"{images:,} images make {steps:,} batches an epoch {together}"


def keep_choices(config: Config, before: Config, sections: Sequence[str] = tuple(CHOSEN)) -> Config:
    """Fill in what is open in these sections from other settings: those of a run that is resumed, whose data may have
    grown and would give other choices, or of a run to compare with."""
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
        if section in sections
    }
    return replace(config, **filled)


def choose_image_size(data: DataConfig, train: Split, stride: int, least: int) -> tuple[DataConfig, list[str]]:
    """The size at which the class with the smallest objects spans `TOKENS_ACROSS` tokens, enlarging images if need be.

    It is at least `least` pixels, and at most `LARGEST_SIDE`, where images have as many.

    Returns the settings with `image_size` and `resize` chosen, and a line of reason for each choice.
    """
    sizes_wh = train.images.sizes_wh
    sides = sizes_wh.min(axis=1) if data.resize == "shortest" else sizes_wh.max(axis=1)
    # A percentile, so that a single huge image does not decide.
    largest = 32 * ceil(float(np.percentile(sides, 90)) / 32)
    wanted, why = _wanted_size(train, sides, stride)
    if wanted is None:
        wanted = largest
    size, reasons = data.image_size, []
    if size is None:
        size = min(LARGEST_SIDE, max(wanted, min(least, largest)))
        if size == least > wanted:
            why += f"; less than {least} is never chosen" + " for pretrained weights" * (least == PRETRAINED_SIDE)
        if data.resize == "longest" and size > largest:
            size = largest
            why += "; images are no larger, and --data.resize longest does not enlarge them"
        elif wanted > LARGEST_SIDE:
            why += "; a larger size would show it better, and cost more"
        reasons.append(f"--data.image_size {size}: {why}")
    resize = data.resize
    if resize is None:
        is_small = largest < min(wanted, size)
        resize = "fit" if is_small else "longest"
        if is_small:
            reasons.append(
                f"--data.resize fit: nine of ten images have no more than {largest} pixels a side; they are enlarged"
            )
    return replace(data, image_size=size, resize=resize), reasons


def _wanted_size(train: Split, sides: np.ndarray, stride: int) -> tuple[int | None, str]:
    """The size, a multiple of 32, at which that class spans `TOKENS_ACROSS` tokens, and why; None without objects."""
    extents = box_extents(train.images.boxes_xyxy)
    # Objects of less than a pixel are faulty annotations, which no size makes visible.
    is_visible = extents >= 1
    shares = (extents / np.repeat(sides, train.images.counts))[is_visible]
    labels = train.images.labels[is_visible]
    if not len(labels):
        return None, "no objects in the training images to go by"
    by_class = places_of_each(labels, len(train.categories))
    medians = {label: float(np.median(shares[places])) for label, places in enumerate(by_class) if len(places)}
    smallest = min(medians, key=medians.__getitem__)
    name = train.categories[smallest].name
    return 32 * ceil(TOKENS_ACROSS * stride / medians[smallest] / 32), (
        f"{name}, the class with the smallest objects, measures {medians[smallest]:.1%} of an image's side, and "
        f"should span {TOKENS_ACROSS:g} tokens of {stride} pixels"
    )


def box_extents(boxes_xyxy: Float32[np.ndarray, "object 4"]) -> Float32[np.ndarray, " object"]:
    """Square root of each box's area, in the unit of the boxes."""
    widths, heights = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).T
    extents: np.ndarray = np.sqrt(widths * heights)
    return extents
