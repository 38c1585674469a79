"""Cross-attention of some queries at a time, where the bias of all of them would take too much memory."""

from collections.abc import Callable
from math import ceil

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

MAX_BIAS_BYTES = 2**28
"""Largest bias (batch head query token) that is made at once: 256 MiB. In bfloat16, with 8 heads, 400 queries and the
8,400 tokens of 640 x 640 pixels at strides 8, 16 and 32, that is the bias of four images."""

QueryBias = Callable[[slice], Tensor]
"""The bias (batch head query token) of the queries in a slice."""


def queries_at_once(
    query: Float[Tensor, "batch head query channel"], key: Float[Tensor, "batch head token channel"]
) -> int:
    """How many queries attend together: all, or as many as keep the bias within `MAX_BIAS_BYTES`, in equal parts."""
    batch, heads, queries = query.shape[:3]
    parts = ceil(batch * heads * queries * key.shape[2] * query.element_size() / MAX_BIAS_BYTES)
    return ceil(queries / max(1, min(parts, queries)))


def in_chunks(
    attend: Callable[[Tensor, slice], Tensor], query: Float[Tensor, "batch head query channel"], count: int
) -> Float[Tensor, "batch head query value_channel"]:
    """`attend` of `count` queries at a time, each with its slice; what it returns, put together.

    A query's attention does not depend on the others'. In training each part is computed again in the backward pass,
    so that no more than the bias of one part exists at any time.
    """
    parts: list[Tensor] = []
    for first in range(0, query.shape[2], count):
        which = slice(first, min(first + count, query.shape[2]))
        if torch.is_grad_enabled():
            part = checkpoint(attend, query[:, :, which], which, use_reentrant=False)
            assert isinstance(part, Tensor)
        else:
            part = attend(query[:, :, which], which)
        parts.append(part)
    return torch.cat(parts, dim=2)
