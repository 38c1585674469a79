"""What became of the true objects of an image, by the matching cost that a model was trained with."""

import torch

from detr_lite.box_ops import xyxy_to_cxcywh
from detr_lite.build import build_criterion
from detr_lite.data.name_matching import match_names
from detr_lite.detector import Detector, Explained
from detr_lite.evaluation.missed import ImageOutcome, QueryPredictions, explain_objects
from detr_lite.structures import Detections


def explain_outcome(
    detector: Detector, explained: Explained, truth: Detections, crowds: Detections | None = None
) -> ImageOutcome:
    """What each detection of an image is, and what became of each object.

    Args:
        truth: the objects, with class names of their own, which are the model's where `match_names` finds them alike.
        crowds: regions that are annotated as crowds, with the same class names.
    """
    description, detections = detector.description, explained.detections
    assert detections.image_size is not None
    height, width = detections.image_size
    known = match_names(detector.class_names, truth.class_names)
    labels = [known.get(label) for label in truth.labels.tolist()]
    crowds = truth[:0] if crowds is None else crowds
    crowd_labels = [known.get(label) for label in crowds.labels.tolist()]
    cost = build_criterion(description.config, len(detector.categories), description.architecture).cost
    logits, boxes_cxcywh = explained.logits[:, 0], explained.boxes_cxcywh[:, 0]
    size = torch.tensor([width, height, width, height], dtype=torch.float)
    costs = cost(
        logits[-1],
        boxes_cxcywh[-1],
        torch.tensor([label or 0 for label in labels], dtype=torch.long),
        xyxy_to_cxcywh(truth.boxes_xyxy / size),
    )
    predictions = QueryPredictions(detector.postprocess.scores(logits), boxes_cxcywh)
    return explain_objects(truth, labels, detections, predictions, costs, explained.attention, crowds, crowd_labels)
