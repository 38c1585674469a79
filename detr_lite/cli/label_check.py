"""What a trained model finds in a dataset, for comparing it with the labels."""

import logging

import numpy as np
import torch
from tqdm import tqdm

from detr_lite.box_ops import xyxy_to_xywh
from detr_lite.data.images.load import load_image
from detr_lite.data.name_matching import match_names, other_names
from detr_lite.data.records import Split
from detr_lite.detector import Detector
from detr_lite.errors import DetrLiteError
from detr_lite.evaluation.label_errors import NOTICED
from detr_lite.structures import DetectionArrays
from detr_lite.text import printable, shorten_list

logger = logging.getLogger(__name__)

_AT_A_TIME = 8


def detect_in(detector: Detector, split: Split, images: list[int]) -> DetectionArrays:
    """Detections under the labels of the split, joined by the names of classes, in these images; others have none.

    Errors: a model that has none of the classes.
    """
    names = [category.name for category in split.categories]
    matched = match_names(detector.class_names, names)
    if not matched:
        raise DetrLiteError(
            f"--checkpoint: the model's classes ({printable(shorten_list(detector.class_names))}) are none of the "
            f"dataset's ({printable(shorten_list(names))}); give a checkpoint trained on this dataset"
        )
    labels = np.full(len(detector.class_names), -1, dtype=np.int64)
    labels[list(matched.values())] = list(matched)
    renamed = other_names(detector.class_names, names, matched)
    if renamed:
        logger.info(f"classes matched under other names: {printable(shorten_list(renamed, limit=8))}")
    unknown = [name for name, label in zip(detector.class_names, labels.tolist(), strict=True) if label < 0]
    if unknown:
        logger.warning(f"detections of {printable(shorten_list(unknown))} are left out: the dataset has no such class")
    found = []
    with tqdm(total=len(images), desc=f"detecting in {split.name}", unit="image", leave=False, disable=None) as bar:
        for start in range(0, len(images), _AT_A_TIME):
            some = [split.images[image] for image in images[start : start + _AT_A_TIME]]
            loaded = [load_image(each.path, (each.height, each.width), split.orientation.default) for each in some]
            for record, detections in zip(some, detector(loaded, _AT_A_TIME), strict=True):
                kept = detections.above(NOTICED)
                found.append((np.full(len(kept), record.index, dtype=np.int64), kept))
            bar.update(len(some))
    index = np.concatenate([np.zeros(0, dtype=np.int64), *(each for each, _ in found)])
    boxes_xyxy = torch.cat([torch.zeros(0, 4), *(kept.boxes_xyxy.float().cpu() for _, kept in found)])
    scores = torch.cat([torch.zeros(0), *(kept.scores.float().cpu() for _, kept in found)])
    model_labels = torch.cat([torch.zeros(0, dtype=torch.long), *(kept.labels.cpu() for _, kept in found)])
    own = labels[model_labels.numpy()]
    return DetectionArrays(
        image_index=index[own >= 0],
        labels=own[own >= 0],
        boxes_xywh=xyxy_to_xywh(boxes_xyxy).double().numpy()[own >= 0],
        scores=scores.double().numpy()[own >= 0],
    )
