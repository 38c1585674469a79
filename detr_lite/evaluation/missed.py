"""Why each true object of an image was found or missed: the query that came nearest, and what took the object's place.

What counts as found, badly placed, of a wrong class, a duplicate or missed is defined in `error_kinds` alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou, xyxy_to_xywh
from detr_lite.evaluation.attention_metrics import covered_share, token_patches
from detr_lite.evaluation.error_kinds import KINDS, NO_ERROR, ErrorAssignment, ErrorKind, find_errors
from detr_lite.evaluation.missed_sentences import Query, Rival, sentence_of
from detr_lite.structures import AttentionMaps, DetectionArrays, Detections, GroundTruth

IOU, NEAR_IOU = 0.5, 0.1
"""From which a detection finds an object of its class, and from which a box is near it, as in TIDE."""

FAINT_SCORE = 0.1
"""Scores below this say that there is nothing, rather than that there may be something."""

SCORE_DIGITS = 4
"""Scores are rounded as those of the explorer's page are, so that both compare the same numbers with a threshold."""

Reason = Literal["found", "localization", "classification", "threshold", "taken", "both", "unseen"]
"""The first of these that holds: a detection finds it; the best one is badly placed, or of another class (both as in
TIDE); a detection below the threshold would find it; the detection of another object lies there; one near it has
neither the class nor the place; no query saw an object."""


@dataclass(frozen=True)
class Verdict:
    """What happened to an object at score thresholds up to `threshold` that are above that of the next verdict."""

    threshold: float
    reason: Reason
    query: int
    """The query that the sentence is about."""
    sentence: str


@dataclass(frozen=True)
class QueryInLayer:
    """What the nearest query said of an object after a decoder layer."""

    score: float | None
    """Of the object's class; None if the model does not have it."""
    best_label: int
    best_score: float
    box_xyxy: tuple[float, ...]
    """In pixels of the image."""
    iou: float
    inside: float
    """Share of its cross-attention, averaged over heads, that lies inside the true box."""


@dataclass(frozen=True)
class ObjectOutcome:
    """A true object, and what became of it."""

    query: int
    """The nearest: with the lowest matching cost after the last layer."""
    layers: tuple[QueryInLayer, ...]
    area: float
    """Share of the image that the object covers, with which `inside` is to be compared."""
    verdicts: tuple[Verdict, ...]
    """From the highest threshold, 1, to the lowest."""

    def at(self, threshold: float) -> Verdict:
        """The verdict at a score threshold from 0 to 1."""
        return [verdict for verdict in self.verdicts if verdict.threshold >= threshold][-1]


@dataclass(frozen=True)
class ImageOutcome:
    """What each detection of an image is, and what became of each true object."""

    kinds: tuple[ErrorKind | None, ...]
    """Of each detection, None if it is right or ignored. A detection's kind does not depend on the score threshold:
    detections with lower scores take no object from it."""
    objects_of: tuple[int | None, ...]
    """The object that each detection finds or was compared with."""
    regions_of: tuple[int | None, ...]
    """The crowd region of its class in which a detection mostly lies, so that it is ignored: neither right nor wrong,
    as in COCO's evaluation."""
    objects: tuple[ObjectOutcome, ...]


@dataclass(frozen=True)
class QueryPredictions:
    """All queries of one image after every decoder layer."""

    scores: Float[Tensor, "layer query class"]
    """From 0 to 1, without that of the background."""
    boxes_cxcywh: Float[Tensor, "layer query 4"]
    """Relative to the image."""


