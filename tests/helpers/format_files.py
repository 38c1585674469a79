"""Writes small datasets of any format, and reads them before anything is checked."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from detr_lite.data.formats.recognize import find_source
from detr_lite.data.formats.source import Source
from detr_lite.data.records import RawSplit
from detr_lite.data.report import Finding, OnFault, SplitReport

ORIENTATION = 0x0112


@dataclass(frozen=True)
class Found:
    """What a reader made of a split."""

    source: Source
    raw: RawSplit
    report: SplitReport

    @property
    def names(self) -> list[str]:
        return [category.name for category in self.raw.categories]

    @property
    def objects(self) -> dict[str, list[tuple[str, list[float]]]]:
        """(class, [x, y, width, height] rounded to 1e-6 pixels) of each image, by its path in the dataset folder."""
        found: dict[str, list[tuple[str, list[float]]]] = defaultdict(list)
        root = self.source.root
        for path in self.raw.paths:
            found[Path(path).relative_to(root).as_posix()] = []
        for index, label, box in zip(self.raw.image_index, self.raw.labels, self.raw.boxes_xywh, strict=True):
            path = Path(self.raw.paths[index]).relative_to(root).as_posix()
            found[path].append((self.raw.categories[label].name, [round(float(value), 6) for value in box]))
        return dict(found)

    @property
    def findings(self) -> dict[str, Finding]:
        return {finding.kind: finding for finding in self.report.findings}


def read(root: Path, split: str = "train", on_fault: OnFault = "repair") -> Found:
    source = find_source(root)
    report = SplitReport(split, on_fault)
    return Found(source, source.read(split, report), report)


def draw(path: Path, width: int = 100, height: int = 50, orientation: int | None = None) -> Path:
    """Save a gray image of this size as stored, with this EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    if orientation is not None:
        exif[ORIENTATION] = orientation
    Image.new("RGB", (width, height), (120, 120, 120)).save(path, exif=exif)
    return path


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path
