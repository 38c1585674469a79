"""`detr-lite doctor --fix`: a mended copy of a dataset, and a list of what was changed, entry by entry."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detr_lite.data.checks.fault_places import Place, find_places
from detr_lite.data.editing.edits import editable
from detr_lite.data.formats.new_dataset import check_new, new_dataset
from detr_lite.data.formats.write_coco import write_coco
from detr_lite.data.records import RawSplit, Split
from detr_lite.data.report import Finding
from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list

CHANGES, READABLE = "changes.json", "changes.txt"


def check_fix(folder: Path, root: Path, overwrite: bool) -> None:
    """Called before the dataset is read. Errors: a folder that holds something else, or touches the dataset."""
    try:
        check_new(folder, [root], overwrite)
    except DetrLiteError as error:
        raise DetrLiteError(f"--fix: {error}") from error


def write_mended(
    folder: Path,
    root: Path,
    splits: Mapping[str, Split],
    raws: Mapping[str, Callable[[], RawSplit]],
    overwrite: bool,
) -> int:
    """Write the splits that need no hand in COCO format, their images as hard links, and the lists of changes.

    Returns the number of changed or left out entries.

    Errors: no such split.
    """
    refused = [name for name, split in splits.items() if split.report.refusals()]
    usable = {name: split for name, split in splits.items() if name not in refused}
    if not usable:
        reasons = "; ".join(line for split in splits.values() for line in split.report.refusals())
        raise DetrLiteError(
            f"--fix: nothing can be mended without you ({printable(reasons or 'no split can be read')})"
        )
    changes = {name: split_changes(split, raws[name]()) for name, split in usable.items()}
    with new_dataset(folder, [root], "detr-lite doctor --fix", overwrite) as part:
        write_coco({name: editable(split) for name, split in usable.items()}, part)
        content = {"dataset": str(root), "not_written": refused, "splits": changes}
        (part / CHANGES).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (part / READABLE).write_text(_readable(root, changes, refused), encoding="utf-8", errors="replace")
    return sum(len(kind["entries"]) for kinds in changes.values() for kind in kinds)


def split_changes(split: Split, raw: RawSplit) -> list[dict[str, Any]]:
    """For each kind of repair or omission all its entries, with what they were and what became of them.

    `before` and `after` have the annotation's bbox and category, or the image's width and height; `after` is null
    where the entry was left out. Entries that a reader could make nothing of have no `before`.
    """
    findings = [finding for finding in split.report.findings if finding.action in ("repaired", "skipped")]
    places = find_places(raw, {entry for finding in findings for entry in finding.entries})
    object_of = {origin: number for number, origin in enumerate(split.origin.tolist())}
    image_of = {path: number for number, path in enumerate(split.images.paths)}

    def change(finding: Finding, entry: str) -> dict[str, Any]:
        place = places.get(entry)
        if place is None:
            return {"entry": entry, **({"after": None} if finding.action == "skipped" else {})}
        before, after = _values(split, raw, place, object_of, image_of)
        return {"entry": entry, "image": printable(raw.names[place.image]), "before": before, "after": after}

    return [
        {
            "kind": finding.kind,
            "action": finding.action,
            "text": finding.text,
            "entries": [change(finding, entry) for entry in finding.entries],
        }
        for finding in findings
    ]


def _values(
    split: Split, raw: RawSplit, place: Place, object_of: Mapping[int, int], image_of: Mapping[str, int]
) -> tuple[dict[str, Any], dict[str, Any] | None]:
    image = image_of.get(raw.paths[place.image])
    if place.annotation is None:
        before = _sizes(raw.sizes_wh[place.image])
        return before, None if image is None else _sizes(split.images.sizes_wh[image])
    label, truth = int(raw.labels[place.annotation]), split.ground_truth
    before = {"bbox": _numbers(raw.boxes_xywh[place.annotation]), "category": _category(raw.categories, label)}
    number = object_of.get(int(raw.origin[place.annotation]))
    if number is None:
        return before, None
    box = _numbers(truth.boxes_xywh[number])
    return before, {"bbox": box, "category": _category(split.categories, int(truth.labels[number]))}


def _sizes(size_wh: np.ndarray) -> dict[str, Any]:
    width, height = _numbers(size_wh)
    return {"width": width, "height": height}


def _numbers(values: np.ndarray) -> list[float | None]:
    """JSON has no NaN: what could not be read is null."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _category(categories: tuple[Any, ...], label: int) -> str | None:
    return printable(categories[label].name) if 0 <= label < len(categories) else None


def _readable(root: Path, changes: Mapping[str, list[dict[str, Any]]], refused: list[str]) -> str:
    lines = [f"Changes to {printable(root)}, by detr-lite doctor --fix"]
    if refused:
        lines.append(f"Not written, as they must be mended by hand: {shorten_list(refused)}")
    for name, kinds in changes.items():
        lines += ["", f"{name}: {'nothing was changed' if not kinds else ''}".rstrip(": ") + (":" if kinds else "")]
        for kind in kinds:
            lines.append(f"  {kind['action']}: {kind['text']} ({len(kind['entries']):,})")
            for change in kind["entries"]:
                lines.append(f"    {change['entry']}{_arrow(change)}")
    return "\n".join(lines) + "\n"


def _arrow(change: dict[str, Any]) -> str:
    if "after" not in change:
        return ""
    before, after = change.get("before"), change["after"]
    shown = "left out" if after is None else ", ".join(f"{key} {value}" for key, value in after.items())
    return f": {', '.join(f'{key} {value}' for key, value in before.items())} -> {shown}" if before else f": {shown}"
