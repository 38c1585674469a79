"""Drawn scenes: their captions, boxes and colors agree with the pixels."""

import colorsys
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest

from examples.captions.scenes import EXTENTS, HUES, SIDE, draw, sample
from examples.captions.wording import COLORS, SHAPES, SIZES, parse, text_of, words_of


@pytest.fixture(scope="module")
def scenes():
    """(things, scene) of many random numbers."""
    return [sample(np.random.default_rng([7, index])) for index in range(400)]


@pytest.fixture(scope="module")
def drawn():
    return [draw(1, "val", index) for index in range(60)]


def test_a_scene_can_be_drawn_again(drawn):
    again = draw(1, "val", 5)
    assert np.array_equal(again.pixels, drawn[5].pixels)
    assert again.words == drawn[5].words
    others = (draw(1, "train", 5), draw(2, "val", 5), draw(1, "val", 6))
    assert all(not np.array_equal(again.pixels, other.pixels) for other in others)


def test_captions_say_what_is_there(scenes):
    """Parsed back and compared with the centers of the shapes, found in another way than in the wording."""
    for things, scene in scenes:
        parsed = parse(text_of(caption_of(things, scene)))
        assert parsed.things == tuple(things)
        centers = [center_of(shape.stamp) for shape in scene.objects]
        for place, ((x, y), (next_x, next_y)) in zip(parsed.relations, pairwise(centers), strict=True):
            assert {"left": x < next_x, "right": x > next_x, "above": y < next_y, "below": y > next_y}[place]


def caption_of(things, scene):
    boxes = [(x, y, x + width, y + height) for x, y, width, height in (shape.box_xywh for shape in scene.objects)]
    return words_of(things, boxes)


def center_of(stamp):
    rows, columns = np.nonzero(stamp.mask)
    return columns.mean() + stamp.left, rows.mean() + stamp.top


def test_scenes_have_all_counts_words_and_relations(scenes):
    counts = Counter(len(things) for things, _ in scenes)
    assert set(counts) == {0, 1, 2, 3}
    words = Counter(word.text for things, scene in scenes for word in caption_of(things, scene))
    assert {*SIZES, *COLORS, *SHAPES, "left", "right", "above", "below", "nothing"} <= set(words)
    # No relation can be told from the words before it.
    places = [words[place] for place in ("left", "right", "above", "below")]
    assert max(places) < 1.5 * min(places)


def test_objects_are_whole_and_apart(scenes):
    for _, scene in scenes:
        taken = np.zeros((SIDE, SIDE), int)
        for shape in scene.objects:
            taken[shape.stamp.region] += shape.stamp.alpha > 0  # an IndexError or another shape outside the image
        assert taken.max(initial=0) <= 1


def test_sizes_are_far_apart(scenes):
    for things, scene in scenes:
        for thing, shape in zip(things, scene.objects, strict=True):
            low, high = EXTENTS[thing.size]
            assert low <= max(shape.box_xywh[2:]) <= high
    assert EXTENTS["large"][0] > 1.5 * EXTENTS["small"][1]


def test_colors_are_seen_in_the_pixels(drawn):
    """The hue of the mean pixel within an object's own mask is nearest to that of its color's name."""
    for index, captioned in enumerate(drawn):
        things, scene = sample(np.random.default_rng([1, 1, index]))  # the same numbers as in `draw`
        for thing, shape in zip(things, scene.objects, strict=True):
            region = captioned.pixels[shape.stamp.region]
            mean = region[shape.stamp.mask].mean(axis=0) / 255
            hue = 360 * colorsys.rgb_to_hsv(*mean)[0]
            away = {name: min(abs(hue - center), 360 - abs(hue - center)) for name, center in HUES.items()}
            assert min(away, key=lambda name: away[name]) == thing.color


def test_an_empty_scene_is_called_nothing(drawn):
    empty = [captioned for captioned in drawn if not captioned.boxes]
    assert empty
    assert {text_of(captioned.words) for captioned in empty} == {"nothing"}
