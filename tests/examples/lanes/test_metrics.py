"""TuSimple's formula and CULane's F1 against cases worked by hand, and the IoU of lanes against shapely."""

import math

import numpy as np
import pytest
from shapely.geometry import LineString

from examples.lanes.metrics import Counts, Lane, TuSimpleScore, count_hits, lane_mask, mask_iou, tusimple_score

ROWS = np.arange(160.0, 360.0, 10.0)
"""20 rows of an image of 1,280 x 720."""
NOWHERE = math.nan


def upright(x: float, rows: int = 20) -> Lane:
    """A vertical lane in the uppermost rows."""
    lane = np.full(20, NOWHERE)
    lane[:rows] = x
    return lane


def score(found: list[Lane], true: list[Lane], width: int = 1280) -> tuple[float, float, float]:
    result = tusimple_score(found, true, ROWS, width)
    return result.accuracy, result.fp, result.fn


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        ([upright(100)], [upright(100)], (1, 0, 0)),
        ([upright(119)], [upright(100)], (1, 0, 0)),  # less than 20 pixels
        ([upright(120)], [upright(100)], (0, 1, 1)),
        ([], [upright(100)], (0, 0, 1)),
        ([], [], (1, 0, 0)),
        ([upright(100)], [], (0, 1, 0)),
        # Three of four; the fourth has nothing near.
        ([upright(100), upright(300), upright(500)], [upright(x) for x in (100, 300, 500, 700)], (3 / 4, 0, 1 / 4)),
        # One too many.
        ([upright(100), upright(900)], [upright(100)], (1, 1 / 2, 0)),
        # Three too many.
        ([upright(x) for x in (100, 300, 500, 700)], [upright(100)], (0, 0, 1)),
        # 17 of 20 points: 0.85 is enough. Rows in which neither has a lane agree.
        ([upright(100, 17)], [upright(100)], (0.85, 0, 0)),
        ([upright(100, 16)], [upright(100)], (0.8, 1, 1)),
        ([upright(100, 8)], [upright(100, 8)], (1, 0, 0)),
        # Of five lanes the worst one is forgiven, in accuracy and in FN.
        ([upright(x) for x in (100, 300, 500, 700)], [upright(x) for x in (100, 300, 500, 700, 900)], (1, 0, 0)),
        ([upright(100)], [upright(x) for x in (100, 300, 500, 700, 900)], (1 / 4, 0, 3 / 4)),
    ],
)
def test_tusimple_by_hand(found: list[Lane], true: list[Lane], expected: tuple[float, float, float]) -> None:
    assert score(found, true) == pytest.approx(expected)


def test_points_of_slanted_lanes_may_be_farther_off() -> None:
    """At 45 degrees 20 / cos 45 = 28.3 pixels."""
    slanted = 100 + (ROWS - ROWS[0])
    assert score([slanted + 28], [slanted]) == (1, 0, 0)
    assert score([slanted + 29], [slanted]) == (0, 1, 1)


def test_the_limit_follows_the_width_of_the_image() -> None:
    assert score([upright(104)], [upright(100)], width=320) == (1, 0, 0)
    assert score([upright(105)], [upright(100)], width=320) == (0, 1, 1)


def test_the_program_of_tusimple_as_it_is_known() -> None:
    """Its loops, written out, for random lanes."""
    random = np.random.default_rng(0)
    for _ in range(60):
        true = [_random_lane(random) for _ in range(random.integers(1, 7))]
        found = [lane + random.normal(0, 14) + random.normal(0, 6, 20) for lane in true if random.random() < 0.8]
        found += [_random_lane(random) for _ in range(random.integers(0, 3))]
        found, true = ([np.where(lane >= 0, lane, NOWHERE) for lane in lanes] for lanes in (found, true))
        result = tusimple_score(found, true, ROWS, 1280)
        assert (result.accuracy, result.fp, result.fn) == pytest.approx(_official(found, true))


def _random_lane(random: np.random.Generator) -> Lane:
    lane = random.uniform(100, 1100) + random.normal(0, 1) * (ROWS - 260) + random.normal(0, 0.004) * (ROWS - 260) ** 2
    lane[: random.integers(0, 8)] = NOWHERE
    return lane


