"""Box formats and overlaps. Formats are named in variables: xyxy corners, cxcywh centre and size, xywh COCO's own."""

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision.ops import box_convert


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


def paired_iou_and_giou(
    first_xyxy: Float[Tensor, "*#shape 4"], second_xyxy: Float[Tensor, "*#shape 4"]
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """IoU and generalized IoU (arXiv 1902.09630, alg. 1) of boxes that correspond, by broadcasting.

    torchvision has these for lists of pairs or for all pairs of two lists; costs of all layers at once need the
    shapes in between (layer batch query 1 4 against 1 batch 1 object 4). Boxes without area, upside down or of any
    finite size give finite values and gradients.
    """
    # No side counts as longer, so that areas, and the sum of two, can be told.
    longest = torch.finfo(first_xyxy.dtype).max ** 0.5 / 2
    low = torch.maximum(first_xyxy[..., :2], second_xyxy[..., :2])
    high = torch.minimum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    intersection = (high - low).clamp(0, longest).prod(-1)
    area_first = (first_xyxy[..., 2:] - first_xyxy[..., :2]).clamp(0, longest).prod(-1)
    area_second = (second_xyxy[..., 2:] - second_xyxy[..., :2]).clamp(0, longest).prod(-1)
    union = area_first + area_second - intersection
    iou = intersection / union.clamp(min=1e-7)

    hull_low = torch.minimum(first_xyxy[..., :2], second_xyxy[..., :2])
    hull_high = torch.maximum(first_xyxy[..., 2:], second_xyxy[..., 2:])
    hull = (hull_high - hull_low).clamp(0, longest).prod(-1)
    return iou, iou - (hull - union) / hull.clamp(min=1e-7)
