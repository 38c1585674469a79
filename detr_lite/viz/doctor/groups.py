"""What the doctor found, as groups of pictures: faults, odd boxes, images of one color, rare classes."""

from collections.abc import Callable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from detr_lite.data.analysis.outliers import OddBox, Oddity
from detr_lite.data.checks.fault_places import Place, box_at, find_places
from detr_lite.data.records import RawSplit, Split
from detr_lite.data.report import Finding, SplitReport
from detr_lite.text import printable
from detr_lite.viz.pages.gallery import ENTRIES, PICTURES, Example, Group, Level
from detr_lite.viz.pages.pictures import Mark, View
from detr_lite.viz.pages.split_views import context_marks, image_name, true_box, view_of

ODD: dict[Oddity, tuple[str, str]] = {
    "near_duplicate": ("Two boxes of one object", "Boxes of one class that lie nearly on each other."),
    "two_classes": ("One object in two classes", "Boxes of two classes that lie nearly on each other."),
    "outside": ("Boxes beyond their image", "Training clips them. Far beyond it, a box may belong to another image."),
    "tiny": ("Boxes of hardly a pixel", "They are often left by a slip of the mouse."),
    "size": ("Unusual sizes", "Boxes far larger or smaller than others of their class."),
    "aspect": ("Unusual shapes", "Boxes far wider or taller than others of their class."),
    "position": ("Unusual positions", "Boxes far from where their class usually is."),
}  # fmt: skip

_TITLES = {
    "other_reading": "Boxes in another form",
    "relative_boxes": "Boxes in 0 to 1",
    "scaled_boxes": "Boxes of another image size",
    "same_boxes": "All boxes alike",
    "no_image_found": "No image found",
    "unknown_class": "Classes that training does not know",
}
"""Of kinds whose names say little; the others are titles themselves."""

_LEVEL_OF: dict[str, Level] = {"refused": "mend", "skipped": "look", "repaired": "look", "noted": "fine"}
_TAG_OF = {"refused": "refused", "skipped": "left out", "repaired": "repaired", "noted": "noted"}


def fault_groups(name: str, report: SplitReport, raw: Callable[[], RawSplit] | None) -> list[Group]:
    """A group for each finding in a split's report.

    Args:
        raw: reads the split as its file has it, for pictures of faulty entries; None without such a split.
    """
    groups = []
    for finding in report.findings:
        examples: tuple[Example, ...] = ()
        if raw is not None and finding.entries:
            examples = _fault_examples(raw(), finding)
        elif raw is not None and finding.action == "refused":
            examples = _samples(raw())
        groups.append(
            Group(
                finding.kind,
                _LEVEL_OF[finding.action],
                _TITLES.get(finding.kind, finding.kind.replace("_", " ").capitalize()),
                name,
                f"{finding.text[:1].upper()}{finding.text[1:]}.",
                finding.count or None,
                finding.entries,
                examples,
                _TAG_OF[finding.action],
            )
        )
    refused = [finding.line() for finding in report.findings if finding.action == "refused"]
    for line in report.refusals():
        if line not in refused and not (refused and line.startswith(refused[-1])):
            groups.append(Group("too_many_skipped", "mend", "Too much would be left out", name, f"{line}."))
    return groups


def odd_groups(split: Split, odd: Sequence[OddBox]) -> list[Group]:
    """A group for each kind of oddity, in the order of `ODD`."""
    groups = []
    for kind, (title, text) in ODD.items():
        boxes = [box for box in odd if box.kind == kind]
        if boxes:
            entries = tuple(f"{image_name(split, box.image)}: {box.reason}" for box in boxes)
            examples = tuple(_odd_example(split, box) for box in boxes[:PICTURES])
            groups.append(Group(f"odd_{kind}", "look", title, split.name, text, len(boxes), entries, examples))
    return groups


