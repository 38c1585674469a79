"""The sentences that the model learns from, and two sets that it never sees."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from jaxtyping import Int
from torch import Tensor

from examples.translation.grammar import Sentence, sentences
from examples.translation.model import END, START, Vocabulary, pad

SEED = 0
"""Of the grammar; the run's own seed only changes weights and order."""

HELD_OUT = 1000
"""Sentences in each of the two sets."""

TAUGHT_LATER = "我喜欢我的狗"
"""The example of the documentation is in no set, so that its translation is the model's own."""


@dataclass(frozen=True)
class Corpus:
    train: list[Sentence]
    unseen: list[Sentence]
    """Other sentences of the same kind."""
    combinations: list[Sentence]
    """Each with a word that training never shows in this pattern, or with this verb (`grammar.is_kept_apart`)."""

    def all(self) -> list[Sentence]:
        return [*self.train, *self.unseen, *self.combinations]

    def characters(self) -> Vocabulary:
        return Vocabulary({character for sentence in self.all() for character in sentence.chinese})

    def words(self) -> Vocabulary:
        return Vocabulary({word for sentence in self.all() for word in sentence.english})


def make_corpus(count: int, held_out: int = HELD_OUT) -> Corpus:
    """`count` sentences to learn from; the held-out sets are the same for every count."""
    train: list[Sentence] = []
    unseen: list[Sentence] = []
    combinations: list[Sentence] = []
    for sentence in sentences(SEED):
        if sentence.chinese == TAUGHT_LATER:
            continue
        if sentence.is_kept_apart:
            combinations.append(sentence)
        elif len(unseen) < held_out:
            unseen.append(sentence)
        else:
            train.append(sentence)
        if len(train) >= count and len(combinations) >= held_out:
            return Corpus(train[:count], unseen, combinations[:held_out])
    raise AssertionError("the grammar has no end")


def exchange_sources(corpus: Sequence[Sentence]) -> list[Sentence]:
    """A control: each translation stands beside another sentence's source, so that nothing but English can be learned.

    The sources move by one place, since the sentences are in random order.
    """
    sources = [sentence.chinese for sentence in corpus]
    nothing = [tuple(frozenset[int]() for _ in sentence.english) for sentence in corpus]
    return [
        replace(sentence, chinese=source, alignment=alignment)
        for sentence, source, alignment in zip(corpus, [*sources[1:], *sources[:1]], nothing, strict=True)
    ]


def shuffle_characters(sentences: Sequence[Sentence]) -> list[Sentence]:
    """A control: the same characters in another order, which mean something else or nothing."""
    draw = random.Random(SEED)
    return [replace(each, chinese="".join(draw.sample(each.chinese, len(each.chinese)))) for each in sentences]


class Pairs(NamedTuple):
    """A batch. Both languages are padded at the right."""

    source: Int[Tensor, "batch character"]
    words: Int[Tensor, "batch word"]
    """The start token and the translation: what the decoder reads."""
    next_words: Int[Tensor, "batch word"]
    """The translation and the end token: what it should write after each of them."""


def encode(batch: Sequence[Sentence], characters: Vocabulary, words: Vocabulary) -> Pairs:
    translations = [words.encode(sentence.english) for sentence in batch]
    return Pairs(
        pad([characters.encode(sentence.chinese) for sentence in batch]),
        pad([[START, *translation] for translation in translations]),
        pad([[*translation, END] for translation in translations]),
    )
