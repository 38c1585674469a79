"""Checkpoints: reading and writing, import and export of other formats, transfer to other models."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detr_lite.weights.imports import import_checkpoint as import_checkpoint


def __getattr__(name: str) -> Any:
    """`detr_lite.weights.import_checkpoint`, imported on first use because its imports are slow."""
    if name == "import_checkpoint":
        from detr_lite.weights.imports import import_checkpoint

        return import_checkpoint
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
