"""Where ten DETR families of `transformers` keep their attention modules."""

from dataclasses import dataclass
from typing import Any

from torch import nn

from detr_lite.families.registry import FAMILIES
from detr_lite.structures import DetrLiteError

DENSE = tuple(name for name, family in FAMILIES.items() if not family.is_deformable)
"""Every query attends to every token."""
HYBRID = tuple(name for name, family in FAMILIES.items() if family.boxes_include_padding)
"""Deformable decoders; encoders with dense self-attention in the coarsest level (arXiv 2304.08069, section 4.2)."""
GROUPED = ("lw_detr", "rf_detr")
"""Deformable decoders, vision transformers as encoders."""


@dataclass(frozen=True)
class Anatomy:
    """The attention modules of a network; a list has one for each layer."""

    family: str
    heads: int
    """Of the decoder's cross-attention."""
    cross: list[nn.Module]
    queries: list[nn.Module]
    encoder: list[nn.Module]
    """Dense self-attention of the encoder; none where it is deformable or in the windows of a vision transformer."""
    encoder_map: nn.Module | None
    """The module whose output is the feature map that the encoder's self-attention sees."""
    patch_size: int | None
    """Of a vision transformer whose patches are the tokens."""

    @property
    def is_dense(self) -> bool:
        return self.family in DENSE


def anatomy_of(network: Any) -> Anatomy:
    """The attention modules of a `...ForObjectDetection`. Errors: a family that is not among `FAMILIES`."""
    config = network.config
    family = str(getattr(config, "model_type", type(network).__name__)).replace("-", "_")
    if family not in FAMILIES:
        raise DetrLiteError(f"the attention of {family} cannot be shown; families that can: {', '.join(FAMILIES)}")
    model = network.model
    layers = list(model.decoder.layers)
    encoder, encoder_map = _encoder_of(family, model)
    if family == "dab_detr":
        cross = [layer.cross_attn.cross_attn for layer in layers]
        queries = [layer.self_attn.self_attn for layer in layers]
    else:
        cross = [layer.cross_attn if family in GROUPED else layer.encoder_attn for layer in layers]
        queries = [layer.self_attn for layer in layers]
    return Anatomy(
        family=family,
        heads=config.decoder_cross_attention_heads if family in GROUPED else config.decoder_attention_heads,
        cross=cross,
        queries=queries,
        encoder=encoder,
        encoder_map=encoder_map,
        patch_size=config.backbone_config.patch_size if family in GROUPED else None,
    )


def _encoder_of(family: str, model: Any) -> tuple[list[nn.Module], nn.Module | None]:
    if family in DENSE:
        return [layer.self_attn for layer in model.encoder.layers], model.input_projection
    # The smallest DEIMv2 have encoders of convolutions alone.
    if family not in HYBRID or not len(getattr(model.encoder, "aifi", ())):
        return [], None
    levels = list(model.encoder.encode_proj_layers)
    coarsest = model.encoder.aifi[levels.index(max(levels))]
    return [layer.self_attn for layer in coarsest.layers], coarsest
