"""Loads the images of a split with their objects."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors

from detr_lite.box_ops import xyxy_to_cxcywh
from detr_lite.data.augmentation.mixing import MixingTransform
from detr_lite.data.images.load import load_image
from detr_lite.data.records import Split
from detr_lite.data.sampler import SeededIndex
from detr_lite.structures import Target


class DetectionDataset(torch.utils.data.Dataset[tuple[Tensor, Target]]):
    """The images of a split with their objects, transformed.

    A `SeededIndex` also seeds the random parts of the transform.

    Args:
        transform: (Pillow image, boxes, labels) -> three tensors; a `MixingTransform` also gets a function that reads
            another image.
        late_transform: for the last part of a run, where it has another one.
    """

    def __init__(
        self, split: Split, transform: Callable[..., Any], late_transform: Callable[..., Any] | None = None
    ) -> None:
        # Not the whole split: workers need neither ground truth nor ids.
        self.images = split.images
        self.orientation = split.orientation.default
        self.transform = transform
        self.late_transform = transform if late_transform is None else late_transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | SeededIndex) -> tuple[Float[Tensor, "3 height width"], Target]:
        if not isinstance(index, SeededIndex):
            return self._load(index, self.transform)
        with torch.random.fork_rng(devices=[]):  # leaves the random numbers of the main process unchanged
            torch.default_generator.manual_seed(index.seed)
            return self._load(index.image, self.late_transform if index.is_late else self.transform)

    def _load(self, index: int, transform: Callable[..., Any]) -> tuple[Float[Tensor, "3 height width"], Target]:
        sample = self._read(index)
        others = (self._read_random,) if isinstance(transform, MixingTransform) else ()
        image, boxes_xyxy, labels = transform(*sample, *others)
        height, width = image.shape[1:]
        boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy / torch.tensor([width, height, width, height]))
        return image, Target(boxes_cxcywh, labels, range(len(self))[index], sample[1].canvas_size)

    def _read(self, index: int) -> tuple[Image.Image, tv_tensors.BoundingBoxes, Int[Tensor, " object"]]:
        record = self.images[index]
        size = (record.height, record.width)
        return (
            load_image(record.path, size, self.orientation),
            tv_tensors.BoundingBoxes(torch.tensor(record.boxes_xyxy), format="XYXY", canvas_size=size),
            torch.tensor(record.labels),
        )

    def _read_random(self) -> tuple[Image.Image, tv_tensors.BoundingBoxes, Int[Tensor, " _"]]:
        return self._read(int(torch.randint(len(self), ())))
