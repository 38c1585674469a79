"""Several images in one: mosaic, mixup and copy-paste, of no more pixels than the image has in evaluation."""

from collections.abc import Callable
from math import ceil, exp, floor, log
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional

from detr_lite.data.augmentation.scale_crop import (
    Sample,
    cut_out,
    is_visible,
    least_factor,
    resized,
    scale_into,
    uniform,
)
from detr_lite.data.transforms import MEAN, ResizeRule

MOSAIC_CENTER = 0.3
"""Where the four images of a mosaic meet: at least this share of a side away from the border."""

MIXUP_SHARE = 0.4
"""Least share of either image."""

PASTED = 3
"""Most objects that are pasted into an image."""

MAX_OVERLAP = 0.2
"""A pasted part and an object have at most this share of the smaller of the two boxes in common."""

ATTEMPTS = 10
"""Random places that are tried for a pasted object."""

Draw = Callable[[], Sample]
"""Another image of the split, drawn at random, with its objects."""


class MixingTransform(torch.nn.Module):
    """The transform of training images where other images take part.

    Args:
        resize: gives the frame of each image, its size in evaluation.
        geometry, flips, colors: the steps without other images, in this order; the last ones normalize.
        mosaic, mixup, copy_paste: probabilities.
        jitter: of the size of pasted objects, as in `RandomScaleCrop`.
        fill: color (red, green, blue in 0 .. 1) where a mosaic has no image.
    """

    def __init__(
        self,
        resize: ResizeRule,
        geometry: torch.nn.Module,
        flips: torch.nn.Module,
        colors: torch.nn.Module,
        mosaic: float,
        mixup: float,
        copy_paste: float,
        jitter: float,
        fill: tuple[float, ...] = MEAN,
    ) -> None:
        super().__init__()
        self.resize = resize
        self.geometry, self.flips, self.colors = geometry, flips, colors
        self.mosaic, self.mixup, self.copy_paste = mosaic, mixup, copy_paste
        self.jitter, self.fill = jitter, fill

    def forward(self, image: Any, boxes: tv_tensors.BoundingBoxes, labels: Tensor, draw: Draw) -> Any:
        sample = self._sample((image, boxes, labels), draw)
        if self.copy_paste and uniform(0.0, 1.0) < self.copy_paste:
            sample = paste_objects(sample, self._as_in_evaluation(draw()), self.jitter)
        if self.mixup and uniform(0.0, 1.0) < self.mixup:
            sample = mixup(sample, self._sample(draw(), draw), uniform(MIXUP_SHARE, 1 - MIXUP_SHARE))
        return self.colors(*sample)

    def _sample(self, sample: tuple[Any, ...], draw: Draw) -> Sample:
        """One image, or a mosaic of four, before its colors are changed."""
        sample = _to_image(sample)
        has_room = min(self.resize.target_size(*functional.get_size(sample[0]))) > 1
        if self.mosaic and uniform(0.0, 1.0) < self.mosaic and has_room:
            mixed = mosaic([sample, *(_to_image(draw()) for _ in range(3))], self.resize, self.fill)
        else:
            mixed = self.geometry(*sample)
        flipped: Sample = self.flips(*mixed)
        return flipped

    def _as_in_evaluation(self, sample: tuple[Any, ...]) -> Sample:
        image, boxes, labels = _to_image(sample)
        size = self.resize.target_size(*functional.get_size(image))
        return resized(image, size), resized(boxes, size), labels


def mosaic(samples: list[Sample], resize: ResizeRule, fill: tuple[float, ...] = MEAN) -> Sample:
    """Four images around a random point, in the frame of the first one, of 2 x 2 pixels at least (YOLOv4, arXiv
    2004.10934).

    Each is scaled by a random factor between the one at which it just covers its quarter and 1, and a part of it with
    an object is cut out (`scale_into`).
    """
    height, width = resize.target_size(*functional.get_size(samples[0][0]))
    row, column = (
        min(max(1, round(side * uniform(MOSAIC_CENTER, 1 - MOSAIC_CENTER))), side - 1) for side in (height, width)
    )
    background = torch.tensor([round(255 * value) for value in fill], dtype=torch.uint8)
    canvas = background[:, None, None].expand(3, height, width).contiguous()
    all_boxes, all_labels = [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.int64)]
    for number, (image, boxes, labels) in enumerate(samples):
        is_lower, is_right = divmod(number, 2)
        window = height - row if is_lower else row, width - column if is_right else column
        frame = resize.target_size(*functional.get_size(image))
        covering = min(1.0, max(window[0] / frame[0], window[1] / frame[1]))
        factor = max(least_factor(image, boxes, frame), exp(log(covering) * uniform(0.0, 1.0)))
        image, boxes, labels = scale_into(image, boxes, labels, frame, factor, window)
        part_height, part_width = functional.get_size(image)
        top, left = row if is_lower else row - part_height, column if is_right else column - part_width
        canvas[:, top : top + part_height, left : left + part_width] = image
        all_boxes.append(boxes.as_subclass(Tensor) + torch.tensor([left, top] * 2))
        all_labels.append(labels)
    return _sample(canvas, torch.cat(all_boxes), torch.cat(all_labels))


