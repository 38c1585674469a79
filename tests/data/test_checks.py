"""Every annotation is judged alone: faults one by one, then properties that hold for any split."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from detr_lite.data.checks.annotations import check_annotations
from detr_lite.data.checks.garbage import refuse_garbage
from detr_lite.data.records import RawSplit
from detr_lite.data.report import Finding, OnFault, SplitReport
from tests.helpers.raw_splits import Row, random_raw_split, raw_split, reorder, report_of, split_of

SOUND: list[Row] = [(0, 0, 10, 10, 40, 30), (0, 1, 200, 100, 50, 60), (0, 2, 300, 300, 70, 20)]
BOX = SOUND[0][2:]


def check(raw: RawSplit, is_training: bool = True, on_fault: OnFault = "repair") -> tuple[RawSplit, SplitReport]:
    report = report_of(raw)
    report.on_fault = on_fault
    return check_annotations(raw, report, is_training), report


def judge(row: Row, *, is_training: bool = True, on_fault: OnFault = "repair") -> tuple[RawSplit, list[Finding]]:
    """What becomes of this annotation, the fourth beside three sound ones in an image of 640 x 480."""
    checked, report = check(raw_split([*SOUND, row]), is_training, on_fault)
    np.testing.assert_array_equal(checked.boxes_xywh[:3], raw_split(SOUND).boxes_xywh)
    return checked, report.findings


def assert_same(one: RawSplit, other: RawSplit) -> None:
    """Every array equal to the last bit."""
    for name, value in vars(one).items():
        if isinstance(value, np.ndarray):
            assert value.tobytes() == getattr(other, name).tobytes(), name
    assert (one.image_ids, one.names, one.paths) == (other.image_ids, other.names, other.paths)


@pytest.mark.parametrize("place", range(4))
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.filterwarnings("error")
def test_boxes_that_are_not_finite_are_skipped(value: float, place: int) -> None:
    box = [300.0, 300.0, 10.0, 10.0]
    box[place] = value
    x, y, width, height = box
    checked, (finding,) = judge((0, 0, x, y, width, height))
    assert len(checked.labels) == 3
    assert (finding.kind, finding.action, finding.entries) == ("no_box", "skipped", ("annotation 3",))


@pytest.mark.parametrize("on_fault", ["repair", "skip"])
@pytest.mark.parametrize("is_training", [True, False])
@pytest.mark.filterwarnings("error")
def test_huge_numbers_are_no_trouble(is_training: bool, on_fault: OnFault) -> None:
    huge = np.array([1.7e308, -1.7e308, 1e200, -1e200, 1e18, -1e18, 5.0])
    boxes_xywh = np.stack(np.meshgrid(*[huge] * 4), axis=-1).reshape(-1, 4)
    raw = replace(raw_split([(0, 0, *BOX)] * len(boxes_xywh)), boxes_xywh=boxes_xywh)
    refuse_garbage(raw, report_of(raw))
    checked, _ = check(raw, is_training, on_fault)
    assert np.isfinite(checked.boxes_xywh).all()
    assert np.isfinite(checked.areas).all()
    split_of(checked)


@pytest.mark.parametrize(
    ("box", "turned"),
    [
        ((100.0, 90.0, -20.0, -30.0), (80.0, 60.0, 20.0, 30.0)),
        ((100.0, 90.0, -20.0, 30.0), (80.0, 90.0, 20.0, 30.0)),
        ((100.0, 90.0, 20.0, -30.0), (100.0, 60.0, 20.0, 30.0)),
    ],
)
def test_inverted_boxes_are_turned_round(
    box: tuple[float, float, float, float], turned: tuple[float, float, float, float]
) -> None:
    checked, (finding,) = judge((0, 0, *box))
    assert checked.boxes_xywh[3].tolist() == list(turned)
    assert checked.areas[3] == 600.0
    assert finding.action == "repaired"
    assert finding.line() == "boxes of negative width or height are turned round: 1 (annotation 3)"

    checked, (finding,) = judge((0, 0, *box), on_fault="skip")
    assert (len(checked.labels), finding.action) == (3, "skipped")
    _, (finding,) = judge((0, 0, *box), on_fault="refuse")
    assert finding.action == "refused"


@pytest.mark.parametrize(
    "box",
    [
        (30.0, 30.0, 0.0, 20.0),
        (30.0, 30.0, 20.0, 0.0),
        (30.0, 30.0, -20.0, 0.0),
        (700.0, 30.0, 0.0, 0.0),
        (300.0, 30.0, 1e-6, 20.0),  # in 32 bits 300 + 1e-6 is 300
        (640.0 - 1e-6, 30.0, 50.0, 20.0),
    ],
)
@pytest.mark.parametrize("on_fault", ["repair", "skip", "refuse"])
def test_boxes_without_area_are_a_note_and_count_nowhere(
    box: tuple[float, float, float, float], on_fault: OnFault
) -> None:
    checked, (finding,) = judge((0, 0, *box), on_fault=on_fault)
    assert len(checked.labels) == 3
    assert (finding.kind, finding.action) == ("void_box", "noted")
    assert finding.line() == "boxes without area are left out: 1 (annotation 3)"


@pytest.mark.parametrize("x", [-40.0, -30.0, 640.0, 5000.0])
@pytest.mark.parametrize("is_vertical", [False, True])
def test_boxes_outside_their_image_are_skipped(x: float, is_vertical: bool) -> None:
    row: Row = (0, 0, 10.0, x, 20.0, 30.0) if is_vertical else (0, 0, x, 10.0, 30.0, 20.0)
    checked, (finding,) = judge(row)
    assert len(checked.labels) == 3
    assert (finding.kind, finding.action) == ("outside_box", "skipped")


def test_boxes_beyond_the_image_keep_their_values_and_are_noted() -> None:
    row: Row = (0, 0, -5.0, 470.0, 20.0, 30.0)
    for is_training, fate in ((True, "clipped"), (False, "evaluated as they are")):
        checked, (finding,) = judge(row, is_training=is_training)
        assert checked.boxes_xywh[3].tolist() == [-5.0, 470.0, 20.0, 30.0]
        assert finding.line() == f"boxes that reach beyond their image are {fate}: 1 (annotation 3)"
    within_a_pixel: Row = (0, 0, -1.0, 470.0, 20.0, 11.0)
    assert judge(within_a_pixel)[1] == []


def test_boxes_less_than_a_pixel_are_noted_and_relative_ones_skipped() -> None:
    checked, (finding,) = judge((0, 0, 30.0, 30.0, 0.5, 10.0))
    assert (len(checked.labels), finding.kind, finding.action) == (4, "subpixel_box", "noted")
    checked, (finding,) = judge((0, 0, 0.25, 0.5, 0.5, 0.25))
    assert (len(checked.labels), finding.kind, finding.action) == (3, "relative_box", "skipped")


def test_missing_areas_are_those_of_the_boxes() -> None:
    checked, report = check(raw_split(SOUND, areas=[np.nan] * 3))
    assert checked.areas.tolist() == [1200.0, 3000.0, 1400.0]
    assert report.findings == []
    checked, report = check(raw_split(SOUND, areas=[900.0, np.nan, 1400.0]))
    assert checked.areas.tolist() == [900.0, 3000.0, 1400.0]
    assert [finding.line() for finding in report.findings] == [
        "annotations without an area have that of their box: 1 (annotation 1)"
    ]


@pytest.mark.parametrize("area", [0.0, -1200.0, np.inf, -np.inf, 5000.0, 0.003, 1e-300])
def test_impossible_areas_are_replaced(area: float) -> None:
    checked, report = check(raw_split(SOUND, areas=[area, 3000.0, 1400.0]))
    assert checked.areas.tolist() == [1200.0, 3000.0, 1400.0]
    assert [(finding.kind, finding.action, finding.count) for finding in report.findings] == [
        ("wrong_area", "noted", 1)
    ]


@pytest.mark.parametrize("area", [40.0, 942.0, 1200.0, 41 * 31.0])
def test_areas_of_outlines_stay(area: float) -> None:
    """A line of one pixel, an ellipse, a rectangle, and one that counts both of its end pixels."""
    raw = raw_split(SOUND, areas=[area, 3000.0, 1400.0])
    checked, report = check(raw)
    assert_same(checked, raw)
    assert report.findings == []


def test_of_exact_copies_one_stays() -> None:
    rows = [*SOUND, SOUND[0], SOUND[0], SOUND[2]]
    checked, report = check(raw_split(rows))
    assert_same(checked, raw_split(SOUND))
    (finding,) = report.findings
    assert (finding.kind, finding.action) == ("duplicate", "noted")
    assert finding.line() == "exact copies of annotations are left out: 3 (annotation 3, annotation 4, annotation 5)"


def test_what_differs_is_no_copy() -> None:
    rows: list[Row] = [
        (0, 0, *BOX),
        (1, 0, *BOX),  # another image
        (0, 0, 10.0, 10.0, 40.0, 30.000001),
        (0, 0, 10.0, 10.000001, 40.0, 30.0),
        (0, 0, *BOX),  # a crowd region
    ]
    raw = raw_split(rows, sizes_wh=[(640, 480)] * 2, crowd=[4])
    checked, report = check(raw)
    assert_same(checked, raw)
    assert report.findings == []


def test_a_copy_that_was_drawn_from_the_other_corner_is_one() -> None:
    checked, report = check(raw_split([*SOUND, (0, 0, 50.0, 40.0, -40.0, -30.0)]))
    assert_same(checked, raw_split(SOUND))
    assert [finding.kind for finding in report.findings] == ["inverted_box", "duplicate"]


def test_of_copies_the_outlines_area_stays() -> None:
    checked, _ = check(raw_split([*SOUND, SOUND[0]], areas=[1200.0, 3000.0, 1400.0, 900.0]))
    assert sorted(checked.areas.tolist()) == [900.0, 1400.0, 3000.0]


def test_two_classes_at_one_box_are_noted() -> None:
    raw = raw_split([*SOUND, (0, 2, *BOX)])
    checked, report = check(raw)
    assert_same(checked, raw)
    (finding,) = report.findings
    assert finding.action == "noted"
    assert finding.line() == "annotations of two classes with the same box: 1 (annotation 3)"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (raw_split([]), "there are no annotations; export them again"),
        (raw_split(SOUND, crowd=[0, 1, 2]), "only crowd regions (iscrowd 1), which are not trained on"),
        (raw_split([(0, 0, 5, 5, 0, 0)] * 2), "boxes without area are left out: 2 (annotation 0, annotation 1)"),
        (raw_split([(0, 0, 5, 5, 9, np.nan)]), "annotations without a box of four finite numbers are left out: 1"),
    ],
)
def test_a_training_split_without_objects_is_refused_with_the_reason(raw: RawSplit, words: str) -> None:
    _, report = check(raw)
    assert words in report.refusals()[0]
    assert report.refusals()[0].startswith("no image has an object that can be learned: ")
    _, report = check(raw, is_training=False)
    assert not any(finding.action == "refused" for finding in report.findings)


def test_what_the_reader_refused_is_not_told_again() -> None:
    raw = raw_split([(0, 0, *BOX[:3], np.nan)] * 2)
    report = report_of(raw)
    report.refuse("oriented_box", "boxes have five numbers", ["annotation 0", "annotation 1"])
    checked = check_annotations(raw, report, is_training=True)
    assert len(checked.labels) == 0
    assert report.refusals() == ["boxes have five numbers: 2 (annotation 0, annotation 1)"]


def test_what_follows_from_garbage_is_not_told_again() -> None:
    rows: list[Row] = [(0, 0, 20.0 * number, 20.0, 20.0 * number + 300.0, 400.0) for number in range(1, 21)]
    raw = raw_split([*rows, (0, 0, 700.0, 20.0, 800.0, 40.0)])
    report = report_of(raw)
    refuse_garbage(raw, report)
    check_annotations(raw, report, is_training=True)
    assert [finding.kind for finding in report.findings] == ["other_reading"]


def faulty_raw_split(seed: int) -> RawSplit:
    """A random split in which many annotations have some fault."""
    generator = np.random.default_rng(seed)
    raw = random_raw_split(seed, images=20, per_image=10.0)
    count = len(raw.labels)
    boxes_xywh, areas = raw.boxes_xywh.copy(), raw.areas.copy()
    for number, (first, last) in enumerate(pairwise(range(0, 9 * (count // 9) + 1, count // 9))):
        chosen = first + np.flatnonzero(generator.uniform(size=last - first) < 0.3)
        if number == 0:
            boxes_xywh[chosen, generator.integers(4)] = np.nan
        elif number == 1:
            boxes_xywh[chosen, :2] += boxes_xywh[chosen, 2:]
            boxes_xywh[chosen, 2:] *= -1
        elif number == 2:
            boxes_xywh[chosen, 2] = 0
        elif number == 3:
            boxes_xywh[chosen, 0] += 1200
        elif number == 4:
            boxes_xywh[chosen, 1] -= boxes_xywh[chosen, 3] / 2
        elif number in (5, 6):
            areas[chosen] = np.nan if number == 5 else 0.0
    copies = generator.integers(count, size=20)
    raw = replace(raw, boxes_xywh=boxes_xywh, areas=areas)
    return reorder(raw, generator.permutation(np.concatenate([np.arange(count), copies])))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("is_training", [True, False])
def test_a_sound_split_passes_untouched(seed: int, is_training: bool) -> None:
    raw = random_raw_split(seed)
    checked, report = check(raw, is_training)
    assert checked is raw
    assert report.findings == []


@pytest.mark.parametrize("seed", range(5))
def test_a_checked_split_is_sound(seed: int) -> None:
    checked, report = check(faulty_raw_split(seed))
    assert len(report.findings) >= 7
    assert np.isfinite(checked.boxes_xywh).all()
    assert (checked.boxes_xywh[:, 2:] > 0).all()
    assert (checked.areas > 0).all()
    again, second = check(checked)
    assert again is checked
    assert {finding.kind for finding in second.findings} <= {"box_beyond_image"}  # they keep their values
    split = split_of(checked)
    assert len(split.images.labels) == (~split.ground_truth.is_crowd).sum()


@pytest.mark.parametrize("seed", range(5))
def test_the_order_of_the_annotations_does_not_matter(seed: int) -> None:
    raw = faulty_raw_split(seed)
    order = np.random.default_rng(100 + seed).permutation(len(raw.labels))

    def rows(checked: RawSplit) -> list[list[float]]:
        columns = [checked.image_index, checked.labels, checked.boxes_xywh, checked.areas, checked.is_crowd]
        return sorted(np.column_stack(columns).tolist())

    one, report = check(raw)
    other, shuffled = check(reorder(raw, order))
    assert rows(one) == rows(other)
    assert [(each.kind, each.count) for each in report.findings] == [
        (each.kind, each.count) for each in shuffled.findings
    ]


@pytest.mark.parametrize("seed", range(3))
def test_each_annotation_that_is_left_out_is_named_once(seed: int) -> None:
    raw = faulty_raw_split(seed)
    raw = replace(raw, origin=np.arange(len(raw.labels)))
    checked, report = check(raw)
    left_out = [entry for each in report.findings if "left out" in each.text for entry in each.entries]
    gone = set(range(len(raw.labels))) - set(checked.origin.tolist())
    assert sorted(left_out) == sorted(f"annotation {origin}" for origin in gone)
    assert report.skipped["annotation"] == sum(each.count for each in report.findings if each.action == "skipped")


@pytest.mark.parametrize("sizes", [[], [(640, 480)]])
def test_a_split_without_annotations_passes_in_evaluation(sizes: list[tuple[int, int]]) -> None:
    raw = raw_split([], sizes)
    checked, report = check(raw, is_training=False)
    assert checked is raw
    assert report.findings == []