def rare_classes(split: Split, fewest: int = 10) -> list[Group]:
    """Classes that training can hardly learn because they have next to no objects."""
    counts = np.bincount(split.images.labels, minlength=len(split.categories))
    rare = sorted((int(count), label) for label, count in enumerate(counts) if count < fewest)
    if not rare:
        return []
    entries = tuple(f"{printable(split.categories[label].name)}: {count}" for count, label in rare)
    examples = []
    for _, label in rare[:PICTURES]:
        for object in np.flatnonzero(split.images.labels == label)[:1].tolist():
            image = int(np.searchsorted(split.images.ends, object, side="right")) - 1
            box = tuple(split.images.boxes_xyxy[object].tolist())
            mark = Mark((box[0], box[1], box[2], box[3]), "annotated", printable(split.categories[label].name))
            examples.append(Example((view_of(split, image, (mark,)),), mark.label, image_name(split, image)))
    text = f"Classes with fewer than {fewest} objects to train on; add examples, or leave these classes out."
    return [Group("rare_class", "look", "Rare classes", split.name, text, len(rare), entries, tuple(examples))]


def one_color_groups(split: Split, images: Sequence[int]) -> list[Group]:
    """A group of the images of one color in which objects are annotated, those with the most first.

    Args:
        images: their indices in `split.images`.
    """
    counts = split.images.counts
    images = [image for image in images if counts[image]]
    if not images:
        return []
    entries: list[str] = []
    examples: list[Example] = []
    for image in sorted(images, key=lambda image: (-int(counts[image]), image)):
        name, count = image_name(split, image), int(counts[image])
        detail = "1 object" if count == 1 else f"{count:,} objects"
        entries.append(f"{name}: {detail}")
        if len(examples) < PICTURES:
            examples.append(Example((view_of(split, image, context_marks(split, image)),), name, detail))
    text = "Nothing can be seen in these images, so their objects cannot be learned. Replace them or leave them out."
    return [Group("one_color", "look", "Images of one color", split.name, text, len(images), tuple(entries),
                  tuple(examples))]  # fmt: skip


def _fault_examples(raw: RawSplit, finding: Finding) -> tuple[Example, ...]:
    """One for each image, with all its faulty annotations of this kind."""
    places = find_places(raw, finding.entries[:ENTRIES])
    located = sorted(((place.image, entry) for entry, place in places.items()), key=lambda each: each[0])
    by_image = {image: [entry for _, entry in some] for image, some in groupby(located, key=lambda each: each[0])}
    examples = []
    for image, entries in list(by_image.items())[:PICTURES]:
        boxes = [(entry, box_at(raw, places[entry])) for entry in entries]
        marks = tuple(Mark(box, "annotated", entry) for entry, box in boxes if box is not None)
        name = printable(raw.names[image])
        view = _raw_view(raw, image, marks)
        detail = _box_text(raw, places[entries[0]].annotation) if len(entries) == 1 else f"{len(entries)} in this image"
        caption = entries[0] if len(entries) == 1 else name
        examples.append(Example((view,), caption, detail if caption == name else f"{name}{detail and ', '}{detail}"))
    return tuple(examples)


def _samples(raw: RawSplit, count: int = 6) -> tuple[Example, ...]:
    """Some images with all their annotations as the file has them, for what is wrong with the split as a whole."""
    annotated = np.unique(raw.image_index)
    chosen = annotated[np.linspace(0, max(0, len(annotated) - 1), min(count, len(annotated))).round().astype(int)]
    examples = []
    for image in chosen.tolist():
        places = [Place(image, number) for number in np.flatnonzero(raw.image_index == image).tolist()]
        boxes = [(place, box_at(raw, place)) for place in places]
        marks = tuple(Mark(box) for _, box in boxes if box is not None)
        first = _box_text(raw, places[0].annotation)
        examples.append(Example((_raw_view(raw, image, marks),), printable(raw.names[image]), first))
    return tuple(examples)


def _raw_view(raw: RawSplit, image: int, marks: tuple[Mark, ...]) -> View:
    width, height = raw.sizes_wh[image].tolist()
    size = (int(width), int(height)) if np.isfinite([width, height]).all() else None
    return View(Path(raw.paths[image]), printable(raw.names[image]), size, marks)


def _box_text(raw: RawSplit, annotation: int | None) -> str:
    if annotation is None:
        return ""
    numbers = ", ".join(f"{value:g}" for value in raw.boxes_xywh[annotation].round(2).tolist())
    return f"{printable(raw.categories[raw.labels[annotation]].name)} at [{numbers}]"


def _odd_example(split: Split, odd: OddBox) -> Example:
    marks = [Mark(true_box(split, odd.object), "annotated", odd.reason)]
    if odd.other is not None:
        marks.append(Mark(true_box(split, odd.other), "other"))
    return Example((view_of(split, odd.image, tuple(marks)),), odd.reason, image_name(split, odd.image))
