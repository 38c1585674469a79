"""How good translations are, and whether attention finds the characters that each word comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from examples.translation.grammar import Sentence


def exact(translations: Sequence[Sequence[str]], truth: Sequence[Sentence]) -> float:
    """The share of translations that are right word by word."""
    right = sum(tuple(words) == sentence.english for words, sentence in zip(translations, truth, strict=True))
    return right / max(len(truth), 1)


@dataclass(frozen=True)
class AlignmentScores:
    """Cross-attention beside the grammar's alignment, over all words that come from some characters."""

    hits: float
    """Share of the words whose most attended character is one that they come from."""
    share: float
    """Mean share of a word's attention on the characters that it comes from."""
    chance: float
    """What `share` would be if attention were the same everywhere."""


def alignment_scores(
    weights: Sequence[Float[Tensor, "word character"]], sentences: Sequence[Sentence]
) -> AlignmentScores:
    """`weights[i][j]` is what was attended to when word j of sentence i was chosen; what follows is ignored.

    Without any word to judge all numbers are 0.
    """
    hits, shares, chances = [], [], []
    for rows, sentence in zip(weights, sentences, strict=True):
        length = len(sentence.chinese)
        for row, truth in zip(rows[: len(sentence.english), :length], sentence.alignment, strict=True):
            if truth:
                hits.append(row.argmax().item() in truth)
                shares.append(row[sorted(truth)].sum().item())
                chances.append(len(truth) / length)
    count = max(len(hits), 1)
    return AlignmentScores(sum(hits) / count, sum(shares) / count, sum(chances) / count)
