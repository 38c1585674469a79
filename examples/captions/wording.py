"""The one caption of a scene, and what each of its words is about.

    caption  = "nothing" | object (relation object)*
    object   = "a" size color shape
    relation = "left of" | "right of" | "above" | "below"

Large objects are named before small ones, then by color and shape in the order of the lists below, so that the order
says nothing about places. A relation is that of the object before it to the object after it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from detr_lite.data.synthetic.shapes import CATEGORY_IDS
from detr_lite.errors import DetrLiteError

SIZES = ("large", "small")
COLORS = ("red", "orange", "yellow", "green", "blue", "purple")
SHAPES = tuple(CATEGORY_IDS)
RELATIONS = ("left", "right", "above", "below")
VOCABULARY = ("<end>", "nothing", "a", "of", *SIZES, *COLORS, *SHAPES, *RELATIONS)
"""A word's token is its place in this list. <end> also starts a caption."""
END = 0
MAX_WORDS = 16
"""Of the longest caption, three objects with two relations of two words each."""

CLEAR = 1.5
"""A relation is clear if the larger of the two offsets is at least so many times the other."""
GAP = 3
"""Pixels that are at least between two objects of a relation, along its axis."""

Kind = Literal["article", "size", "color", "shape", "relation", "of", "nothing"]
Box = tuple[float, float, float, float]
"""(left, top, right, bottom) in pixels."""


@dataclass(frozen=True)
class Thing:
    """An object as the caption describes it."""

    size: str
    color: str
    shape: str

    @property
    def rank(self) -> tuple[int, int, int]:
        """The place in the order in which objects are named."""
        return SIZES.index(self.size), COLORS.index(self.color), SHAPES.index(self.shape)


@dataclass(frozen=True)
class Word:
    text: str
    kind: Kind
    about: tuple[int, ...] = ()
    """The objects that it is about, in the order of the caption: one, of a relation both, of "nothing" none."""


@dataclass(frozen=True)
class Parsed:
    """What a caption says."""

    things: tuple[Thing, ...]
    relations: tuple[str, ...]
    """Of each thing to the next one."""


def relation(first: Box, second: Box) -> str | None:
    """Where the first object is, seen from the second; None where that could be called otherwise."""
    dx, dy = ((second[side] + second[side + 2] - first[side] - first[side + 2]) / 2 for side in (0, 1))
    axis = 0 if abs(dx) > abs(dy) else 1
    near, far = sorted((abs(dx), abs(dy)))
    before, after = (first, second) if (dx, dy)[axis] > 0 else (second, first)
    if far < CLEAR * near or after[axis] - before[axis + 2] < GAP:
        return None
    return RELATIONS[2 * axis + (before is second)]


def words_of(things: Sequence[Thing], boxes: Sequence[Box]) -> list[Word]:
    """The caption of objects that are in the order in which they are named, with a clear relation of each to the next.

    Errors: another order, or a relation that is not clear.
    """
    if not things:
        return [Word("nothing", "nothing")]
    words: list[Word] = []
    for index, thing in enumerate(things):
        if index:
            place = relation(boxes[index - 1], boxes[index])
            if place is None or things[index - 1].rank >= thing.rank:
                raise ValueError(f"objects {index - 1} and {index} have no clear relation or are not in order")
            both = (index - 1, index)
            words.append(Word(place, "relation", both))
            words += [Word("of", "of", both)] * (place in ("left", "right"))
        words.append(Word("a", "article", (index,)))
        words += [Word(thing.size, "size", (index,)), Word(thing.color, "color", (index,))]
        words.append(Word(thing.shape, "shape", (index,)))
    return words


def text_of(words: Sequence[Word]) -> str:
    return " ".join(word.text for word in words)


def parse(text: str) -> Parsed:
    """What a caption says.

    Raises `DetrLiteError` for what is not a caption.
    """
    rest = text.split()
    if rest == ["nothing"]:
        return Parsed((), ())
    things, relations = [], []
    while True:
        if len(rest) < 4 or rest[0] != "a" or not (rest[1] in SIZES and rest[2] in COLORS and rest[3] in SHAPES):
            raise DetrLiteError(f'"{text}" is not a caption: an object is "a", a size, a color and a shape')
        things.append(Thing(*rest[1:4]))
        if not rest[4:]:
            break
        place, rest = rest[4], rest[5:]
        if place not in RELATIONS or (place in ("left", "right")) != (rest[:1] == ["of"]):
            raise DetrLiteError(
                f'"{text}" is not a caption: between objects stands "left of", "right of", "above" or "below"'
            )
        relations.append(place)
        rest = rest[place in ("left", "right") :]
    if [thing.rank for thing in things] != sorted({thing.rank for thing in things}):
        raise DetrLiteError(f'"{text}" is not a caption: its objects are not in the order of size, color and shape')
    return Parsed(tuple(things), tuple(relations))


def tokens_of(words: Sequence[Word]) -> list[int]:
    return [VOCABULARY.index(word.text) for word in words]


def text_of_tokens(tokens: Sequence[int]) -> str:
    """Up to <end>."""
    until = list(tokens).index(END) if END in tokens else len(tokens)
    return " ".join(VOCABULARY[token] for token in tokens[:until])
