"""Attention weights that were asked for, collected while the layers go by."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from detr_lite.structures import DetrLiteError


class AttentionRecorder:
    """Weights of the layers, heads and rows that were asked for, in that order; None is all of them.

    Errors: a layer, head or row that is not there.
    """

    def __init__(
        self,
        what: str,
        layers: Sequence[int] | None,
        heads: Sequence[int] | None,
        rows: Sequence[int] | None = None,
        *,
        shape: tuple[int, int, int, int, int],
        mean: bool = False,
    ) -> None:
        """`what` asks, in words; `shape` is (layer, batch, head, row, token) of all that there is."""
        layer_count, self.batch, head_count, row_count, self.tokens = shape
        self.layers = _numbers(f"{what} layer", layers, layer_count)
        self.heads = _numbers("head", heads, head_count)
        self.rows = _numbers("query", rows, row_count)
        self.has_all = heads is None and rows is None
        self.mean = mean
        self._by_layer: dict[int, Tensor] = {}

    def wants(self, layer: int) -> bool:
        return layer in self.layers

    def add(self, layer: int, weights: Float[Tensor, "batch head row token"]) -> None:
        if not self.has_all:
            weights = weights[:, self.heads][:, :, self.rows]
        self._by_layer[layer] = weights.mean(1, keepdim=True) if self.mean else weights

    def stack(self, like: Tensor) -> Float[Tensor, "layer batch head row token"]:
        """Of the kind of `like` where there is none."""
        if not self.layers:
            return like.new_zeros(0, self.batch, 1 if self.mean else len(self.heads), len(self.rows), self.tokens)
        return torch.stack([self._by_layer[layer] for layer in self.layers])


def _numbers(what: str, chosen: Sequence[int] | None, count: int) -> list[int]:
    if chosen is None:
        return list(range(count))
    for number in chosen:
        if not -count <= number < count:
            there = f"{count}, counted from 0" if count else "none"
            raise DetrLiteError(f"there is no {what} {number}; this model has {there}")
    return [number % count for number in chosen]