def explain_objects(
    truth: Detections,
    labels: Sequence[int | None],
    detections: Detections,
    predictions: QueryPredictions,
    costs: Float[Tensor, "query object"],
    attention: AttentionMaps,
    crowds: Detections | None = None,
    crowd_labels: Sequence[int | None] = (),
) -> ImageOutcome:
    """What became of each object of an image.

    Args:
        truth: the objects, with boxes in pixels and class names of their own.
        labels: the model's label of each object's class; None for classes that it does not have.
        detections: all candidates in descending order of scores, with the model's class names and the image's size.
        costs: of matching after the last layer; those of objects without a label are not used.
        attention: of a batch of one.
        crowds, crowd_labels: regions that are annotated as crowds, as `truth` and `labels` have objects.
    """
    if detections.image_size is None:
        raise ValueError("the size of the image must be known")
    height, width = detections.image_size
    size = torch.tensor([width, height, width, height], dtype=torch.float)
    arrays, objects = _arrays(detections, truth, labels, truth[:0] if crowds is None else crowds, crowd_labels)
    thresholds = sorted({1.0, *arrays.scores.tolist()}, reverse=True)
    errors = {threshold: find_errors(objects, arrays, threshold, IOU, NEAR_IOU) for threshold in (*thresholds, 0.0)}
    context = _Context(truth, labels, detections, predictions, costs, errors, size)
    nearest = torch.tensor([context.nearest(place) for place in range(len(truth))], dtype=torch.long)
    inside = _attention_inside(attention, nearest, truth.boxes_xyxy / size)
    whole = errors[0.0]
    return ImageOutcome(
        kinds=tuple(
            None if kind == NO_ERROR or is_ignored else KINDS[kind]
            for kind, is_ignored in zip(whole.kinds.tolist(), whole.is_ignored.tolist(), strict=True)
        ),
        objects_of=tuple(place if place >= 0 else None for place in whole.objects.tolist()),
        regions_of=tuple(place - len(truth) if place >= 0 else None for place in whole.regions.tolist()),
        objects=tuple(context.outcome(place, int(nearest[place]), inside[place]) for place in range(len(truth))),
    )


class _Context:
    """Everything that is known of an image."""

    def __init__(
        self,
        truth: Detections,
        labels: Sequence[int | None],
        detections: Detections,
        predictions: QueryPredictions,
        costs: Float[Tensor, "query object"],
        errors: dict[float, ErrorAssignment],
        size: Float[Tensor, " 4"],
    ) -> None:
        self.truth, self.labels, self.costs, self.errors = truth, labels, costs, errors
        self.queries = detections.queries.tolist()
        self.names = detections.names
        self.class_names = detections.class_names
        self.scores = predictions.scores
        self.boxes_xyxy = cxcywh_to_xyxy(predictions.boxes_cxcywh) * size
        self.image_area = float(size[0] * size[1])
        self.ious = paired_iou(self.boxes_xyxy[:, :, None], truth.boxes_xyxy[None, None])
        """(layer query object)"""
        self.detected_ious = self.ious[-1, self.queries].numpy()
        """(detection object)"""

    def nearest(self, place: int) -> int:
        """By matching cost; by IoU where the model does not have the class, so that there is no cost."""
        if self.labels[place] is None:
            return int(self.ious[-1, :, place].argmax())
        return int(self.costs[:, place].argmin())

    def outcome(self, place: int, query: int, inside: Float[Tensor, " layer"]) -> ObjectOutcome:
        left, top, right, bottom = self.truth.boxes_xyxy[place].tolist()
        label = self.labels[place]
        best = self.scores[:, query].max(-1)
        layers = tuple(
            QueryInLayer(
                score=None if label is None else float(self.scores[layer, query, label]),
                best_label=int(best.indices[layer]),
                best_score=float(best.values[layer]),
                box_xyxy=tuple(self.boxes_xyxy[layer, query].tolist()),
                iou=float(self.ious[layer, query, place]),
                inside=float(inside[layer]),
            )
            for layer in range(len(self.scores))
        )
        verdicts: list[Verdict] = []
        for threshold in sorted((each for each in self.errors if each > 0), reverse=True):
            reason, rival = self.judge(place, query, threshold)
            sentence = sentence_of(reason, self.truth.names[place], self.as_query(place, query, inside), rival)
            verdict = Verdict(threshold, reason, rival.query if rival is not None else query, sentence)
            if not verdicts or verdicts[-1].sentence != sentence:
                verdicts.append(verdict)
        return ObjectOutcome(query, layers, (right - left) * (bottom - top) / self.image_area, tuple(verdicts))

    def judge(self, place: int, nearest: int, threshold: float) -> tuple[Reason, Rival | None]:
        """Why, and the detection that speaks for it."""
        errors, any_score = self.errors[threshold], self.errors[0.0]
        visible = errors.detections.scores >= threshold
        at_object = errors.objects == place
        if errors.is_found[place]:
            return "found", self.rival(place, _first(errors.is_correct & at_object))
        for kind in ("localization", "classification"):
            of_kind = (errors.kinds == KINDS.index(kind)) & at_object  # also inside a crowd region
            if of_kind.any():
                return kind, self.rival(place, _first(of_kind))
        would_find = _first(any_score.is_correct & (any_score.objects == place))
        if would_find is not None and any_score.detections.scores[would_find] >= FAINT_SCORE:
            return "threshold", self.rival(place, would_find)
        ious = self.detected_ious[:, place]
        is_nearest = np.array(self.queries, dtype=np.int64) == nearest
        is_taken = visible & errors.is_correct & ((ious >= IOU) | ((ious >= NEAR_IOU) & is_nearest))
        if is_taken.any():
            taken = int(np.argmax(np.where(is_taken, ious, -1)))
            other = int(errors.objects[taken])
            return "taken", self.rival(place, taken, self.truth.names[other])
        is_near = visible & ~errors.is_correct & (ious >= NEAR_IOU)
        if is_near.any():
            return "both", self.rival(place, int(np.argmax(np.where(is_near, ious, -1))))
        return "unseen", None

    def rival(self, place: int, detection: int | None, other: str | None = None) -> Rival:
        assert detection is not None
        query, label = self.queries[detection], self.labels[place]
        return Rival(
            query=query,
            name=self.names[detection],
            score=float(self.errors[0.0].detections.scores[detection]),
            iou=float(self.detected_ious[detection, place]),
            own_score=None if label is None else float(self.scores[-1, query, label]),
            other=other,
        )

    def as_query(self, place: int, query: int, inside: Float[Tensor, " layer"]) -> Query:
        label, best = self.labels[place], self.scores[-1, query].max(-1)
        return Query(
            query=query,
            best_name=self.class_names[int(best.indices)] if self.class_names else f"class {int(best.indices)}",
            best_score=float(best.values),
            own_score=None if label is None else float(self.scores[-1, query, label]),
            iou=float(self.ious[-1, query, place]),
            inside=float(inside[-1]),
        )


