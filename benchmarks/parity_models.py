"""transformers' `DetrForObjectDetection` and detr_lite's `detr` with the same random weights.

The modules are paired here independently of `detr_lite.weights`, so that an error in its key mapping would be noticed.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.families.registry import require_transformers
from detr_lite.model.detr import Detr

# transformers is not typed, and submodules are reached by attribute.
Network = Any


@dataclass(frozen=True)
class Sizes:
    """Sizes of both models; by default those of the published DETR."""

    body: str = "resnet50"
    dim: int = 256
    heads: int = 8
    layers: int = 6
    feedforward_dim: int = 2048
    queries: int = 100
    classes: int = 91
    dropout: float = 0.0
    dilation: bool = False
    """Dilated last stage, as in the published "DC5" models."""


def make_parity_models(
    sizes: Sizes,
    seed: int,
    freeze_batch_norm: bool = True,
    attention: Literal["sdpa", "eager"] = "sdpa",
    exact: bool = True,
) -> tuple[Network, Detr]:
    """The reference of transformers and detr_lite's model in evaluation mode, with equal random weights.

    Args:
        freeze_batch_norm: whether detr_lite's model has the original's frozen batch norm, or torch's trainable one.
        attention: implementation used by transformers, fused (sdpa) as in detr_lite or eager, which rounds differently.
        exact: compute detr_lite's backbone in the original's order of operations, which is slower.

    Errors: transformers is not installed, or timm has no such backbone.
    """
    with torch.random.fork_rng(devices=[]):
        # "pretrained" decides about frozen batch norm; with `for_checkpoint` no weights are downloaded.
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
        model = build_model(config, sizes.classes, for_checkpoint=True, exact=exact).eval()
        reference = _make_reference(sizes, attention)
    fill_with_random_values(reference, seed)
    copy_weights(reference, model)
    return reference, model


def _make_reference(sizes: Sizes, attention: str) -> Network:
    require_transformers()
    from transformers import DetrConfig, DetrForObjectDetection, TimmBackboneConfig

    config = DetrConfig(
        # A timm backbone without pretrained weights.
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
        # The original has dropout in all three places; transformers by default only in the first.
        dropout=sizes.dropout,
        attention_dropout=sizes.dropout,
        activation_dropout=sizes.dropout,
        auxiliary_loss=False,
        # The paper's (appendix A.4), given explicitly in case the defaults of transformers change.
        class_cost=1,
        bbox_cost=5,
        giou_cost=2,
        bbox_loss_coefficient=5,
        giou_loss_coefficient=2,
        eos_coefficient=0.1,
        attn_implementation=attention,
    )
    reference = DetrForObjectDetection(config)
    # transformers also has dropout on the projected feature map, unlike the original code.
    reference.model.encoder.dropout = 0.0
    reference.requires_grad_(True)  # including the first stage, which transformers freezes
    reference.eval()
    return reference


@torch.no_grad()
def fill_with_random_values(model: nn.Module, seed: int) -> None:
    """Fill every parameter and buffer, batch norm's too, with random values that keep activations in a usual range.

    The default initialization would hide errors: timm zero-initializes the last scale of each residual block, so that
    its convolutions have no effect, and biases of zero and scales of one can be left out or applied twice unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, values in _tensors(model):
        values.copy_(_draw(name, values, generator))


# Without these gains all queries would attend to the same tokens and give nearly equal predictions.
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
        gain = next((gain for part, gain in GAINS.items() if part in name), 1.0)
        fan_in = 1 if "query_position" in name else values[0].numel()
        return gain / math.sqrt(fan_in) * torch.randn(values.shape, generator=generator)
    if kind == "weight":
        return torch.rand(values.shape, generator=generator) + 0.5
    if kind == "running_var":  # with smaller values activations would explode over a hundred layers
        return torch.rand(values.shape, generator=generator) + 0.7
    if kind in ("bias", "running_mean"):
        return 0.2 * torch.randn(values.shape, generator=generator)
    raise ValueError(f"{name}: there is no rule for its random values")


