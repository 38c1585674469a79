"""Two of the same: transformers' `DetrForObjectDetection` and our `detr`, with the same random numbers in every place.

The weights are paired here module by module, apart from `weights/`, so that neither map vouches for itself.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.baselines import require_transformers
from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model.detr import Detr

# A network: the parts of theirs have no types, and those of ours are reached by name.
Network = Any


@dataclass(frozen=True)
class Sizes:
    """Of both models; by default those of the published DETR."""

    body: str = "resnet50"
    dim: int = 256
    heads: int = 8
    layers: int = 6
    feedforward_dim: int = 2048
    queries: int = 100
    classes: int = 91
    dropout: float = 0.0
    dilation: bool = False
    """Of the last stage: the published "DC5" models."""


def make_parity_models(
    sizes: Sizes, seed: int, freeze_batch_norm: bool = True, attention: Literal["sdpa", "eager"] = "sdpa"
) -> tuple[Network, Detr]:
    """Theirs and ours in evaluation mode, equal in every number, none of which is at its start.

    Args:
        freeze_batch_norm: ours has the original's fixed batch norm, or torch's, which learns.
        attention: theirs is torch's fused one, by default like ours, or the formula, which rounds otherwise.

    Errors: transformers is not installed, or there is no such body.
    """
    with torch.random.fork_rng(devices=[]):
        # "pretrained" says what becomes of batch norm. Weights come from elsewhere, so nothing is fetched.
        config = ModelConfig(
            name="detr",
            backbone=sizes.body,
            pretrained=freeze_batch_norm,
            strides=(16,) if sizes.dilation else (32,),
            dilation=sizes.dilation,
            dim=sizes.dim,
            heads=sizes.heads,
            encoder_layers=sizes.layers,
            decoder_layers=sizes.layers,
            feedforward_dim=sizes.feedforward_dim,
            dropout=sizes.dropout,
            num_queries=sizes.queries,
        )
        ours = build_model(config, sizes.classes, for_checkpoint=True).eval()
        theirs = _make_theirs(sizes, attention)
    fill_with_random_values(theirs, seed)
    copy_weights(theirs, ours)
    return theirs, ours


def _make_theirs(sizes: Sizes, attention: str) -> Network:
    require_transformers()
    from transformers import DetrConfig, DetrForObjectDetection, TimmBackboneConfig

    config = DetrConfig(
        # No weights are fetched for it.
        backbone_config=TimmBackboneConfig(
            backbone=sizes.body, out_indices=[1, 2, 3, 4], output_stride=16 if sizes.dilation else None
        ),
        d_model=sizes.dim,
        encoder_layers=sizes.layers,
        decoder_layers=sizes.layers,
        encoder_attention_heads=sizes.heads,
        decoder_attention_heads=sizes.heads,
        encoder_ffn_dim=sizes.feedforward_dim,
        decoder_ffn_dim=sizes.feedforward_dim,
        num_queries=sizes.queries,
        num_labels=sizes.classes,
        # The original drops in all three places; by default transformers does in the first alone.
        dropout=sizes.dropout,
        attention_dropout=sizes.dropout,
        activation_dropout=sizes.dropout,
        auxiliary_loss=False,
        # The paper's, appendix A.4; said here, so that no change of their defaults changes the measure.
        class_cost=1,
        bbox_cost=5,
        giou_cost=2,
        bbox_loss_coefficient=5,
        giou_loss_coefficient=2,
        eos_coefficient=0.1,
        attn_implementation=attention,
    )
    theirs = DetrForObjectDetection(config)
    # In training they drop values of the projected feature map, too. The original does not, and it is the measure.
    theirs.model.encoder.dropout = 0.0
    theirs.requires_grad_(True)  # the first stage, too, which it freezes
    theirs.eval()
    return theirs


@torch.no_grad()
def fill_with_random_values(model: nn.Module, seed: int) -> None:
    """Every parameter and buffer, batch norm's too, from spreads that keep signals between extinction and explosion.

    Fresh models will not do: timm starts the last scale of each residual block at zero, and behind it no convolution
    is seen; biases at zero and scales at one hide what is forgotten or taken twice.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, values in _tensors(model):
        values.copy_(_draw(name, values, generator))


# As it comes, queries would all take up the same and answer the same. They are far apart, then, look sharply, take more
# from the image than from each other, and the heads tell small differences.
GAINS = {
    "input_projection": 2.0,
    "query_position": 3.0,
    "self_attn.o_proj": 0.5,
    "encoder_attn.k_proj": 2.0,
    "encoder_attn.o_proj": 2.0,
    "class_labels_classifier": 2.0,
    "bbox_predictor": 2.0,
}


