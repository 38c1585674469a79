"""Import of checkpoints: detects the format of a file, builds its model and loads the weights."""

import logging
import warnings
from argparse import Namespace
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from detr_lite.build import build_model
from detr_lite.data.coco_names import COCO_NAMES
from detr_lite.model.detr import Detr
from detr_lite.structures import DetrLiteError
from detr_lite.tensor_files import is_state, read_safetensors, read_torch
from detr_lite.text import shorten_list
from detr_lite.weights.arch_info import ORIGINAL, RESNETS, SIZES, ArchInfo, arch_info_from_weights, describe
from detr_lite.weights.checkpoint import KEY, Description, is_exported, load_model, write_checkpoint
from detr_lite.weights.files import check_new_checkpoint
from detr_lite.weights.huggingface import arch_info_from_config, find_weights, key_mapping_of, preprocessing_from_config
from detr_lite.weights.key_mapping import KeyMapping, State, differences
from detr_lite.weights.official import OfficialKeyMapping, arch_info_from_arguments

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImportedModel:
    """A model with its weights, in evaluation mode, and its description."""

    model: Detr
    description: Description
    notes: tuple[str, ...]
    """What was found in the file and what was assumed, a line each."""
    is_dilation_known: bool
    """False: neither the file nor the caller says whether the last stage is dilated."""


def import_checkpoint(path: Path | str, dc5: bool | None = None, heads: int | None = None) -> Detr:
    """The model of a checkpoint of any supported format; see `load_any_checkpoint`. Warns if DC5 is assumed."""
    imported = load_any_checkpoint(Path(path), dc5, heads)
    if not imported.is_dilation_known:
        warnings.warn(
            f"{path}: the weights do not show whether the last stage is dilated (DC5); it is assumed to be "
            f"{'dilated' if imported.description.config.model.dilation else 'not dilated'}; set dc5=True or dc5=False",
            stacklevel=2,
        )
    return imported.model


def convert_checkpoint(
    source: Path, output: Path, dc5: bool | None = None, heads: int | None = None, overwrite: bool = False
) -> None:
    """Convert a checkpoint of any supported format to one of detr_lite, and log what it contains."""
    check_new_checkpoint(output, overwrite)
    imported = load_any_checkpoint(source, dc5, heads)
    write_checkpoint(output, imported.model, imported.description)
    for note in imported.notes:
        logger.info(note)
    logger.info(f"wrote {output}")


def load_any_checkpoint(
    path: Path, dc5: bool | None = None, heads: int | None = None, defaults: ArchInfo = ORIGINAL
) -> ImportedModel:
    """Load a checkpoint of detr_lite, a `.pth` of the original DETR, or a DETR of `transformers`, without running code.

    The model computes what it does in its own program; unused rows of the class layer are kept.

    Args:
        path: a file, or a folder of `transformers`, or one that `detr-lite export` wrote.
        dc5, heads: whether the last stage is dilated and the number of attention heads, which weights do not show.
        defaults: dilation and number of heads if neither the caller nor the file says them.

    Errors: an unsupported format or architecture; missing or unexpected keys and wrong shapes, all of which are named.
    """
    if not path.exists():
        raise DetrLiteError(f"{path}: no such file or folder")
    try:
        if is_exported(path):
            return _load_own(path, dc5, heads)
        content, config = _open(path)
        if isinstance(content, dict) and KEY in content:
            return _load_own(path, dc5, heads)
        return _load_external(_detect_format(content, config), dc5, heads, defaults)
    except DetrLiteError as error:  # the given path precedes every message, once
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")
        raise DetrLiteError(f"{path}: {reason}") from error


@dataclass(frozen=True)
class _ExternalCheckpoint:
    """Weights of another program."""

    format: str
    key_mapping: KeyMapping
    state: State
    info: ArchInfo
    """From the settings in its files."""


def _open(path: Path) -> tuple[Any, Path | None]:
    """The content of the file, and the config.json beside it."""
    if path.is_dir() and not (path / "config.json").is_file():
        raise DetrLiteError(
            "the folder has neither a config.json, as of transformers, nor one .safetensors with its .json, as of "
            "detr-lite export"
        )
    file = find_weights(path) if path.is_dir() else path
    config = file.parent / "config.json"
    content = read_safetensors(file) if file.suffix == ".safetensors" else read_torch(file, allowed=[Namespace])
    return content, config if config.is_file() else None


def _detect_format(content: Any, config: Path | None) -> _ExternalCheckpoint:
    state = content.get("model", content) if isinstance(content, dict) else None
    if not is_state(state):
        raise DetrLiteError("neither a checkpoint of detr_lite nor the weights of a DETR")
    # Frozen batch norm has no step counter.
    state = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    _reject_other_architectures(state)
    if any(name.startswith("transformer.") for name in state):
        info = arch_info_from_arguments(content.get("args"))
        return _ExternalCheckpoint("the original DETR", OfficialKeyMapping(), state, info)
    if any(name.startswith(("model.encoder.", "model.decoder.", "class_labels_classifier.")) for name in state):
        info = ArchInfo() if config is None else arch_info_from_config(config)
        preprocessing = None if config is None else config.with_name("preprocessor_config.json")
        if preprocessing is not None and preprocessing.is_file():
            info = info.with_defaults(preprocessing_from_config(preprocessing))
        return _ExternalCheckpoint("DETR of transformers", key_mapping_of(state), state, info)
    raise DetrLiteError("its keys are not those of a DETR of the original, of transformers or of detr_lite")


