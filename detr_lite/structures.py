"""What the rooms of the house hand to each other: targets, batches, outputs, detections, attention."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from detr_lite.errors import DetrLiteError as DetrLiteError


@dataclass(frozen=True)
class Category:
    """A class of objects under the data set's own id, which need not be contiguous or start at any number."""

    id: int
    name: str


@dataclass(frozen=True)
class Target:
    """The objects of one image. Boxes are relative to the unpadded image, labels are contiguous (0 .. classes - 1)."""

    boxes_cxcywh: Float[Tensor, "object 4"]
    labels: Int[Tensor, " object"]
    image_id: int
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
    """Normalised images, padded at the right and at the bottom to a common size."""

    images: Float[Tensor, "batch 3 height width"]
    is_padding: Bool[Tensor, "batch height width"]
    targets: tuple[Target, ...] | None = None

    @staticmethod
    def from_images(images: Sequence[Float[Tensor, "3 _ _"]], targets: Sequence[Target] | None = None) -> "Batch":
        """Pad a list of normalised (3 height width) images to the largest height and width, without rounding."""
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
    """What every token of the feature map predicts by itself ("two-stage" DETRs)."""

    logits: Float[Tensor, "batch token class"]
    boxes_cxcywh: Float[Tensor, "batch token 4"]
    centers: Float[Tensor, "batch token 2"]
    """(x, y) of each token's middle, relative to the unpadded image."""
    sizes: Float[Tensor, "batch token 2"]
    """(width, height) of the patch that each token stands for, relative to the unpadded image."""
    is_padding: Bool[Tensor, "batch token"]


@dataclass(frozen=True)
class EdgeDistributions:
    """How far each edge of a box lies from where it started, as a distribution over steps (D-FINE)."""

    logits: Float[Tensor, "layer batch query 4 step"]
    """Left, top, right, bottom; of the decoder's last layers, as many as there are here."""
    start_xyxy: Float[Tensor, "batch query 4"]
    """The boxes that the distributions start from, relative to the unpadded image."""
    steps: Float[Tensor, " step"]
    """In sizes of these boxes, in ascending order; to the right and down is positive."""

    def of_queries(self, which: slice) -> "EdgeDistributions":
        return replace(self, logits=self.logits[:, :, which], start_xyxy=self.start_xyxy[:, which])


@dataclass(frozen=True)
class DenoisingPredictions:
    """Answers to queries that were made from noisy copies of the true objects, so that each knows its object."""

    logits: Float[Tensor, "layer batch noisy class"]
    boxes_cxcywh: Float[Tensor, "layer batch noisy 4"]
    objects: Int[Tensor, "batch noisy"]
    """Index of the true object in its image's target."""
    is_real: Bool[Tensor, "batch noisy"]
    """False: a slot that only fills up the batch."""
    is_near: Bool[Tensor, "batch noisy"]
    """False: a copy so far off that its answer is to be that there is no object."""
    edges: EdgeDistributions | None = None


@dataclass(frozen=True)
class AttentionSelection:
    """Which attention weights to keep, so that those of a large image fit in memory; None is all of them.

    Numbers count from 0, negative ones from the end. What is not kept is freed layer by layer, and a layer of which
    nothing is kept does not compute any. The maps hold what is kept in the order of the numbers here.
    """

    layers: Sequence[int] | None = None
    """Of the decoder."""
    heads: Sequence[int] | None = None
    """Of decoder and encoder."""
    queries: Sequence[int] | None = None
    """Rows of the decoder's maps; columns, where queries look at queries, are always all of them."""
    encoder_layers: Sequence[int] | None = None
    encoder_mean: bool = False
    """Of the encoder only the mean over these heads, as if it had one head."""


@dataclass(frozen=True)
class AttentionMaps:
    """Attention weights. Tokens are in order of level, then row-major within a level's grid.

    Where only some were asked for (`AttentionSelection`), layers, heads and queries are those, in that order.
    """

    cross: Float[Tensor, "layer batch head query token"]
    queries: Float[Tensor, "layer batch head query other_query"]
    encoder: Float[Tensor, "encoder_layer batch encoder_head encoder_token encoder_token"]
    grids: tuple[tuple[int, int], ...]
    """(height, width) of each level, in tokens."""
    encoder_grids: tuple[tuple[int, int], ...]
    is_padding: Bool[Tensor, "batch token"]
    spans: Float[Tensor, "batch level 2"] | None = None
    """(width, height) of each unpadded image in tokens of each level, not rounded: tokens may reach beyond it."""

    def to(self, device: torch.device | str) -> "AttentionMaps":
        tensors = {name: value.to(device) for name, value in vars(self).items() if isinstance(value, Tensor)}
        return replace(self, **tensors)  # type: ignore[arg-type]


@dataclass(frozen=True)
class DetrOutput:
    """Every decoder layer's answer, the last layer last. Boxes are relative to the unpadded image."""

    logits: Float[Tensor, "layer batch query class"]
    boxes_cxcywh: Float[Tensor, "layer batch query 4"]
    tokens: TokenPredictions | None = None
    denoising: DenoisingPredictions | None = None
    edges: EdgeDistributions | None = None
    attention: AttentionMaps | None = None


@dataclass(frozen=True)
class Detections:
    """What was found in one image, best first. Boxes in pixels of the original file."""

    boxes_xyxy: Float[Tensor, "found 4"]
    scores: Float[Tensor, " found"]
    labels: Int[Tensor, " found"]
    queries: Int[Tensor, " found"]
    """Which query each detection came from."""
    class_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.scores)

    def above(self, threshold: float) -> "Detections":
        """Keep the detections whose score is at least `threshold`."""
        keep = self.scores >= threshold
        return Detections(
            self.boxes_xyxy[keep], self.scores[keep], self.labels[keep], self.queries[keep], self.class_names
        )
