"""Box formats and overlaps. Formats: xyxy two corners, cxcywh center and size, xywh corner and size as in COCO."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_convert

MIN_AREA = 1e-30
"""An area up to this is none. A pixel of 4,000 x 4,000 has 6e-8: with a bound of 1e-7 in the denominator a perfect
prediction of it would have an IoU of 0.625."""


def cxcywh_to_xyxy(boxes_cxcywh: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 4"]:
    center, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([center - size / 2, center + size / 2], dim=-1)


def xyxy_to_cxcywh(boxes_xyxy: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 4"]:
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def xyxy_to_xywh(boxes_xyxy: Float[Tensor, "box 4"]) -> Float[Tensor, "box 4"]:
    return box_convert(boxes_xyxy, "xyxy", "xywh")  # type: ignore[no-any-return]


def xywh_to_xyxy(boxes_xywh: Float[Tensor, "box 4"]) -> Float[Tensor, "box 4"]:
    return box_convert(boxes_xywh, "xywh", "xyxy")  # type: ignore[no-any-return]


def paired_iou(
    first_xyxy: Float[Tensor, "*#shape 4"], second_xyxy: Float[Tensor, "*#shape 4"]
) -> Float[Tensor, "*shape"]:
    """IoU of pairs of boxes, with broadcasting; finite like `paired_iou_and_giou`."""
    return _iou_and_union(first_xyxy, second_xyxy)[0]


def paired_iou_and_giou(
    first_xyxy: Float[Tensor, "*#shape 4"], second_xyxy: Float[Tensor, "*#shape 4"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """IoU and generalized IoU (arXiv 1902.09630, alg. 1) of pairs of boxes, with broadcasting.

    torchvision's functions do not broadcast, which costs of all layers need: (layer batch query 1 4) with (1 batch 1
    object 4). Boxes without area, with negative or with any finite size give finite values and gradients.
    """
    iou, union = _iou_and_union(first_xyxy, second_xyxy)
    hull_low = torch.minimum(first_xyxy[..., :2], second_xyxy[..., :2])
    hull_high = torch.maximum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    hull = _area(hull_low, hull_high)
    return iou, iou - (hull - union) / _divisor(hull)


def _iou_and_union(first_xyxy: Tensor, second_xyxy: Tensor) -> tuple[Tensor, Tensor]:
    low = torch.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    high = torch.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    intersection = _area(low, high)
    union = (
        _area(first_xyxy[..., :2], first_xyxy[..., 2:])
        + _area(second_xyxy[..., :2], second_xyxy[..., 2:])
        - intersection
    )
    return intersection / _divisor(union), union


def _area(low: Float[Tensor, "*shape 2"], high: Float[Tensor, "*shape 2"]) -> Float[Tensor, "*shape"]:
    # Sides are clamped so that areas, and sums of two of them, are finite.
    max_side = torch.finfo(low.dtype).max ** 0.5 / 2
    return (high - low).clamp(min=0.0, max=max_side).prod(-1)


def _divisor(areas: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The areas, and 1 for none, so that neither a quotient nor its gradient is infinite."""
    return torch.where(areas > MIN_AREA, areas, 1.0)
