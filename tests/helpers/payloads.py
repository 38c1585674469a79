"""Untrusted input: an object that acts when it is unpickled, and other names for categories."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detr_lite.weights.checkpoint import KEY


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def rename_categories(names: list[str]) -> Callable[[dict[str, Any]], object]:
    """Of a checkpoint or of an annotation file, in ascending order of their ids."""

    def rename(content: dict[str, Any]) -> None:
        categories = sorted(content.get(KEY, content)["categories"], key=lambda category: category["id"])
        for category, name in zip(categories, names, strict=True):
            category["name"] = name

    return rename


WORDS: dict[str, list[str]] = {
    "evaluate": ["evaluate", "--checkpoint"],
    "predict": ["predict", "--source", "PHOTOS", "--output", "OUT", "--checkpoint"],
    "visualize": ["visualize", "--source", "PHOTOS", "--output", "OUT", "--checkpoint"],
    "export": ["export", "--output", "OUT", "--checkpoint"],
    "import": ["import_checkpoint"],
    "resume": ["train", "--config", "CONFIG", "--resume"],
    "init_from": ["train", "--config", "CONFIG", "--model.init_from"],
}
"""Every command that opens a checkpoint; its path comes last."""
