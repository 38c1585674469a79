"""Small COCO datasets, and reading them without looking into the image files."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from detr_lite.data.formats.coco import find_coco
from detr_lite.data.image_names import drop_missing
from detr_lite.data.records import RawSplit
from detr_lite.data.report import OnFault, SplitReport

Content = dict[str, Any]


def two_images() -> Content:
    """Two images, three objects, two categories, with the gaps and the order that ids may have."""
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 40, "height": 30},
            {"id": 3, "file_name": "b.png", "width": 20, "height": 50},
        ],
        "annotations": [
            {"id": 16, "image_id": 3, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 9.5, "iscrowd": 0},
            {"id": 17, "image_id": 7, "category_id": 2, "bbox": [10, 5, 20, 10]},
            {"id": 18, "image_id": 7, "category_id": 90, "bbox": [0, 0, 40, 30], "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 2, "name": "bicycle"}],
    }


def write_coco(
    root: Path, content: Any, file: str = "annotations/instances_train.json", images: Iterable[str] | None = None
) -> Path:
    """An annotation file with any content, and empty image files (by default train/a.png and train/b.png)."""
    (root / file).parent.mkdir(parents=True, exist_ok=True)
    (root / file).write_text(content if isinstance(content, str) else json.dumps(content))
    for name in ("train/a.png", "train/b.png") if images is None else images:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def changed(root: Path, change: Callable[[Content], object]) -> Path:
    """The dataset of `two_images` after a change."""
    content = two_images()
    change(content)
    return write_coco(root, content)


def read_raw(root: Path, split: str = "train", on_fault: OnFault = "repair") -> tuple[RawSplit, SplitReport]:
    """A split as the reader hands it to the checks."""
    source = find_coco(root)
    assert source is not None
    report = SplitReport(source.splits[split].relative_to(root).as_posix(), on_fault)
    return drop_missing(source.read(split, report), report), report


def actions(report: SplitReport) -> dict[str, str]:
    """What was done about each kind of fault."""
    return {finding.kind: finding.action for finding in report.findings}


def text_of(report: SplitReport) -> str:
    """All findings as the log has them, the refused ones too."""
    return " | ".join(finding.line(10) for finding in report.findings)
