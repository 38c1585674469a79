"""Drawn roads: perspective by hand, lines where the paint is, the same roads again, and no guess that is good."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

from examples.lanes.baseline import mean_lanes
from examples.lanes.data import CROP, INPUT, POINTS, RoadSamples
from examples.lanes.evaluation import score_lanes
from examples.lanes.geometry import Camera, Road, at_rows, in_sight
from examples.lanes.roads import HEIGHT, LEVELS, MIN_ROWS, ROWS, WIDTH, draw_road
from examples.lanes.tusimple import TEST, TRAIN, make_roads, read_labels

FLAT = Road(offset=0.0, heading=0.0, curvature=0.0, clothoid=0.0, hill=0.0, hill_length=100.0, hill_phase=0.3)
LEVEL = Camera(320, 180, focal=300.0, above=1.5, pitch=0.0, yaw=0.0)


def test_projection_by_hand() -> None:
    """2 m to the right on the road 20 m ahead: 300 * 2 / 20 pixels to the right, 300 * 1.5 / 20 below the middle."""
    x, y, z = (np.array([value]) for value in (2.0, 0.0, 20.0))
    assert LEVEL.project(x, y, z)[0] == pytest.approx([160 + 30, 90 + 22.5])
    up = dataclasses.replace(LEVEL, pitch=0.1)
    far = np.array([1e6])
    assert up.project(0 * far, 0 * far, far)[0, 1] == pytest.approx(90 - 300 * math.tan(0.1), abs=0.01)
    turned = dataclasses.replace(LEVEL, yaw=0.1)
    assert turned.project(0 * far, 0 * far, far)[0, 0] == pytest.approx(160 - 300 * math.tan(0.1), abs=0.01)


def test_a_curve_is_a_circle_to_second_order() -> None:
    z = np.array([0.0, 50.0, 100.0])
    road = dataclasses.replace(FLAT, curvature=1 / 500)
    assert road.middle(z) == pytest.approx(500 - np.sqrt(500**2 - z**2), rel=0.02)


def test_the_car_stands_on_the_road() -> None:
    road = dataclasses.replace(FLAT, hill=2.0, hill_phase=1.0)
    near = np.array([0.0, 1e-4])
    height = road.elevation(near)
    assert height[0] == 0
    assert (height[1] - height[0]) / 1e-4 == pytest.approx(0, abs=1e-4)


def test_what_is_behind_a_crest_is_not_in_sight() -> None:
    rows = np.array([170.0, 120.0, 95.0, 99.0, 94.0])
    assert in_sight(rows).tolist() == [True, True, True, False, True]


def test_lines_at_rows() -> None:
    points = np.array([[100.0, 180.0], [150.0, 80.0]])  # from the bottom to the top
    found = at_rows(points, np.array([60.0, 80.0, 130.0, 180.0]), 320)
    assert np.isnan(found[0])
    assert found[1:] == pytest.approx([150, 125, 100])
    outside = at_rows(np.array([[-100.0, 180.0], [100.0, 80.0]]), np.array([100.0, 170.0]), 320)
    assert outside[0] == pytest.approx(60)
    assert np.isnan(outside[1])


@pytest.mark.slow
def test_the_same_numbers_draw_the_same_road() -> None:
    for level in LEVELS.values():
        one, other, another = (draw_road(level, np.random.default_rng(seed)) for seed in (3, 3, 4))
        assert np.array_equal(one.image, other.image)
        assert one.image.shape == (HEIGHT, WIDTH, 3)
        assert not np.array_equal(one.image, another.image)


@pytest.mark.slow
def test_lines_are_where_the_paint_is() -> None:
    """On easy roads the pixels of a line are brighter than the tarmac beside it, for most points of most lines."""
    brighter = []
    for seed in range(20):
        road = draw_road(LEVELS["easy"], np.random.default_rng([seed, 1]))
        gray = road.image.astype(float).mean(2)
        for lane in road.lanes:
            for x, row in zip(lane, ROWS, strict=True):
                if row > 120 and 12 < x < WIDTH - 12:
                    at = round(x)
                    beside = (gray[row, at - 12 : at - 8].mean() + gray[row, at + 8 : at + 12].mean()) / 2
                    brighter.append(gray[row, at - 1 : at + 2].max() > beside + 8)
    assert len(brighter) > 300
    assert np.mean(brighter) > 0.7


@pytest.mark.stress
@pytest.mark.parametrize("name", LEVELS)
def test_roads_have_up_to_five_lines_and_sometimes_none(name: str) -> None:
    counts = [len(draw_road(LEVELS[name], np.random.default_rng([seed, 2])).lanes) for seed in range(24)]
    assert max(counts) <= 5
    assert len(set(counts)) >= 4
    plain = dataclasses.replace(LEVELS[name], unmarked=1.0)
    assert draw_road(plain, np.random.default_rng(0)).lanes == ()


@pytest.mark.stress
def test_short_lines_are_not_annotated() -> None:
    for seed in range(20):
        for lane in draw_road(LEVELS["hard"], np.random.default_rng([seed, 5])).lanes:
            assert np.isfinite(lane).sum() >= MIN_ROWS


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("roads") / "middle"
    make_roads(root, "middle", train=12, val=4)
    return root


def test_drawn_roads_are_in_tusimples_format(drawn: Path) -> None:
    train, val = read_labels(drawn, TRAIN), read_labels(drawn, TEST)
    assert (len(train), len(val)) == (12, 4)
    assert all(label.path.is_file() and label.rows.tolist() == list(ROWS) for label in [*train, *val])
    sample = RoadSamples(train)[0]
    assert sample.image.shape == (INPUT[1], INPUT[0], 3)
    label, height = train[0], (1 - CROP) * HEIGHT
    # The rows of points lie between those of the annotations, of which some are at the same height.
    at = (np.arange(POINTS) + 0.5) / POINTS * height + CROP * HEIGHT
    for lane, xs, seen in zip(label.lanes, sample.xs, sample.is_seen, strict=True):
        known = np.isfinite(lane)
        expected = np.interp(at, label.rows[known], lane[known])
        assert xs[seen][1:-1] * WIDTH == pytest.approx(expected[seen][1:-1], abs=0.01)


@pytest.mark.stress
@pytest.mark.parametrize("name", LEVELS)
def test_the_mean_lanes_are_no_good_guess(name: str, tmp_path: Path) -> None:
    """Or a network could learn them in place of looking."""
    make_roads(tmp_path / "roads", name, train=250, val=120)
    guess = mean_lanes(read_labels(tmp_path / "roads", TRAIN))
    val = read_labels(tmp_path / "roads", TEST)
    scores = score_lanes([guess] * len(val), val)
    assert scores["F1"] <= 0.3
    assert scores["accuracy"] > 0.3, "the guess is not nonsense: many of its points are near a lane"
