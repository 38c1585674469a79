"""Weights of any kind, ours and other people's: which kind a file is, and the model in it."""

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
from detr_lite.text import command_line
from detr_lite.weights.arch_info import ORIGINAL, RESNETS, SIZES, ArchInfo, arch_info_from_weights, describe
from detr_lite.weights.checkpoint import KEY, Description, is_exported, load_model, write_checkpoint
from detr_lite.weights.files import is_state, read_safetensors, read_torch, refuse_existing
from detr_lite.weights.huggingface import arch_info_from_config, find_weights, key_mapping_of, preprocessing_from_config
from detr_lite.weights.key_mapping import KeyMapping, State, differences
from detr_lite.weights.official import OfficialKeyMapping, arch_info_from_arguments


@dataclass(frozen=True)
class Imported:
    """A model with its weights, in evaluation mode, and what is known of it."""

    model: Detr
    description: Description
    notes: tuple[str, ...]
    """What was recognised and what was assumed, a line each."""
    is_dilation_told: bool
    """Whether the file or the caller said if the last stage is dilated; else it was assumed."""


def import_checkpoint(path: Path | str, dc5: bool | None = None, heads: int | None = None) -> Detr:
    """The model in a checkpoint of any kind; see `read_foreign`. It warns where DC5 is assumed."""
    imported = read_foreign(Path(path), dc5, heads)
    if not imported.is_dilation_told:
        warnings.warn(
            f"{path}: the weights do not tell whether the last stage is dilated (DC5), and it is taken for "
            f"{'dilated' if imported.description.config.model.dilation else 'not dilated'}; give dc5=True or dc5=False",
            stacklevel=2,
        )
    return imported.model


def convert_checkpoint(
    source: Path, output: Path, dc5: bool | None = None, heads: int | None = None, overwrite: bool = False
) -> None:
    """Write a checkpoint of any kind as one of ours, and print what it was."""
    if output.suffix == ".safetensors":
        raise DetrLiteError(f"{output}: name a .ckpt file; {command_line('export')} makes .safetensors of it")
    refuse_existing(output, overwrite)
    imported = read_foreign(source, dc5, heads)
    write_checkpoint(output, imported.model, imported.description)
    print("\n".join((*imported.notes, f"written    {output}")))


def read_foreign(
    path: Path, dc5: bool | None = None, heads: int | None = None, otherwise: ArchInfo = ORIGINAL
) -> Imported:
    """Read a checkpoint of ours, the original DETR's `.pth`, or a DETR of `transformers`; no code in it is run.

    The outputs are those of the model in its own program: every row of the class layer is kept, also those that stand
    for no class.

    Args:
        path: a file, or a folder of `transformers` or of `detr-lite export`.
        dc5, heads: what weights do not tell, for files that do not say it either.
        otherwise: what is assumed of the two where nobody says them; by default no, and 8.

    Errors: another kind of file or of model; a key that is missing, surplus or of another shape: all are named.
    """
    if not path.exists():
        raise DetrLiteError(f"{path}: no such file or folder")
    try:
        if is_exported(path):
            return _read_own(path, dc5, heads)
        content, config = _open(path)
        if isinstance(content, dict) and KEY in content:
            return _read_own(path, dc5, heads)
        return _read(_recognise(content, config), dc5, heads, otherwise)
    except DetrLiteError as error:  # of any depth: what was given always stands before it, once
        reason = str(error).removeprefix(f"{path}: ").removeprefix(f"{path}/")
        raise DetrLiteError(f"{path}: {reason}") from error


@dataclass(frozen=True)
class _Source:
    """Somebody's weights, and what is known of them."""

    kind: str
    layout: KeyMapping
    state: State
    said: ArchInfo


def _open(path: Path) -> tuple[Any, Path | None]:
    """What is in the file, and the config.json beside it."""
    if path.is_dir() and not (path / "config.json").is_file():
        raise DetrLiteError(
            "a folder without config.json, as transformers writes it, or a .safetensors with its .json, as "
            "detr-lite export does"
        )
    file = find_weights(path) if path.is_dir() else path
    config = file.parent / "config.json"
    content = read_safetensors(file) if file.suffix == ".safetensors" else read_torch(file, allowed=[Namespace])
    return content, config if config.is_file() else None


def _recognise(content: Any, config: Path | None) -> _Source:
    state = content.get("model", content) if isinstance(content, dict) else None
    if not is_state(state):
        raise DetrLiteError("neither a checkpoint of detr_lite, nor the weights of a DETR")
    # Frozen batch norm does not count its steps; where they are in a file, they mean nothing.
    state = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    _refuse_relatives(state)
    if any(name.startswith("transformer.") for name in state):
        said = arch_info_from_arguments(content.get("args"))
        return _Source("the original DETR", OfficialKeyMapping(), state, said)
    if any(name.startswith(("model.encoder.", "model.decoder.", "class_labels_classifier.")) for name in state):
        said = ArchInfo() if config is None else arch_info_from_config(config)
        images = None if config is None else config.with_name("preprocessor_config.json")
        if images is not None and images.is_file():
            said = said.or_else(preprocessing_from_config(images))
        return _Source("DETR of transformers", key_mapping_of(state), state, said)
    raise DetrLiteError("its weights are not those of a DETR as the original, transformers or detr_lite name them")


