"""The model of whatever is given as a checkpoint."""

from pathlib import Path

from detr_lite.families.network import FamilyDetr
from detr_lite.model.detr import Detr
from detr_lite.weights.checkpoint import Description, load_model
from detr_lite.weights.pretrained_source import is_source, load_source, source_name


def load_any_model(path: Path | str) -> tuple[Detr | FamilyDetr, Description]:
    """The model of a checkpoint, or of a source of transformers, in evaluation mode, and its description.

    Errors: those of `load_model` and of `load_source`.
    """
    if is_source(path):
        return load_source(source_name(path))
    return load_model(Path(path))
