"""Tiny random models of the DETR families of `transformers`: exact oracles that need no download."""

from pathlib import Path
from typing import Any

import torch
import transformers

DIM, HEADS, QUERIES = 64, 4, 12
FAMILIES = (
    *("detr", "conditional_detr", "dab_detr", "deformable_detr", "rt_detr", "rt_detr_v2", "d_fine", "deimv2"),
    *("lw_detr", "rf_detr"),
)
STRETCHED = frozenset({"rt_detr", "rt_detr_v2", "d_fine", "deimv2", "lw_detr", "rf_detr"})
"""Families whose images are resized to a square."""
SQUARE = 64
LONGEST = {"shortest_edge": 48, "longest_edge": 80}


def tiny_model(family: str, classes: int = 3, seed: int = 0, **settings: Any) -> Any:
    """A random `...ForObjectDetection` in evaluation mode whose outputs differ from query to query."""
    torch.manual_seed(seed)
    config = tiny_config(family, classes, **settings)
    model = transformers.AutoModelForObjectDetection.from_config(config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        # Their own initialization is so narrow that all queries predict nearly the same, and hides whole branches.
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim < 2:
                parameter.add_(0.05 * noise)
            else:
                is_embedding = "embed" in name and parameter.shape[0] == QUERIES
                parameter.copy_(noise if is_embedding else noise * parameter[0].numel() ** -0.5)
    return model.eval()


def tiny_config(family: str, classes: int = 3, **settings: Any) -> Any:
    names = {index: f"class {index}" for index in range(classes)}
    labels = {"id2label": names, "label2id": {name: index for index, name in names.items()}}
    return getattr(transformers, CONFIG_CLASSES[family])(**{**_SETTINGS[family](), **labels, **settings})


def save_source(model: Any, folder: Path, **processor: Any) -> Path:
    """A folder as on the hub: config.json, model.safetensors and preprocessor_config.json."""
    model.save_pretrained(folder)
    tiny_processor(model.config.model_type.replace("-", "_"), **processor).save_pretrained(folder)
    return folder


def tiny_processor(family: str, **settings: Any) -> Any:
    size = {"height": SQUARE, "width": SQUARE} if family in STRETCHED else LONGEST
    defaults = {"size": size, "do_pad": family not in STRETCHED}
    return getattr(transformers, PROCESSOR_CLASSES[family])(**{**defaults, **settings})


CONFIG_CLASSES = {
    "detr": "DetrConfig",
    "conditional_detr": "ConditionalDetrConfig",
    "dab_detr": "DabDetrConfig",
    "deformable_detr": "DeformableDetrConfig",
    "rt_detr": "RTDetrConfig",
    "rt_detr_v2": "RTDetrV2Config",
    "d_fine": "DFineConfig",
    "deimv2": "Deimv2Config",
    "lw_detr": "LwDetrConfig",
    "rf_detr": "RfDetrConfig",
}

PROCESSOR_CLASSES = {
    "detr": "DetrImageProcessor",
    "conditional_detr": "ConditionalDetrImageProcessor",
    "dab_detr": "ConditionalDetrImageProcessor",
    "deformable_detr": "DeformableDetrImageProcessor",
    "rt_detr": "RTDetrImageProcessor",
    "rt_detr_v2": "RTDetrImageProcessor",
    "d_fine": "RTDetrImageProcessor",
    "deimv2": "RTDetrImageProcessor",
    "lw_detr": "DeformableDetrImageProcessor",
    "rf_detr": "RfDetrImageProcessor",
}


def _resnet(*stages: str) -> Any:
    return transformers.ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=list(stages),
    )


def _rt_detr_resnet() -> Any:
    return transformers.RTDetrResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        layer_type="basic",
        out_features=["stage2", "stage3", "stage4"],
    )


def _hgnet() -> Any:
    return transformers.HGNetV2Config(
        stem_channels=[3, 8, 8],
        stage_in_channels=[8, 16, 16, 16],
        stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[16, 16, 16, 32],
        stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
        hidden_sizes=[16, 16, 16, 32],
        depths=[1, 1, 1, 1],
        embedding_size=8,
    )


def _plain() -> dict[str, Any]:
    return {
        "num_queries": QUERIES,
        "encoder_layers": 1,
        "decoder_layers": 2,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "encoder_attention_heads": HEADS,
        "decoder_attention_heads": HEADS,
        "d_model": DIM,
    }


def _single_level() -> dict[str, Any]:
    return {**_plain(), "backbone_config": _resnet("stage4")}


def _dab() -> dict[str, Any]:
    settings = {**_single_level(), "hidden_size": DIM}
    del settings["d_model"]
    return settings


def _deformable() -> dict[str, Any]:
    return {
        **_plain(),
        "backbone_config": _resnet("stage2", "stage3", "stage4"),
        "num_feature_levels": 4,
        "with_box_refine": True,
    }


def _hybrid() -> dict[str, Any]:
    return {
        **_plain(),
        "encoder_hidden_dim": DIM,
        "encoder_in_channels": [16, 16, 32],
        "decoder_in_channels": [DIM] * 3,
        "hidden_expansion": 0.5,
        "num_denoising": 4,
    }


def _rt_detr() -> dict[str, Any]:
    return {**_hybrid(), "backbone_config": _rt_detr_resnet()}


def _d_fine() -> dict[str, Any]:
    return {**_hybrid(), "backbone_config": _hgnet(), "depth_mult": 0.34, "decoder_layers": 3}


def _lw_detr() -> dict[str, Any]:
    backbone = transformers.LwDetrViTConfig(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SQUARE,
        pretrain_image_size=SQUARE,
        patch_size=16,
        window_block_indices=[0],
        num_windows=4,
        out_indices=[1, 2],
    )
    return {"backbone_config": backbone, "projector_scale_factors": [2.0, 0.5], **_grouped()}


def _rf_detr() -> dict[str, Any]:
    backbone = transformers.RfDetrDinov2Config(
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        image_size=SQUARE,
        patch_size=16,
        num_windows=2,
        out_features=["stage1", "stage2"],
    )
    return {"backbone_config": backbone, **_grouped()}


def _grouped() -> dict[str, Any]:
    return {
        "d_model": DIM,
        "decoder_ffn_dim": 32,
        "decoder_layers": 2,
        "decoder_self_attention_heads": HEADS,
        "decoder_cross_attention_heads": HEADS,
        "num_queries": QUERIES,
        "group_detr": 2,
    }


_SETTINGS = {
    "detr": _single_level,
    "conditional_detr": _single_level,
    "dab_detr": _dab,
    "deformable_detr": _deformable,
    "rt_detr": _rt_detr,
    "rt_detr_v2": _rt_detr,
    "d_fine": _d_fine,
    "deimv2": _d_fine,
    "lw_detr": _lw_detr,
    "rf_detr": _rf_detr,
}
