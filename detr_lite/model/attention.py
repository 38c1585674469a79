"""Multi-head attention: fused by default, or with the attention weights as a second return value."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.model.key_value_cache import KeyValueCache
from detr_lite.model.onednn import Linear, can_use_onednn
from detr_lite.model.query_chunks import QueryBias, in_chunks, queries_at_once


@dataclass(frozen=True)
class Attended:
    """Output of attention, and its weights if `need_weights` was set."""

    values: Float[Tensor, "batch query dim"]
    weights: Float[Tensor, "batch head query token"] | None = None


def combine_masks(
    attn_mask: Bool[Tensor, "#batch #query token"] | None,
    bias: Float[Tensor, "batch head query token"] | None,
) -> Tensor | None:
    """One mask as `scaled_dot_product_attention` takes it: (batch head query token), boolean or added to the scores.

    A row without any token to attend to (in an image that is all padding) attends to all of them instead, as its
    softmax would be 0 / 0.
    """
    if attn_mask is None:
        return bias
    mask = attn_mask[:, None]
    mask = mask | ~mask.any(dim=-1, keepdim=True)
    return mask if bias is None else bias.masked_fill(~mask, -math.inf)


def attend(
    query: Float[Tensor, "batch head query key_channel"],
    key: Float[Tensor, "batch head token key_channel"],
    value: Float[Tensor, "batch head token value_channel"],
    mask: Tensor | None = None,
    dropout: float = 0.0,
    need_weights: bool = False,
) -> tuple[Float[Tensor, "batch head query value_channel"], Float[Tensor, "batch head query token"] | None]:
    """softmax(query key^T / sqrt(channels)) value ("Attention Is All You Need", eq. 1), head by head."""
    if not need_weights:
        # On CPUs torch's fused attention is slower in bfloat16 and with a learned bias (docs/performance.md).
        is_slow = query.dtype == torch.bfloat16 or (mask is not None and mask.requires_grad)
        if query.device.type == "cpu" and is_slow:
            return _attend_written_out(query, key, value, mask, dropout), None
        if mask is not None and mask.dtype != torch.bool:
            mask = mask.to(query.dtype)
        channels = value.shape[-1]
        if channels < query.shape[-1] and can_use_onednn(query):
            # torch's fused kernel, which takes half the time, needs as many channels in values as in keys.
            value = F.pad(value, (0, query.shape[-1] - channels))
        values = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, dropout_p=dropout)
        return values[..., :channels], None
    with torch.autocast(query.device.type, enabled=False):  # fused attention accumulates in float32, too
        scores = (query.float() / math.sqrt(query.shape[-1])) @ key.float().transpose(-2, -1)
    # In place, as the weights of a large image take most of the memory.
    if mask is not None and mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -math.inf)
    elif mask is not None:
        scores += mask
    weights = scores.softmax(dim=-1)
    dropped = F.dropout(weights, dropout) if dropout else weights
    return dropped.to(value.dtype) @ value, weights


def _attend_written_out(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, dropout: float) -> Tensor:
    """`attend` in the query's dtype, with the mask added by the matrix product."""
    batch, heads = query.shape[:2]
    if mask is None:
        bias = query.new_zeros(1, 1, 1)
    else:
        if mask.dtype == torch.bool:
            mask = torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, -math.inf)
        bias = mask.to(query.dtype).expand(batch, heads, *mask.shape[2:]).flatten(0, 1)
    with torch.autocast("cpu", enabled=False):  # autocast would make the softmax and its gradient float32
        scaled = query.flatten(0, 1) * query.shape[-1] ** -0.5
        weights = torch.baddbmm(bias, scaled, key.flatten(0, 1).transpose(1, 2)).softmax(dim=-1)
        values = F.dropout(weights, dropout) @ value.flatten(0, 1)
        return values.view(batch, heads, *values.shape[1:])


def drop_bias(layer: nn.Module) -> None:
    """Leave out a bias that adds the same to a query's scores of all tokens, which the softmax cancels.

    Its gradient is rounding alone, with which it would walk. A layer made without it would draw other random weights.
    """
    layer.register_parameter("bias", None)


