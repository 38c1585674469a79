"""The model of whatever is given as a checkpoint."""

from pathlib import Path

from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.structures import DetrLiteError
from detr_lite.weights.checkpoint import Description, load_model
from detr_lite.weights.checkpoint_path import find_checkpoint, is_source, source_name
from detr_lite.weights.onnx_model import OnnxModel, load_onnx
from detr_lite.weights.pretrained_source import load_source


def load_any_model(path: Path | str) -> tuple[Detr | FamilyDetr, Description]:
    """The model of a checkpoint, a run or a source of transformers, in evaluation mode, and its description.

    Errors: those of `find_checkpoint`, `load_model` and `load_source`; an exported ONNX model, which has no weights for
    torch.
    """
    path = find_checkpoint(path)
    if is_onnx(path):
        raise DetrLiteError(f"{path}: an ONNX model cannot be used here; give the checkpoint that it was made from")
    if is_source(path):
        return load_source(source_name(path))
    return load_model(path)


def load_predictor(path: Path | str) -> tuple[Detr | FamilyDetr | OnnxModel, Description]:
    """Like `load_any_model`, and an exported ONNX model as well, which predicts and does nothing else."""
    path = find_checkpoint(path)
    return load_onnx(path) if is_onnx(path) else load_any_model(path)


def is_onnx(path: Path | str) -> bool:
    return Path(path).suffix.lower() == ".onnx"
