"""Loads the images of a split with their objects."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torchvision import tv_tensors

from detr_lite.box_ops import xyxy_to_cxcywh
from detr_lite.data.images.load import load_image
from detr_lite.data.records import Split
from detr_lite.data.sampler import SeededIndex
from detr_lite.structures import Target


class DetectionDataset(torch.utils.data.Dataset[tuple[Tensor, Target]]):
    """The images of a split with their objects, transformed by one of `detr_lite.data.transforms`.

    A `SeededIndex` also seeds the random parts of the transform.
    """

    def __init__(self, split: Split, transform: Callable[..., Any]) -> None:
        # Not the whole split: workers need neither ground truth nor ids.
        self.images = split.images
        self.orientation = split.orientation.default
        self.transform = transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int | SeededIndex) -> tuple[Float[Tensor, "3 height width"], Target]:
        if not isinstance(index, SeededIndex):
            return self._load(index)
        with torch.random.fork_rng(devices=[]):  # leaves the random numbers of the main process unchanged
            torch.default_generator.manual_seed(index.seed)
            return self._load(index.image)

    def _load(self, index: int) -> tuple[Float[Tensor, "3 height width"], Target]:
        record = self.images[index]
        original_size = (record.height, record.width)
        image, boxes_xyxy, labels = self.transform(
            load_image(record.path, original_size, self.orientation),
            tv_tensors.BoundingBoxes(torch.tensor(record.boxes_xyxy), format="XYXY", canvas_size=original_size),
            torch.tensor(record.labels),
        )
        height, width = image.shape[1:]
        boxes_cxcywh = xyxy_to_cxcywh(boxes_xyxy / torch.tensor([width, height, width, height]))
        return image, Target(boxes_cxcywh, labels, record.index, original_size)
