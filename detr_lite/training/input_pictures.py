"""Training images as the model gets them: augmented, normalized, with their boxes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.structures import Batch


def input_pictures(
    batch: Batch, mean: Sequence[float], std: Sequence[float]
) -> list[tuple[Image.Image, Float[Tensor, "box 4"]]]:
    """The images of a batch without padding, and their boxes in pixels. What is not finite is black."""
    assert batch.targets is not None
    means, stds = (torch.tensor(values)[:, None, None] for values in (mean, std))
    pictures: list[tuple[Image.Image, Tensor]] = []
    for place, target in enumerate(batch.targets):
        height, width = (max(1, side) for side in unpadded_size(batch, place))
        pixels = (batch.images[place, :, :height, :width].float() * stds + means).nan_to_num(0, 0, 0).clamp(0, 1)
        image = Image.fromarray((pixels * 255).round().byte().permute(1, 2, 0).numpy())
        boxes_xyxy = cxcywh_to_xyxy(target.boxes_cxcywh.nan_to_num()) * torch.tensor([width, height, width, height])
        pictures.append((image, boxes_xyxy))
    return pictures


def unpadded_size(batch: Batch, place: int) -> tuple[int, int]:
    """(height, width)."""
    is_image = ~batch.is_padding[place]
    return int(is_image.any(1).sum()), int(is_image.any(0).sum())
