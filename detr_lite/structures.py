"""Data structures shared by all modules: targets, batches, model outputs, detections, attention maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from detr_lite.array_structures import Category as Category
from detr_lite.array_structures import DetectionArrays as DetectionArrays
from detr_lite.array_structures import GroundTruth as GroundTruth
from detr_lite.attention_maps import AttentionMaps as AttentionMaps
from detr_lite.attention_maps import AttentionSelection as AttentionSelection
from detr_lite.attention_maps import SampledAttention as SampledAttention
from detr_lite.detections import Detections as Detections
from detr_lite.errors import DetrLiteError as DetrLiteError


@dataclass(frozen=True)
class Target:
    """The objects of one image. Boxes are relative to the unpadded image, labels are contiguous (0 .. classes - 1)."""

    boxes_cxcywh: Float[Tensor, "object 4"]
    labels: Int[Tensor, " object"]
    image_id: int
    """The image's place in its split."""
    original_size: tuple[int, int]
    """(height, width) of the file, in pixels."""

    def to(self, device: torch.device | str) -> "Target":
        return replace(
            self,
            boxes_cxcywh=self.boxes_cxcywh.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
        )

    def pin_memory(self) -> "Target":
        return replace(self, boxes_cxcywh=self.boxes_cxcywh.pin_memory(), labels=self.labels.pin_memory())


@dataclass(frozen=True)
class Batch:
    """Normalized images, padded at the right and at the bottom to a common size."""

    images: Float[Tensor, "batch 3 height width"]
    is_padding: Bool[Tensor, "batch height width"]
    targets: tuple[Target, ...] | None = None

    @staticmethod
    def from_images(images: Sequence[Float[Tensor, "3 _ _"]], targets: Sequence[Target] | None = None) -> "Batch":
        """Pad a list of normalized (3 height width) images to the largest height and width, without rounding."""
        if not images:
            raise ValueError("a batch needs at least one image")
        height, width = (max(image.shape[side] for image in images) for side in (1, 2))
        padded = images[0].new_zeros(len(images), 3, height, width)
        is_padding = torch.ones(len(images), height, width, dtype=torch.bool, device=images[0].device)
        for index, image in enumerate(images):
            padded[index, :, : image.shape[1], : image.shape[2]] = image
            is_padding[index, : image.shape[1], : image.shape[2]] = False
        return Batch(padded, is_padding, None if targets is None else tuple(targets))

    def to(self, device: torch.device | str) -> "Batch":
        targets = None if self.targets is None else tuple(target.to(device) for target in self.targets)
        return Batch(self.images.to(device, non_blocking=True), self.is_padding.to(device, non_blocking=True), targets)

    def pin_memory(self) -> "Batch":
        targets = None if self.targets is None else tuple(target.pin_memory() for target in self.targets)
        return Batch(self.images.pin_memory(), self.is_padding.pin_memory(), targets)


@dataclass(frozen=True)
class TokenPredictions:
    """Predictions of every encoder token ("two-stage" DETRs, Deformable DETR, arXiv 2010.04159, appendix A.4)."""

    logits: Float[Tensor, "batch token class"]
    boxes_cxcywh: Float[Tensor, "batch token 4"]
    centers: Float[Tensor, "batch token 2"]
    """(x, y) of each token's center, relative to the unpadded image."""
    sizes: Float[Tensor, "batch token 2"]
    """(width, height) of the patch that each token covers, relative to the unpadded image."""
    is_padding: Bool[Tensor, "batch token"]


@dataclass(frozen=True)
class EdgeDistributions:
    """For each edge of a box a distribution over offsets from an initial box (D-FINE, arXiv 2410.13842)."""

    logits: Float[Tensor, "layer batch query 4 bin"]
    """Left, top, right, bottom; of the decoder's last layers, as many as the first axis is long."""
    start_xyxy: Float[Tensor, "batch query 4"]
    """The initial boxes, relative to the unpadded image."""
    bins: Float[Tensor, " bin"]
    """Offset of each bin in sizes of the initial box, ascending; positive is right or down."""

    def select_queries(self, queries: slice) -> "EdgeDistributions":
        return replace(self, logits=self.logits[:, :, queries], start_xyxy=self.start_xyxy[:, queries])


@dataclass(frozen=True)
class DenoisingPredictions:
    """Predictions of denoising queries (DN-DETR, arXiv 2203.01305), whose objects are known without matching."""

    logits: Float[Tensor, "layer batch denoising class"]
    boxes_cxcywh: Float[Tensor, "layer batch denoising 4"]
    objects: Int[Tensor, "batch denoising"]
    """Index of the ground-truth object in its image's target."""
    is_real: Bool[Tensor, "batch denoising"]
    """False: padding, because other images of the batch have more objects."""
    is_near: Bool[Tensor, "batch denoising"]
    """False: a negative, for which "no object" is the right prediction (DINO, arXiv 2203.03605)."""
    edges: EdgeDistributions | None = None


@dataclass(frozen=True)
class DetrOutput:
    """Predictions of every decoder layer, in order. Boxes are relative to the unpadded image."""

    logits: Float[Tensor, "layer batch query class"]
    boxes_cxcywh: Float[Tensor, "layer batch query 4"]
    tokens: TokenPredictions | None = None
    denoising: DenoisingPredictions | None = None
    edges: EdgeDistributions | None = None
    attention: AttentionMaps | None = None
