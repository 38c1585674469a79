"""Keys and values of earlier calls of attention, for models that write one token after the other."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor


class KeyValueCache:
    """Keys and values that one attention has projected, so that no token is projected twice.

    Args:
        grows: each call brings new tokens, as in self-attention; otherwise all calls bring the same ones, as in
            cross-attention to a memory, which are projected in the first.
    """

    def __init__(self, grows: bool) -> None:
        self.grows = grows
        self._kept: tuple[Tensor, Tensor] | None = None

    def __len__(self) -> int:
        """How many tokens it holds."""
        return 0 if self._kept is None else self._kept[0].shape[2]

    def update(
        self,
        project: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
        key: Float[Tensor, "batch token dim"],
        value: Float[Tensor, "batch token dim"],
    ) -> tuple[Float[Tensor, "batch head all_tokens _"], Float[Tensor, "batch head all_tokens _"]]:
        """Keys and values of all calls so far; `project` makes those of new tokens."""
        if self._kept is None:
            self._kept = project(key, value)
        elif self.grows:
            earlier, new = self._kept, project(key, value)
            self._kept = torch.cat([earlier[0], new[0]], dim=2), torch.cat([earlier[1], new[1]], dim=2)
        return self._kept

    def select(self, rows: Int[Tensor, " row"]) -> None:
        """Keep these rows of the batch, in this order; a row may occur more than once."""
        if self._kept is not None:
            self._kept = self._kept[0][rows], self._kept[1][rows]


@dataclass(frozen=True)
class LayerCache:
    """The caches of one decoder layer."""

    tokens: KeyValueCache = field(default_factory=lambda: KeyValueCache(grows=True))
    """Of self-attention: the tokens so far."""
    memory: KeyValueCache = field(default_factory=lambda: KeyValueCache(grows=False))
    """Of cross-attention."""
