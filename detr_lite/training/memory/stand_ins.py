"""What a training step on a GPU is, where tensors have shapes but no numbers and the processor holds them."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.functional import layer_norm

from detr_lite.loss.matcher import Matches, MatchingCost
from detr_lite.loss.targets import PaddedTargets


@contextmanager
def without_numbers(as_on_gpu: bool) -> Iterator[None]:
    """Within this context criteria match objects in order, as no costs can be compared.

    Args:
        as_on_gpu: also attention and layer norms are those of CUDA: fused attention keeps no weights, and under
            autocast layer norms return float32.
    """
    with patch("detr_lite.loss.criterion.match", match_in_order):
        if not as_on_gpu:
            yield
            return
        with (
            patch("detr_lite.model.attention._attend_written_out", fused_attention),
            patch("torch.nn.functional.scaled_dot_product_attention", _fused),
            patch("torch.nn.functional.layer_norm", _float32_layer_norm),
        ):
            yield


@torch.no_grad()
def match_in_order(cost: MatchingCost, logits: Tensor, boxes_cxcywh: Tensor, targets: PaddedTargets) -> Matches:
    """In place of `match`: the first query has the first object. The costs are computed."""
    cost(logits, boxes_cxcywh, targets.labels[None], targets.boxes_cxcywh[None])
    pairs = [
        (layer, image, query, query)
        for layer in range(len(logits))
        for image, count in enumerate(targets.counts)
        for query in range(min(count, logits.shape[2]))
    ]
    index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 4).T
    return Matches(index[0], index[1], index[2], index[3])


def fused_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """The tensors of CUDA's memory-efficient attention (arXiv 2112.05682): inputs, mask, output, log-sum-exp."""
    if torch.is_autocast_enabled("cpu"):
        dtype = torch.get_autocast_dtype("cpu")
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if mask is not None:
        mask = mask.to(query.dtype)
        # Its kernels take masks whose last axis is a multiple of 8, and torch pads a copy of others.
        mask = F.pad(mask, (0, -mask.shape[-1] % 8)) if mask.shape[-1] % 8 else mask
    output: Tensor = _FusedAttention.apply(query, key, value, mask)
    return output


class _FusedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        output = query.new_empty(*query.shape[:3], value.shape[-1])
        log_sum_exp = query.new_empty(query.shape[:3], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, mask, output, log_sum_exp)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(
            torch.empty_like(tensor) if tensor is not None and is_needed else None
            for tensor, is_needed in zip(ctx.saved_tensors[:4], ctx.needs_input_grad, strict=True)
        )


def _fused(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0, **_: Any
) -> Tensor:
    return fused_attention(query, key, value, attn_mask, dropout_p)


def _float32_layer_norm(features: Tensor, *arguments: Any, **keywords: Any) -> Tensor:
    is_cast = torch.is_autocast_enabled("cpu")
    return layer_norm(features.float() if is_cast else features, *arguments, **keywords)
