"""DETR checkpoints of `transformers`, versions 4 and 5: key mapping, and the settings in their JSON files."""

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.data.transforms import ResizeRule
from detr_lite.structures import DetrLiteError
from detr_lite.weights.arch_info import COCO_LABELS, ArchInfo, arch_info_from_settings
from detr_lite.weights.files import read_json
from detr_lite.weights.key_mapping import KeyMapping

WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")

SETTINGS = {
    "dim": "d_model",
    "heads": "encoder_attention_heads",
    "encoder_layers": "encoder_layers",
    "decoder_layers": "decoder_layers",
    "feedforward_dim": "encoder_ffn_dim",
    "num_queries": "num_queries",
    "dropout": "dropout",
}
"""Field of `ArchInfo` -> key in config.json."""

REQUIRED = {
    "position_embedding_type": "sine",
    "activation_function": "relu",
    "num_channels": 3,
    "auxiliary_loss": False,  # with it their decoder also normalizes between layers
}
REQUIRED_OF_RESNET = {"hidden_act": "relu", "downsample_in_first_stage": False, "downsample_in_bottleneck": False}
"""Settings that weights do not show, and the only values that `detr` supports."""


PLAIN_RESNET = re.compile(r"((wide|tv)_)?resnet\d+[cdst]?(_2)?")
"""timm's ResNets with plain batch norm. In other networks norms contain the activation, which `transformers` drops when
it freezes them, or the output depends on modules without weights."""


def key_mapping_of(names: Collection[str]) -> KeyMapping:
    """The key mapping of a file: versions 4 and 5 differ in three names, and there are two kinds of ResNet."""
    output = "o_proj" if any(".o_proj." in name for name in names) else "out_proj"
    hidden = "mlp.fc" if any(".mlp.fc" in name for name in names) else "fc"
    backbone = "model.backbone.model"
    if any(name.startswith("model.backbone.conv_encoder.") for name in names):
        backbone = "model.backbone.conv_encoder.model"
    if any(name.startswith(f"{backbone}._backbone.") for name in names):
        backbone += "._backbone"  # version 4 with a backbone_config of timm's
    is_timm = not any(name.startswith(f"{backbone}.embedder.") for name in names)
    modules = {
        **({"backbone.network": backbone} if is_timm else _transformers_resnet(backbone)),
        "encoder.projections.0": "model.input_projection",
        "queries.position": "model.query_position_embeddings",
        "decoder.norm": "model.decoder.layernorm",
        "heads.label": "class_labels_classifier",
        "heads.box.0": "bbox_predictor.layers.0",
        "heads.box.2": "bbox_predictor.layers.1",
        "heads.box.4": "bbox_predictor.layers.2",
    }
    for stack, attention, attention_norm, external_attention in (
        ("encoder", "attention", "attention_norm", "self_attn"),
        ("decoder", "self_attention", "self_norm", "self_attn"),
        ("decoder", "cross_attention", "cross_norm", "encoder_attn"),
    ):
        internal, external = f"{stack}.layers.*", f"model.{stack}.layers.*"
        modules |= {
            f"{internal}.{attention}.query": f"{external}.{external_attention}.q_proj",
            f"{internal}.{attention}.key": f"{external}.{external_attention}.k_proj",
            f"{internal}.{attention}.value": f"{external}.{external_attention}.v_proj",
            f"{internal}.{attention}.output": f"{external}.{external_attention}.{output}",
            f"{internal}.{attention_norm}": f"{external}.{external_attention}_layer_norm",
            f"{internal}.feedforward.0": f"{external}.{hidden}1",
            f"{internal}.feedforward.3": f"{external}.{hidden}2",
            f"{internal}.feedforward_norm": f"{external}.final_layer_norm",
        }
    return KeyMapping(modules)


def _transformers_resnet(backbone: str) -> dict[str, str]:
    """timm's names -> those of the ResNet of `transformers`."""
    modules = {
        "backbone.network.conv1": f"{backbone}.embedder.embedder.convolution",
        "backbone.network.bn1": f"{backbone}.embedder.embedder.normalization",
    }
    for stage in range(4):
        internal, external = f"backbone.network.layer{stage + 1}.*", f"{backbone}.encoder.stages.{stage}.layers.*"
        modules[f"{internal}.downsample.0"] = f"{external}.shortcut.convolution"
        modules[f"{internal}.downsample.1"] = f"{external}.shortcut.normalization"
        for part in range(3):
            modules[f"{internal}.conv{part + 1}"] = f"{external}.layer.{part}.convolution"
            modules[f"{internal}.bn{part + 1}"] = f"{external}.layer.{part}.normalization"
    return modules


def find_weights(folder: Path) -> Path:
    """The file of weights in a folder. Errors: none, or weights in several files."""
    for name in WEIGHT_FILES:
        if (folder / name).is_file():
            return folder / name
        if (folder / f"{name}.index.json").is_file():
            raise DetrLiteError(
                'its weights are in several files; save them in one with save_pretrained(folder, max_shard_size="5GB")'
            )
    raise DetrLiteError(f"no weights found, neither {' nor '.join(WEIGHT_FILES)}")