def split_heads(projected: Float[Tensor, "batch token dim"], heads: int) -> Float[Tensor, "batch head token channel"]:
    batch, tokens, dim = projected.shape
    return projected.reshape(batch, tokens, heads, dim // heads).transpose(1, 2)


def join_heads(values: Float[Tensor, "batch head token channel"]) -> Float[Tensor, "batch token dim"]:
    return values.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention ("Attention Is All You Need", section 3.2.2), equal to `nn.MultiheadAttention`.

    Args:
        key_bias: as in the original; it changes no output.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0, key_bias: bool = True) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not divisible by {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.query = Linear(dim, dim)
        self.key = Linear(dim, dim)
        self.value = Linear(dim, dim)
        self.output = Linear(dim, dim)
        # torch initializes the three input projections as one (3 dim, dim) matrix, whose standard deviation this is.
        for projection, gain in (
            (self.query, 0.5**0.5),
            (self.key, 0.5**0.5),
            (self.value, 0.5**0.5),
            (self.output, 1),
        ):
            nn.init.xavier_uniform_(projection.weight, gain)
            nn.init.zeros_(projection.bias)
        if not key_bias:
            drop_bias(self.key)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        key: Float[Tensor, "batch token dim"],
        value: Float[Tensor, "batch token dim"],
        attn_mask: Bool[Tensor, "#batch #query all_tokens"] | None = None,
        bias: Float[Tensor, "batch head query all_tokens"] | None = None,
        need_weights: bool = False,
        cache: KeyValueCache | None = None,
    ) -> Attended:
        """`bias` is added to the scores before the softmax.

        With `cache` queries attend to the tokens that it holds, too, which come first in masks and weights.
        """

        def project(key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
            return split_heads(self.key(key), self.heads), split_heads(self.value(value), self.heads)

        queries = split_heads(self.query(query), self.heads)
        keys, values = project(key, value) if cache is None else cache.update(project, key, value)
        attended, weights = attend(
            query=queries,
            key=keys,
            value=values,
            mask=combine_masks(attn_mask, bias),
            dropout=self.dropout if self.training else 0.0,
            need_weights=need_weights,
        )
        return Attended(self.output(join_heads(attended)), weights)


class ConditionalCrossAttention(nn.Module):
    """Cross-attention that scores content and position separately (Conditional DETR, arXiv 2108.06152, eq. 4 and 5).

    Queries and keys each have a content and a position part, projected separately and concatenated head by head.
    """

    def __init__(self, dim: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim {dim} is not divisible by {heads} heads")
        self.heads = heads
        self.dropout = dropout
        self.query_content = Linear(dim, dim)
        self.query_position = Linear(dim, dim)
        self.key_content = Linear(dim, dim)
        self.key_position = Linear(dim, dim)
        self.value = Linear(dim, dim)
        self.output = Linear(dim, dim)
        for projection in self.children():
            assert isinstance(projection, Linear)
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)
        for projection in (self.key_content, self.key_position):
            drop_bias(projection)

    def forward(
        self,
        query: Float[Tensor, "batch query dim"],
        query_position: Float[Tensor, "batch query dim"],
        key: Float[Tensor, "batch token dim"],
        key_position: Float[Tensor, "batch token dim"],
        value: Float[Tensor, "batch token dim"],
        attn_mask: Bool[Tensor, "#batch #query token"] | None = None,
        bias: Float[Tensor, "batch head query token"] | QueryBias | None = None,
        need_weights: bool = False,
    ) -> Attended:
        """`bias` is added to the scores before the softmax (box-relative positions of Plain-DETR, arXiv 2308.01904).

        Where it is given as a function and would be large, queries attend some at a time, unless weights are needed.
        """

        def by_head(content: Tensor, position: Tensor) -> Tensor:
            return torch.cat([split_heads(content, self.heads), split_heads(position, self.heads)], dim=-1)

        queries = by_head(self.query_content(query), self.query_position(query_position))
        keys = by_head(self.key_content(key), self.key_position(key_position))
        values = split_heads(self.value(value), self.heads)
        dropout = self.dropout if self.training else 0.0

        def attend_some(some: Tensor, which: slice) -> Tensor:
            assert callable(bias)
            mask = None if attn_mask is None else attn_mask if attn_mask.shape[1] == 1 else attn_mask[:, which]
            return attend(some, keys, values, combine_masks(mask, bias(which)), dropout)[0]

        count = queries.shape[2]
        at_once = queries_at_once(queries, keys) if callable(bias) and not need_weights else count
        if at_once < count:
            return Attended(self.output(join_heads(in_chunks(attend_some, queries, at_once))))
        attended, weights = attend(
            query=queries,
            key=keys,
            value=values,
            mask=combine_masks(attn_mask, bias(slice(0, count)) if callable(bias) else bias),
            dropout=dropout,
            need_weights=need_weights,
        )
        return Attended(self.output(join_heads(attended)), weights)