def _draw(name: str, values: Tensor, generator: torch.Generator) -> Tensor:
    kind = name.split(".")[-1]
    if values.dim() > 1:
        gain = next((gain for place, gain in GAINS.items() if place in name), 1.0)
        fan_in = 1 if "query_position" in name else values[0].numel()
        return gain / math.sqrt(fan_in) * torch.randn(values.shape, generator=generator)
    if kind == "weight":
        return torch.rand(values.shape, generator=generator) + 0.5
    if kind == "running_var":  # with less, what passes a hundred layers grows beyond measure
        return torch.rand(values.shape, generator=generator) + 0.7
    if kind in ("bias", "running_mean"):
        return 0.2 * torch.randn(values.shape, generator=generator)
    raise ValueError(f"{name}: it is not known what is sane for it")


def copy_weights(theirs: Network, ours: Network) -> None:
    """Every number of theirs into its place in ours."""
    with torch.no_grad():
        for _, source, destination in paired_tensors(theirs, ours):
            destination.copy_(source)


def paired_tensors(theirs: Network, ours: Network) -> list[tuple[str, Tensor, Tensor]]:
    """Our name of it, theirs and ours, of every parameter and buffer; both models are accounted for to the last one.

    Errors: a tensor of either without its match, or of another shape.
    """
    names = {id(values): name for name, values in _tensors(ours)}
    pairs = []
    for their_module, our_module in _paired_modules(theirs, ours):
        source, destination = dict(_tensors(their_module)), dict(_tensors(our_module))
        if source.keys() != destination.keys():
            raise ValueError(f"{type(our_module).__name__}: {source.keys() ^ destination.keys()} are in one model only")
        for name, values in source.items():
            if values.shape != destination[name].shape:
                raise ValueError(f"{name}: {tuple(values.shape)} is not {tuple(destination[name].shape)}")
            pairs.append((names[id(destination[name])], values, destination[name]))
    for model, place in ((theirs, 1), (ours, 2)):
        placed = {id(pair[place]) for pair in pairs}
        missing = [name for name, values in _tensors(model) if id(values) not in placed]
        if missing:
            raise ValueError(f"without their match: {missing}")
    return pairs


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    for name, values in module.named_buffers():
        if not name.endswith("num_batches_tracked"):  # a counter, in torch's batch norm alone
            yield name, values


def _paired_modules(theirs: Network, ours: Network) -> Iterator[tuple[nn.Module, nn.Module]]:
    yield theirs.model.backbone.model, ours.backbone.network
    yield theirs.model.input_projection, ours.encoder.projections[0]
    for their_layer, our_layer in zip(theirs.model.encoder.layers, ours.encoder.layers, strict=True):
        yield from _paired_attention(their_layer.self_attn, our_layer.attention)
        yield their_layer.self_attn_layer_norm, our_layer.attention_norm
        yield from _paired_feedforward(their_layer, our_layer)
    yield theirs.model.query_position_embeddings, ours.queries.position
    for their_layer, our_layer in zip(theirs.model.decoder.layers, ours.decoder.layers, strict=True):
        yield from _paired_attention(their_layer.self_attn, our_layer.self_attention)
        yield their_layer.self_attn_layer_norm, our_layer.self_norm
        yield from _paired_attention(their_layer.encoder_attn, our_layer.cross_attention)
        yield their_layer.encoder_attn_layer_norm, our_layer.cross_norm
        yield from _paired_feedforward(their_layer, our_layer)
    yield theirs.model.decoder.layernorm, ours.decoder.norm
    yield theirs.class_labels_classifier, ours.heads.label
    our_linears = [module for module in ours.heads.box if isinstance(module, nn.Linear)]
    yield from zip(theirs.bbox_predictor.layers, our_linears, strict=True)


def _paired_attention(their_attention: Network, our_attention: Network) -> Iterator[tuple[nn.Module, nn.Module]]:
    yield their_attention.q_proj, our_attention.query
    yield their_attention.k_proj, our_attention.key
    yield their_attention.v_proj, our_attention.value
    yield their_attention.o_proj, our_attention.output


def _paired_feedforward(their_layer: Network, our_layer: Network) -> Iterator[tuple[nn.Module, nn.Module]]:
    widen, narrow = (module for module in our_layer.feedforward if isinstance(module, nn.Linear))
    yield their_layer.mlp.fc1, widen
    yield their_layer.mlp.fc2, narrow
    yield their_layer.final_layer_norm, our_layer.feedforward_norm
