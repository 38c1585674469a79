"""Export of checkpoints: safetensors with a JSON description, a folder of transformers, a `.pth` of the original."""

import json
import logging
from pathlib import Path
from typing import Literal

import safetensors.torch
import torch

from detr_lite.families.network import FamilyDetr
from detr_lite.io import atomic_write
from detr_lite.model.detr import Detr
from detr_lite.structures import DetrLiteError
from detr_lite.weights.any_model import load_any_model
from detr_lite.weights.arch_info import RESNETS
from detr_lite.weights.checkpoint import KEY, Description
from detr_lite.weights.checkpoint_path import CONFIG_FILE
from detr_lite.weights.files import refuse_existing
from detr_lite.weights.key_mapping import State
from detr_lite.weights.official import OfficialKeyMapping
from detr_lite.weights.pretrained_source import PROCESSOR_FILE, processor_of

Format = Literal["safetensors", "transformers", "official"]

logger = logging.getLogger(__name__)


def export_checkpoint(checkpoint: Path, output: Path, format: Format = "safetensors", overwrite: bool = False) -> None:
    """Write a checkpoint in another format, and log what was written.

    Args:
        output: for safetensors NAME.safetensors, beside which NAME.json is written, or a folder; for transformers a
            folder; for official a file.

    Errors: an existing output without `overwrite`, and a model that the format does not support.
    """
    if format == "safetensors" and output.suffix != ".safetensors":
        output = output / "model.safetensors"
    files = {
        "safetensors": [output, output.with_suffix(".json")],
        "transformers": [output / name for name in (CONFIG_FILE, PROCESSOR_FILE, "model.safetensors")],
        "official": [output],
    }[format]
    for file in files:
        refuse_existing(file, overwrite)
    model, description = load_any_model(checkpoint)
    if format == "safetensors":
        write_safetensors(output, model, description)
    elif format == "transformers":
        write_transformers(output, model, description)
    else:
        write_official(output, model, description)
        config, rows = description.config.model, len(description.categories) + 1
        logger.info(f"the file does not contain DC5 ({'yes' if config.dilation else 'no'}) and heads ({config.heads})")
        logger.info(
            f"the class layer has {rows} rows, without names of classes; in the original's code set num_classes = "
            f"{rows - 1}"
        )
    if format != "safetensors" and description.thresholds is not None:
        logger.info(
            "the format has no place for score thresholds; the best one for all classes is "
            f"{description.thresholds.overall:g}"
        )
    logger.info(f"wrote {' and '.join(map(str, files))}")


def write_safetensors(path: Path, model: Detr | FamilyDetr, description: Description) -> None:
    """Write NAME.safetensors and NAME.json, which `Detector.from_checkpoint` loads; nothing is pickled."""
    weights = safetensors.torch.save(_contiguous(model.state_dict()), metadata={"format": "pt"})
    content = json.dumps({KEY: description.to_dict()}, indent=2) + "\n"
    atomic_write(path.with_suffix(".json"), lambda file: file.write(content.encode()))
    atomic_write(path, lambda file: file.write(weights))


def write_transformers(folder: Path, model: Detr | FamilyDetr, description: Description) -> None:
    """Write a folder that `from_pretrained` of transformers reads: config, weights and preprocessing.

    Errors: a model that is none of transformers', and a resize rule that transformers does not have.
    """
    if isinstance(model, Detr):
        raise DetrLiteError(
            f'model.name "{description.config.model.name}" is not a model of transformers; export safetensors'
        )
    processor = processor_of(description)
    folder.mkdir(parents=True, exist_ok=True)
    model.network.save_pretrained(folder)
    processor.save_pretrained(folder)


def write_official(path: Path, model: Detr | FamilyDetr, description: Description) -> None:
    """Write {"model": state_dict} with the original's keys, as its `--resume` loads it; labels count from 0.

    Errors: a model that is not of the original architecture.
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
    content = {"model": _contiguous(OfficialKeyMapping().to_external(state))}
    atomic_write(path, lambda file: torch.save(content, file))


def _contiguous(state: State) -> State:
    """Weights of convolutions may be in channels-last memory format, which safetensors rejects."""
    # Copies, because heads of transformers' models share tensors, which safetensors rejects, too.
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}
