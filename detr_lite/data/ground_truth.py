"""Ground-truth objects by the name of the image file, from a COCO annotation file."""

import logging
from pathlib import Path, PurePath

import numpy as np
import torch
from jaxtyping import Bool, Int64

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
        has_area = (self._objects.boxes_xywh[:, 2:] > 0).all(axis=1)
        is_crowd, count = self._objects.is_crowd, len(images.names)
        self._single = _ByImage(self._objects.image_index, has_area & ~is_crowd, count)
        self._crowds = _ByImage(self._objects.image_index, has_area & is_crowd, count)
        self._images: dict[str, list[tuple[int, PurePath]]] = {}
        """(index in the file, `file_name`) by the last part of `file_name`."""
        for index, name in enumerate(images.names):
            path = PurePath(name.replace("\\", "/"))
            self._images.setdefault(path.name, []).append((index, path))

    def of(self, path: Path) -> Detections | None:
        """The objects of an image, with score 1 and the file's class names; None for an image that is not listed.

        Of several images with this name, the one whose `file_name` is the end of `path`; None if that is ambiguous.
        """
        return self._annotated(path, self._single)

    def crowds_of(self, path: Path) -> Detections | None:
        """The regions of an image that are annotated as crowds, as `of` gives its objects."""
        return self._annotated(path, self._crowds)

    def _annotated(self, path: Path, kept: "_ByImage") -> Detections | None:
        candidates = self._images.get(path.name, [])
        if len(candidates) > 1:
            candidates = [(index, name) for index, name in candidates if path.parts[-len(name.parts) :] == name.parts]
        if len(candidates) != 1:
            return None
        ((index, _),) = candidates
        objects = self._objects
        selected = kept.places(index)
        boxes_xywh = torch.from_numpy(objects.boxes_xywh[selected]).float()
        labels = torch.from_numpy(objects.labels[selected])
        return Detections(
            torch.cat([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]], dim=1),
            torch.ones(len(labels)),
            labels,
            torch.arange(len(labels)),
            tuple(category.name for category in self._categories),
        )


class _ByImage:
    """Some annotations in the order of the images."""

    def __init__(
        self, image_index: Int64[np.ndarray, " annotation"], is_kept: Bool[np.ndarray, " annotation"], images: int
    ) -> None:
        kept = np.flatnonzero(is_kept)
        self._order = kept[np.argsort(image_index[kept], kind="stable")]
        self._ends = np.searchsorted(image_index[self._order], np.arange(images + 1))

    def places(self, image: int) -> Int64[np.ndarray, " annotation"]:
        """Those of an image, by their places in the file."""
        return self._order[self._ends[image] : self._ends[image + 1]]
