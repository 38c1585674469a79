"""Tiles and their merging against SAHI's recorded answers, against the truth, and on cases worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from detr_lite.evaluation.tile_grid import check_tiles, needs_tiles, tile_grid
from detr_lite.evaluation.tile_merge import merge_boxes, merge_tiles
from detr_lite.structures import Detections, DetrLiteError
from tests.helpers.tiled_scenes import LARGE, OVERLAP, SIZE, SMALL, TILE, draw_objects, find_in_views

SAHI = json.loads((Path(__file__).parent / "sahi.json").read_text())
FRAMES = np.array([*tile_grid(*SIZE, TILE, OVERLAP).tolist(), [0, 0, SIZE[1], SIZE[0]]])


def merged_scene(sides: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(boxes, scores, labels) of what remains of a scene's views."""
    rows = find_in_views(seed, *draw_objects(seed, sides), FRAMES)
    boxes, scores, labels, views = (np.array(rows[name]) for name in ("boxes", "scores", "labels", "views"))
    kept, merged = merge_boxes(boxes, scores, labels, views, FRAMES, SIZE)
    return merged, scores[kept], labels[kept]


def same_objects(boxes: np.ndarray, others: np.ndarray, pixels: float) -> bool:
    """Whether each box has exactly one of the others within so many pixels, and the other way round."""
    is_near = np.abs(boxes[:, None] - others[None]).max(-1) <= pixels
    return bool((is_near.sum(0) == 1).all() and (is_near.sum(1) == 1).all())


@pytest.mark.parametrize("case", SAHI["grids"], ids=lambda case: "-".join(map(str, case["arguments"])))
def test_tiles_are_those_of_sahi(case: dict) -> None:
    assert tile_grid(*case["arguments"]).tolist() == case["tiles"]


@pytest.mark.parametrize("case", [case for case in SAHI["merged"] if tuple(case["sides"]) == SMALL])
def test_small_objects_are_merged_as_by_sahi(case: dict) -> None:
    boxes, scores, labels = merged_scene(SMALL, case["seed"])
    expected = np.array(case["boxes"])
    for label in range(3):
        own = expected[expected[:, 5] == label]
        assert same_objects(boxes[labels == label], own[:, :4], pixels=2.0)
    np.testing.assert_allclose(np.sort(scores), np.sort(expected[:, 4]), atol=1e-6)


