"""Classes matched by name: equal names first, then similar ones, then synonyms."""

import pytest

from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.data.name_matching import match_names, other_names
from detr_lite.data.synonyms import SYNONYMS, first_synonym, simplify

VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
OPEN_IMAGES = {
    "Cattle": "cow",
    "Computer keyboard": "keyboard",
    "Computer mouse": "mouse",
    "Couch": "couch",
    "Doughnut": "donut",
    "Flying disc": "frisbee",
    "Hair dryer": "hair drier",
    "Houseplant": "potted plant",
    "Kitchen & dining room table": "dining table",
    "Microwave oven": "microwave",
    "Mobile phone": "cell phone",
    "Remote control": "remote",
    "Ski": "skis",
    "Television": "tv",
    "Traffic light": "traffic light",
}


@pytest.mark.parametrize(
    ("source", "target", "expected"),
    [
        ([], ["a"], {}),
        (["a"], [], {}),
        (["a", "b"], ["b", "a"], {0: 1, 1: 0}),
        (["Cat", "cat"], ["cat", "CAT"], {0: 1, 1: 0}),  # equal names first
        (["cat"], ["Cat", "cat"], {1: 0}),  # each is used once
        (["cat", "cat"], ["cat", "cat"], {0: 0, 1: 1}),
        (["STRASSE"], ["straße"], {0: 0}),
        (["hot dog"], ["Hot-Dog"], {0: 0}),
        (["hot_dog", "hotdog"], ["HOT_DOG"], {0: 0}),  # ignoring case alone is closer
        (["hot_dog", "hotdog"], ["hot dog"], {}),  # which of the two is unknown
        (["hot dog"], ["hot_dog", "hotdog"], {}),
        (["couch"], ["Sofa"], {0: 0}),
        (["couch"], ["sofa", "couch"], {1: 0}),
        (["tv", "laptop"], ["television", "tv monitor"], {}),
        (["size 1-2"], ["size 12"], {}),
        (["size 1-2"], ["Size_1 - 2"], {0: 0}),
        (["-"], ["_"], {}),  # nothing is left of them
        (["man"], ["person"], {}),
    ],
)
def test_match_names(source, target, expected):
    assert match_names(source, target) == expected


def test_names_of_voc_and_open_images_are_found_among_those_of_coco():
    coco = list(COCO_NAMES.values())
    matched = match_names(coco, VOC)
    assert sorted(matched) == list(range(len(VOC)))
    assert other_names(coco, VOC, matched) == [
        *("aeroplane as airplane", "diningtable as dining table", "motorbike as motorcycle"),
        *("pottedplant as potted plant", "sofa as couch", "tvmonitor as tv"),
    ]
    names = list(OPEN_IMAGES)
    assert {names[index]: coco[row] for index, row in match_names(coco, names).items()} == OPEN_IMAGES


def test_a_name_is_in_the_table_once_and_no_two_classes_of_coco_are_synonyms():
    simple = [simplify(name) for names in SYNONYMS for name in names]
    assert len({*simple}) == len(simple)
    assert len({first_synonym(name) for name in COCO_NAMES.values()}) == len(COCO_NAMES)
    assert all(names[0] in COCO_NAMES.values() for names in SYNONYMS)
