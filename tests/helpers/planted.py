"""Outputs of a model whose answers are known, to be explained."""

import torch

from detr_lite.box_ops import xyxy_to_cxcywh
from detr_lite.evaluation.missed import ImageOutcome, QueryPredictions, explain_objects
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.loss.matcher import MatchingCost
from detr_lite.structures import Detections, DetrOutput
from tests.helpers.fake_attention import NAMES, maps

WIDTH, HEIGHT = 160, 120
ELSEWHERE = (2, 100, 12, 110)


def boxes_cxcywh(boxes_xyxy):
    """Relative to the image."""
    size = torch.tensor([WIDTH, HEIGHT] * 2)
    return xyxy_to_cxcywh(torch.tensor(boxes_xyxy, dtype=torch.float).reshape(-1, 4) / size)


def planted_output(queries, activation="sigmoid", before=None) -> DetrOutput:
    """Two layers; the last of these queries: a box in pixels, and a score for each of three classes.

    Args:
        before: the queries of the first layer, by default as in the last.
    """

    def logits_of(some):
        scores = torch.tensor([scores for _, scores in some], dtype=torch.float)
        if activation == "sigmoid":
            return scores.logit()
        return torch.cat([scores, 1 - scores.sum(1, keepdim=True)], dim=1).log()

    layers = [queries if before is None else before, queries]
    return DetrOutput(
        torch.stack([logits_of(some) for some in layers])[:, None],
        torch.stack([boxes_cxcywh([box for box, _ in some]) for some in layers])[:, None],
    )


def true_objects(*objects) -> Detections:
    """Each a box in pixels and a label of `NAMES`."""
    labels = torch.tensor([label for _, label in objects], dtype=torch.long)
    boxes = torch.tensor([box for box, _ in objects], dtype=torch.float).reshape(-1, 4)
    return Detections(boxes, torch.ones(len(labels)), labels, torch.arange(len(labels)), NAMES)


def explain_planted(queries, truth, activation="sigmoid", labels=None, before=None, crowds=None) -> ImageOutcome:
    """With the matching cost of our models, and random attention."""
    output = planted_output(queries, activation, before)
    (detections,) = Postprocess(activation, NAMES)(output, [(HEIGHT, WIDTH)])
    cost = MatchingCost(activation, class_cost=2.0 if activation == "sigmoid" else 1.0, l1=5.0, giou=2.0)
    logits, boxes = output.logits[:, 0], output.boxes_cxcywh[:, 0]
    return explain_objects(
        truth,
        truth.labels.tolist() if labels is None else labels,
        detections,
        QueryPredictions(logits.sigmoid() if activation == "sigmoid" else logits.softmax(-1)[..., :-1], boxes),
        cost(logits[-1], boxes[-1], truth.labels, boxes_cxcywh(truth.boxes_xyxy.tolist())),
        maps(layers=2, queries=len(queries)),
        crowds,
        [] if crowds is None else crowds.labels.tolist(),
    )
