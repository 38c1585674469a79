"""Collects selected attention weights, layer by layer."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from detr_lite.structures import DetrLiteError


class AttentionRecorder:
    """Weights of the selected layers, heads and rows, in that order; None selects all.

    Errors: a layer, head or row that does not exist.
    """

    def __init__(
        self,
        name: str,
        layers: Sequence[int] | None,
        heads: Sequence[int] | None,
        rows: Sequence[int] | None = None,
        *,
        shape: tuple[int, int, int, int, int],
        mean: bool = False,
    ) -> None:
        """
        Args:
            name: of the module, for error messages: "encoder" or "decoder".
            shape: (layer, batch, head, row, token) of all weights.
            mean: record the mean over the selected heads.
        """
        layer_count, self.batch, head_count, row_count, self.tokens = shape
        self.layers = _indices(f"{name} layer", layers, layer_count)
        self.heads = _indices("head", heads, head_count)
        self.rows = _indices("query", rows, row_count)
        self.has_all_heads, self.has_all_rows = heads is None, rows is None
        self.mean = mean
        self._by_layer: dict[int, Tensor] = {}

    def needs(self, layer: int) -> bool:
        """Whether this layer must compute its weights at all."""
        return layer in self.layers

    def add(self, layer: int, weights: Float[Tensor, "batch head row token"]) -> None:
        """Keep what is selected of one layer's weights; the rest is freed with the tensor."""
        self.add_selected(layer, self.select(weights))

    def select(
        self, per_row: Shaped[Tensor, "batch head row ..."]
    ) -> Shaped[Tensor, "batch selected_head selected_row ..."]:
        """The selected heads (second axis) and rows (third axis) of anything that has both."""
        if not self.has_all_rows:
            per_row = per_row[:, :, self.rows]
        return per_row if self.has_all_heads else per_row[:, self.heads]

    def add_selected(self, layer: int, weights: Float[Tensor, "batch _ _ token"]) -> None:
        """Keep the weights of one layer that were made for the selected heads and rows alone."""
        self._by_layer[layer] = weights.mean(1, keepdim=True) if self.mean else weights

    def stack(self, like: Tensor) -> Float[Tensor, "layer batch head row token"]:
        """Without any layer an empty tensor of the dtype and device of `like`."""
        if not self.layers:
            return like.new_zeros(self._shape())
        return torch.stack([self._by_layer[layer] for layer in self.layers])

    def without_weights(self, like: Tensor) -> Float[Tensor, "layer batch head row token"]:
        """A tensor of the shape of `stack` on the device "meta", which takes no memory."""
        return torch.empty(self._shape(), dtype=like.dtype, device="meta")

    def _shape(self) -> tuple[int, int, int, int, int]:
        heads = 1 if self.mean else len(self.heads)
        return len(self.layers), self.batch, heads, len(self.rows), self.tokens


def _indices(name: str, selected: Sequence[int] | None, count: int) -> list[int]:
    if selected is None:
        return list(range(count))
    for index in selected:
        if not -count <= index < count:
            available = f"{count}, counted from 0" if count else "none"
            raise DetrLiteError(f"there is no {name} {index}; this model has {available}")
    return [index % count for index in selected]
