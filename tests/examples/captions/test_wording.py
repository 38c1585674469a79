"""The wording of captions: by hand, back from text to scene, and what is refused."""

import itertools

import pytest

from detr_lite.errors import DetrLiteError
from examples.captions.wording import (
    COLORS,
    END,
    MAX_WORDS,
    SHAPES,
    SIZES,
    VOCABULARY,
    Thing,
    parse,
    relation,
    text_of,
    text_of_tokens,
    tokens_of,
    words_of,
)

STAR = Thing("large", "red", "star")
RING = Thing("small", "blue", "ring")
DISC = Thing("small", "purple", "disc")
LEFT, RIGHT, BOTTOM = (10.0, 20.0, 50.0, 60.0), (90.0, 30.0, 110.0, 50.0), (90.0, 90.0, 110.0, 110.0)


def test_captions_by_hand():
    assert text_of(words_of([STAR, RING], [LEFT, RIGHT])) == "a large red star left of a small blue ring"
    assert text_of(words_of([STAR, RING], [RIGHT, LEFT])) == "a large red star right of a small blue ring"
    assert (
        text_of(words_of([STAR, RING, DISC], [LEFT, RIGHT, BOTTOM]))
        == "a large red star left of a small blue ring above a small purple disc"
    )
    assert text_of(words_of([STAR], [LEFT])) == "a large red star"
    assert text_of(words_of([], [])) == "nothing"


def test_each_word_knows_its_kind_and_its_objects():
    words = words_of([STAR, RING], [LEFT, RIGHT])
    kinds = ["article", "size", "color", "shape", "relation", "of", "article", "size", "color", "shape"]
    assert [word.kind for word in words] == kinds
    assert [word.about for word in words] == [(0,)] * 4 + [(0, 1)] * 2 + [(1,)] * 4
    assert words_of([], [])[0].about == ()


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ((90.0, 20.0, 110.0, 40.0), "left"),
        ((0.0, 20.0, 6.0, 40.0), "right"),
        ((10.0, 70.0, 50.0, 80.0), "above"),
        ((10.0, 0.0, 50.0, 16.0), "below"),
        ((90.0, 90.0, 130.0, 130.0), None),  # as far right as down
        ((51.0, 20.0, 60.0, 60.0), None),  # beside it, but nearly touching
        ((15.0, 25.0, 20.0, 30.0), None),  # within it
        (LEFT, None),
    ],
)
def test_relations_by_hand(second, expected):
    assert relation(LEFT, second) == expected


def test_a_relation_turns_over_with_its_objects():
    opposite = {"left": "right", "right": "left", "above": "below", "below": "above", None: None}
    for first, second in itertools.product((LEFT, RIGHT, BOTTOM, (40.0, 0.0, 60.0, 12.0)), repeat=2):
        assert relation(second, first) == opposite[relation(first, second)]


def test_ranks_order_all_things_strictly():
    things = [Thing(*names) for names in itertools.product(SIZES, COLORS, SHAPES)]
    assert len({thing.rank for thing in things}) == len(things)
    assert sorted(things, key=lambda thing: thing.rank) == things


def test_things_out_of_order_or_in_unclear_places_have_no_caption():
    with pytest.raises(ValueError, match="order"):
        words_of([RING, STAR], [LEFT, RIGHT])
    with pytest.raises(ValueError, match="clear"):
        words_of([STAR, RING], [LEFT, LEFT])


def test_tokens_are_words_and_back():
    words = words_of([STAR, RING, DISC], [LEFT, RIGHT, BOTTOM])
    assert len(set(VOCABULARY)) == len(VOCABULARY)
    assert text_of_tokens([*tokens_of(words), END, 7, 8]) == text_of(words)
    assert text_of_tokens([]) == ""
    assert len(words_of([STAR, RING, DISC], [LEFT, RIGHT, LEFT])) == MAX_WORDS


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a large red",
        "large red star",
        "a red large star",
        "a large red star left",
        "a large red star left a small blue ring",
        "a large red star above of a small blue ring",
        "a large red star near a small blue ring",
        "a small blue ring left of a large red star",
        "a large red star left of a large red star",
        "nothing nothing",
        "a large red star left of nothing",
    ],
)
def test_other_text_is_no_caption(text):
    with pytest.raises(DetrLiteError, match="is not a caption"):
        parse(text)
