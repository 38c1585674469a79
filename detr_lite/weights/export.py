"""Our weights for others: safetensors with a plain JSON beside it, or the original DETR's layout."""

import json
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch

from detr_lite.io import atomic_write
from detr_lite.model.detr import Detr
from detr_lite.structures import DetrLiteError
from detr_lite.weights.arch_info import RESNETS
from detr_lite.weights.checkpoint import KEY, Description, load_model
from detr_lite.weights.files import refuse_existing
from detr_lite.weights.key_mapping import State
from detr_lite.weights.official import OfficialKeyMapping

Format = Literal["safetensors", "official"]


def export_checkpoint(checkpoint: Path, output: Path, format: Format = "safetensors", overwrite: bool = False) -> None:
    """Write a checkpoint of ours in another form, and print what was written.

    Args:
        output: for safetensors NAME.safetensors, which gets NAME.json beside it, or a folder for the two; for official
            a file.
    """
    if format == "safetensors" and output.suffix != ".safetensors":
        output = output / "model.safetensors"
    files = [output, output.with_suffix(".json")] if format == "safetensors" else [output]
    for file in files:
        refuse_existing(file, overwrite)
    model, description = load_model(checkpoint)
    if format == "safetensors":
        write_safetensors(output, model, description)
    else:
        write_official(output, model, description)
        config, rows = description.config.model, len(description.categories) + 1
        print(
            f"note       the file does not tell DC5 ({'yes' if config.dilation else 'no'}) and heads ({config.heads})\n"
            f"note       its class layer has {rows} rows, without their names; the original's code makes as many with "
            f"num_classes = {rows - 1}"
        )
    print(f"written    {' and '.join(map(str, files))}")


def write_safetensors(path: Path, model: Detr, description: Description) -> None:
    """NAME.safetensors with NAME.json beside it: all that `Detector.from_checkpoint` needs, and nothing pickled."""
    weights = safetensors.torch.save(_contiguous(model.state_dict()), metadata={"format": "pt"})
    text = json.dumps({KEY: description.to_dict()}, indent=2) + "\n"
    atomic_write(path.with_suffix(".json"), lambda file: file.write(text.encode()))
    atomic_write(path, lambda file: file.write(weights))


def write_official(path: Path, model: Detr, description: Description) -> None:
    """{"model": ...} with the original's names, as its `--resume` takes it; its labels are ours, from 0 on.

    Errors: a model that the original's code cannot build.
    """
    config = description.config.model
    backbone = config.backbone.split(".")[0]
    if config.name != "detr" or len(config.strides) != 1 or config.strides[0] != (16 if config.dilation else 32):
        raise DetrLiteError(
            f"model.name {config.name} with strides {list(config.strides)} is not the original's architecture, "
            '"detr" with the last map of its backbone; export safetensors'
        )
    if backbone not in RESNETS.values():
        raise DetrLiteError(
            f"model.backbone {config.backbone} is not one of the original's, {', '.join(RESNETS.values())}; export "
            "safetensors"
        )
    state = {name: value for name, value in model.state_dict().items() if not name.endswith(".num_batches_tracked")}
    content = {"model": _contiguous(OfficialKeyMapping().to_theirs(state))}
    atomic_write(path, lambda file: torch.save(content, file))


def _contiguous(state: State) -> State:
    """Convolutions' weights lie with channels last in memory, which files need not know."""
    return {name: value.contiguous() for name, value in state.items()}