def mixup(first: Sample, second: Sample, share: float) -> Sample:
    """The mean of two images, of which the first has this share, with the objects of both (arXiv 1902.04103).

    The size is that of the first one: where the second is smaller, the first one alone is seen.
    """
    image, (other, other_boxes, other_labels) = first[0].as_subclass(Tensor), second
    height, width = (min(sides) for sides in zip(image.shape[1:], other.shape[1:], strict=True))
    mixed = image.clone()
    mean = torch.lerp(other[:, :height, :width].float(), image[:, :height, :width].float(), share)
    mixed[:, :height, :width] = mean.round_()
    is_kept = is_visible(other_boxes, (height, width))
    limits = torch.tensor([width, height] * 2)
    clipped = torch.minimum(other_boxes.as_subclass(Tensor)[is_kept], limits)
    return _sample(
        mixed, torch.cat([first[1].as_subclass(Tensor), clipped]), torch.cat([first[2], other_labels[is_kept]])
    )


def paste_objects(sample: Sample, source: Sample, jitter: float) -> Sample:
    """Paste up to `PASTED` objects of another image with all that their boxes hold (without masks, unlike Copy-Paste,
    arXiv 2012.07177), scaled by a factor from 1 / (1 + `jitter`) to 1 + `jitter`.

    One that finds no place where it overlaps no object by more than `MAX_OVERLAP` is left out.
    """
    image, boxes, labels = sample[0].as_subclass(Tensor).clone(), sample[1].as_subclass(Tensor), sample[2]
    source_boxes = source[1].as_subclass(Tensor)
    count = int(torch.randint(1, PASTED + 1, ()))
    for chosen in torch.randperm(len(source_boxes))[:count].tolist():
        patch, patch_boxes, patch_labels = _cut_object(source, chosen, jitter, (image.shape[1], image.shape[2]))
        height, width = patch.shape[1:]
        for _ in range(ATTEMPTS):
            top = int(torch.randint(image.shape[1] - height + 1, ()))
            left = int(torch.randint(image.shape[2] - width + 1, ()))
            if overlap(boxes, [left, top, left + width, top + height]) <= MAX_OVERLAP:
                image[:, top : top + height, left : left + width] = patch
                boxes = torch.cat([boxes, patch_boxes + torch.tensor([left, top] * 2)])
                labels = torch.cat([labels, patch_labels])
                break
    return _sample(image, boxes, labels)


def overlap(boxes_xyxy: Float[Tensor, "object 4"], box_xyxy: list[int]) -> float:
    """The largest intersection with one of the boxes, as a share of the smaller area of the two."""
    if len(boxes_xyxy) == 0:
        return 0.0
    box = torch.tensor(box_xyxy, dtype=torch.float32)
    inside = torch.minimum(boxes_xyxy[:, 2:], box[2:]) - torch.maximum(boxes_xyxy[:, :2], box[:2])
    areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(dim=1).clamp(max=(box[2:] - box[:2]).prod())
    return (inside.clamp(min=0).prod(dim=1) / areas.clamp(min=1e-6)).max().item()


def _cut_object(source: Sample, chosen: int, jitter: float, limits: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """The pixels of one object's box, scaled and at most as large as `limits`, with all objects that are seen there."""
    image, boxes, labels = source
    box = boxes[chosen].tolist()
    left, top = max(0, floor(box[0])), max(0, floor(box[1]))
    right, bottom = min(image.shape[2], ceil(box[2])), min(image.shape[1], ceil(box[3]))
    size = bottom - top, right - left
    patch, part, is_kept = cut_out(image, boxes, top, left, size, chosen)
    least = least_factor(patch, part[is_kept[:chosen].sum() :][:1], size)
    factor = max(least, exp(log(1 + jitter) * uniform(-1.0, 1.0)))
    factor = min(factor, limits[0] / size[0], limits[1] / size[1])
    scaled = max(1, floor(size[0] * factor)), max(1, floor(size[1] * factor))
    return resized(patch, scaled).as_subclass(Tensor), resized(part, scaled).as_subclass(Tensor), labels[is_kept]


def _to_image(sample: tuple[Any, ...]) -> Sample:
    return functional.to_image(sample[0]), sample[1], sample[2]


def _sample(image: Tensor, boxes_xyxy: Tensor, labels: Tensor) -> Sample:
    size = (image.shape[1], image.shape[2])
    return tv_tensors.Image(image), tv_tensors.BoundingBoxes(boxes_xyxy, format="XYXY", canvas_size=size), labels
