"""What became of the true objects of an image, as the page holds it."""

from collections.abc import Sequence
from typing import Any

from detr_lite.evaluation.missed import ImageOutcome, ObjectOutcome


def pack_outcome(outcome: ImageOutcome) -> dict[str, Any]:
    """For the page's JSON."""
    return {
        "kinds": outcome.kinds,
        "objectsOf": outcome.objects_of,
        "regionsOf": outcome.regions_of,
        "objects": [_object(each) for each in outcome.objects],
    }


def relabeled_outcome(packed: dict[str, Any] | None, places: Sequence[int]) -> dict[str, Any] | None:
    """With labels of the page instead of the model's."""
    if packed is None:
        return None
    objects = [
        each | {"layers": [layer | {"label": places[layer["label"]]} for layer in each["layers"]]}
        for each in packed["objects"]
    ]
    return packed | {"objects": objects}


def nearest_queries(outcome: ImageOutcome | None) -> list[int]:
    """Of all objects, with those that the verdicts are about: their attention should be in the page."""
    if outcome is None:
        return []
    about = [verdict.query for each in outcome.objects for verdict in each.verdicts]
    return list(dict.fromkeys([each.query for each in outcome.objects] + about))


def _object(each: ObjectOutcome) -> dict[str, Any]:
    return {
        "query": each.query,
        "area": round(each.area, 4),
        "layers": [
            {
                "score": None if layer.score is None else round(layer.score, 4),
                "label": layer.best_label,
                "best": round(layer.best_score, 4),
                "box": [round(side, 1) for side in layer.box_xyxy],
                "iou": round(layer.iou, 3),
                "inside": round(layer.inside, 4),
            }
            for layer in each.layers
        ],
        "verdicts": [
            {
                "threshold": verdict.threshold,
                "reason": verdict.reason,
                "query": verdict.query,
                "sentence": verdict.sentence,
            }
            for verdict in each.verdicts
        ],
    }
