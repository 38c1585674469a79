"""Changes image files of a dataset, and loads what is left as training does."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torchvision.transforms.functional import pil_to_tensor

from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.records import Split
from tests.helpers.case_data import BOX, CaseData


def replace(path: Path, content: bytes) -> None:
    path.unlink()  # the sound dataset has the same file
    path.write_bytes(content)


def cut(data: CaseData, number: int, keep: float | int, split: str = "train") -> None:
    """Keep a share of an image's file, or all but some bytes (a negative number)."""
    content = data.file(number, split).read_bytes()
    replace(data.file(number, split), content[: keep if isinstance(keep, int) else int(keep * len(content))])


def redraw(data: CaseData, change: Callable[[Image.Image], Image.Image], suffix: str = ".jpg", **options: Any) -> None:
    """Save every image anew, changed, under a name that ends in `suffix`."""
    for split, content in (("train", data.train), ("val", data.val)):
        for image in content["images"]:
            path = data.root / split / image["file_name"]
            with Image.open(path) as opened:
                changed = change(opened.convert("RGB"))
            path.unlink()
            image["file_name"] = Path(image["file_name"]).stem + suffix
            changed.save(path.with_suffix(suffix), **options)


def pixels_of(split: Split) -> list[np.ndarray]:
    """The images as training sees them, before any transform: height, width, channel."""
    dataset = DetectionDataset(split, lambda image, boxes, labels: (_to_tensor(image), boxes, labels))
    return [image.permute(1, 2, 0).numpy() for image, _ in (dataset[index] for index in range(len(dataset)))]


def _to_tensor(image: Image.Image) -> Any:
    return pil_to_tensor(image).float()


def share_of_boxes_on_their_object(split: Split) -> float:
    """Of the class that fills its box with one color."""
    hits = []
    for record, pixels in zip(split.images, pixels_of(split), strict=True):
        for (left, top, right, bottom), label in zip(record.boxes_xyxy.astype(int), record.labels, strict=True):
            if split.categories[label].name == "box":
                inside = pixels[top:bottom, left:right].reshape(-1, 3).mean(axis=0)
                hits.append(np.abs(inside - BOX).max() < 20)
    return float(np.mean(hits))
