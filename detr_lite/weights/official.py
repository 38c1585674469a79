"""The original DETR's `.pth` files (facebookresearch/detr): their names for our weights, in both directions."""

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
"""Our name of what a training file's `args` say -> theirs."""

_PROJECTION = re.compile(r"(.*_att?n)\.(query|key|value)\.(weight|bias)")


class OfficialKeyMapping(KeyMapping):
    """torch's attention keeps the projections of query, key and value in one tensor, in this order."""

    def __init__(self) -> None:
        super().__init__(MODULES)

    def to_theirs(self, state: Mapping[str, Tensor]) -> State:
        theirs: State = {}
        parts: dict[str, State] = {}
        for name, value in super().to_theirs(state).items():
            projection = _PROJECTION.fullmatch(name)
            if projection is None:
                theirs[name] = value
            else:
                module, part, kind = projection.groups()
                parts.setdefault(f"{module}.in_proj_{kind}", {})[part] = value
        fused = {name: torch.cat([part["query"], part["key"], part["value"]]) for name, part in parts.items()}
        return theirs | fused

    def to_ours(self, state: Mapping[str, Tensor]) -> State:
        split: State = {}
        for name, value in state.items():
            module, fused, kind = name.partition(".in_proj_")
            if not fused:
                split[name] = value
                continue
            for part, rows in zip(("query", "key", "value"), value.chunk(3), strict=True):
                split[f"{module}.{part}.{kind}"] = rows
        return super().to_ours(split)


def arch_info_from_arguments(arguments: Any) -> ArchInfo:
    """What a training file's `args` say; files of weights alone have none.

    Errors: a model that differs from ours in what weights do not show.
    """
    if not isinstance(arguments, Namespace):
        return ArchInfo()
    settings = vars(arguments)
    if settings.get("pre_norm"):
        raise DetrLiteError("args: pre_norm is set; only models that norm after each part are read")
    dilation = settings.get("dilation")
    said = arch_info_from_settings(settings, ARGUMENTS, "args")
    return said if dilation is None else said.or_else(ArchInfo(dilation=bool(dilation)))
