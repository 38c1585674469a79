"""Where the annotation files and images of a COCO dataset are: by the names of files and folders, then by content."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from detr_lite.data.folder_listing import FolderListing
from detr_lite.data.formats.annotation_text import read_head
from detr_lite.data.split_names import split_of, split_of_path, words_of

USUAL_NAMES = re.compile(r"^(instances_.*|_annotations\.coco)$")
"""Names, without suffix, of files that are COCO's whatever they begin with, so that damaged ones are not passed over.
"""

OTHER_TASKS = re.compile(r"^(captions|person_keypoints|panoptic|stuff|results|detections)_", re.IGNORECASE)
"""Files of COCO that are not about the boxes of objects."""

IMAGE_FOLDERS = {"image", "images", "img", "imgs", "jpegimages", "data", "photos", "pictures", "frames"}

ANNOTATION_FOLDERS = {"annotation", "annotations", "labels"}

COCO_KEY = re.compile(r'"(images|annotations|categories)"\s*:\s*[\[{]')
LABELME_KEY = re.compile(r'"shapes"\s*:')

MAX_DEPTH = 4
"""Folders between the dataset folder and an annotation file."""

MAX_FOLDERS = 2000
"""Folders that are searched."""

MAX_SNIFFED = 50
"""JSON files of one folder that are opened to see what they are: LabelMe writes one for each image."""


@dataclass(frozen=True)
class CocoLayout:
    """A dataset's annotation files by split, and the folders in which images may be."""

    root: Path
    files: dict[str, list[Path]]
    """Of each split; more than one is ambiguous."""
    folders: list[Path]
    """All folders of the dataset that were searched, `root` first."""

    def image_folders(self, split: str, file: Path) -> list[Path]:
        """Folders to look for the split's images in, the likeliest first."""
        around = [file.parent, *(folder for folder in file.parent.parents if folder.is_relative_to(self.root))]
        words = words_of(file.stem)
        own, general = [], []
        for folder in self.folders[1:]:
            named = [split_of(part) for part in folder.relative_to(self.root).parts]
            is_for_images = folder.name.lower() in IMAGE_FOLDERS
            if named[-1] == split or (is_for_images and split in named):
                own.append(folder)
            elif is_for_images and not any(named) and folder.parent in around:
                general.append(folder)

        def likeliest(folder: Path) -> tuple[int, bool, bool]:
            common = next(place for place, parent in enumerate(around) if folder.is_relative_to(parent))
            # "train2017" before "train2014" for instances_train2017.json, and train/images before train
            return common, folder.name.lower() not in words, folder.name.lower() not in IMAGE_FOLDERS

        beside = [file.parent] if split_of_path(file.parent, self.root) == split else []
        general.sort(key=lambda folder: around.index(folder.parent))
        return list(dict.fromkeys([*beside, *sorted(own, key=likeliest), *general, file.parent, self.root]))


def find_layout(path: Path) -> CocoLayout | None:
    """The annotation files in a dataset folder, or only that at `path`; None if there is none in COCO format."""
    listing = FolderListing()
    root = path if path.is_dir() else path.parent
    if path != root and root.name.lower() in ANNOTATION_FOLDERS:
        root = root.parent
    folders = list(_folders_below(root, listing))
    if path != root:
        is_coco = path.suffix.lower() == ".json" and (USUAL_NAMES.match(path.stem) or looks_like_coco(path))
        return CocoLayout(root, {split_of(path.stem) or "train": [path]}, folders) if is_coco else None
    candidates = [path for folder in folders for path in _coco_files(folder, listing)]
    by_split: dict[str, list[Path]] = {}
    for path in candidates:
        by_split.setdefault(split_of_path(path, root), []).append(path)
    whole = by_split.pop("", [])
    if whole and "train" not in by_split:  # one file without a split's name
        by_split["train"] = whole
    if not by_split:
        return None
    files: dict[str, list[Path]] = {
        split: _preferred(by_split[split]) for split in ("train", "val", "test") if split in by_split
    }
    return CocoLayout(root, files, folders)


def _preferred(files: list[Path]) -> list[Path]:
    """Of several files for one split those with COCO's usual names, and "train" before "trainval"."""
    usual = [path for path in files if USUAL_NAMES.match(path.stem)] or files
    exact = [path for path in usual if not {"trainval", "minival"} & set(words_of(path.stem))]
    return sorted(exact or usual)


def _folders_below(root: Path, listing: FolderListing) -> Iterator[Path]:
    """The folder and its subfolders, nearest first, without hidden ones and without following a link back."""
    pending = [(root, 0)]
    for number, (folder, depth) in enumerate(pending):
        yield folder
        if depth >= MAX_DEPTH or number >= MAX_FOLDERS:
            continue
        real = Path(os.path.realpath(folder))
        for name, is_folder in sorted(listing.entries(str(folder)).items()):
            if is_folder and not name.startswith("."):
                below = Path(os.path.realpath(folder / name))
                if below != real and below not in real.parents:
                    pending.append((folder / name, depth + 1))


def _coco_files(folder: Path, listing: FolderListing) -> Iterator[Path]:
    """JSON files of a folder that are in COCO format, or have a name that only such files have."""
    entries = listing.entries(str(folder)).items()
    paths = [folder / name for name, is_folder in sorted(entries) if not is_folder and name.lower().endswith(".json")]
    paths = [path for path in paths if not path.name.startswith(".") and not OTHER_TASKS.match(path.name)]
    if len(paths) > MAX_SNIFFED:
        paths = [path for path in paths if USUAL_NAMES.match(path.stem) or split_of(path.stem)]
    for path in paths:
        if path.is_file() and (USUAL_NAMES.match(path.stem) or looks_like_coco(path)):
            yield path


def looks_like_coco(file: Path) -> bool:
    """Whether a file begins or ends as a COCO annotation file does; it need not be whole."""
    head = read_head(file).lstrip()
    return head.startswith("{") and bool(COCO_KEY.search(head)) and not LABELME_KEY.search(head)
