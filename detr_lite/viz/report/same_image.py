"""Whether an explorer's page shows an image of a report: with the same true objects, and with the same detections."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float64

from detr_lite.box_ops import paired_iou
from detr_lite.data.name_matching import match_names
from detr_lite.drawing.boxes import display_name
from detr_lite.viz.explorer.read_page import ReadPage, ReadScene
from detr_lite.viz.report.content import Evaluated

_SAME_IOU, _SAME_SCORE = 0.9, 0.05
"""Least IoU and largest difference of scores of one detection in both: an evaluation computes in batches."""


def is_same_file(model: Evaluated, image: int, scene: ReadScene) -> bool:
    """By name and size."""
    record = model.split.images[image]
    return Path(scene.name).name == model.split.file_name(image) and scene.size_wh == (record.width, record.height)


def same_objects(model: Evaluated, image: int, scene: ReadScene) -> dict[int, int] | None:
    """Place in the ground truth -> number of the true object in the page; None if the page has other objects."""
    truth = model.split.ground_truth
    places = np.flatnonzero((truth.image_index == image) & ~truth.is_crowd)
    names = [display_name(model.split.categories[label].name) for label in truth.labels[places].tolist()]
    is_same = np.array([[name == other for other in scene.true_names] for name in names], dtype=bool)
    boxes_xyxy = _corners(truth.boxes_xywh[places]).clip(0, np.array(scene.size_wh * 2))  # as training sees them
    same = _pairs(boxes_xyxy, scene.true_boxes_xyxy, is_same.reshape(len(places), len(scene.true_names)))
    return {int(places[own]): other for own, other in same.items()} if len(same) == len(scene.true_names) else None


def same_detections(model: Evaluated, image: int, page: ReadPage, scene: ReadScene) -> dict[int, int] | None:
    """Place in the report's detections -> place in those of the page; None if most of those that the report shows are
    not in the page, which then is of another model."""
    found = model.detections
    places = np.flatnonzero(found.image_index == image)
    label_of = match_names(page.class_names, [display_name(each.name) for each in model.split.categories])
    labels = np.array([label_of.get(label, -1) for label in found.labels[places].tolist()], dtype=np.int64)
    is_same = (labels[:, None] == scene.labels) & (np.abs(found.scores[places, None] - scene.scores) <= _SAME_SCORE)
    same = _pairs(_corners(found.boxes_xywh[places]), scene.boxes_xyxy, is_same)
    shown = np.flatnonzero(found.scores[places] >= model.threshold).tolist()
    if 2 * sum(own in same for own in shown) < len(shown):
        return None
    return {int(places[own]): other for own, other in same.items()}


def _pairs(
    own_xyxy: Float64[np.ndarray, "own 4"],
    other_xyxy: Float64[np.ndarray, "other 4"],
    is_same: Bool[np.ndarray, "own other"],
) -> dict[int, int]:
    """Places of boxes that are the same in both lists, each used once."""
    ious = paired_iou(torch.from_numpy(own_xyxy)[:, None], torch.from_numpy(other_xyxy)[None]).numpy()
    ious = np.where(is_same, ious, 0.0)
    pairs: dict[int, int] = {}
    for own in range(len(ious) if len(other_xyxy) else 0):
        if ious[own].max() >= _SAME_IOU:
            pairs[own] = other = int(ious[own].argmax())
            ious[:, other] = 0.0
    return pairs


def _corners(boxes_xywh: Float64[np.ndarray, "box 4"]) -> Float64[np.ndarray, "box 4"]:
    return np.concatenate([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], axis=1)
