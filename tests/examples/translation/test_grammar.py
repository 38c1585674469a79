"""Sentences of the grammar: one translation each, true alignments, and sets that share nothing they should not."""

import itertools
import random
from collections import Counter, defaultdict
from typing import Any

import pytest

from detr_lite.errors import DetrLiteError
from examples.translation.data import TAUGHT_LATER, Corpus, exchange_sources, make_corpus, shuffle_characters
from examples.translation.grammar import PATTERNS, Sentence, _sentence, sentences
from examples.translation.lexicon import NOUNS, VERBS, VERBS_WITH_ONE_MEANING, Verb
from examples.translation.model import Vocabulary
from examples.translation.pinyin import PINYIN


@pytest.fixture(scope="module")
def many() -> list[Sentence]:
    return list(itertools.islice(sentences(3), 8000))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return make_corpus(8000)


def test_translations_worked_by_hand(many: list[Sentence]) -> None:
    found = {sentence.chinese: " ".join(sentence.english) for sentence in many}
    expected = {
        "他们没打篮球": "they did not play basketball",
        "他不打篮球吗": "does he not play basketball ?",
        "你昨天开了两扇门": "you opened two doors yesterday",
        "她等什么": "what does she wait for ?",
        "他比他的老师高": "he is taller than his teacher",
        "我们不会喝这杯茶": "we can not drink this cup of tea",
        "我们会看这部电影": "we can watch this movie",
        "我们明天看马": "we will watch horses tomorrow",
        "她的学生在买水": "her student is buying water",
        "我开的电脑很大": "the computer that I turn on is big",
        "盒子里有一块蛋糕": "there is a cake in the box",
        "那位医生很老": "that doctor is old",
    }
    assert {chinese: found.get(chinese) for chinese in expected} == expected


class Wanted(random.Random):
    """Chooses the words of 我喜欢我的狗, and nothing that would add to them."""

    def choice(self, seq: Any) -> Any:
        is_wanted = [
            each == "possessive"
            or getattr(each, "chinese", "") in ("我", "狗")
            or (isinstance(each, Verb) and each.forms[""] == "love")
            for each in seq
        ]
        return seq[is_wanted.index(True)]

    def random(self) -> float:
        return 0.4


def test_the_sentence_of_the_documentation() -> None:
    sentence = _sentence(Wanted(), PATTERNS[0])
    assert sentence is not None
    assert sentence.chinese == TAUGHT_LATER == "我喜欢我的狗"
    assert sentence.english == ("I", "love", "my", "dog")
    assert [sorted(places) for places in sentence.alignment] == [[0], [1, 2], [3, 4], [5]]


@pytest.mark.stress
def test_every_sentence_has_one_translation(many: list[Sentence]) -> None:
    """Also where another seed draws it from another pattern."""
    translations = defaultdict(set)
    for sentence in [*many, *itertools.islice(sentences(4), 8000)]:
        translations[sentence.chinese].add(sentence.english)
    assert len(translations) < 16_000, "no sentence was drawn twice, so nothing was compared"
    assert all(len(found) == 1 for found in translations.values())


def test_alignments_name_the_characters_that_words_come_from(many: list[Sentence]) -> None:
    nouns = {noun.chinese: {noun.singular, noun.plural} for noun in NOUNS}
    for sentence in many:
        assert len(sentence.alignment) == len(sentence.english)
        assert all(0 <= place < len(sentence.chinese) for places in sentence.alignment for place in places)
        for word, places in zip(sentence.english, sentence.alignment, strict=True):
            characters = "".join(sentence.chinese[place] for place in sorted(places))
            if characters in nouns and word not in ("at", "in", "on", "the"):
                assert word in nouns[characters], sentence
            for pronoun, characters_of in (
                ("my", "我的"),
                ("I", "我"),
                ("does", "不没"),
                ("not", "不没"),
                ("cups", "杯"),
            ):
                if word == pronoun and characters:
                    assert set(characters) <= set(characters_of), sentence