@pytest.mark.parametrize("sides", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("seed", range(4))
def test_every_object_is_found_once_and_whole(sides: tuple[int, int], seed: int) -> None:
    """Also those larger than a tile, of which SAHI leaves parts beside the whole."""
    truth, classes = draw_objects(seed, sides)
    boxes, _, labels = merged_scene(sides, seed)
    for label in range(3):
        assert same_objects(boxes[labels == label], truth[classes == label], pixels=1.0)
    recorded = [case["boxes"] for case in SAHI["merged"] if tuple(case["sides"]) == sides and case["seed"] == seed]
    assert all(len(each) >= len(truth) for each in recorded)


def merge(boxes: list[list[float]], views: list[int], scores: list[float] | None = None) -> list[list[float]]:
    """Of one class, in two tiles side by side of 100 pixels that share 20, and the whole."""
    frames = np.array([[0, 0, 100, 100], [80, 0, 180, 100], [0, 0, 180, 100]])
    scores = scores or [0.9 - 0.1 * place for place in range(len(boxes))]
    order = np.argsort(views, kind="stable")
    arrays = np.array(boxes, float)[order], np.array(scores)[order], np.zeros(len(boxes), int), np.array(views)[order]
    return merge_boxes(*arrays, frames, (100, 180))[1].tolist()


def test_a_half_box_gives_way_to_the_whole_one_whichever_scores_higher() -> None:
    half, whole = [85.0, 40.0, 100.0, 60.0], [85.0, 40.0, 115.0, 60.0]
    assert merge([half, whole], [0, 1]) == merge([half, whole], [0, 1], [0.5, 0.8]) == [whole]


def test_two_halves_become_one_box() -> None:
    assert merge([[40, 40, 100, 60], [80, 40, 140, 60]], [0, 1]) == [[40, 40, 140, 60]]


def test_neighbors_of_a_class_stay_apart_also_at_the_seam() -> None:
    boxes = [[70.0, 40.0, 92.0, 60.0], [93.0, 40.0, 112.0, 60.0], [80, 40, 92, 60]]
    assert merge(boxes, [0, 1, 1]) == boxes[:2]


def test_two_answers_of_one_view_are_both_kept() -> None:
    boxes = [[20.0, 20.0, 40.0, 40.0], [21.0, 21.0, 41.0, 41.0]]
    assert merge(boxes, [0, 0]) == boxes


def test_a_small_object_within_a_large_one_of_its_class_stays() -> None:
    boxes = [[30.0, 30.0, 40.0, 40.0], [5.0, 5.0, 170.0, 95.0]]
    assert merge(boxes, [0, 2]) == boxes


def test_a_sliver_at_a_seam_is_part_of_the_object() -> None:
    """As narrow as this, the boxes no longer agree in what both tiles show."""
    assert merge([[98.0, 40.0, 110.0, 60.0], [96.5, 41.0, 100.0, 49.0]], [1, 0], [0.9, 0.4]) == [[98, 40, 110, 60]]


def test_classes_are_never_merged_and_nothing_is_no_error() -> None:
    frames = np.array([[0, 0, 100, 100], [0, 0, 100, 100]])
    box = np.array([[10.0, 10, 20, 20]] * 2)
    kept, _ = merge_boxes(box, np.array([0.5, 0.9]), np.array([0, 1]), np.array([0, 1]), frames, (100, 100))
    assert kept.tolist() == [1, 0]
    kept, merged = merge_boxes(box[:0], np.zeros(0), np.zeros(0, int), np.zeros(0, int), frames, (100, 100))
    assert (kept.shape, merged.shape) == ((0,), (0, 4))


def test_detections_name_their_tile_and_query() -> None:
    def view(*boxes: list[float]) -> Detections:
        count = len(boxes)
        return Detections(
            torch.tensor(boxes, dtype=torch.float32).reshape(count, 4),
            torch.linspace(0.9, 0.5, count),
            torch.zeros(count).long(),
            torch.arange(count) + 7,
            ("cup",),
            (3,),
        )

    frames = np.array([[0, 0, 100, 100], [80, 0, 180, 100], [0, 0, 180, 100]])
    views = [view([5, 5, 20, 20]), view(), view([40, 10, 160, 90], [5, 5, 20, 21])]
    found = merge_tiles(views, frames, (100, 180))
    assert found.boxes_xyxy.tolist() == [[5, 5, 20, 20], [40, 10, 160, 90]]
    assert (found.tiles.tolist(), found.queries.tolist()) == ([0, -1], [7, 7])
    assert (found.image_size, found.class_names, found.category_ids) == ((100, 180), ("cup",), (3,))
    shifted = merge_tiles([view(), view([5, 5, 20, 20]), view()], frames, (100, 180))
    assert (shifted.boxes_xyxy.tolist(), shifted.tiles.tolist()) == ([[85, 5, 100, 20]], [1])


@pytest.mark.parametrize(("tile", "overlap"), [(31, 0.2), (0, 0.2), (640, 1.0), (640, -0.1), (640, float("nan"))])
def test_impossible_tiles_are_refused(tile: int, overlap: float) -> None:
    with pytest.raises(DetrLiteError, match=r"--tile is|--overlap is"):
        check_tiles(tile, overlap)


def test_only_pictures_larger_than_a_tile_are_cut() -> None:
    assert not needs_tiles(640, 640, 640)
    assert not needs_tiles(4000, 3000, None)
    assert needs_tiles(100, 641, 640)
