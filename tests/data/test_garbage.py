"""Datasets that are wrong as a whole are refused for the true reason, and honest ones of many kinds are not."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from detr_lite.data.checks.garbage import REFUSED, find_relative_boxes, is_garbage, refuse_garbage
from detr_lite.data.records import RawSplit
from detr_lite.data.report import Finding
from tests.helpers.raw_splits import random_raw_split, raw_split, report_of

Array = np.ndarray


def findings_of(raw: RawSplit) -> list[Finding]:
    report = report_of(raw)
    refuse_garbage(raw, report)
    assert is_garbage(report) == any(finding.action == "refused" for finding in report.findings)
    assert all(finding.kind in REFUSED for finding in report.findings if finding.action == "refused")
    return report.findings


def rewritten(raw: RawSplit, write: Callable[[Array, Array], Array]) -> RawSplit:
    """The split with boxes written in another way: from corners (x1, y1, x2, y2) and the sizes of their images."""
    xyxy = np.concatenate([raw.boxes_xywh[:, :2], raw.boxes_xywh[:, :2] + raw.boxes_xywh[:, 2:]], axis=1)
    return replace(raw, boxes_xywh=write(xyxy, raw.sizes_wh[raw.image_index]))


def as_corners(xyxy: Array, _: Array) -> Array:
    return xyxy


def as_yx_corners(xyxy: Array, _: Array) -> Array:
    return xyxy[:, [1, 0, 3, 2]]


def as_centers(xyxy: Array, _: Array) -> Array:
    return np.concatenate([(xyxy[:, :2] + xyxy[:, 2:]) / 2, xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def as_transposed(xyxy: Array, _: Array) -> Array:
    return np.concatenate([xyxy[:, [1, 0]], (xyxy[:, 2:] - xyxy[:, :2])[:, ::-1]], axis=1)


def as_negated(xyxy: Array, _: Array) -> Array:
    return np.concatenate([xyxy[:, :2], xyxy[:, :2] - xyxy[:, 2:]], axis=1)


def as_relative(xyxy: Array, sizes_wh: Array) -> Array:
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1) / np.tile(sizes_wh, 2)


def as_yolo(xyxy: Array, sizes_wh: Array) -> Array:
    return as_centers(xyxy, sizes_wh) / np.tile(sizes_wh, 2)


def as_percent(xyxy: Array, sizes_wh: Array) -> Array:
    return 100 * as_relative(xyxy, sizes_wh)


def as_thousandths(xyxy: Array, sizes_wh: Array) -> Array:
    return 1000 * as_relative(xyxy, sizes_wh)


def for_larger_images(xyxy: Array, sizes_wh: Array) -> Array:
    return 2.4 * as_relative(xyxy, sizes_wh) * np.tile(sizes_wh, 2)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("write", "kind", "words"),
    [
        (as_corners, "other_reading", "two corners [x1, y1, x2, y2]; write [x1, y1, x2 - x1, y2 - y1]"),
        (as_yx_corners, "other_reading", "two corners [y1, x1, y2, x2]"),
        (as_centers, "other_reading", "center and size"),
        (as_transposed, "other_reading", "[y, x, height, width]"),
        (as_negated, "other_reading", "all widths and heights are negative"),
        (as_relative, "relative_boxes", "lie between 0 and 1"),
        (as_yolo, "relative_boxes", "besides, they look like center and size"),
        (as_percent, "scaled_boxes", "percent of the image; multiply x and width by the image's width / 100"),
        (for_larger_images, "other_reading", "perhaps of larger ones"),
    ],
)
def test_garbage_is_refused_for_what_it_is(
    write: Callable[[Array, Array], Array], kind: str, words: str, seed: int
) -> None:
    sound = random_raw_split(seed, images=40)
    assert findings_of(sound) == []
    (finding,) = findings_of(rewritten(sound, write))
    assert (finding.action, finding.kind) == ("refused", kind)
    assert words in finding.text


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (2000, 3000), (640, 480)])
def test_thousandths_of_images_of_any_size_are_refused(width: int, height: int) -> None:
    sound = random_raw_split(1, images=60)
    sound = rewritten(sound, lambda xyxy, sizes: as_relative(xyxy, sizes) * (width, height, width, height))
    sound = replace(sound, sizes_wh=np.full_like(sound.sizes_wh, (width, height)))
    assert findings_of(sound) == []
    (finding,) = findings_of(rewritten(sound, as_thousandths))
    assert "thousandths" in finding.text


def test_boxes_in_0_to_1_need_no_statistics() -> None:
    (finding,) = findings_of(raw_split([(0, 0, 0.25, 0.5, 0.125, 0.25)]))
    assert finding.text.startswith("all 1 boxes lie between 0 and 1: they are relative to the image; multiply")


def test_few_relative_boxes_among_others_are_not_refused_but_found() -> None:
    rows = [(0, 0, 10.0 * place, 5.0, 8.0, 8.0) for place in range(9)]
    raw = raw_split([*rows, (0, 1, 0.25, 0.5, 0.125, 0.25)])
    assert findings_of(raw) == []
    assert find_relative_boxes(raw).nonzero()[0].tolist() == [9]


def test_a_box_that_covers_an_image_of_one_pixel_is_not_relative() -> None:
    assert findings_of(raw_split([(0, 0, 0, 0, 1, 1)], sizes_wh=[(1, 1)])) == []


def test_the_same_boxes_in_all_images_are_refused() -> None:
    rows = [(image, 0, 12.5, 30.0, 100.0, 80.0) for image in range(12)]
    sizes = [(640, 480)] * 12
    (finding,) = findings_of(raw_split(rows, sizes))
    assert finding.kind == "same_boxes"
    assert finding.text.startswith(
        "all images are annotated alike, to the last digit (12 boxes; the first is [12.5, 30"
    )
    two_objects = rows + [(image, 1, 300.0, 200.0, 50.0, 60.0) for image in range(12)]
    (finding,) = findings_of(raw_split(two_objects, sizes))
    assert finding.kind == "same_boxes"
    two_classes = rows + [(image, 1 + image % 2, 12.5, 30.0, 100.0, 80.0) for image in range(12)]
    (finding,) = findings_of(raw_split(two_classes, sizes))
    assert finding.kind == "same_boxes"
    relative = [
        (image, 0, 10.0 * side, 20.0 * side, 30.0 * side, 40.0 * side) for image, side in enumerate(range(1, 13))
    ]
    (finding,) = findings_of(raw_split(relative, [(100 * side, 100 * side) for side in range(1, 13)]))
    assert finding.kind == "same_boxes"


def test_a_gauge_before_a_fixed_camera_is_honest() -> None:
    sizes = [(640, 480)] * 12
    spaces = [(image, image % 3 % 2, 100.0 * place, 30.0, 90.0, 80.0) for image in range(12) for place in range(5)]
    assert findings_of(raw_split(spaces, sizes)) == []
    assert findings_of(raw_split([(image, image % 2, 12.5, 30.0, 100.0, 80.0) for image in range(12)], sizes)) == []
    by_hand = [(image, 0, 100.0 + image % 3, 50.0 - image % 2, 400.0, 300.0 + image % 4) for image in range(12)]
    assert findings_of(raw_split(by_hand, sizes)) == []
    assert findings_of(raw_split([(image, 0, 12.5, 30.0, 100.0, 80.0) for image in range(9)], sizes)) == []


def test_boxes_without_a_place_are_refused() -> None:
    rows = [(image, 0, 0.0, 0.0, 30.0 + image, 20.0) for image in range(12)]
    (finding,) = findings_of(raw_split(rows, [(640, 480)] * 12))
    assert finding.kind == "boxes_at_origin"


def test_boxes_of_whole_images_are_noted() -> None:
    sizes = [(100 + 10 * image, 200) for image in range(12)]
    rows = [(image, 0, 0.0, 0.0, *size) for image, size in enumerate(sizes)]
    (finding,) = findings_of(raw_split(rows, sizes))
    assert (finding.kind, finding.action) == ("full_frame", "noted")


def test_boxes_in_the_upper_left_and_a_class_for_each_object_are_noted() -> None:
    rows = [(place, place, 2.0 * place, place, 20.0, 20.0) for place in range(60)]
    found = findings_of(raw_split(rows, [(640, 480)] * 60, [f"class {place}" for place in range(60)]))
    assert [(finding.kind, finding.action) for finding in found] == [("upper_left", "noted"), ("own_classes", "noted")]
    assert "the left 22% and the upper 16% of their images" in found[0].text


def honest(kind: str, generator: np.random.Generator) -> RawSplit:
    """A dataset of one of the kinds that a rule could take for a faulty one."""
    images, per_image = int(generator.choice([1, 3, 8, 20, 60])), int(generator.integers(1, 15))
    if kind in ("centered", "standing"):
        per_image = 1
    image_index = np.repeat(np.arange(images), per_image)
    if generator.uniform() < 0.5:
        sizes_wh = generator.integers(100, 2000, size=(images, 2))
    else:
        sizes_wh = np.tile(generator.integers(100, 2000, size=2), (images, 1))
    limits = sizes_wh[image_index].astype(np.float64)
    shape = limits.shape
    low, high = {"aerial": (0.01, 0.03), "tall": (0.3, 0.95)}.get(kind, (0.05, 0.5))
    boxes_wh = limits * generator.uniform(low, high, size=shape)
    if kind == "tall":
        boxes_wh[:, 0] *= 0.2
    corner = (limits - boxes_wh) * generator.uniform(size=shape)
    if kind == "centered":
        corner = (limits - boxes_wh) / 2
    elif kind == "amodal":
        corner = limits * generator.uniform(size=shape) - boxes_wh / 2
    elif kind == "sloppy":
        corner += generator.normal(0, 8, size=shape)
    elif kind == "standing":  # a person before a camera: on the lower border, often drawn too far
        corner = np.stack([corner[:, 0], limits[:, 1] - boxes_wh[:, 1] + generator.normal(0, 5, len(limits))], axis=1)
    elif kind == "upper left":
        corner /= 2
    labels = generator.integers(3, size=(len(limits), 1))
    rows = np.concatenate([image_index[:, None], labels, corner, boxes_wh], axis=1)
    return raw_split([tuple(row) for row in rows], [(int(width), int(height)) for width, height in sizes_wh])


@pytest.mark.parametrize("kind", ["any", "centered", "aerial", "tall", "amodal", "sloppy", "standing", "upper left"])
def test_honest_datasets_are_not_refused(kind: str) -> None:
    for seed in range(40):
        findings = findings_of(honest(kind, np.random.default_rng(seed)))
        assert [finding for finding in findings if finding.action == "refused"] == [], seed


@pytest.mark.parametrize("write", [as_corners, as_centers, as_transposed, as_negated, for_larger_images])
def test_fewer_than_five_objects_are_not_judged(write: Callable[[Array, Array], Array]) -> None:
    raw = random_raw_split(3, images=4, per_image=2.0)
    raw = raw.keep_annotations(np.arange(len(raw.labels)) < 4)
    assert findings_of(rewritten(raw, write)) == []


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e308, -1e308, 0.0])
@pytest.mark.filterwarnings("error")
def test_boxes_that_say_nothing_are_not_judged(value: float) -> None:
    raw = random_raw_split(2)
    raw.boxes_xywh[:5] = value
    assert findings_of(raw) == []
    raw.boxes_xywh[:] = value
    assert findings_of(raw) == []


@pytest.mark.parametrize("sizes", [[], [(640, 480)]])
def test_a_split_without_objects_passes(sizes: list[tuple[int, int]]) -> None:
    assert findings_of(raw_split([], sizes)) == []
