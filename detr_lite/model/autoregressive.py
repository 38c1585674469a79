"""A decoder that writes: each token attends to itself, the earlier tokens and, if there is one, to a memory."""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from detr_lite.model.decoder import DecoderLayer, QueryPosition
from detr_lite.model.encoder import EncoderLayer, Memory
from detr_lite.model.key_value_cache import LayerCache
from detr_lite.model.onednn import Linear
from detr_lite.model.position import index_embed


@dataclass(frozen=True)
class CausalOutput:
    """Scores of the next token after each token; the attention weights if `need_weights` was set."""

    logits: Float[Tensor, "batch token vocabulary"]
    self_attention: Float[Tensor, "layer batch head token all_tokens"] | None = None
    """Row by row what each token attended to; all tokens are those in the cache and the new ones."""
    cross_attention: Float[Tensor, "layer batch head token memory_token"] | None = None


class CausalDecoder(nn.Module):
    """The decoder of "Attention Is All You Need" (section 3.1), with positions as in DETR (appendix A.3).

    Its layers are those of detection, and a causal mask takes the place of the object queries' freedom to attend to
    each other. Without cross-attention a layer is an encoder layer. Tokens are padded at the right, if at all: later
    tokens change nothing before them.
    """

    def __init__(
        self,
        vocabulary: int,
        dim: int,
        layers: int,
        heads: int,
        feedforward_dim: int,
        dropout: float = 0.0,
        cross_attention: bool = True,
    ) -> None:
        super().__init__()
        self.has_cross_attention = cross_attention
        self.embed = nn.Embedding(vocabulary, dim)
        layer = DecoderLayer if cross_attention else EncoderLayer
        self.layers = nn.ModuleList(layer(dim, heads, feedforward_dim, dropout) for _ in range(layers))
        self.head = Linear(dim, vocabulary)

    def empty_cache(self) -> list[LayerCache]:
        """What `forward` keeps between calls, one for each layer."""
        return [LayerCache() for _ in self.layers]

    def forward(
        self,
        tokens: Int[Tensor, "batch token"],
        memory: Memory | None = None,
        cache: list[LayerCache] | None = None,
        need_weights: bool = False,
    ) -> CausalOutput:
        """With `cache` only the tokens that follow those of earlier calls are given; each call must have one memory."""
        if self.has_cross_attention != (memory is not None):
            raise ValueError("cross-attention needs a memory, and nothing else does")
        count, earlier = tokens.shape[1], len(cache[0].tokens) if cache else 0
        place = torch.arange(earlier, earlier + count, device=tokens.device)
        hidden = self.embed(tokens)
        position = index_embed(place, hidden.shape[2]).expand_as(hidden)
        # True = may attend: the token itself and those before it.
        attn_mask = (torch.arange(earlier + count, device=tokens.device) <= place[:, None])[None]
        self_weights, cross_weights = [], []
        for index, layer in enumerate(self.layers):
            kept = cache[index] if cache else None
            if memory is None:
                hidden, weights = layer(hidden, position, attn_mask, need_weights, kept and kept.tokens)
                self_weights.append(weights)
                continue
            arguments = (hidden, QueryPosition(embed=position), memory, attn_mask, need_weights, kept)
            hidden, self_attended, cross_attended = cast(DecoderLayer, layer)(*arguments)
            self_weights.append(self_attended.weights)
            cross_weights.append(cross_attended.weights)
        return CausalOutput(
            self.head(hidden),
            torch.stack(self_weights) if need_weights else None,
            torch.stack(cross_weights) if need_weights and cross_weights else None,
        )
