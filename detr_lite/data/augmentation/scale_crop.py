"""Random scales, and crops that keep objects, of no more pixels than the image has in evaluation."""

from math import ceil, exp, floor, log1p, sqrt
from typing import TypeVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detr_lite.data.transforms import MEAN, ResizeRule

MIN_VISIBILITY = 0.3
"""An object of which less than this share of its box is left in a crop is dropped."""

MIN_SIDE = 8
"""Scaling down leaves each object this side (square root of its box's area) in pixels, if it has it in evaluation."""

ZOOM_OUT = 0.5
"""The smallest factor of zooming out."""

Sample = tuple[tv_tensors.Image, tv_tensors.BoundingBoxes, Int[Tensor, " _"]]

Value = TypeVar("Value", tv_tensors.Image, tv_tensors.BoundingBoxes)


class RandomScaleCrop(torch.nn.Module):
    """Resize by a `ResizeRule` and a random factor, and crop or pad to the size that the rule alone gives, the frame.

    The factor is log-uniform from 1 / (1 + `jitter`) to 1 + `jitter`. Above 1 a part of the image fills the frame, with
    an object at least (`scale_into`); below 1 the image becomes smaller. With probability `zoom_out` it is
    instead scaled down by a factor from `ZOOM_OUT` to 1 and placed anywhere in a frame of color `fill` (red, green,
    blue in 0 .. 1; SSD's "zoom out", arXiv 1512.02325).
    """

    def __init__(self, rule: ResizeRule, jitter: float, zoom_out: float, fill: tuple[float, ...] = MEAN) -> None:
        super().__init__()
        self.rule, self.jitter, self.zoom_out = rule, jitter, zoom_out
        self.fill = [round(255 * value) for value in fill]

    def forward(
        self, image: tv_tensors.Image, boxes: tv_tensors.BoundingBoxes, labels: Int[Tensor, " object"]
    ) -> Sample:
        frame = self.rule.target_size(*functional.get_size(image))
        least = least_factor(image, boxes, frame)
        if uniform(0.0, 1.0) < self.zoom_out:
            return self._padded(image, boxes, labels, frame, max(least, uniform(ZOOM_OUT, 1.0)))
        factor = max(least, exp(log1p(self.jitter) * uniform(-1.0, 1.0)))
        return scale_into(image, boxes, labels, frame, factor, window=frame)

    def _padded(
        self,
        image: tv_tensors.Image,
        boxes: tv_tensors.BoundingBoxes,
        labels: Tensor,
        frame: tuple[int, int],
        factor: float,
    ) -> Sample:
        height, width = size = _scaled(frame, factor)
        left, top = (int(uniform(0.0, 1.0) * (room + 1)) for room in (frame[1] - width, frame[0] - height))
        padding = [left, top, frame[1] - width - left, frame[0] - height - top]
        image = functional.pad(resized(image, size), padding, fill=self.fill)
        return image, functional.pad(resized(boxes, size), padding), labels


def least_factor(image: Tensor, boxes: Float[Tensor, "object 4"], frame: tuple[int, int]) -> float:
    """The smallest factor, at most 1, at which every object keeps `MIN_SIDE`, if it has it at 1."""
    if len(boxes) == 0:
        return 0.0
    areas = (boxes[:, 2:] - boxes[:, :2]).as_subclass(Tensor).prod(dim=1)
    side = float(areas.amin().sqrt()) * frame[0] / image.shape[1]
    return min(1.0, MIN_SIDE / max(side, 1e-6))


