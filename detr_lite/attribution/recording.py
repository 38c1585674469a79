"""Attention weights as tensors of the autograd graph: a prediction can be differentiated with respect to them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.attention_maps import dense_rows
from detr_lite.families.anatomy import anatomy_of
from detr_lite.families.intercept import on_deformable_attention, on_dense_weights, on_returned_weights
from detr_lite.families.network import FamilyDetr
from detr_lite.families.sampling import Samples
from detr_lite.model.attention import Attended
from detr_lite.model.detr import Detr


@dataclass(frozen=True)
class LayerWeights:
    """The weights of one layer's attention."""

    weights: Float[Tensor, "..."]
    """(batch head row token), or (batch row head point) of deformable attention."""
    samples: Samples | None = None
    """Where the points of deformable attention lie."""

    def rows(self, values: Tensor) -> Float[Tensor, "head row token"]:
        """Whole rows of the first image, made of values in the shape of `weights`."""
        if self.samples is None:
            return values[0]
        tokens = sum(height * width for height, width in self.samples.grids)
        rows = replace(self.samples, weights=values.transpose(1, 2)).rows()
        return dense_rows(rows.tokens, rows.weights, tokens)[0]


@dataclass(frozen=True)
class RecordedAttention:
    """The weights of one forward pass, by layer."""

    encoder: list[LayerWeights] = field(default_factory=list)
    queries: list[LayerWeights] = field(default_factory=list)
    cross: list[LayerWeights] = field(default_factory=list)

    def all(self) -> list[LayerWeights]:
        return [*self.encoder, *self.queries, *self.cross]


@contextmanager
def recorded_attention(model: Detr | FamilyDetr) -> Iterator[RecordedAttention]:
    """Within the context a forward pass with gradients, in evaluation mode, fills what it gives.

    The backbone has no gradients meanwhile, as no weights of attention depend on its own; the rest has, also in a model
    whose parameters are frozen.

        with recorded_attention(model) as recorded:
            output = model(batch, need_attention=True)
        torch.autograd.grad(output.logits[-1, 0, query, label], [each.weights for each in recorded.all()])
    """
    recorded = RecordedAttention()
    with ExitStack() as hooks:
        if isinstance(model, Detr):
            _record_own(model, recorded, hooks)
        else:
            _record_family(model, recorded, hooks)
        for name, parameter in model.named_parameters():
            hooks.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_("backbone" not in name.split("."))
        with torch.enable_grad():
            yield recorded


def _record_own(model: Detr, recorded: RecordedAttention, hooks: ExitStack) -> None:
    def follow(module: nn.Module, into: list[LayerWeights]) -> None:
        def record(_: nn.Module, __: Any, attended: Attended) -> None:
            assert attended.weights is not None
            into.append(LayerWeights(attended.weights))

        hooks.callback(module.register_forward_hook(record).remove)

    for layer in cast(Sequence[Any], model.encoder.layers):
        follow(layer.attention, recorded.encoder)
    for layer in cast(Sequence[Any], model.decoder.layers):
        follow(layer.self_attention, recorded.queries)
        follow(layer.cross_attention, recorded.cross)


def _record_family(model: FamilyDetr, recorded: RecordedAttention, hooks: ExitStack) -> None:
    anatomy = anatomy_of(model.network)
    install: Callable[..., Callable[[], object]] = (
        on_returned_weights if anatomy.family == "dab_detr" else on_dense_weights
    )

    def keep(into: list[LayerWeights], weights: Tensor) -> None:
        into.append(LayerWeights(weights))

    def keep_samples(
        locations: Tensor, weights: Tensor, points: Sequence[int], grids: Sequence[Sequence[int]], is_discrete: bool
    ) -> None:
        level = torch.tensor([index for index, count in enumerate(points) for _ in range(count)], device=weights.device)
        sizes = tuple((int(height), int(width)) for height, width in grids)
        by_head = [each.detach().transpose(1, 2) for each in (locations, weights)]
        samples = Samples(by_head[0], by_head[1], level, sizes, is_discrete)
        recorded.cross.append(LayerWeights(weights, samples))

    for module in anatomy.encoder:
        hooks.callback(install(module, partial(keep, recorded.encoder)))
    for module in anatomy.queries:
        hooks.callback(install(module, partial(keep, recorded.queries)))
    for module in anatomy.cross:
        hooks.callback(
            install(module, partial(keep, recorded.cross))
            if anatomy.is_dense
            else on_deformable_attention(module, keep_samples)
        )
