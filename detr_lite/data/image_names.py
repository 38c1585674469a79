"""Finds the image files that annotations name."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.data.report import SplitReport


def resolve_images(names: Sequence[str], folders: Sequence[Path], root: Path, report: SplitReport) -> list[str]:
    """The path of each image. PLACEHOLDER until the shared one is merged."""
    paths = []
    for name in names:
        plain = name.replace("\\", "/").rpartition("/")[2]
        found = [folder / each for each in (name, plain) for folder in folders if (folder / each).is_file()]
        paths.append(str(found[0] if found else (folders or [root])[0] / plain))
    return paths
