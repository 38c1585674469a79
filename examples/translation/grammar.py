"""Chinese sentences with their English translation and which English word comes from which characters.

A sentence is drawn from a pattern, such as `S P D O` -> `S D* O P`: letters are slots that are filled at random,
a star agrees with the subject, and /x says from which Chinese word of the pattern an English one comes.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from examples.translation.lexicon import (
    ADJECTIVES,
    NOUNS,
    PLACES,
    SPOTS,
    VERBS,
    VERBS_WITH_ONE_MEANING,
    Adjective,
    Noun,
    Verb,
)
from examples.translation.phrases import Phrase, Piece, Words, any_phrase, person_phrase, place_phrase, words

# Slots: S who does it; V any verb, D an active one, U one with one meaning; O its object, N the same without more;
# X another person; P a place, L a spot; Q is A, R is less A; C something counted, B not counted, T known.
_PATTERNS = """
present        | S V O          | S V* O
negation       | S 不 V O       | S do*/不 not/不 V O
question       | S V O 吗       | do* S V O ?/吗
negative question | S 不 V O 吗 | do*/不 S not/不 V O ?/吗
past           | S D 了 O       | S D.past O
past negation  | S 没 D O       | S did/没 not/没 D O
past question  | S D 了 O 吗    | did/了 S D O ?/吗
yesterday      | S 昨天 D 了 O  | S D.past O yesterday/昨天
yesterday first | 昨天 S D 了 O | S D.past O yesterday/昨天
tomorrow       | S 明天 D O     | S will D O tomorrow/明天
tomorrow first | 明天 S 不 D O  | S will not/不 D O tomorrow/明天
every day      | S 每天 D O     | S D* O every/每天 day/每天
progressive    | S 在 D O       | S be*/在 D.ing O
progressive question | S 在 D O 吗 | be*/在 S D.ing O ?/吗
place          | S P D O     | S D* O P
place negation | S 不 P D O     | S do*/不 not/不 D O P
wish           | S 想 D O       | S want*/想 to D O
wish question  | S 想 D O 吗    | do* S want/想 to D O ?/吗
ability        | S 会 D O       | S can/会 D O
no ability     | S 不 会 D O    | S can/会 not/不 D O
ability question | S 会 D O 吗  | can/会 S D O ?/吗
what           | S U 什么       | what/什么 do* S U ?
who            | 谁 V O         | who/谁 V.s O ?
where          | S 在 哪里 D O  | where/哪里 do* S D O ?
also           | S 也 V O       | S also/也 V* O
with           | S 跟 X D O     | S D* O with/跟 X
possession     | S 有 C         | S have*/有 C
no possession  | S 没 有 B     | S do*/没 not/没 have/有 B
quality        | Q 很 A         | Q be*/很 A
no quality     | Q 不 A         | Q be* not/不 A
quality question | Q A 吗       | be* Q A ?/吗
comparison     | Q 比 R A       | Q be* A.er than/比 R
relative       | S D 的 N 很 A  | the N that/的 S D* is/很 A
spot           | T 在 L        | T be*/在 L
existence      | L 有 C         | there/有 be*/有 C L
"""


@dataclass(frozen=True)
class Sentence:
    chinese: str
    english: tuple[str, ...]
    alignment: tuple[frozenset[int], ...]
    """For each English word the characters that it comes from; none for words such as the "do" of questions."""
    pattern: str
    is_kept_apart: bool
    """Whether it has a combination of words and pattern that training never shows."""


def sentences(seed: int) -> Iterator[Sentence]:
    """Different sentences without end; all patterns are equally frequent."""
    draw, seen = random.Random(seed), set()
    while True:
        sentence = _sentence(draw, draw.choice(PATTERNS))
        if sentence is not None and sentence.chinese not in seen:
            seen.add(sentence.chinese)
            yield sentence


PATTERNS = [[part.strip() for part in line.split("|")] for line in _PATTERNS.strip().splitlines()]


def is_kept_apart(pattern: str, verb: Verb | None, noun: Noun) -> bool:
    """Every 12th pair of pattern and noun and every 9th of verb and noun are kept from training.

    Not those of verbs with several meanings: an object that was never seen with them does not tell which one it is.
    """
    row, column = [name for name, *_ in PATTERNS].index(pattern), NOUNS.index(noun)
    if (row + column) % 12 == 0:
        return True
    return verb in VERBS_WITH_ONE_MEANING and (VERBS.index(verb) + 2 * column) % 9 == 6


def _sentence(draw: random.Random, pattern: list[str]) -> Sentence | None:
    """None where the slots do not fit, such as "I help me"."""
    name, chinese, english = pattern
    slots, verb, adjective = _fill(draw, chinese.split())
    if slots is None:
        return None
    pieces: dict[str, tuple[Piece, ...]] = {}
    for token in chinese.split():
        pieces[token] = slots[token].pieces if token in slots else (Piece(token),)
    order = [piece for token in chinese.split() for piece in pieces[token]]
    starts, position = {}, 0
    for piece in order:
        starts[piece] = position
        position += len(piece.chinese)
    subject = next((slots[token] for token in ("S", "Q", "T", "C") if token in slots), None)
    result: list[tuple[str, tuple[Piece, ...]]] = []
    for token in english.split():
        result += _translate(token, slots, pieces, verb, adjective, subject.person if subject else "third")
    nouns = [phrase.noun for phrase in slots.values() if phrase.noun]
    return Sentence(
        "".join(piece.chinese for piece in order),
        tuple(word for word, _ in result),
        tuple(
            frozenset(starts[piece] + offset for piece in origin for offset in range(len(piece.chinese)))
            for _, origin in result
        ),
        name,
        any(is_kept_apart(name, verb, noun) for noun in nouns),
    )


def _fill(draw: random.Random, tokens: list[str]) -> tuple[dict[str, Phrase] | None, Verb | None, Adjective | None]:
    slots: dict[str, Phrase] = {}
    verb = adjective = None
    if any(token in tokens for token in ("V", "D", "U")):
        allowed = VERBS_WITH_ONE_MEANING if "U" in tokens else VERBS
        verb = draw.choice([verb for verb in allowed if verb.is_active or "D" not in tokens])
    if "A" in tokens:
        adjective = draw.choice(ADJECTIVES)
    for token in tokens:
        if token in ("S", "X"):
            slots[token] = person_phrase(draw)
        elif token in ("V", "D", "U") and verb is not None:
            slots[token] = Phrase((Piece(verb.chinese),), ())
        elif token == "A" and adjective is not None:
            slots[token] = Phrase((Piece(adjective.chinese),), ())
        elif token == "O" and verb is not None:
            slots[token] = any_phrase(draw, verb.kinds)
        elif token == "N" and verb is not None and adjective is not None:
            nouns = [noun for noun in NOUNS if noun.kind in verb.kinds & adjective.kinds]
            if not nouns:
                return None, None, None
            noun = draw.choice(nouns)
            piece = Piece(noun.chinese)
            slots[token] = Phrase((piece,), words(noun.singular, piece), noun=noun)
        elif token in ("Q", "R") and adjective is not None:
            slots[token] = any_phrase(draw, adjective.kinds, ("possessive", "possessor", "this", "these"))
        elif token == "T":
            slots[token] = any_phrase(draw, _SMALL, ("possessive", "possessor", "this", "these"))
        elif token == "C":
            slots[token] = any_phrase(draw, _SMALL, ("number",))
        elif token == "B":
            slots[token] = any_phrase(draw, _SMALL, ("bare", "possessive", "this", "these"))
        elif token == "P":
            place = draw.choice(list(PLACES))
            slots[token] = place_phrase("在", place, "", *PLACES[place])
        elif token == "L":
            noun_and_side = draw.choice(list(SPOTS))
            slots[token] = place_phrase("", *noun_and_side, *SPOTS[noun_and_side])
    said = [
        "".join(piece.chinese for piece in slots[token].pieces) for token in ("S", "X", "O", "Q", "R") if token in slots
    ]
    return (slots if len(set(said)) == len(said) else None), verb, adjective


_SMALL = frozenset({"text", "thing", "food", "dish", "device", "animal"})
"""Kinds of what one can have, and find on tables."""


def _translate(
    token: str,
    slots: dict[str, Phrase],
    pieces: dict[str, tuple[Piece, ...]],
    verb: Verb | None,
    adjective: Adjective | None,
    person: str,
) -> Words:
    """The English words of one token of a pattern."""
    token, _, origin = token.partition("/")
    agrees, token = token.endswith("*"), token.removesuffix("*")
    slot, _, form = token.partition(".")
    origins = pieces[origin] if origin else ()
    if agrees and token in _AGREEMENT:
        return words(_AGREEMENT[token][person], *origins)
    if slot in ("V", "D", "U") and verb is not None:
        done = pieces.get("了", ()) if form == "past" else ()
        english = f"{verb.forms[form or ('s' if agrees and person == 'third' else '')]} {verb.particle}"
        return words(english, *pieces[slot], *done)
    if slot == "A" and adjective is not None:
        return words(adjective.comparative if form else adjective.english, *pieces[slot])
    if slot in slots:
        phrase = slots[slot]
        is_subject = slot in ("S", "Q", "T", "N")
        return phrase.words if is_subject or phrase.object_words is None else phrase.object_words
    return words(token, *origins)


_AGREEMENT = {
    "be": {"I": "am", "third": "is", "plural": "are"},
    "do": {"I": "do", "third": "does", "plural": "do"},
    "have": {"I": "have", "third": "has", "plural": "have"},
    "want": {"I": "want", "third": "wants", "plural": "want"},
}