def test_agreement_numbers_and_articles(many: list[Sentence]) -> None:
    text = [" ".join(sentence.english) for sentence in many]
    for wrong in (
        " a a",
        " a e",
        " a o",
        " a umbrella",
        "he do ",
        "she do ",
        "I does",
        "I is",
        "they is",
        "you am",
        "we is",
    ):
        assert not any(wrong in f" {line}" for line in text), wrong
    assert any(" an " in line for line in text)
    assert any("twelve" in line for line in text)


def test_all_patterns_and_meanings_occur(many: list[Sentence]) -> None:
    assert {sentence.pattern for sentence in many} == {name for name, *_ in PATTERNS}
    english = {word for sentence in many for word in sentence.english}
    assert {verb.forms["s"] for verb in VERBS} <= english
    assert len({verb.chinese for verb in VERBS}) < len(VERBS) - 5
    assert len(VERBS_WITH_ONE_MEANING) > 15
    assert {character for sentence in many for character in sentence.chinese} <= set(PINYIN)


def test_sets_are_apart(corpus: Corpus) -> None:
    train, unseen, combinations = (
        {sentence.chinese for sentence in part} for part in (corpus.train, corpus.unseen, corpus.combinations)
    )
    assert len(train) == 8000
    assert len(unseen) == len(combinations) == 1000
    assert not train & unseen
    assert not (train | unseen) & combinations
    assert TAUGHT_LATER not in train | unseen | combinations
    assert not any(sentence.is_kept_apart for sentence in [*corpus.train, *corpus.unseen])


def test_combinations_are_new_but_their_words_are_not(corpus: Corpus) -> None:
    """Judged by the English words: of a noun and its pattern, or a noun and its verb, training shows none."""
    nouns = {form: noun for noun in NOUNS for form in (noun.singular, noun.plural)}
    count = Counter(word for sentence in corpus.train for word in sentence.english)
    shown = {(sentence.pattern, nouns[word]) for sentence in corpus.train for word in sentence.english if word in nouns}
    verbs = {form: verb for verb in VERBS_WITH_ONE_MEANING for form in verb.forms.values()}

    def pairs(sentence: Sentence) -> set[tuple[object, ...]]:
        objects = {nouns[word] for word in sentence.english if word in nouns}
        found = {verbs[word].chinese for word in sentence.english if word in verbs}
        found = {verb for verb in found if verb in sentence.chinese}  # 想 is "want", too
        return {(verb, noun) for verb in found for noun in objects}

    shown_with_verbs = set().union(*(pairs(sentence) for sentence in corpus.train))
    for sentence in corpus.combinations:
        assert all(count[word] >= 10 for word in sentence.english), sentence
        in_pattern = {(sentence.pattern, nouns[word]) for word in sentence.english if word in nouns}
        assert in_pattern - shown or pairs(sentence) - shown_with_verbs, sentence


def test_controls(corpus: Corpus) -> None:
    exchanged = exchange_sources(corpus.train)
    assert [sentence.english for sentence in exchanged] == [sentence.english for sentence in corpus.train]
    assert sorted(sentence.chinese for sentence in exchanged) == sorted(sentence.chinese for sentence in corpus.train)
    assert not any(a.chinese == b.chinese for a, b in zip(exchanged, corpus.train, strict=True))
    shuffled = shuffle_characters(corpus.unseen)
    assert all(sorted(a.chinese) == sorted(b.chinese) for a, b in zip(shuffled, corpus.unseen, strict=True))
    assert sum(a.chinese == b.chinese for a, b in zip(shuffled, corpus.unseen, strict=True)) < 30


def test_vocabulary() -> None:
    words = Vocabulary(["b", "a", "b"])
    assert words.decode(words.encode(["a", "b"])) == ["a", "b"]
    assert Vocabulary(words.text(" ").split()).tokens == words.tokens
    with pytest.raises(DetrLiteError, match="never seen c"):
        words.encode(["a", "c"])
