"""Ground-truth objects by the name of the image file, from a COCO annotation file."""

import logging
from pathlib import Path, PurePath

import numpy as np
import torch

from detr_lite.data.formats.coco import read_entries
from detr_lite.data.formats.coco_json import read_lists
from detr_lite.data.report import SplitReport
from detr_lite.structures import Detections, DetrLiteError
from detr_lite.text import printable

logger = logging.getLogger(__name__)


class GroundTruthByFile:
    """The objects of a COCO annotation file by image file. The image files need not exist.

    Raises `DetrLiteError` for a file that cannot be used as ground truth.
    """

    def __init__(self, file: Path) -> None:
        report = SplitReport(printable(file))
        images, self._categories, self._objects = read_entries(read_lists(file, report.source, report), report)
        if reasons := report.refusals():
            raise DetrLiteError(f"{report.source}: {' | '.join(reasons)}")
        for line in report.lines():
            logger.info(line)
        objects = self._objects
        is_shown = ~objects.is_crowd & (objects.boxes_xywh[:, 2:] > 0).all(axis=1)
        self._order = np.flatnonzero(is_shown)
        self._order = self._order[np.argsort(objects.image_index[self._order], kind="stable")]
        """The objects of image i are those from `_ends[i]` up to `_ends[i + 1]`."""
        self._ends = np.searchsorted(objects.image_index[self._order], np.arange(len(images.names) + 1))
        self._images: dict[str, list[tuple[int, PurePath]]] = {}
        """(index in the file, `file_name`) by the last part of `file_name`."""
        for index, name in enumerate(images.names):
            path = PurePath(name.replace("\\", "/"))
            self._images.setdefault(path.name, []).append((index, path))

    def of(self, path: Path) -> Detections | None:
        """The objects of an image, with score 1 and the file's class names; None for an image that is not listed.

        Of several images with this name, the one whose `file_name` is the end of `path`; None if that is ambiguous.
        """
        candidates = self._images.get(path.name, [])
        if len(candidates) > 1:
            candidates = [(index, name) for index, name in candidates if path.parts[-len(name.parts) :] == name.parts]
        if len(candidates) != 1:
            return None
        ((index, _),) = candidates
        objects = self._objects
        selected = self._order[self._ends[index] : self._ends[index + 1]]
        boxes_xywh = torch.from_numpy(objects.boxes_xywh[selected]).float()
        labels = torch.from_numpy(objects.labels[selected])
        return Detections(
            torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1),
            torch.ones(len(labels)),
            labels,
            torch.arange(len(labels)),
            tuple(category.name for category in self._categories),
        )
