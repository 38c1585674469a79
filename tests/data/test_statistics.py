"""Statistics of a split, beside plain counting, and the table made of them."""

import json
from collections import Counter

import numpy as np
import pytest

from detr_lite.data.analysis.statistics import PERCENTILES, ClassCount, ImageSizes, split_statistics
from tests.helpers.raw_splits import random_raw_split, raw_split, split_of


def test_counts_of_a_small_split() -> None:
    rows = [(0, 0, 0, 0, 20, 10), (0, 0, 50, 50, 32, 32), (0, 2, 90, 90, 40, 40), (2, 0, 0, 0, 100, 400)]
    raw = raw_split(rows, sizes_wh=((100, 100), (50, 60), (100, 400)), areas=(90.0, 1024.0, 1600.0, 40000.0), crowd=[2])

    found = split_statistics(split_of(raw))

    assert (found.images, found.empty_images, found.objects, found.crowd_regions) == (3, 1, 3, 1)
    assert found.classes == (ClassCount("cell", 3, 2), ClassCount("bolt", 0, 0), ClassCount("tree", 0, 0))
    assert (found.small, found.medium, found.large) == (1, 1, 1)
    assert found.box_sizes["max"] == 200.0
    assert found.relative_box_sizes["max"] == 1.0
    assert found.aspect_ratios["min"] == 0.25
    assert found.aspect_ratios["max"] == 2.0
    assert found.objects_per_image["max"] == 2.0
    assert found.mean_objects_per_image == 1.0
    assert found.image_sizes == ImageSizes(3, (50, 60), 1, (50, 60), (100, 400))


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_a_loop_over_records(seed: int) -> None:
    split = split_of(random_raw_split(seed, classes=5))

    found = split_statistics(split)

    labels = Counter(int(label) for image in split.images for label in image.labels)
    images = Counter(label for image in split.images for label in set(image.labels.tolist()))
    assert [each.objects for each in found.classes] == [labels[label] for label in range(5)]
    assert [each.images for each in found.classes] == [images[label] for label in range(5)]
    shares = [
        ((x2 - x1) * (y2 - y1) / (image.width * image.height)) ** 0.5
        for image in split.images
        for x1, y1, x2, y2 in image.boxes_xyxy.tolist()
    ]
    expected = np.percentile(shares, list(PERCENTILES.values()))
    np.testing.assert_allclose(list(found.relative_box_sizes.values()), expected, rtol=1e-6)
    assert found.small + found.medium + found.large == found.objects


def test_an_empty_split_has_statistics_too() -> None:
    for sizes in ([], [(40, 30)]):
        found = split_statistics(split_of(raw_split([], sizes_wh=sizes)))
        assert (found.images, found.objects, found.empty_images) == (len(sizes), 0, len(sizes))
        assert found.box_sizes == {}
        assert found.table()
        json.dumps(found.to_dict(), allow_nan=False)


def test_they_can_be_written_as_json() -> None:
    found = split_statistics(split_of(random_raw_split(0)))
    content = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert content["classes"][0] == {
        "name": "class 0", "objects": found.classes[0].objects, "images": found.classes[0].images,
    }  # fmt: skip
    assert content["box_sizes"]["median"] == found.box_sizes["median"]


def test_the_table_is_aligned_and_begins_with_the_most_frequent_class() -> None:
    rows = [(0, 1, 5.0 * place, 0.0, 4.0, 8.0) for place in range(20)] + [(0, 2, 0.0, 50.0, 300.0, 300.0)]
    lines = split_statistics(split_of(raw_split(rows))).table()

    start = lines.index("class  objects  share  images")
    assert lines[start + 1 :] == [
        "bolt        20  95.2%       1",
        "tree         1   4.8%       1",
        "cell         0   0.0%       0",
    ]
    distributions = lines[start - 6 : start - 1]
    assert len({len(line) for line in distributions}) == 1
    assert "small 20 (95%), medium 0 (0%), large 1 (5%)" in lines[5]


def test_a_long_list_of_classes_is_cut_and_names_cannot_steer_a_terminal() -> None:
    classes = ["\x1b[2Jred", *(f"class {number}" for number in range(99))]
    rows = [(0, label, 0, 0, 10, 10) for label in range(100)]
    lines = split_statistics(split_of(raw_split(rows, classes=classes))).table(max_classes=10)

    assert lines[-1] == "and 90 more classes with 90 objects"
    assert any(line.startswith("\\x1b[2Jred") for line in lines)
