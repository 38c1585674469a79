"""A checked split in the cache, valid for as long as none of its files changes."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.array_structures import Category, GroundTruth
from detr_lite.data.cache import file_stamps, load_cached, save_cached
from detr_lite.data.packed import PackedIds, PackedStrings
from detr_lite.data.records import ImageRecords, OrientationCount, Split
from detr_lite.data.report import SplitReport


def load_split(file: Path, annotation_files: Sequence[str]) -> Split | None:
    """The split as `save_split` kept it; None if there is none, or if one of its files is another one by now."""
    cached = load_cached(file)
    if cached is None:
        return None
    arrays, facts = cached
    paths = PackedStrings.of_arrays(arrays["all_path_bytes"], arrays["all_path_ends"])
    if facts["files"] != list(annotation_files):
        return None
    is_unchanged = np.array_equal(arrays["stamps"], file_stamps(chain(annotation_files, paths)))
    return split_from_arrays(arrays, facts) if is_unchanged else None


def save_split(file: Path, split: Split, annotation_files: Sequence[str], image_files: Sequence[str]) -> Split:
    """Keep a split; returns it as it lies in the cache, where processes share it, or as it is if it cannot be kept.

    Args:
        image_files: all that the annotations name, also those that the split does without.
    """
    arrays, facts = split_arrays(split)
    paths = PackedStrings(image_files)
    stored = {
        **arrays,
        "all_path_bytes": paths.bytes,
        "all_path_ends": paths.ends,
        "stamps": file_stamps(chain(annotation_files, image_files)),
    }
    if not save_cached(file, stored, {**facts, "files": list(annotation_files)}):
        return split
    kept = load_cached(file)
    return split if kept is None else split_from_arrays(*kept)


def split_arrays(split: Split) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """A split as arrays and JSON values, for the cache."""
    images, truth = split.images, split.ground_truth
    arrays: dict[str, np.ndarray] = {
        "path_bytes": images.paths.bytes, "path_ends": images.paths.ends, "sizes_wh": images.sizes_wh,
        "boxes_xyxy": images.boxes_xyxy, "labels": images.labels, "ends": images.ends,
        "true_image": truth.image_index, "true_labels": truth.labels, "true_boxes_xywh": truth.boxes_xywh,
        "true_areas": truth.areas, "true_crowd": truth.is_crowd, "origin": split.origin,
        **split.image_ids.arrays(),
    }  # fmt: skip
    facts: dict[str, Any] = {
        "root": str(split.root), "name": split.name, "source": str(split.source), "format": split.format,
        "categories": [[category.id, category.name] for category in split.categories],
        "report": split.report.to_dict(), "orientation": vars(split.orientation),
    }  # fmt: skip
    return arrays, facts


def split_from_arrays(arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> Split:
    """The split of `split_arrays`."""
    paths = PackedStrings.of_arrays(arrays["path_bytes"], arrays["path_ends"])
    return Split(
        root=Path(facts["root"]),
        name=facts["name"],
        source=Path(facts["source"]),
        format=facts["format"],
        categories=tuple(Category(id, name) for id, name in facts["categories"]),
        images=ImageRecords(paths, arrays["sizes_wh"], arrays["boxes_xyxy"], arrays["labels"], arrays["ends"]),
        image_ids=PackedIds.of_arrays(arrays),
        ground_truth=GroundTruth(
            num_images=len(paths),
            image_index=arrays["true_image"],
            labels=arrays["true_labels"],
            boxes_xywh=arrays["true_boxes_xywh"],
            areas=arrays["true_areas"],
            is_crowd=arrays["true_crowd"],
        ),
        origin=arrays["origin"],
        report=SplitReport.from_dict(facts["report"]),
        orientation=OrientationCount(**facts["orientation"]),
    )