def _reject_other_architectures(names: Collection[str]) -> None:
    """Their keys are mostly those of DETR, so that a list of differences would not be helpful."""
    if any(".sampling_offsets." in name for name in names):
        raise DetrLiteError("a deformable DETR; only the original architecture is supported")
    if any(name.startswith(("detr.", "mask_head.", "bbox_attention.")) for name in names):
        raise DetrLiteError("a DETR for segmentation; only DETR for detection is supported")


def _load_external(
    checkpoint: _ExternalCheckpoint, dc5: bool | None, heads: int | None, defaults: ArchInfo
) -> ImportedModel:
    _check_options(checkpoint.info, dc5, heads)
    given = checkpoint.info.with_defaults(ArchInfo(dilation=dc5, heads=heads))
    inferred = arch_info_from_weights(
        {checkpoint.key_mapping.internal_name(name): tuple(value.shape) for name, value in checkpoint.state.items()}
    )
    if inferred.backbone is None and given.backbone is None:
        raise DetrLiteError(f"its backbone is none of {', '.join(RESNETS.values())}")
    _check_sizes(given, inferred)
    # Sizes come from weights alone: where these are missing, settings must not make a model of any size.
    others = replace(given, dim=None, encoder_layers=None, decoder_layers=None, feedforward_dim=None, num_queries=None)
    assumed = ArchInfo(dilation=defaults.dilation, heads=defaults.heads).with_defaults(ORIGINAL)
    info = inferred.with_defaults(others).with_defaults(assumed)

    description = describe(info)
    model = build_model(description.config.model, len(description.categories), for_checkpoint=True)
    found = differences(checkpoint.key_mapping.to_external(model.state_dict()), checkpoint.state)
    if found:
        raise DetrLiteError(f"its weights do not match a DETR with {info.backbone}; {'; '.join(found)}")
    model.load_state_dict(checkpoint.key_mapping.to_internal(checkpoint.state))
    notes = _notes(checkpoint.format, description, given)
    return ImportedModel(model.eval(), description, notes, given.dilation is not None)


def _load_own(path: Path, dc5: bool | None, heads: int | None) -> ImportedModel:
    model, description = load_model(path)
    if not isinstance(model, Detr):
        source = description.config.model.source
        raise DetrLiteError(f"{path}: a fine-tuned {source}, which initializes no other model")
    names = {category.id: category.name for category in description.categories}
    info = ArchInfo(dilation=description.config.model.dilation, heads=description.config.model.heads, names=names)
    info = replace(info, resize=description.resize, mean=description.mean, std=description.std)
    _check_options(info, dc5, heads)
    return ImportedModel(model, description, _notes("detr_lite", description, info), is_dilation_known=True)


def _check_options(info: ArchInfo, dc5: bool | None, heads: int | None) -> None:
    for option, given, in_file in (("DC5", dc5, info.dilation), ("heads", heads, info.heads)):
        if None not in (given, in_file) and given != in_file:
            raise DetrLiteError(f"{option} was given as {_yes_no(given)}, but the file says {_yes_no(in_file)}")


def _check_sizes(given: ArchInfo, inferred: ArchInfo) -> None:
    """Before the model is built, as settings may describe one that does not fit in memory."""
    both = [(name, getattr(given, name), getattr(inferred, name)) for name in SIZES]
    mismatches = [
        f"{name} is {in_settings} in its settings, but {in_weights} in its weights"
        for name, in_settings, in_weights in both
        if None not in (in_settings, in_weights) and in_settings != in_weights
    ]
    if mismatches:
        raise DetrLiteError("; ".join(mismatches))


def _notes(format: str, description: Description, info: ArchInfo) -> tuple[str, ...]:
    model, names = description.config.model, [category.name for category in description.categories]
    dc5_assumed = " (assumed, as weights do not show it; set --dc5)" if info.dilation is None else ""
    heads_assumed = " (assumed, as weights do not show it; set --heads)" if info.heads is None else ""
    unused = sum(name.startswith("unused ") for name in names)
    if set(COCO_NAMES.values()) <= set(names):
        # The original's code gives models with other classes as many rows.
        classes = "COCO's" + (f", assumed from {len(names) + 1} rows" if info.names is None else "")
    elif names[0] in ("class 0", "LABEL_0"):
        classes = "without names"
    else:
        classes = shorten_list(names, limit=3)
    images_assumed = "" if None not in (info.resize, info.mean, info.std) else " (assumed)"
    return (
        f"format: {format}",
        f"backbone: {model.backbone}; DC5: {_yes_no(model.dilation)}{dc5_assumed}",
        f"transformer: {model.encoder_layers} encoder layers, {model.decoder_layers} decoder layers, "
        f"dim {model.dim}, {model.heads} heads{heads_assumed}, {model.num_queries} queries",
        f"images: {_image_size(description)}{images_assumed}",
        f"classes: {len(names) - unused}, {classes}" + (f"; {unused} more rows are unused" if unused else ""),
    )


def _image_size(description: Description) -> str:
    resize = description.resize
    if resize.kind == "longest":
        return f"longer side at most {resize.size} pixels"
    if resize.kind == "fit":
        return f"longer side {resize.size} pixels"
    return f"shorter side {resize.size} pixels, longer side at most {resize.max_size}"


def _yes_no(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
