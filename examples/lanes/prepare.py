"""Which roads are trained with and which are evaluated on: drawn ones, or a folder in TuSimple's format."""

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from detr_lite.errors import DetrLiteError
from examples.lanes.roads import LEVELS as LEVELS
from examples.lanes.tusimple import TEST, TRAIN, VERSION, Labeled, make_roads, read_labels

UNSEEN = 400
"""Drawn roads to evaluate on."""
VALIDATION = "label_data_0531.json"
"""Evaluated on where TuSimple's test labels are not there, as is usual."""

logger = logging.getLogger(__name__)


def splits_of(root: Path | None, level: str, roads: int) -> tuple[Sequence[Labeled], Sequence[Labeled]]:
    """Training and unseen pictures; drawn roads are kept in `datasets`, or where `DETR_LITE_DATA` says.

    Errors: those of `read_labels`, and nothing left to train with.
    """
    if root is None:
        root = roads_folder(level, roads)
        if not root.exists():
            logger.info(
                f"drawing {roads:,} roads to train with and {UNSEEN} others, which takes a minute or two: {root}"
            )
            make_roads(root, level, roads, UNSEEN)
    if (root / TEST).is_file():
        return read_labels(root, TRAIN), read_labels(root, TEST)
    unseen = read_labels(root, VALIDATION)
    names = {each.raw_file for each in unseen}
    train = [each for each in read_labels(root, TRAIN) if each.raw_file not in names]
    if not train:
        raise DetrLiteError(f"{root}: has no labels to train with but those of {VALIDATION}")
    return train, unseen


def roads_folder(level: str, roads: int) -> Path:
    datasets = Path(os.environ.get("DETR_LITE_DATA") or "datasets").expanduser()
    return datasets / f"roads-{VERSION}-{level}-{roads}"
