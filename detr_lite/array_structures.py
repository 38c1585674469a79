"""Structures of numpy alone: reading and checking a dataset need not wait for torch."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64


@dataclass(frozen=True)
class Category:
    """A class of objects under the dataset's own id; ids need not be contiguous or start at any particular number."""

    id: int
    name: str


@dataclass(frozen=True, eq=False)
class GroundTruth:
    """The true objects of many images as arrays, for evaluation. Boxes are in pixels of the original images."""

    num_images: int
    image_index: Int64[np.ndarray, " object"]
    """0 .. num_images - 1."""
    labels: Int64[np.ndarray, " object"]
    """Contiguous, 0 .. classes - 1."""
    boxes_xywh: Float64[np.ndarray, "object 4"]
    areas: Float64[np.ndarray, " object"]
    """By which COCO's metrics call an object small, medium or large: that of its outline where there is one."""
    is_crowd: Bool[np.ndarray, " object"]
    """Regions in which detections are neither right nor wrong."""

    def select(self, which: np.ndarray) -> "GroundTruth":
        """The objects where a mask is True, or at these places."""
        return replace(
            self,
            image_index=self.image_index[which],
            labels=self.labels[which],
            boxes_xywh=self.boxes_xywh[which],
            areas=self.areas[which],
            is_crowd=self.is_crowd[which],
        )


@dataclass(frozen=True, eq=False)
class DetectionArrays:
    """The detections in many images as arrays, for evaluation. Boxes are in pixels of the original images."""

    image_index: Int64[np.ndarray, " detection"]
    labels: Int64[np.ndarray, " detection"]
    boxes_xywh: Float64[np.ndarray, "detection 4"]
    scores: Float64[np.ndarray, " detection"]

    def select(self, which: np.ndarray | slice) -> "DetectionArrays":
        """The detections where a mask is True, or at these places."""
        return DetectionArrays(self.image_index[which], self.labels[which], self.boxes_xywh[which], self.scores[which])
