"""What becomes of detections when the image changes: the score that each keeps."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from tqdm import tqdm

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou
from detr_lite.structures import Batch

AT_ONCE = 8
"""Images in a batch."""


@dataclass
class TargetScores:
    """Scores of some detections in altered copies of their image.

    A detection of an altered image answers for one of the original as far as its box overlaps the original box: the
    score is the largest product of their IoU and the score of the class (after D-RISE, arXiv 2006.03204, eq. 3). It
    follows an object from query to query, as queries may change places.
    """

    model: nn.Module
    class_scores: Callable[[Tensor], Tensor]
    """From 0 to 1, of logits."""
    boxes_cxcywh: Float[Tensor, "object 4"]
    """Relative to the image."""
    labels: Int[Tensor, " object"]
    progress: "tqdm[Any] | None" = None

    @torch.no_grad()
    def of(self, images: Float[Tensor, "image 3 height width"]) -> Float[Tensor, "image object"]:
        """Of all detections in images that are preprocessed and of the original's size; on the CPU."""
        boxes_xyxy = cxcywh_to_xyxy(self.boxes_cxcywh)
        parts = []
        for some in torch.split(images, AT_ONCE):
            output = self.model(Batch.from_images(list(some)))
            found_xyxy = cxcywh_to_xyxy(output.boxes_cxcywh[-1].float().cpu())
            scores = self.class_scores(output.logits[-1].float()).cpu()[..., self.labels]
            parts.append((paired_iou(found_xyxy[:, :, None], boxes_xyxy) * scores).amax(1))
            if self.progress is not None:
                self.progress.update(len(some))
        return torch.cat(parts) if parts else torch.zeros(0, len(self.labels))
