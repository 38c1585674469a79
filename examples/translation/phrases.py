"""Parts of sentences in both languages: persons, things with what stands before them, numbers, places."""

import random
from dataclasses import dataclass

from examples.translation.lexicon import (
    COLORS,
    NOUNS,
    ONES,
    PRONOUNS,
    RELATIVES,
    TEENS,
    TENS,
    UNITS,
    Noun,
)


@dataclass(frozen=True, eq=False)
class Piece:
    """Chinese characters at one place of a sentence."""

    chinese: str


Words = tuple[tuple[str, tuple[Piece, ...]], ...]
"""English words, each with what it comes from."""


@dataclass(frozen=True)
class Phrase:
    """What fills a slot."""

    pieces: tuple[Piece, ...]
    words: Words
    object_words: Words | None = None
    """If they differ."""
    person: str = "third"
    noun: Noun | None = None


def words(english: str, *pieces: Piece) -> Words:
    return tuple((word, pieces) for word in english.split())


def place_phrase(before: str, chinese: str, after: str, preposition: str, english: str) -> Phrase:
    first, noun, last = Piece(before), Piece(chinese), Piece(after)
    pieces = tuple(piece for piece in (first, noun, last) if piece.chinese)
    return Phrase(pieces, words(preposition, first if before else last) + words(english, noun))


def person_phrase(draw: random.Random) -> Phrase:
    kind = draw.random()
    if kind < 0.55:
        pronoun = draw.choice(PRONOUNS)
        piece = Piece(pronoun.chinese)
        return Phrase((piece,), words(pronoun.subject, piece), words(pronoun.object, piece), pronoun.person)
    if kind < 0.8:
        return _relative(draw)
    return _noun_phrase(
        draw, draw.choice([noun for noun in NOUNS if noun.kind == "person"]), ("this", "these", "possessive")
    )


def _relative(draw: random.Random) -> Phrase:
    """我的妹妹, "my sister"."""
    owner, relative = _possessive(draw), Piece(draw.choice(list(RELATIVES)))
    return Phrase((*owner.pieces, relative), owner.words + words(RELATIVES[relative.chinese], relative))


def _possessive(draw: random.Random) -> Phrase:
    pronoun = draw.choice(PRONOUNS)
    pieces = (Piece(pronoun.chinese), Piece("的"))
    return Phrase(pieces, words(pronoun.possessive, *pieces))


def any_phrase(draw: random.Random, kinds: frozenset[str], determiners: tuple[str, ...] = ()) -> Phrase:
    """Something of these kinds: among persons half the time one that is no noun of the table."""
    noun = draw.choice([noun for noun in NOUNS if noun.kind in kinds])
    if noun.kind == "person" and draw.random() < 0.5:
        return person_phrase(draw)
    if noun.kind == "game":
        return _noun_phrase(draw, noun, ("bare",))
    return _noun_phrase(
        draw, noun, determiners or ("bare", "possessive", "possessor", "number", "number", "this", "these")
    )


def _noun_phrase(draw: random.Random, noun: Noun, determiners: tuple[str, ...]) -> Phrase:
    """A noun with what stands before it; without anything it means all of its kind."""
    determiner = draw.choice([each for each in determiners if noun.kind != "drink" or each != "these"])
    piece, measure = Piece(noun.chinese), Piece(noun.measure)
    color = draw.choice(list(COLORS)) if draw.random() < 0.25 and noun.kind in _COLORED else ""
    colored = (Piece(color),) if color else ()
    adjective = words(COLORS[color], *colored) if color else ()
    many = adjective + words(noun.plural, piece)
    one = adjective + words(noun.singular, piece)
    end = (*colored, piece)
    if determiner == "bare":
        return Phrase(end, many, person="third" if noun.kind in ("drink", "game") else "plural", noun=noun)
    if determiner == "possessive":
        owner = _possessive(draw)
        return Phrase((*owner.pieces, *end), owner.words + one, noun=noun)
    if determiner == "possessor":
        relative, of = _relative(draw), Piece("的")
        return Phrase((*relative.pieces, of, *end), relative.words + words("'s", of) + one, noun=noun)
    if determiner == "this":
        this = Piece(draw.choice(list(_THIS)))
        if noun.kind == "drink":
            one = words("cup", measure) + words("of") + one
        return Phrase((this, measure, *end), words(_THIS[this.chinese], this) + one, noun=noun)
    if determiner == "these":
        these = Piece(draw.choice(list(_THESE)))
        return Phrase((these, *end), words(_THESE[these.chinese], these) + many, person="plural", noun=noun)
    value = draw.choice([1, draw.randint(2, 10), draw.randint(11, 19), draw.randint(20, 99)])
    number = _number(value)
    if noun.kind == "drink":
        many = words("cup" if value == 1 else "cups", measure) + words("of") + many
    elif value == 1:
        many = one
    count = words("an" if many[0][0][0] in "aeiou" else "a", *number.pieces) if value == 1 else number.words
    person = "third" if value == 1 else "plural"
    return Phrase((*number.pieces, measure, *end), count + many, person=person, noun=noun)


_THIS = {"这": "this", "那": "that"}
_THESE = {"这些": "these", "那些": "those"}
_COLORED = frozenset({"animal", "vehicle", "thing", "opening", "device"})


def _number(value: int) -> Phrase:
    """From 1 to 99, before a measure word."""
    tens, ones = divmod(value, 10)
    first = Piece(f"{UNITS[tens] if tens > 1 else ''}十" if tens else "")
    last = Piece("两" if value == 2 else UNITS[ones] if ones else "")
    pieces = tuple(piece for piece in (first, last) if piece.chinese)
    if tens == 1:
        return Phrase(pieces, words(TEENS[ones], *pieces))
    return Phrase(pieces, (words(TENS[tens], first) if tens else ()) + (words(ONES[ones], last) if ones else ()))