def _arrays(
    detections: Detections,
    truth: Detections,
    labels: Sequence[int | None],
    crowds: Detections,
    crowd_labels: Sequence[int | None],
) -> tuple[DetectionArrays, GroundTruth]:
    """Of one image, the crowds after the objects; classes that the model does not have get labels beyond its own."""
    labels = [*labels, *crowd_labels]
    beyond = int(detections.labels.max()) + 1 if len(detections) else 0
    beyond = max(beyond, 1 + max((label for label in labels if label is not None), default=-1))
    own = [beyond + place if label is None else label for place, label in enumerate(labels)]
    boxes_xywh = xyxy_to_xywh(torch.cat([truth.boxes_xyxy, crowds.boxes_xyxy])).double().numpy()
    return DetectionArrays(
        np.zeros(len(detections), dtype=np.int64),
        detections.labels.numpy(),
        xyxy_to_xywh(detections.boxes_xyxy).double().numpy(),
        detections.scores.double().numpy().round(SCORE_DIGITS),
    ), GroundTruth(
        1,
        np.zeros(len(labels), dtype=np.int64),
        np.array(own, dtype=np.int64),
        boxes_xywh,
        boxes_xywh[:, 2] * boxes_xywh[:, 3],
        np.arange(len(labels)) >= len(truth),
    )


def _attention_inside(
    attention: AttentionMaps, queries: Int[Tensor, " object"], boxes_xyxy: Float[Tensor, "object 4"]
) -> Float[Tensor, "object layer"]:
    """The share of each query's attention that lies inside the object's box, which is relative to the image."""
    image = torch.zeros_like(queries)
    rows = attention.rows_of(image, queries).float().mean(dim=2)
    return torch.einsum("plt,pt->pl", rows, covered_share(token_patches(attention)[image], boxes_xyxy))


def _first(which: np.ndarray) -> int | None:
    """The place of the first of them, which has the highest score."""
    places = np.flatnonzero(which)
    return int(places[0]) if len(places) else None
