"""A small, readable DETR."""

import logging
import os
from typing import TYPE_CHECKING, Any

# Before torch is loaded: its threads that wait shall spin for a moment only, then sleep. On a processor shared with
# data loading or other programs, threads that spin on keep the very one waiting that they wait for: a small step took
# 70 times as long. Sleeping at once costs a sixth of the speed on an idle machine; this costs none.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

logging.getLogger("detr_lite").addHandler(logging.NullHandler())  # silent as a library; the commands configure it

if TYPE_CHECKING:
    from detr_lite.detector import Detector as Detector
    from detr_lite.structures import AttentionSelection as AttentionSelection


def __getattr__(name: str) -> Any:
    """What applications use, loaded when it is first asked for: a plain import stays light."""
    if name == "Detector":
        from detr_lite.detector import Detector

        return Detector
    if name == "AttentionSelection":
        from detr_lite.structures import AttentionSelection

        return AttentionSelection
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
