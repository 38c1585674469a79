"""A small, readable DETR: object detection with attention maps to look at."""

import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

logging.getLogger("detr_lite").addHandler(logging.NullHandler())  # silent as a library; the commands configure it

if TYPE_CHECKING:
    from detr_lite.detector import Detector as Detector
    from detr_lite.structures import AttentionSelection as AttentionSelection


def __getattr__(name: str) -> Any:
    """Public names, imported on first use: `import detr_lite` alone imports no torch."""
    if name == "Detector":
        from detr_lite.detector import Detector

        return Detector
    if name == "AttentionSelection":
        from detr_lite.structures import AttentionSelection

        return AttentionSelection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
