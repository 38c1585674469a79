"""The model of whatever is given as a checkpoint."""

from pathlib import Path

from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.weights.checkpoint import Description, load_model
from detr_lite.weights.checkpoint_path import find_checkpoint
from detr_lite.weights.pretrained_source import is_source, load_source, source_name


def load_any_model(path: Path | str) -> tuple[Detr | FamilyDetr, Description]:
    """The model of a checkpoint, a run or a source of transformers, in evaluation mode, and its description.

    Errors: those of `find_checkpoint`, `load_model` and `load_source`.
    """
    path = find_checkpoint(path)
    if is_source(path):
        return load_source(source_name(path))
    return load_model(path)
