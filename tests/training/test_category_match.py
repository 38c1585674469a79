"""Which of a dataset's categories a model knows, and what is said of the others."""

from dataclasses import replace

import numpy as np
import pytest

from detr_lite.data.reading import read_split
from detr_lite.structures import Category, DetrLiteError
from detr_lite.training.category_match import in_model_categories, match_categories


@pytest.fixture
def data(tiny_data):
    return read_split(tiny_data, "val")


def categories_of(*names):
    return [Category(index, name) for index, name in enumerate(names)]


def renamed(data, **names):
    return replace(data, categories=tuple(Category(each.id, names[each.name.split()[0]]) for each in data.categories))


def test_labels_are_joined_by_name(data):
    match = match_categories(categories_of("green thing", "purple thing", "red thing", "blue thing"), data)
    assert [label if label < 0 else data.categories[label].id for label in match.new_labels] == [90, -1, 7, 3]
    assert match.lines == ()


def test_objects_of_unknown_categories_are_refused_for_a_checkpoint(data):
    expected = (
        r"instances_val\.json: has objects of green thing, for which the model was not trained; it knows purple thing, "
        "red thing, blue thing"
    )
    with pytest.raises(DetrLiteError, match=expected):
        match_categories(categories_of("purple thing", "red thing", "blue thing"), data)


def test_other_names_of_the_same_category_are_said(data):
    data = renamed(data, red="Sofa", blue="Blue_Thing", green="tvmonitor")
    match = match_categories(categories_of("tv", "blue thing", "couch"), data)
    assert sorted(match.new_labels) == [0, 1, 2]
    (line,) = match.lines
    assert line.startswith("categories matched under other names: ")
    assert {*line.split(": ")[1].split(", ")} == {"Sofa as couch", "Blue_Thing as blue thing", "tvmonitor as tv"}


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (
            ("red thing", "blue thing"),
            "1 of 3 categories is unknown to the model, green thing: its 1 object counts as missed",
        ),
        (
            ("green thing",),
            "2 of 3 categories are unknown to the model, blue thing and red thing: their 4 objects count as missed",
        ),
    ],
)
def test_objects_that_count_as_missed_are_counted(data, known, line):
    assert match_categories(categories_of(*known), data, allow_unknown=True).lines == (line,)


def test_a_model_that_knows_none_is_refused(data):
    expected = r"the model knows none of its categories \(blue thing, red thing, green thing\); it knows cat, dog; "
    with pytest.raises(DetrLiteError, match=expected):
        match_categories(categories_of("cat", "dog"), data, allow_unknown=True)


def test_objects_under_the_labels_of_the_model(data):
    data = renamed(data, red="sofa", blue="blue thing", green="green thing")
    categories = categories_of("cat", "couch", "green thing")
    match = match_categories(categories, data, allow_unknown=True)
    own = in_model_categories(data, categories, match)
    assert own.categories == tuple(categories)
    name_of = {"sofa": "couch", "green thing": "green thing"}
    expected = [
        [name_of[data.categories[label].name] for label in image.labels if data.categories[label].name in name_of]
        for image in data.images
    ]
    assert [[own.categories[label].name for label in image.labels] for image in own.images] == expected
    kept = np.isin([data.categories[label].name for label in data.ground_truth.labels], list(name_of))
    assert np.array_equal(own.ground_truth.boxes_xywh, data.ground_truth.boxes_xywh[kept])
    assert np.array_equal(own.origin, data.origin[kept])