def arch_info_from_config(path: Path) -> ArchInfo:
    """What the config.json beside the weights says.

    Errors: a model other than DETR for detection, and settings that `detr` does not support and weights do not show.
    """
    config = read_json(path)
    kind = config.get("model_type")
    if kind != "detr":
        raise DetrLiteError(f'{path}: model_type is {kind!r}; only "detr" is supported')
    heads = config.get("architectures") or ["DetrForObjectDetection"]
    if heads != ["DetrForObjectDetection"]:
        raise DetrLiteError(f"{path}: architectures is {heads!r}; only DetrForObjectDetection is supported")
    _require(config, REQUIRED, path)
    for setting in ("attention_heads", "ffn_dim"):
        if config.get(f"encoder_{setting}") != config.get(f"decoder_{setting}"):
            raise DetrLiteError(f"{path}: encoder_{setting} and decoder_{setting} differ, which is not supported")
    backbone = config.get("backbone_config")
    if isinstance(backbone, dict) and backbone.get("model_type") == "resnet":
        _require(backbone, REQUIRED_OF_RESNET, path)
    info = arch_info_from_settings(config, SETTINGS, str(path))
    names = _names(config, path)
    classes = None if names is None else len(config["id2label"])
    return info.with_defaults(ArchInfo(_backbone(config, path), _dilation(config, path), classes=classes, names=names))


def preprocessing_from_config(path: Path) -> ArchInfo:
    """Resize rule and normalization from the preprocessor_config.json beside the weights, where given.

    Errors: a normalization that is not three numbers.
    """
    settings = read_json(path)
    size = settings.get("size")
    sides = size if isinstance(size, dict) else {"shortest_edge": size, "longest_edge": settings.get("max_size")}
    shortest, longest = sides.get("shortest_edge"), sides.get("longest_edge")
    resize = ResizeRule("shortest", shortest, longest) if type(shortest) is type(longest) is int else None
    return ArchInfo(
        resize=resize, mean=_channels(settings, "image_mean", path), std=_channels(settings, "image_std", path)
    )


def _channels(settings: dict[str, Any], key: str, path: Path) -> tuple[float, ...] | None:
    values = settings.get(key)
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != 3 or any(type(value) not in (int, float) for value in values):
        raise DetrLiteError(f"{path}: {key} is {values!r}; it must be three numbers")
    return tuple(float(value) for value in values)


def _require(settings: dict[str, Any], required: dict[str, Any], path: Path) -> None:
    for key, value in required.items():
        if settings.get(key, value) != value:
            raise DetrLiteError(f"{path}: {key} is {settings[key]!r}; only {value!r} is supported")


def _dilation(config: dict[str, Any], path: Path) -> bool | None:
    """Whether `transformers` dilates the last stage; None if the file sets `dilation` and `transformers` ignores it.

    A backbone_config, and the ResNet of `transformers`, ignore `dilation`.
    """
    backbone_config = config.get("backbone_config")
    options = backbone_config or config.get("backbone_kwargs")
    stride = options.get("output_stride") if isinstance(options, dict) else None
    if stride not in (None, 16, 32):
        raise DetrLiteError(f"{path}: the backbone's output_stride is {stride!r}; only 16 and 32 are supported")
    if stride == 16:
        return True
    if stride is None and not isinstance(backbone_config, dict) and config.get("use_timm_backbone", True):
        return bool(config.get("dilation"))  # also with other backbone_kwargs, as in version 4
    return None if config.get("dilation") else False


def _backbone(config: dict[str, Any], path: Path) -> str | None:
    backbone_config = config.get("backbone_config")
    name = (backbone_config if isinstance(backbone_config, dict) else config).get("backbone")
    if not isinstance(backbone_config, dict) and not config.get("use_timm_backbone", True):
        return None  # a name on the hub; the weights show which ResNet it is
    if isinstance(name, str) and not PLAIN_RESNET.fullmatch(name.split(".")[0]):
        raise DetrLiteError(f"{path}: its backbone is {name}; only timm's plain ResNets such as resnet50 are supported")
    return name if isinstance(name, str) else None


def _names(config: dict[str, Any], path: Path) -> dict[int, str] | None:
    """Label -> class name, without those named "N/A".

    The published files also name ten ids that COCO does not use, such as 71 "door". If all of COCO's names are at their
    ids, the others count as unused.
    """
    labels = config.get("id2label")
    if labels is None:
        return None
    try:
        names = {int(label): name for label, name in labels.items() if name.upper() != "N/A"}
    except (AttributeError, ValueError) as error:
        raise DetrLiteError(f"{path}: id2label does not map numbers to names") from error
    return COCO_NAMES if len(labels) == COCO_LABELS and COCO_NAMES.items() <= names.items() else names
