"""Opens every image of a split before training, and settles the sizes that boxes refer to."""

from dataclasses import replace

import numpy as np

from detr_lite.data.checks.sizes import settle_sizes
from detr_lite.data.images.facts import ImageFacts, inspect_images
from detr_lite.data.images.files import MAX_PIXELS_VARIABLE, PROBLEMS, Orientation, Problem, pixel_limit
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport

UNREADABLE: dict[Problem, str] = {
    "missing_image": "images without a file",
    "empty_image": "image files of 0 bytes",
    "truncated_image": "image files that are cut off",
    "not_an_image": "files of no known image format",
    "lfs_pointer": "Git LFS pointers in place of images (git lfs pull fetches these)",
    "too_many_pixels": "images of more than {limit:,} pixels (the environment variable {variable} sets this limit)",
    "program": "image files that are programs (EPS, WMF) and are not executed",
    "unreadable_image": "image files that cannot be read",
}
"""What the report calls each problem."""


def check_images(raw: RawSplit, report: SplitReport, orientation: Orientation | None) -> RawSplit:
    """The split without unreadable images, and with the width and height that `load_image` will return for each.

    Args:
        orientation: of images whose EXIF orientation the annotations do not settle; None to go by those that they
            settle. `RawSplit.orientation` of the result says which it is.
    """
    facts = inspect_images(raw.paths)
    _report_unreadable(raw, facts, report)
    is_readable = facts.problems == ""
    raw, facts = raw.keep_images(is_readable), facts.keep(is_readable)
    _note_unusual(raw, facts, report)
    settled = settle_sizes(raw, facts, report, orientation)
    scale = settled.box_scale[raw.image_index]
    settled_raw = replace(
        raw,
        sizes_wh=settled.sizes_wh,
        boxes_xywh=raw.boxes_xywh * np.tile(scale, 2),
        areas=raw.areas * scale.prod(axis=1),
        orientation=settled.orientation,
    )
    return settled_raw.keep_images(settled.keep)


def _report_unreadable(raw: RawSplit, facts: ImageFacts, report: SplitReport) -> None:
    for problem in PROBLEMS:
        indices = np.flatnonzero(facts.problems == problem).tolist()
        if not indices:
            continue
        entries = [raw.names[index] for index in indices]
        if problem == "unreadable_image":
            entries = [f"{raw.names[index]} ({facts.reasons[index]})" for index in indices]
        what = UNREADABLE[problem].format(limit=pixel_limit(), variable=MAX_PIXELS_VARIABLE)
        report.skip(problem, what, entries, unit="image")


def _note_unusual(raw: RawSplit, facts: ImageFacts, report: SplitReport) -> None:
    if facts.is_incomplete.any():
        text = "JPEG files without their last bytes, whose pixels are all there but for a few, are read"
        report.note("incomplete_jpeg", text, [raw.names[index] for index in np.flatnonzero(facts.is_incomplete)])
    for depth in np.unique(facts.depths).tolist():
        names = [raw.names[index] for index in np.flatnonzero(facts.depths == depth)]
        if depth.endswith("bits"):
            text = f"16-bit images that use no more than {depth} are stretched from these to the full range"
            report.note("partial_depth", text, names)
        elif depth == "dark color":
            text = (
                "16-bit color images of which only the upper 8 bits are read are almost black; convert them to 8 bits"
            )
            report.note("dark_color", text, names)
        elif depth == "own range":
            text = "images of unusual values (beyond 16 bits or, of floats, 255) are stretched from their own range"
            report.note("own_range", text, names)
