"""From the model's output to detections in pixels: a softmax or sigmoid and top-k; NMS only where asked for."""

from collections.abc import Sequence
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torchvision.ops import batched_nms

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.structures import Detections, DetrLiteError, DetrOutput

Activation = Literal["softmax", "sigmoid"]


class Postprocess:
    """Detections from the predictions of the last decoder layer, at most `max_detections` per image.

    With "softmax" (DETR, arXiv 2005.12872) the last logit is "no object", and each query gives one detection: the best
    of the other classes. With "sigmoid" (Deformable DETR, arXiv 2010.04159) a query may be detected as several classes:
    the highest-scoring of all (query, class) pairs are returned.

    With `nms`, a detection that overlaps a higher-scoring one of its class by a larger IoU is removed. A DETR that was
    trained to the end needs none; after a short training some objects still have two queries. Errors: an IoU outside
    0 .. 1.
    """

    def __init__(
        self,
        activation: Activation,
        class_names: Sequence[str],
        max_detections: int = 100,
        nms: float | None = None,
        category_ids: Sequence[int] = (),
    ):
        if nms is not None and not 0 <= nms <= 1:
            raise DetrLiteError(f"--nms is {nms}; it must be an IoU from 0 to 1, such as 0.7")
        self.activation = activation
        self.class_names = tuple(class_names)
        self.max_detections = max_detections
        self.nms = nms
        self.category_ids = tuple(category_ids)

    def covering(self, objects: int) -> "Postprocess":
        """The same with as many detections per image as an image of the data has objects, where those are more."""
        limit = max(self.max_detections, objects)
        return Postprocess(self.activation, self.class_names, limit, self.nms, self.category_ids)

    def __call__(self, output: DetrOutput, original_sizes: Sequence[tuple[int, int]]) -> list[Detections]:
        """One `Detections` on the CPU per image; `original_sizes` are the files' (height, width) in pixels.

        Raises `ValueError` if the number of classes or of sizes does not fit the output.
        """
        logits = output.logits[-1].detach().float()  # in bfloat16 many scores would be equal
        boxes_cxcywh = output.boxes_cxcywh[-1].detach().float()
        self._check(logits, original_sizes)

        scores, labels, queries = self._candidates(logits)
        # NMS makes room for candidates that would else be beyond the limit.
        kept = stable_topk(scores, self.max_detections if self.nms is None else scores.shape[1])
        scores, labels, queries = scores.gather(1, kept), labels.gather(1, kept), queries.gather(1, kept)
        boxes_cxcywh = boxes_cxcywh.gather(1, queries[..., None].expand(-1, -1, 4))

        packed = self._packed(boxes_cxcywh, scores, labels, queries)
        return [
            self._in_pixels(rows, height, width) for rows, (height, width) in zip(packed, original_sizes, strict=True)
        ]

    @staticmethod
    def _packed(
        boxes_cxcywh: Float[Tensor, "batch detection 4"],
        scores: Float[Tensor, "batch detection"],
        labels: Int[Tensor, "batch detection"],
        queries: Int[Tensor, "batch detection"],
    ) -> Float[Tensor, "batch detection 7"]:
        """One tensor, so that there is one device-to-host transfer; float32 is exact for integers up to 2^24."""
        columns = [cxcywh_to_xyxy(boxes_cxcywh), scores[..., None], labels[..., None], queries[..., None]]
        return torch.cat([column.float() for column in columns], dim=-1).cpu()

    def scores(self, logits: Float[Tensor, "*shape logit"]) -> Float[Tensor, "*shape class"]:
        """From 0 to 1, of each class; not of the background."""
        return logits.softmax(dim=-1)[..., :-1] if self.activation == "softmax" else logits.sigmoid()

    def by_query(
        self, output: DetrOutput, original_sizes: Sequence[tuple[int, int]], layer: int = -1
    ) -> list[Detections]:
        """Each query's own box and best class after a decoder layer, however low its score: all queries, in order.

        Raises `ValueError` as a call does.
        """
        logits = output.logits[layer].detach().float()
        self._check(logits, original_sizes)
        scores, labels = self.scores(logits).max(dim=-1)
        queries = torch.arange(logits.shape[1], device=logits.device).expand_as(labels)
        boxes_cxcywh = output.boxes_cxcywh[layer].detach().float()
        return [
            self._detections(rows, height, width)
            for rows, (height, width) in zip(
                self._packed(boxes_cxcywh, scores, labels, queries), original_sizes, strict=True
            )
        ]

    def _candidates(
        self, logits: Float[Tensor, "batch query class"]
    ) -> tuple[
        Float[Tensor, "batch candidate"],
        Int[Tensor, "batch candidate"],
        Int[Tensor, "batch candidate"],
    ]:
        """Score, label and query of every candidate."""
        batch, queries, classes = logits.shape
        query = torch.arange(queries, device=logits.device)
        if self.activation == "softmax":
            scores, labels = self.scores(logits).max(dim=-1)
            return scores, labels, query.expand(batch, -1)
        scores, labels = self.scores(logits).flatten(1), torch.arange(classes, device=logits.device).repeat(queries)
        return scores, labels.expand(batch, -1), query.repeat_interleave(classes).expand(batch, -1)

    def _in_pixels(self, rows: Float[Tensor, "detection 7"], height: int, width: int) -> Detections:
        detections = self._detections(rows, height, width)
        if self.nms is None:
            return detections
        kept = without_duplicates(detections.boxes_xyxy, detections.scores, detections.labels, self.nms)
        return detections[kept[: self.max_detections]]

    def _detections(self, rows: Float[Tensor, "detection 7"], height: int, width: int) -> Detections:
        boxes_xyxy = rows[:, :4] * rows.new_tensor([width, height, width, height])
        boxes_xyxy[:, 0::2] = boxes_xyxy[:, 0::2].clamp(0, width)
        boxes_xyxy[:, 1::2] = boxes_xyxy[:, 1::2].clamp(0, height)
        return Detections(
            boxes_xyxy,
            scores=rows[:, 4].clone(),  # a view would keep, and pickle, the rows of the whole batch
            labels=rows[:, 5].long(),
            queries=rows[:, 6].long(),
            class_names=self.class_names,
            category_ids=self.category_ids,
            image_size=(height, width),
        )

    def _check(self, logits: Float[Tensor, "batch query class"], original_sizes: Sequence[tuple[int, int]]) -> None:
        expected = len(self.class_names) + (self.activation == "softmax")
        if logits.shape[-1] != expected:
            raise ValueError(
                f"{self.activation} of {len(self.class_names)} classes needs {expected} logits, not {logits.shape[-1]}"
            )
        if len(original_sizes) != len(logits):
            raise ValueError(f"{len(logits)} images need as many original sizes, got {len(original_sizes)}")


