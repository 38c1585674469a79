"""Writes the tiles and merged detections of SAHI 0.12.8 to tests/evaluation/sahi.json, for test_tiles.py.

SAHI imports OpenCV and shapely at once, so the tests read its answers instead of running it. To record them again, in
an environment of its own:

    pip install sahi==0.12.8 numpy
    PYTHONPATH=. python tests/helpers/record_sahi.py
"""

import json
from pathlib import Path

import numpy as np
from sahi.postprocess.combine import GreedyNMMPostprocess
from sahi.prediction import ObjectPrediction
from sahi.slicing import get_slice_bboxes

from tests.helpers.tiled_scenes import LARGE, OVERLAP, SIZE, SMALL, TILE, draw_objects, find_in_views

GRIDS = [
    (height, width, tile, overlap)
    for height, width in ((1500, 2000), (640, 4000), (3000, 641), (500, 300), (1152, 1152))
    for tile, overlap in ((400, 0.2), (640, 0.2), (640, 0.0), (333, 0.55))
]
SEEDS = (0, 1, 2)


def sliced(height: int, width: int, tile: int, overlap: float) -> list[list[int]]:
    options = {
        "slice_height": tile,
        "slice_width": tile,
        "overlap_height_ratio": overlap,
        "overlap_width_ratio": overlap,
    }
    return get_slice_bboxes(height, width, **options)


def merged(rows: dict) -> list[list[float]]:
    """[x0, y0, x1, y1, score, label] of what GREEDYNMM leaves."""
    predictions = [
        ObjectPrediction(bbox=box, category_id=label, category_name=str(label), score=score)
        for box, score, label in zip(rows["boxes"], rows["scores"], rows["labels"], strict=True)
    ]
    postprocess = GreedyNMMPostprocess(match_threshold=0.5, match_metric="IOS", class_agnostic=False)
    return [
        [*(round(float(side), 3) for side in each.bbox.to_xyxy()), each.score.value, each.category.id]
        for each in postprocess(predictions)
    ]


def main() -> None:
    frames = np.array([*sliced(*SIZE, TILE, OVERLAP), [0, 0, SIZE[1], SIZE[0]]])
    content = {
        "grids": [{"arguments": arguments, "tiles": sliced(*arguments)} for arguments in GRIDS],
        "merged": [
            {"sides": sides, "seed": seed, "boxes": merged(find_in_views(seed, *draw_objects(seed, sides), frames))}
            for sides in (SMALL, LARGE)
            for seed in SEEDS
        ],
    }
    path = Path(__file__).parents[1] / "evaluation/sahi.json"
    path.write_text(json.dumps(content, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
