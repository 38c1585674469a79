"""Where a split's annotation file and images are in a dataset folder: the layouts of COCO, COCO 2017 and Roboflow."""

from pathlib import Path, PurePath
from typing import Any

from detr_lite.data.annotations import read_content
from detr_lite.io import is_below
from detr_lite.structures import DetrLiteError
from detr_lite.text import shorten_list, shown


def layouts_of(split: str) -> dict[str, str]:
    """Image folder by annotation file, both relative to the dataset folder, in the order in which they are tried."""
    roboflow = ("valid", "val") if split == "val" else (split,)
    return {
        **{f"annotations/instances_{folder}.json": folder for folder in (split, f"{split}2017")},
        **{f"{folder}/_annotations.coco.json": folder for folder in roboflow},
    }


def find_annotation_file(root: Path, split: str) -> str | None:
    """The first of `layouts_of` that exists."""
    return next((name for name in layouts_of(split) if (root / name).is_file()), None)


def drop_placeholder(content: dict[str, Any], root: Path, name: str) -> list[str]:
    """Remove Roboflow's entry for the project itself from the categories; returns a note if there was one.

    With objects in any split it is a class, and is kept in all splits: training and validation need the same classes.
    """
    placeholder = _find_placeholder(content)
    if placeholder is None or _uses_category(content, placeholder["id"]):
        return []
    others = {find_annotation_file(root, split) or name for split in ("train", "val", "test")} - {name}
    if any(_uses_category(read_content(root / other, other), placeholder["id"]) for other in sorted(others)):
        return []
    content["categories"] = [entry for entry in content["categories"] if entry is not placeholder]
    return [
        f"{name}: left out category {placeholder['id']}, {shown(placeholder.get('name'))}: it has no objects and is "
        "the supercategory of all others"
    ]


def find_images(content: dict[str, Any], name: str, folder: Path) -> list[Path]:
    """The path of each image in file order.

    Raises `DetrLiteError` for files that are missing or outside the folder, links followed.
    """
    if not folder.is_dir():
        raise DetrLiteError(f"{folder}: no such folder, but {name} expects its images there; put them there")
    names_in: dict[Path, set[str] | None] = {}
    paths: list[Path] = []
    missing: list[str] = []
    for image in content["images"]:
        relative = PurePath(image["file_name"])
        path = folder / relative
        if path.parent not in names_in:
            names_in[path.parent] = _list_folder(path.parent, folder)
        names = names_in[path.parent]
        if names is None or relative.is_absolute() or ".." in relative.parts:
            raise DetrLiteError(
                f"{name}: image {image['id']} has file_name {shown(image['file_name'])}, which is outside of the image "
                f"folder {folder.name}/; give the name of a file inside it"
            )
        if path.name not in names:
            missing.append(shown(image["file_name"]))
        paths.append(path)
    if missing:
        raise DetrLiteError(
            f"{folder}: {len(missing):,} of the {len(paths):,} images that {name} lists are missing "
            f"({shorten_list(missing, 3)}); add the files or remove their entries"
        )
    return paths


def _list_folder(parent: Path, folder: Path) -> set[str] | None:
    """File names in `parent`, or None if it is outside `folder`. One listing is faster than 118,000 `exists` calls."""
    try:
        is_inside = is_below(parent, folder)
    except ValueError:  # not a valid file name
        return None
    if not is_inside:
        return None
    return {entry.name for entry in parent.iterdir()} if parent.is_dir() else set()


def _find_placeholder(content: dict[str, Any]) -> dict[str, Any] | None:
    """Roboflow's entry for the project itself: category 0, the supercategory of all others; None if there is none."""
    entries = [entry for entry in content["categories"] if isinstance(entry, dict)]
    roots = [entry for entry in entries if entry.get("id") == 0 and entry.get("supercategory") == "none"]
    others = [entry for entry in entries if entry.get("id") != 0]
    if len(roots) != 1 or not others or any(entry.get("supercategory") != roots[0].get("name") for entry in others):
        return None
    return roots[0]


def _uses_category(content: dict[str, Any], id: int) -> bool:
    """Whether any annotation is of this category."""
    return any(isinstance(entry, dict) and entry.get("category_id") == id for entry in content["annotations"])