def _official(found: list[Lane], true: list[Lane]) -> tuple[float, float, float]:
    predicted, given = ([np.nan_to_num(lane, nan=-2.0) for lane in lanes] for lanes in (found, true))
    if len(predicted) > len(given) + 2:
        return 0.0, 0.0, 1.0
    accuracies, matched, missed = [], 0, 0
    for lane in given:
        known = lane >= 0
        design = np.stack([ROWS[known], np.ones(known.sum())], axis=1)
        slope = np.linalg.lstsq(design, lane[known], rcond=None)[0][0]
        limit = 20 / math.cos(math.atan(slope))
        one = [
            sum(
                abs((p if p >= 0 else -100) - (t if t >= 0 else -100)) < limit for p, t in zip(other, lane, strict=True)
            )
            / len(lane)
            for other in predicted
        ]
        best = max(one) if one else 0.0
        matched, missed = (matched, missed + 1) if best < 0.85 else (matched + 1, missed)
        accuracies.append(best)
    total = sum(accuracies)
    if len(given) > 4:
        total -= min(accuracies)
        missed -= missed > 0
    count = max(min(4.0, len(given)), 1.0)
    wrong = len(predicted) - matched
    return total / count, wrong / len(predicted) if predicted else 0.0, missed / count


@pytest.mark.parametrize("apart", [0.0, 4.0, 10.0, 14.0, 29.0, 40.0])
def test_the_iou_of_drawn_lanes_is_that_of_shapely(apart: float) -> None:
    rows = np.arange(200.0, 590.0, 10.0)
    one = 800 + 0.8 * (rows - 590) + 0.001 * (rows - 590) ** 2
    other = one + apart + 0.02 * (rows - 400)
    masks = [lane_mask(lane, rows, (1640, 590)) for lane in (one, other)]
    shapes = [LineString(np.stack([lane, rows], axis=1)).buffer(15) for lane in (one, other)]
    visible = LineString([(0, 295), (1640, 295)]).buffer(295, cap_style="flat")
    shapes = [shape.intersection(visible) for shape in shapes]
    expected = shapes[0].intersection(shapes[1]).area / shapes[0].union(shapes[1]).area
    assert mask_iou(*masks) == pytest.approx(expected, abs=0.03)


def test_counts_by_hand() -> None:
    """Parallel lanes of 30 pixels: 10 apart have an IoU of 20 / 40, 11 apart of 19 / 41."""
    rows = np.arange(0.0, 590.0, 10.0)

    def lane(x: float) -> Lane:
        return np.full(len(rows), float(x))

    size = (1640, 590)
    assert count_hits([lane(408)], [lane(400)], rows, size) == Counts(1, 1, 1)
    assert count_hits([lane(412)], [lane(400)], rows, size) == Counts(0, 1, 1)
    assert count_hits([lane(400), lane(404)], [lane(402)], rows, size) == Counts(1, 2, 1), "a duplicate is no hit"
    assert count_hits([], [lane(400)], rows, size) == Counts(0, 0, 1)
    assert count_hits([lane(400)], [], rows, size) == Counts(0, 1, 0)
    total = Counts(3, 4, 5) + Counts(1, 1, 1)
    assert total.f1 == pytest.approx(2 * 4 / (5 + 6))
    assert Counts(0, 0, 0).f1 == 1


def test_lanes_are_matched_so_that_the_sum_of_their_iou_is_largest() -> None:
    """As in CULane's programs: 8 and 8 pixels apart are worth less than 1 and 17."""
    rows = np.arange(0.0, 590.0, 10.0)
    true = [np.full(len(rows), x) for x in (400.0, 409.0)]
    found = [np.full(len(rows), x) for x in (408.0, 417.0)]
    assert count_hits(found, true, rows, (1640, 590)) == Counts(1, 2, 2)


def test_a_score_is_compared_by_value() -> None:
    assert tusimple_score([], [], ROWS, 1280) == TuSimpleScore(1.0, 0.0, 0.0)
