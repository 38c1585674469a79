"""Boxes around outlines, as pycocotools computes them."""

from typing import Any

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from detr_lite.data.formats.outlines import outline_box


@pytest.mark.parametrize("density", [0.01, 0.1, 0.5, 0.99])
def test_masks(density: float) -> None:
    random = np.random.default_rng(round(100 * density))
    for _ in range(100):
        height, width = random.integers(1, 60, 2).tolist()
        pixels = np.asfortranarray(random.random((height, width)) < density, dtype=np.uint8)
        encoded = coco_mask.encode(pixels)
        edges = np.flatnonzero(np.diff(pixels.ravel(order="F"))) + 1
        runs = np.diff([0, *([0] if pixels[0, 0] else []), *edges, pixels.size]).tolist()
        expected = tuple(coco_mask.toBbox(encoded).tolist()) if pixels.any() else None
        size = [height, width]
        assert outline_box({"size": size, "counts": encoded["counts"].decode()}) == expected
        assert outline_box({"size": size, "counts": runs}) == expected


def test_polygons() -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        angles = np.sort(random.uniform(0, 2 * np.pi, 12))
        points = 60 + random.uniform(25, 50) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        halves = [points[:7].ravel().tolist(), np.concatenate([points[6:], points[:1]]).ravel().tolist()]
        x, y, width, height = outline_box(halves) or (0, 0, 0, 0)
        # pycocotools draws the polygons, pixel by pixel
        drawn = coco_mask.toBbox(coco_mask.merge(coco_mask.frPyObjects(halves, 120, 120)))
        np.testing.assert_allclose([x, y, x + width, y + height], [*drawn[:2], *(drawn[:2] + drawn[2:])], atol=1.5)


@pytest.mark.parametrize(
    "outline",
    [
        *(
            None,
            [],
            [[]],
            5,
            "text",
            [[1, 2]],
            [[1, 2, 3]],
            [1, 2, "x", 4],
            [[1, 2, None, 4]],
            [[1, 2, float("inf"), 4]],
        ),
        *({}, {"size": [3, 3]}, {"size": [3], "counts": [1]}, {"size": [3, 3], "counts": [-1, 2]}),
        *({"size": [0, 3], "counts": [0]}, {"size": [3, 3], "counts": [1, 99]}, {"size": [3, 3], "counts": []}),
        *({"size": [3, 3], "counts": [5, 5]}, {"size": [3, 3], "counts": ["1", 5]}, {"size": [3, 3], "counts": "é"}),
        *({"size": [3, 3], "counts": "o" * 99}, {"size": [3, 3], "counts": "P"}, {"size": [3.5, 3], "counts": [1]}),
    ],
)
def test_what_is_no_outline(outline: Any) -> None:
    assert outline_box(outline) is None