@torch.no_grad()
def train_batch_norms(network: Network) -> None:
    """Replace the reference's frozen batch norms by trained ones with their values."""
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if type(child).__name__ == "DetrFrozenBatchNorm2d":
                norm = nn.BatchNorm2d(len(child.weight)).train(child.training)
                norm.load_state_dict(child.state_dict(), strict=False)
                setattr(parent, name, norm)


def copy_weights(reference: Network, model: Network) -> None:
    """Copy every parameter and buffer of the reference to detr_lite's model."""
    with torch.no_grad():
        for _, source, destination in paired_tensors(reference, model):
            destination.copy_(source)


def paired_tensors(reference: Network, model: Network) -> list[tuple[str, Tensor, Tensor]]:
    """(name in `model`, tensor of `reference`, tensor of `model`) of every parameter and buffer of both models.

    Errors: a tensor of either model without a counterpart, or of another shape.
    """
    names = {id(values): name for name, values in _tensors(model)}
    pairs = []
    for hf_module, module in _paired_modules(reference, model):
        source, destination = dict(_tensors(hf_module)), dict(_tensors(module))
        if source.keys() != destination.keys():
            raise ValueError(f"{type(module).__name__}: {source.keys() ^ destination.keys()} are in one model only")
        for name, values in source.items():
            if values.shape != destination[name].shape:
                raise ValueError(f"{name}: {tuple(values.shape)} is not {tuple(destination[name].shape)}")
            pairs.append((names[id(destination[name])], values, destination[name]))
    for network, column in ((reference, 1), (model, 2)):
        paired = {id(pair[column]) for pair in pairs}
        missing = [name for name, values in _tensors(network) if id(values) not in paired]
        if missing:
            raise ValueError(f"tensors without a counterpart: {missing}")
    return pairs


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    for name, values in module.named_buffers():
        if not name.endswith("num_batches_tracked"):  # a counter that only torch's batch norm has
            yield name, values


def _paired_modules(reference: Network, model: Network) -> Iterator[tuple[nn.Module, nn.Module]]:
    yield reference.model.backbone.model, model.backbone.network
    yield reference.model.input_projection, model.encoder.projections[0]
    for hf_layer, layer in zip(reference.model.encoder.layers, model.encoder.layers, strict=True):
        yield from _paired_attention(hf_layer.self_attn, layer.attention)
        yield hf_layer.self_attn_layer_norm, layer.attention_norm
        yield from _paired_feedforward(hf_layer, layer)
    yield reference.model.query_position_embeddings, model.queries.position
    for hf_layer, layer in zip(reference.model.decoder.layers, model.decoder.layers, strict=True):
        yield from _paired_attention(hf_layer.self_attn, layer.self_attention)
        yield hf_layer.self_attn_layer_norm, layer.self_norm
        yield from _paired_attention(hf_layer.encoder_attn, layer.cross_attention)
        yield hf_layer.encoder_attn_layer_norm, layer.cross_norm
        yield from _paired_feedforward(hf_layer, layer)
    yield reference.model.decoder.layernorm, model.decoder.norm
    yield reference.class_labels_classifier, model.heads.label
    linears = [module for module in model.heads.box if isinstance(module, nn.Linear)]
    yield from zip(reference.bbox_predictor.layers, linears, strict=True)


def _paired_attention(hf_attention: Network, attention: Network) -> Iterator[tuple[nn.Module, nn.Module]]:
    yield hf_attention.q_proj, attention.query
    yield hf_attention.k_proj, attention.key
    yield hf_attention.v_proj, attention.value
    yield hf_attention.o_proj, attention.output


def _paired_feedforward(hf_layer: Network, layer: Network) -> Iterator[tuple[nn.Module, nn.Module]]:
    first, second = (module for module in layer.feedforward if isinstance(module, nn.Linear))
    yield hf_layer.mlp.fc1, first
    yield hf_layer.mlp.fc2, second
    yield hf_layer.final_layer_norm, layer.feedforward_norm
