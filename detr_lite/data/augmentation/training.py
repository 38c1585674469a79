"""The transform of training images."""

from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from detr_lite.data.augmentation.camera import JPEG, Blur
from detr_lite.data.augmentation.color import JitterColors
from detr_lite.data.augmentation.detr import detr_scales
from detr_lite.data.augmentation.mixing import MixingTransform
from detr_lite.data.augmentation.scale_crop import RandomScaleCrop
from detr_lite.data.augmentation.settings import Augmentation
from detr_lite.data.transforms import MEAN, STD, Normalize, ResizeByRule, ResizeRule
from detr_lite.structures import DetrLiteError


def training_transform(
    augmentation: Augmentation, resize: ResizeRule, mean: Sequence[float] = MEAN, std: Sequence[float] = STD
) -> v2.Compose | MixingTransform:
    """Resize, augment and normalize. Except for "detr", no image becomes larger than in evaluation.

    Errors: parts that do not fit together, or the resize rule.
    """
    scales = augmentation.scale_jitter, augmentation.zoom_out
    flips = [
        *([v2.RandomHorizontalFlip(augmentation.horizontal_flip)] if augmentation.horizontal_flip else []),
        *([v2.RandomVerticalFlip(augmentation.vertical_flip)] if augmentation.vertical_flip else []),
    ]
    geometry: torch.nn.Module
    if augmentation.geometry == "detr":
        if any(scales):
            raise DetrLiteError(
                'augmentation "detr" has its own scales; leave --data.scale_jitter and --data.zoom_out away, '
                "or set --data.augmentation photographs"
            )
        geometry = detr_scales(resize)
    else:
        geometry = RandomScaleCrop(resize, *scales, tuple(mean)) if any(scales) else ResizeByRule(resize)
    colors = [*_colors(augmentation, mean, std), v2.ToPureTensor()]
    if augmentation.mosaic or augmentation.mixup or augmentation.copy_paste:
        return MixingTransform(
            resize,
            geometry,
            v2.Compose([*flips, v2.Identity()]),
            v2.Compose(colors),
            augmentation.mosaic,
            augmentation.mixup,
            augmentation.copy_paste,
            augmentation.scale_jitter,
            tuple(mean),
        )
    # The original DETR flips first, which a seed's images depend on.
    steps = [*flips, geometry] if augmentation.geometry == "detr" else [geometry, *flips]
    return v2.Compose([v2.ToImage(), *steps, *colors])


def _colors(augmentation: Augmentation, mean: Sequence[float], std: Sequence[float]) -> list[torch.nn.Module]:
    """Normalization and changes of pixels alone, after resizing, where they are cheap."""
    steps: list[torch.nn.Module] = []
    if augmentation.blur:
        steps.append(v2.RandomApply([Blur()], p=augmentation.blur))
    if augmentation.jpeg:
        steps.append(v2.RandomApply([JPEG()], p=augmentation.jpeg))
    if augmentation.color_jitter:
        return [*steps, JitterColors(mean, std, augmentation.color_jitter)]
    return [*steps, Normalize(mean, std, augmentation.exposure_jitter)]
