"""Gradient-weighted relevance of an image's tokens for a query's prediction, over all layers of attention.

After Chefer, Gur and Wolf, "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder
Transformers" (arXiv 2103.15679, section 3). Two things there have no counterpart in the paper. Where the encoder's
self-attention is in the coarsest of several levels, a finer token takes on the context of the coarse token that lies
over it, whose features the neck adds to it. And of deformable attention the gradients are those of the sampled points'
weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from detr_lite.attribution.recording import LayerWeights, recorded_attention
from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.structures import AttentionMaps, Batch, DetrLiteError


@dataclass(frozen=True)
class EncoderLevels:
    """Where the tokens of the encoder's self-attention are among all tokens, and which of them lies over each."""

    parents: Int[Tensor, " token"]
    """For each token the encoder's token over it, counted among the encoder's."""
    first: int
    """The first of the encoder's tokens among all."""


def query_relevance(
    model: Detr | FamilyDetr, batch: Batch, maps: AttentionMaps, queries: Sequence[int], labels: Sequence[int]
) -> Float[Tensor, "object token"]:
    """Relevance of each token of an image for the logits of some predictions, on the CPU.

    Args:
        model: in evaluation mode.
        batch: of one image.
        maps: of the same image; their weights are not needed.
        queries, labels: the predictions: a query and a class each.
    """
    with recorded_attention(model) as recorded:
        output = model(batch, need_attention=isinstance(model, Detr))  # which makes them by itself
        levels = encoder_levels(maps, output.logits.device) if recorded.encoder else None
        weights = [each.weights for each in recorded.all()]
        rows = []
        for query, label in zip(queries, labels, strict=True):
            logit = output.logits[-1, 0, query, label]
            gradients = torch.autograd.grad(logit, weights, retain_graph=True, allow_unused=True)
            averaged = iter([weighted(each, grad) for each, grad in zip(recorded.all(), gradients, strict=True)])
            encoder, queries_to_queries, cross = (
                [next(averaged) for _ in part] for part in (recorded.encoder, recorded.queries, recorded.cross)
            )
            rows.append(propagate(encoder, queries_to_queries, cross, levels)[query].cpu())
    return torch.stack(rows) if rows else torch.zeros(0, maps.is_padding.shape[1])


@torch.no_grad()
def weighted(layer: LayerWeights, gradient: Tensor | None) -> Float[Tensor, "row token"]:
    """The weights times their gradients, without what is negative, averaged over heads (eq. 5).

    Args:
        gradient: in the shape of the weights; None is zero: the prediction does not depend on them.
    """
    if gradient is None:
        gradient = torch.zeros_like(layer.weights)
    return layer.rows((gradient * layer.weights).clamp(min=0).float()).mean(0)


@torch.no_grad()
def propagate(
    encoder: Sequence[Float[Tensor, "coarse coarse"]],
    queries: Sequence[Float[Tensor, "query query"]],
    cross: Sequence[Float[Tensor, "query token"]],
    levels: EncoderLevels | None = None,
) -> Float[Tensor, "query token"]:
    """The relevance of each token for each query, from the averaged weights of all layers in the order of the pass.

    Args:
        levels: where the encoder's tokens are among all; None without encoder layers.

    Errors: weights that are not finite.
    """
    # Both without the identity that they begin with: beside its ones small weights would lose their digits.
    of_queries = torch.zeros_like(queries[0])
    relevance = torch.zeros_like(cross[0])
    context = None
    if encoder:
        of_encoder = torch.zeros_like(encoder[0])
        for each in encoder:
            of_encoder = of_encoder + each + each @ of_encoder  # eq. 6
        context = _normalized(of_encoder)
    for self_weights, cross_weights in zip(queries, cross, strict=True):
        relevance = relevance + self_weights @ relevance  # eq. 7
        of_queries = of_queries + self_weights + self_weights @ of_queries  # eq. 6
        contextual = cross_weights
        if context is not None and levels is not None:
            contextual = contextual + _in_context(cross_weights, context, levels)
        relevance = relevance + contextual + _normalized(of_queries).T @ contextual  # eq. 10
    if not relevance.isfinite().all():
        raise DetrLiteError("the gradients of attention are not finite, so there is no relevance")
    return relevance


def encoder_levels(maps: AttentionMaps, device: torch.device | str = "cpu") -> EncoderLevels:
    """Of the maps of a batch of one."""
    height, width = maps.encoder_grids[-1]
    level = maps.encoder_level
    parents = []
    for grid, span in zip(maps.grids, maps.spans[0], strict=True):
        ratios = maps.spans[0, level] / span.clamp(min=1e-12)
        column, row = (
            ((torch.arange(count, device=span.device) + 0.5) * ratio).long().clamp(max=most - 1)
            for count, ratio, most in zip(reversed(grid), ratios, (width, height), strict=True)
        )
        parents.append((row[:, None] * width + column).flatten())
    return EncoderLevels(torch.cat(parents).to(device), first=sum(len(each) for each in parents[:level]))


def _normalized(relevance: Float[Tensor, "row row"]) -> Float[Tensor, "row row"]:
    """Each row divided by its sum, and a row of zeros as it is (eq. 8 and 9, which add the identity again)."""
    return relevance / relevance.sum(1, keepdim=True).clamp(min=torch.finfo(relevance.dtype).tiny)


def _in_context(
    weights: Float[Tensor, "query token"], context: Float[Tensor, "coarse coarse"], levels: EncoderLevels
) -> Float[Tensor, "query token"]:
    """What tokens have from those around them: the weight of each, handed on along its parent's row."""
    by_parent = weights.new_zeros(len(weights), len(context)).index_add_(1, levels.parents, weights)
    handed_on = torch.zeros_like(weights)
    handed_on[:, levels.first : levels.first + len(context)] = by_parent @ context
    return handed_on
