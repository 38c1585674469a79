"""Bigram and trigram models: the next letter by how often it followed the last one or two."""

import math
from collections import Counter
from collections.abc import Sequence

from examples.names.model import END, encode

STRENGTHS = (0.3, 1.0, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 50.0)
"""Of the smoothing, to choose from."""


class CountModel:
    """Relative frequencies of letters after `order` letters, smoothed with those after one letter less, and so on.

    P(letter | context) = (count + strength P(letter | shorter context)) / (total + strength), as MacKay and Peto (1995,
    "A hierarchical Dirichlet language model"). Without any context all letters are smoothed with equal shares.
    """

    def __init__(self, names: Sequence[str], order: int, strength: float, vocabulary: int = 27) -> None:
        self.order, self.strength, self.vocabulary = order, strength, vocabulary
        self._pairs: Counter[tuple[tuple[int, ...], int]] = Counter()
        self._contexts: Counter[tuple[int, ...]] = Counter()
        for name in names:
            for before, letter in _steps(name, order):
                for length in range(order + 1):
                    context = before[len(before) - length :]
                    self._pairs[context, letter] += 1
                    self._contexts[context] += 1

    def probability(self, context: tuple[int, ...], letter: int) -> float:
        """Of a letter after the last `order` or fewer ones."""
        shorter = self.probability(context[1:], letter) if context else 1 / self.vocabulary
        return (self._pairs[context, letter] + self.strength * shorter) / (self._contexts[context] + self.strength)

    def loss(self, names: Sequence[str]) -> float:
        """Mean negative log-likelihood of a letter, the end of a name included, in nats."""
        logs = [math.log(self.probability(*step)) for name in names for step in _steps(name, self.order)]
        return -sum(logs) / max(len(logs), 1)


def best_count_model(train: Sequence[str], val: Sequence[str], order: int) -> CountModel:
    """With the strength of smoothing that is best on `val`."""
    return min((CountModel(train, order, strength) for strength in STRENGTHS), key=lambda model: model.loss(val))


def _steps(name: str, order: int) -> list[tuple[tuple[int, ...], int]]:
    letters = [*[END] * order, *encode(name), END]
    return [(tuple(letters[i : i + order]), letters[i + order]) for i in range(len(letters) - order)]
