"""What a dataset folder holds: its files by suffix, and which split their names say they belong to."""

import logging
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from detr_lite.data import split_names
from detr_lite.data.folder_listing import leads_to_folder
from detr_lite.data.image_sources import SUFFIXES as IMAGE_SUFFIXES
from detr_lite.data.split_names import SPLIT_WORDS
from detr_lite.errors import DetrLiteError
from detr_lite.text import shorten_list

logger = logging.getLogger(__name__)

MAX_DEPTH = 6
"""Folders below the dataset folder that are searched."""

MAX_FILES = 5_000_000
"""More files than any dataset has; the folder is then somebody's whole disk."""

SPLITS = ("train", "val", "test")

_GENERIC = frozenset(
    (
        *("images", "image", "imgs", "img", "pictures", "jpegimages", "labels", "label", "annotations", "annotation"),
        *("annots", "anno", "ann", "xml", "xmls", "json", "jsons", "csv", "data", "dataset", "set", "split", "voc"),
        *("yolo", "coco", "cvat", "labelme", "createml", "export", "default", "obj"),
    )
)
"""Words that may stand beside a split's in the name of its folder."""


@dataclass(frozen=True)
class FolderTree:
    """The files below a folder as paths relative to it, with "/" between the parts; hidden ones are left out."""

    root: Path
    folders: dict[str, list[str]]
    """Names of files by folder, "" for the root; both sorted."""
    chosen: str | None = None
    """The only annotation file to be used, where the user named one in place of the folder."""
    by_suffix: dict[str, list[str]] = field(default_factory=dict)
    """Paths by suffix in lower case."""

    def files(self, *suffixes: str) -> list[str]:
        """Paths with one of these suffixes; all annotation files but the chosen one count as absent."""
        found = [path for suffix in suffixes for path in self.by_suffix.get(suffix, ())]
        return found if self.chosen is None else [path for path in found if path == self.chosen]

    @cached_property
    def images(self) -> list[str]:
        return sorted(path for suffix in IMAGE_SUFFIXES for path in self.by_suffix.get(suffix, ()))

    def images_below(self, folder: str) -> list[str]:
        """Images in a folder and its subfolders."""
        prefix = f"{folder}/" if folder else ""
        return [
            f"{inner}/{name}" if inner else name
            for inner, names in self.folders.items()
            if f"{inner}/".startswith(prefix) or not prefix
            for name in names
            if suffix_of(name) in IMAGE_SUFFIXES
        ]

    def image_folders(self, split: str | None = None) -> list[Path]:
        """The folders that hold images: those of a split first, those of other splits last."""
        folders = {folder_of(image) for image in self.images}
        splits = {folder: split_of(f"{folder}/", with_file_name=False) for folder in folders}
        ranked = sorted(folders, key=lambda folder: (splits[folder] != split, splits[folder] is not None, folder))
        return [self.root / folder for folder in ranked]

    def has_folder(self, folder: str) -> bool:
        """Whether this folder, or one below it, holds a file."""
        return not folder or any(inner == folder or inner.startswith(f"{folder}/") for inner in self.folders)


def read_tree(path: Path) -> FolderTree:
    """List a dataset folder, or that of an annotation file. Raises `DetrLiteError` if it is not there or too large."""
    root = path if path.is_dir() else path.parent
    folders: dict[str, list[str]] = {}
    by_suffix: dict[str, list[str]] = defaultdict(list)
    total = 0
    for folder, names in _walk(root):
        folders[folder] = names
        total += len(names)
        if total > MAX_FILES:
            raise DetrLiteError(f"{root}: has more than {MAX_FILES:,} files; give the dataset's own folder")
        for name in names:
            by_suffix[suffix_of(name)].append(f"{folder}/{name}" if folder else name)
    return FolderTree(root, dict(sorted(folders.items())), None if path.is_dir() else path.name, dict(by_suffix))


def suffix_of(name: str) -> str:
    """In lower case, with the dot; empty if there is none."""
    stem, dot, suffix = name.rpartition(".")
    return f".{suffix.lower()}" if dot and stem else ""


def folder_of(path: str) -> str:
    return path.rpartition("/")[0]


def stem_of(path: str) -> str:
    """The name without folders and suffix."""
    name = path.rpartition("/")[2]
    return name.rpartition(".")[0] or name


def split_of(path: str, with_file_name: bool) -> str | None:
    """The split that a path's folders name ("train/labels", "images_val2017"), or else the file's name.

    A folder that has other words in its name, such as "test_tubes", is called after what is in it.
    """
    *folders, name = path.split("/")
    for folder in reversed(folders):
        words = {word.rstrip("0123456789") for word in split_names.words_of(folder)}
        if words <= SPLIT_WORDS.keys() | _GENERIC and (split := split_names.split_of(folder)):
            return split
    return split_names.split_of(stem_of(name)) or None if with_file_name else None


def group_by_split(paths: Iterable[str], with_file_name: bool) -> dict[str, list[str]]:
    """Annotation files by split; those that name no split are training where no other file says that it is.

    Args:
        with_file_name: whether a file's name tells its split; not where each image has a file of its own.
    """
    groups: dict[str | None, list[str]] = defaultdict(list)
    for path in paths:
        groups[split_of(path, with_file_name)].append(path)
    rest = groups.pop(None, [])
    named: dict[str, list[str]] = {split: groups[split] for split in SPLITS if split in groups}
    if rest and "train" in named:
        logger.warning(
            f"{len(rest):,} annotation files that belong to no split are not used ({shorten_list(rest, 3)}); others "
            "are in folders such as train and val"
        )
    elif rest:
        named = {"train": rest, **named}
    return named


def common_folder(root: Path, paths: Sequence[str]) -> Path:
    """The deepest folder that holds all files; the file itself if it is one."""
    if len(paths) == 1:
        return root / paths[0]
    return root / os.path.commonpath([folder_of(path) or "." for path in paths]) if paths else root


def _walk(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Each folder that holds files, with their names, sorted. Links are followed, but no folder is entered twice."""
    visited: set[tuple[int, int]] = set()
    waiting = [("", 0)]
    while waiting:
        folder, depth = waiting.pop()
        path = root / folder
        try:
            status = path.stat()
            if (status.st_dev, status.st_ino) in visited and status.st_ino:
                continue
            visited.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                listed = sorted((entry.name, leads_to_folder(entry)) for entry in entries if _is_visible(entry.name))
        except OSError as error:
            raise DetrLiteError(f"{path}: cannot be listed ({error.strerror}); check its permissions") from error
        names = [name for name, is_folder in listed if not is_folder]
        if names:
            yield folder, names
        if depth < MAX_DEPTH:
            waiting += [(f"{folder}/{name}" if folder else name, depth + 1) for name, is_folder in listed if is_folder][
                ::-1
            ]


def _is_visible(name: str) -> bool:
    """Hidden files, and the copies of attributes that macOS adds to archives, are no part of a dataset."""
    return not name.startswith(".") and name != "__MACOSX"
