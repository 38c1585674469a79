"""What a perfect detector finds in the tiles of a scene: each object where it is seen, cut by the edges of its tile."""

from typing import Any

import numpy as np

SIZE = (1500, 2000)
"""(height, width)."""
TILE, OVERLAP = 400, 0.2
SEEN = 0.3
"""Share of an object from which on a tile finds it."""
SMALL, LARGE = (8, 70), (8, 900)
"""Sides of the objects; the small ones fit into what two neighbors share."""


def draw_objects(seed: int, sides: tuple[int, int], count: int = 60, classes: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Boxes that are a few pixels apart, and their labels."""
    rng = np.random.default_rng(seed)
    taken, boxes = np.zeros(SIZE, bool), []
    for _ in range(count):
        width, height = np.exp(rng.uniform(*np.log(sides), 2)).round().astype(int)
        left, top = rng.integers(0, SIZE[1] - width), rng.integers(0, SIZE[0] - height)
        region = taken[max(top - 4, 0) : top + height + 4, max(left - 4, 0) : left + width + 4]
        if not region.any():
            region[:] = True
            boxes.append([left, top, left + width, top + height])
    return np.array(boxes, float), rng.integers(0, classes, len(boxes))


def find_in_views(seed: int, boxes: np.ndarray, labels: np.ndarray, frames: np.ndarray) -> dict[str, Any]:
    """Boxes in pixels of the picture, scores, labels, views and objects; the last view, the whole, finds the larger."""
    rng = np.random.default_rng(seed)
    rows: dict[str, list[Any]] = {"boxes": [], "scores": [], "labels": [], "views": [], "objects": []}
    for view, frame in enumerate(frames.astype(float)):
        for number, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            low, high = np.maximum(box[:2], frame[:2]), np.minimum(box[2:], frame[2:])
            if (low >= high).any() or (high - low).prod() < SEEN * (box[2:] - box[:2]).prod():
                continue
            if view == len(frames) - 1 and max(box[2:] - box[:2]) < 40:
                continue
            noisy = np.concatenate([low, high]) + rng.uniform(-0.5, 0.5, 4)
            clipped = np.concatenate([np.maximum(noisy[:2], frame[:2]), np.minimum(noisy[2:], frame[2:])])
            rows["boxes"].append(clipped.round(3).tolist())
            rows["scores"].append(round(float(rng.uniform(0.5, 1)), 6))
            rows["labels"].append(int(label))
            rows["views"].append(view)
            rows["objects"].append(number)
    return rows
