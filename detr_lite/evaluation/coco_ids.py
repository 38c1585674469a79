"""Ground truth and detections under ids that pycocotools counts correctly, whatever ids the dataset has.

pycocotools marks a matched detection with the id of its annotation, where 0 means unmatched: an object whose id is 0 is
never found. It passes image ids through numpy, which rounds those above 2^63 to floats and then finds no image.
It also ranks equal scores in the order of image ids, so that AP would depend on how images are numbered.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Renumbered:
    """A copy with ids from 1: images, annotations and detections in their order, categories by ascending id."""

    ground_truth: dict[str, Any]
    detections: list[dict[str, Any]]
    """With the fields `id`, `area` and `iscrowd` that pycocotools needs."""
    image_ids: dict[int, int]
    """The new id by the dataset's own."""
    category_ids: dict[int, int]
    """The new id by the dataset's own; in ascending order, as pycocotools averages over classes in this order."""


def renumber(ground_truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Renumbered:
    """Copy what an evaluation of boxes needs. `area` and `iscrowd` are filled in where an annotation lacks them.

    Annotations and detections of unlisted images or categories are left out, as they are by pycocotools.
    """
    image_ids = {image["id"]: number for number, image in enumerate(ground_truth["images"], start=1)}
    own_category_ids = sorted({category["id"] for category in ground_truth["categories"]})
    category_ids = {category_id: number for number, category_id in enumerate(own_category_ids, start=1)}

    def is_listed(entry: Mapping[str, Any]) -> bool:
        return entry["image_id"] in image_ids and entry["category_id"] in category_ids

    def copy(number: int, entry: Mapping[str, Any]) -> dict[str, Any]:
        new_ids = {"image_id": image_ids[entry["image_id"]], "category_id": category_ids[entry["category_id"]]}
        return {"id": number, **new_ids, "bbox": entry["bbox"], "area": entry["bbox"][2] * entry["bbox"][3]}

    annotations = []
    for number, annotation in enumerate(filter(is_listed, ground_truth.get("annotations", ())), start=1):
        given = {key: annotation[key] for key in ("area", "iscrowd") if annotation.get(key) is not None}
        annotations.append({**copy(number, annotation), "iscrowd": 0, **given})
    detections = [
        {**copy(number, result), "iscrowd": 0, "score": result["score"]}
        for number, result in enumerate(filter(is_listed, results), start=1)
    ]
    return Renumbered(
        ground_truth={
            "images": [{"id": number} for number in image_ids.values()],
            "categories": [{"id": number} for number in category_ids.values()],
            "annotations": annotations,
        },
        detections=detections,
        image_ids=image_ids,
        category_ids=category_ids,
    )