def _refuse_relatives(names: Collection[str]) -> None:
    """Models that have most of a DETR's names, so that a list of what differs would hide what they are."""
    if any(".sampling_offsets." in name for name in names):
        raise DetrLiteError("a deformable DETR; only the original architecture is read")
    if any(name.startswith(("detr.", "mask_head.", "bbox_attention.")) for name in names):
        raise DetrLiteError("a DETR for segmentation; only those for detection are read")


def _read(source: _Source, dc5: bool | None, heads: int | None, otherwise: ArchInfo) -> Imported:
    _refuse_contradiction(source.said, dc5, heads)
    told = source.said.or_else(ArchInfo(dilation=dc5, heads=heads))
    seen = arch_info_from_weights(
        {source.layout.our_name(name): tuple(value.shape) for name, value in source.state.items()}
    )
    if seen.backbone is None and told.backbone is None:
        raise DetrLiteError(f"its backbone is none of {', '.join(RESNETS.values())}")
    _refuse_other_sizes(told, seen)
    # What weights do not show is missing from them, and no setting may then make a model of any size.
    rest = replace(told, dim=None, encoder_layers=None, decoder_layers=None, feedforward_dim=None, num_queries=None)
    assumed = ArchInfo(dilation=otherwise.dilation, heads=otherwise.heads).or_else(ORIGINAL)
    facts = seen.or_else(rest).or_else(assumed)

    description = describe(facts)
    model = build_model(description.config.model, len(description.categories), for_checkpoint=True)
    faults = differences(source.layout.to_theirs(model.state_dict()), source.state)
    if faults:
        raise DetrLiteError(f"not the weights of the {facts.backbone} DETR that they seem to be; {'; '.join(faults)}")
    model.load_state_dict(source.layout.to_ours(source.state))
    return Imported(model.eval(), description, _notes(source.kind, description, told), told.dilation is not None)


def _read_own(path: Path, dc5: bool | None, heads: int | None) -> Imported:
    model, description = load_model(path)
    names = {category.id: category.name for category in description.categories}
    told = ArchInfo(dilation=description.config.model.dilation, heads=description.config.model.heads, names=names)
    told = replace(told, resize=description.resize, mean=description.mean, std=description.std)
    _refuse_contradiction(told, dc5, heads)
    return Imported(model, description, _notes("detr_lite", description, told), is_dilation_told=True)


def _refuse_contradiction(told: ArchInfo, dc5: bool | None, heads: int | None) -> None:
    for option, given, said in (("DC5", dc5, told.dilation), ("heads", heads, told.heads)):
        if None not in (given, said) and given != said:
            raise DetrLiteError(f"{option}: {_word(given)}, as asked for, but the file says {_word(said)}")


def _refuse_other_sizes(told: ArchInfo, seen: ArchInfo) -> None:
    """Before the model is built: settings may ask for one that no machine can hold."""
    both = [(name, getattr(told, name), getattr(seen, name)) for name in SIZES]
    faults = [
        f"{name}: {said} by its settings, {shown} by its weights"
        for name, said, shown in both
        if None not in (said, shown) and said != shown
    ]
    if faults:
        raise DetrLiteError("; ".join(faults))


def _notes(kind: str, description: Description, told: ArchInfo) -> tuple[str, ...]:
    model, names = description.config.model, [category.name for category in description.categories]
    dc5_assumed = " (assumed; weights do not tell: --dc5)" if told.dilation is None else ""
    heads_assumed = " (assumed; weights do not tell: --heads)" if told.heads is None else ""
    unused = sum(name.startswith("unused ") for name in names)
    if set(COCO_NAMES.values()) <= set(names):
        # Many a model tuned on classes of its own has as many rows, for the original's code makes them so.
        classes = "COCO's names" + (f", assumed from {len(names) + 1} rows" if told.names is None else "")
    elif names[0] in ("class 0", "LABEL_0"):
        classes = "their names are not known"
    else:
        classes = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return (
        f"kind       {kind}",
        f"backbone   {model.backbone}; DC5: {_word(model.dilation)}{dc5_assumed}",
        f"layers     {model.encoder_layers} in the encoder, {model.decoder_layers} in the decoder, {model.dim} wide; "
        f"heads: {model.heads}{heads_assumed}",
        f"queries    {model.num_queries}",
        f"images     {_images(description)}" + ("" if None not in (told.resize, told.mean, told.std) else " (assumed)"),
        f"classes    {len(names) - unused}: {classes}" + (f"; {unused} more rows stand for nothing" if unused else ""),
    )


def _images(description: Description) -> str:
    resize = description.resize
    if resize.kind == "longest":
        return f"longer side at most {resize.size} pixels"
    if resize.kind == "fit":
        return f"longer side {resize.size} pixels"
    return f"shorter side {resize.size} pixels, longer side at most {resize.max_size}"


def _word(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