def stable_topk(scores: Float[Tensor, "batch candidate"], k: int) -> Int[Tensor, "batch kept"]:
    """Places of the `k` highest scores, none of them negative, or of all; equal ones in the order of their places.

    A stable sort would give the same, but takes twenty times as long for the pairs of 300 queries and 1,000 classes.
    Equal scores (saturated, or of an untrained model) must be in the same order on every machine, which `topk` alone
    does not promise; so it gets different integers: the bits of a score, which rise with it, and its place.
    """
    count = scores.shape[1]
    if k >= count:
        return scores.sort(dim=1, descending=True, stable=True).indices
    bits = scores.nan_to_num(torch.inf, torch.inf).view(torch.int32).long()  # NaN is the highest for a sort
    places = torch.arange(count, device=scores.device)
    return ((bits << 32) - places).topk(k, dim=1).indices


def without_duplicates(
    boxes_xyxy: Float[Tensor, "detection 4"],
    scores: Float[Tensor, " detection"],
    labels: Int[Tensor, " detection"],
    iou: float,
) -> Int[Tensor, " kept"]:
    """The places, ascending, of an image's detections that overlap none of their class with a higher score by a larger
    IoU: NMS."""
    # Sorted, because torchvision may return equal scores in any order.
    kept: Tensor = batched_nms(boxes_xyxy, scores, labels, iou).sort().values
    return kept
