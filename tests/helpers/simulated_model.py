"""Detections as a model of a given quality makes them, without training one."""

import numpy as np

from detr_lite.structures import DetectionArrays, GroundTruth


def simulated_truth(seed: int, images: int = 60, classes: int = 4) -> GroundTruth:
    """One to five objects in each image of 640 x 480 pixels, of sides from 20 to 150 pixels."""
    rng = np.random.default_rng(seed)
    image = np.repeat(np.arange(images), rng.integers(1, 6, images))
    count = len(image)
    sides = rng.uniform(20, 150, (count, 2))
    boxes = np.column_stack([rng.uniform(0, 1, (count, 2)) * (np.array([640, 480]) - sides), sides])
    areas, no_crowd = boxes[:, 2] * boxes[:, 3], np.zeros(count, dtype=bool)
    return GroundTruth(images, image, rng.integers(0, classes, count), boxes, areas, no_crowd)


def simulated_detections(
    truth: GroundTruth,
    seed: int,
    classes: int = 4,
    jitter: float = 0.05,
    confused: float = 0.1,
    missed: float = 0.1,
    false_per_image: float = 10.0,
    highest_false: float = 0.5,
) -> DetectionArrays:
    """Boxes off by a normal distribution of `jitter` of their sides, shares of wrong classes and of missed objects, and
    false detections with scores that are mostly low."""
    rng = np.random.default_rng(seed)
    found = np.flatnonzero(rng.random(len(truth.labels)) >= missed)
    boxes = truth.boxes_xywh[found]
    boxes = boxes + rng.normal(0, jitter, boxes.shape) * boxes[:, [2, 3, 2, 3]]
    boxes[:, 2:] = boxes[:, 2:].clip(4)
    labels = truth.labels[found]
    is_confused = rng.random(len(found)) < confused
    labels = np.where(is_confused, rng.integers(0, classes, len(found)), labels)
    scores = np.where(is_confused, rng.uniform(0.1, 0.7, len(found)), rng.beta(4, 2, len(found)))

    count = int(false_per_image * truth.num_images)
    sides = rng.uniform(20, 150, (count, 2))
    false_boxes = np.column_stack([rng.uniform(0, 1, (count, 2)) * (np.array([640, 480]) - sides), sides])
    return DetectionArrays(
        np.append(truth.image_index[found], rng.integers(0, truth.num_images, count)),
        np.append(labels, rng.integers(0, classes, count)),
        np.concatenate([boxes, false_boxes]).round(3),
        np.append(scores, highest_false * rng.beta(1, 4, count)).round(6),
    )
