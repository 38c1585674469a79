"""What `detr-lite predict` writes: detections in one of several formats, and annotated images."""

import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any

from PIL import Image

from detr_lite.cli.command import FORMATS as FORMATS
from detr_lite.io import atomic_write, result_names
from detr_lite.structures import Category, Detections
from detr_lite.text import spreadsheet_text


class CocoFile:
    """A COCO annotation file whose annotations also have a score and a category name.

    Boxes are [x, y, width, height] in pixels of the upright image; category ids are those of the training data. `info`
    is COCO's place for what concerns the whole file.
    """

    def __init__(self, output: Path, categories: Sequence[Category], info: Mapping[str, Any]) -> None:
        self.path = output / "detections.json"
        self.files = str(self.path)
        self.categories = categories
        self.info = info
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, name: PurePath, image: Image.Image, detections: Detections) -> None:
        image_id = len(self.images) + 1
        self.images.append({"id": image_id, "file_name": name.as_posix(), "width": image.width, "height": image.height})
        for entry, category_name in zip(detections.to_coco(image_id), detections.names, strict=True):
            area = round(entry["bbox"][2] * entry["bbox"][3], 3)
            more = {"category_name": category_name, "area": area, "iscrowd": 0}
            self.annotations.append({"id": len(self.annotations) + 1, **entry, **more})

    def save(self) -> None:
        categories = [{"id": category.id, "name": category.name} for category in self.categories]
        content = {"info": self.info, "images": self.images, "annotations": self.annotations, "categories": categories}
        _write_text(self.path, json.dumps(content))


class CsvTable:
    """One table with a row for each detection; corners in pixels."""

    HEADER = ("file_name", "category_id", "category_name", "score", "x_min", "y_min", "x_max", "y_max")

    def __init__(self, output: Path) -> None:
        self.path = output / "detections.csv"
        self.files = str(self.path)
        self._text = io.StringIO(newline="")
        self._writer = csv.writer(self._text)
        self._writer.writerow(self.HEADER)

    def add(self, name: PurePath, image: Image.Image, detections: Detections) -> None:
        for entry, category_name in zip(detections.to_coco(0), detections.names, strict=True):
            x, y, width, height = entry["bbox"]
            corners = (x, y, round(x + width, 3), round(y + height, 3))
            texts = (spreadsheet_text(name.as_posix()), entry["category_id"], spreadsheet_text(category_name))
            self._writer.writerow((*texts, entry["score"], *corners))

    def save(self) -> None:
        _write_text(self.path, self._text.getvalue())


class YoloFiles:
    """A label file of YOLO with scores beside each annotated image, and the names of the classes in classes.txt."""

    CLASSES = "classes.txt"

    def __init__(self, output: Path, names: Sequence[PurePath], categories: Sequence[Category]) -> None:
        self.output = output
        self.files = f"{output}/{self.CLASSES}, a .txt file for each image"
        self.categories = categories
        self._name_of = dict(zip(names, result_names(names, ".txt", taken=(self.CLASSES,)), strict=True))

    def add(self, name: PurePath, image: Image.Image, detections: Detections) -> None:
        _write_text(self.output / self._name_of[name], detections.to_yolo(), durable=False)

    def save(self) -> None:
        lines = [" ".join(category.name.splitlines()) for category in self.categories]
        _write_text(self.output / self.CLASSES, "\n".join([*lines, ""]))


class JsonFiles:
    """A JSON file beside each annotated image: the image, and its detections with boxes as in COCO."""

    def __init__(self, output: Path, names: Sequence[PurePath], info: Mapping[str, Any]) -> None:
        self.output = output
        self.files = f"{output}: a .json file for each image"
        self.info = info
        self._name_of = dict(zip(names, result_names(names, ".json"), strict=True))

    def add(self, name: PurePath, image: Image.Image, detections: Detections) -> None:
        entries = zip(detections.to_coco(0), detections.names, strict=True)
        rows = [
            {"category_id": entry["category_id"], "category_name": each, "bbox": entry["bbox"], "score": entry["score"]}
            for entry, each in entries
        ]
        content = {"file_name": name.as_posix(), "width": image.width, "height": image.height, "detections": rows}
        _write_text(self.output / self._name_of[name], json.dumps({**content, "info": self.info}), durable=False)

    def save(self) -> None:
        """Each file was written with its image."""


def make_writer(
    format: str, output: Path, names: Sequence[PurePath], categories: Sequence[Category], info: dict[str, Any]
) -> CocoFile | CsvTable | YoloFiles | JsonFiles:
    """The writer of one of `FORMATS`: `add` gets an image after the other, `save` writes what is still to be written.

    Args:
        names: of all images.
        info: what concerns all detections, such as the threshold; the caller may add to it until `save`.
    """
    if format == "csv":
        return CsvTable(output)
    if format == "yolo":
        return YoloFiles(output, names, categories)
    if format == "json":
        return JsonFiles(output, names, info)
    return CocoFile(output, categories, info)


class Found:
    """Counts what was found, for the terminal."""

    def __init__(self) -> None:
        self.images = 0
        self._with_objects = 0
        self._counts: Counter[str] = Counter()

    def add(self, detections: Detections) -> None:
        self.images += 1
        self._with_objects += len(detections) > 0
        self._counts.update(detections.names)

    def summary(self) -> str:
        """Such as "3 cat, 1 dog in 2 of 5 images"."""
        objects = ", ".join(f"{count:,} {name}" for name, count in self._counts.most_common()) or "nothing"
        return f"{objects} in {f'{self._with_objects:,} of ' if self._with_objects else ''}{self.images:,} images"


def save_image(image: Image.Image, path: Path) -> None:
    """As JPEG if the name ends in .jpg or .jpeg, else as PNG."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        atomic_write(path, lambda file: image.save(file, "JPEG", quality=92), durable=False)
    else:  # full compression takes seconds for a photograph, which is hardly smaller for it
        atomic_write(path, lambda file: image.save(file, "PNG", compress_level=3), durable=False)


def _write_text(path: Path, text: str, durable: bool = True) -> None:
    atomic_write(path, lambda file: file.write(text.encode()), durable)
