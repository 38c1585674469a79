"""The `.pth` files of the original DETR (facebookresearch/detr): key mapping, and the settings in their `args`."""

import re
from argparse import Namespace
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detr_lite.structures import DetrLiteError
from detr_lite.weights.arch_info import ArchInfo, arch_info_from_settings
from detr_lite.weights.key_mapping import KeyMapping, State

MODULES = {
    "backbone.network": "backbone.0.body",
    "encoder.projections.0": "input_proj",
    "queries.position": "query_embed",
    "encoder.layers.*.attention": "transformer.encoder.layers.*.self_attn",
    "encoder.layers.*.attention.output": "transformer.encoder.layers.*.self_attn.out_proj",
    "encoder.layers.*.attention_norm": "transformer.encoder.layers.*.norm1",
    "encoder.layers.*.feedforward.0": "transformer.encoder.layers.*.linear1",
    "encoder.layers.*.feedforward.3": "transformer.encoder.layers.*.linear2",
    "encoder.layers.*.feedforward_norm": "transformer.encoder.layers.*.norm2",
    "decoder.layers.*.self_attention": "transformer.decoder.layers.*.self_attn",
    "decoder.layers.*.self_attention.output": "transformer.decoder.layers.*.self_attn.out_proj",
    "decoder.layers.*.self_norm": "transformer.decoder.layers.*.norm1",
    "decoder.layers.*.cross_attention": "transformer.decoder.layers.*.multihead_attn",
    "decoder.layers.*.cross_attention.output": "transformer.decoder.layers.*.multihead_attn.out_proj",
    "decoder.layers.*.cross_norm": "transformer.decoder.layers.*.norm2",
    "decoder.layers.*.feedforward.0": "transformer.decoder.layers.*.linear1",
    "decoder.layers.*.feedforward.3": "transformer.decoder.layers.*.linear2",
    "decoder.layers.*.feedforward_norm": "transformer.decoder.layers.*.norm3",
    "decoder.norm": "transformer.decoder.norm",
    "heads.label": "class_embed",
    "heads.box.0": "bbox_embed.layers.0",
    "heads.box.2": "bbox_embed.layers.1",
    "heads.box.4": "bbox_embed.layers.2",
}

ARGUMENTS = {
    "dim": "hidden_dim",
    "heads": "nheads",
    "encoder_layers": "enc_layers",
    "decoder_layers": "dec_layers",
    "feedforward_dim": "dim_feedforward",
    "num_queries": "num_queries",
    "dropout": "dropout",
}
"""Field of `ArchInfo` -> name in the `args` of a training checkpoint."""

_PROJECTION = re.compile(r"(.*_att?n)\.(query|key|value)\.(weight|bias)")


class OfficialKeyMapping(KeyMapping):
    """`nn.MultiheadAttention` stores the projections of query, key and value in one tensor, in this order."""

    def __init__(self) -> None:
        super().__init__(MODULES)

    def to_external(self, state: Mapping[str, Tensor]) -> State:
        others: State = {}
        projections: dict[str, State] = {}
        for name, value in super().to_external(state).items():
            found = _PROJECTION.fullmatch(name)
            if found is None:
                others[name] = value
            else:
                module, part, kind = found.groups()
                projections.setdefault(f"{module}.in_proj_{kind}", {})[part] = value
        fused = {name: torch.cat([part["query"], part["key"], part["value"]]) for name, part in projections.items()}
        return others | fused

    def to_internal(self, state: Mapping[str, Tensor]) -> State:
        split: State = {}
        for name, value in state.items():
            module, fused, kind = name.partition(".in_proj_")
            if not fused:
                split[name] = value
                continue
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[f"{module}.{part}.{kind}"] = rows
        return super().to_internal(split)


def arch_info_from_arguments(arguments: Any) -> ArchInfo:
    """What the `args` of a training checkpoint say; files of weights alone have none.

    Errors: settings that `detr` does not support and weights do not show.
    """
    if not isinstance(arguments, Namespace):
        return ArchInfo()
    settings = vars(arguments)
    if settings.get("pre_norm"):
        raise DetrLiteError("args: pre_norm is set; only post-norm models are supported")
    dilation = settings.get("dilation")
    info = arch_info_from_settings(settings, ARGUMENTS, "args")
    return info if dilation is None else info.with_defaults(ArchInfo(dilation=bool(dilation)))