def scale_into(
    image: tv_tensors.Image,
    boxes: tv_tensors.BoundingBoxes,
    labels: Int[Tensor, " object"],
    frame: tuple[int, int],
    factor: float,
    window: tuple[int, int],
) -> Sample:
    """Scale to `factor` times the frame, and cut out a part of the size of the window if that is larger than it.

    The part is random, but holds an object drawn at random; if half of the object would not fit, the factor is smaller.

    Args:
        frame, window: (height, width) in pixels.
    """
    height, width = functional.get_size(image)
    size = _scaled(frame, factor)
    if size[0] <= window[0] and size[1] <= window[1]:
        return resized(image, size), resized(boxes, size), labels
    anchor_xyxy, anchor = [0.0, 0.0, float(width), float(height)], None
    if len(boxes):
        anchor = int(torch.randint(len(boxes), ()))
        anchor_xyxy = boxes[anchor].tolist()
        anchor_width = (anchor_xyxy[2] - anchor_xyxy[0]) * frame[1] / width
        anchor_height = (anchor_xyxy[3] - anchor_xyxy[1]) * frame[0] / height
        factor = min(factor, sqrt(2) * min(window[1] / anchor_width, window[0] / anchor_height))
    size = _scaled(frame, factor)
    cut_height = min(height, max(1, round(height * window[0] / (frame[0] * factor))))
    cut_width = min(width, max(1, round(width * window[1] / (frame[1] * factor))))
    left = _position(anchor_xyxy[0], anchor_xyxy[2], cut_width, width)
    top = _position(anchor_xyxy[1], anchor_xyxy[3], cut_height, height)
    part, cut, is_kept = cut_out(image, boxes, top, left, (cut_height, cut_width), anchor)
    size = min(size[0], window[0]), min(size[1], window[1])
    return resized(part, size), resized(cut, size), labels[is_kept]


def cut_out(
    image: tv_tensors.Image,
    boxes: tv_tensors.BoundingBoxes,
    top: int,
    left: int,
    size: tuple[int, int],
    anchor: int | None,
) -> tuple[tv_tensors.Image, tv_tensors.BoundingBoxes, Bool[Tensor, " object"]]:
    """A part of an image with the objects that are visible in it, clipped, and which those are.

    Args:
        size: (height, width).
        anchor: an object to be kept even where less than `MIN_VISIBILITY` is left.
    """
    # Not by `functional.crop`, which clips the boxes, after which nobody knows how much is left of them.
    shifted = boxes.as_subclass(Tensor) - torch.tensor([left, top] * 2)
    is_kept = is_visible(shifted, size)
    if anchor is not None:
        is_kept[anchor] = True
    clipped = torch.minimum(shifted[is_kept].clamp(min=0), torch.tensor([size[1], size[0]] * 2))
    cut = tv_tensors.BoundingBoxes(clipped, format="XYXY", canvas_size=size)
    return functional.crop(image, top, left, *size), cut, is_kept


def is_visible(
    boxes_xyxy: Float[Tensor, "object 4"], size: tuple[int, int], min_visibility: float = MIN_VISIBILITY
) -> Bool[Tensor, " object"]:
    """Which boxes have at least this share of their area inside of an image of `size` (height, width)."""
    boxes_xyxy = boxes_xyxy.as_subclass(Tensor)
    limits = torch.tensor([size[1], size[0]] * 2)
    inside = torch.minimum(boxes_xyxy.clamp(min=0), limits)
    area = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(dim=1)
    left = (inside[:, 2:] - inside[:, :2]).clamp(min=0).prod(dim=1)
    return (left > 0) & (left >= min_visibility * area)


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def resized(value: Value, size: tuple[int, int]) -> Value:
    resized: Value = functional.resize(value, list(size), antialias=True)
    return resized


def _position(start: float, end: float, cut: int, side: int) -> int:
    """Where a part of length `cut` begins that holds the interval, or lies in it, uniformly among those positions."""
    if end - start > cut:
        low, high = ceil(start), floor(end - cut)
    else:
        low, high = ceil(end - cut), floor(start)
    low, high = max(low, 0), min(high, side - cut)
    if low > high:  # no whole pixel: the part begins within the first one of the interval
        return min(floor(start), side - cut)
    return int(torch.randint(low, high + 1, ()))


def uniform(low: float, high: float) -> float:
    return low + (high - low) * torch.rand(()).item()
