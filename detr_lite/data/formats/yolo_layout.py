"""Where a YOLO dataset's images, labels and class names are: Darknet, YOLOv5 to today, and folders without any list."""

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detr_lite.data.formats.annotation_text import BadFileError, read_head, read_text
from detr_lite.data.formats.folder_tree import (
    FolderTree,
    common_folder,
    folder_of,
    read_tree,
    split_of,
    stem_of,
    suffix_of,
)
from detr_lite.data.formats.yolo_labels import LabelFinder, is_label
from detr_lite.data.image_sources import SUFFIXES as IMAGE_SUFFIXES
from detr_lite.data.split_names import SPLIT_WORDS
from detr_lite.errors import DetrLiteError
from detr_lite.text import reason_of

NAME_FILES = ("classes.txt", "obj.names", "class_names.txt", "_darknet.labels", "predefined_classes.txt")
_MAX_CONFIG_BYTES = 1_000_000


@dataclass(frozen=True)
class YoloLayout:
    """All paths are relative to the tree's root."""

    tree: FolderTree
    images: dict[str, list[str]]
    """By split. Names in a list of images that no file has are as the list has them."""
    sources: dict[str, Path]
    names: dict[int, str] | None
    """Of the classes by number; None if no file has them."""
    keypoints: tuple[int, int] | None
    """How many keypoints a line has, and how many values each."""
    configs: list[str]
    """The files from which all this comes."""
    not_found: dict[str, str] = field(default_factory=dict)
    """What data.yaml says of the splits whose images are not there."""


def find_layout(tree: FolderTree) -> YoloLayout | None:
    """Raises `DetrLiteError` for a data.yaml that cannot be read: the names of the classes are in it."""
    for config in _configs(tree):
        content = _read_config(tree, config)
        layout = content and _from_config(tree, config, content)
        if layout:
            return layout
    if tree.chosen is not None:
        return None
    return _from_darknet(tree) or _from_folders(tree)


def _configs(tree: FolderTree) -> list[str]:
    """YAML files at the top or one folder down, those of the usual name first."""
    usual = ("data", "dataset")
    paths = [path for path in tree.files(".yaml", ".yml") if path.count("/") <= 1]
    return sorted(paths, key=lambda path: (path.count("/"), stem_of(path) not in usual, path))


def _read_config(tree: FolderTree, config: str) -> dict[str, Any] | None:
    path = tree.root / config
    is_certain = stem_of(config) == "data" or tree.chosen is not None
    try:
        if path.stat().st_size > _MAX_CONFIG_BYTES:
            return None
        # Without tags and types: "no" stays a name.
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, BadFileError, RecursionError, ValueError, OSError) as error:
        if is_certain:
            raise DetrLiteError(f"{config}: not valid YAML ({reason_of(error)}); correct it") from error
        return None
    is_dataset = isinstance(content, dict) and any(key in content for key in ("train", "val", "names"))
    if not is_dataset and tree.chosen is not None:
        raise DetrLiteError(f'{config}: no YOLO dataset: it has neither "train" nor "val" nor "names"')
    return content if is_dataset else None


def _from_config(tree: FolderTree, config: str, content: Mapping[str, Any]) -> YoloLayout | None:
    base = str(content.get("path") or "")
    names = _names_of(tree, config, content)
    found = _splits_of(tree, config, content, base)
    if not found and tree.chosen is not None and base:
        folder = tree.root / base  # the user named this very file, so that its "path" may lead elsewhere
        if folder.is_dir():
            tree = read_tree(folder)
            found = _splits_of(tree, "", content, "")
    missing = [split for key, value in content.items() if value and (split := SPLIT_WORDS.get(str(key).lower()))]
    missing = [split for split in dict.fromkeys(missing) if split not in found]
    folders = _from_folders(tree) if missing or not found else None
    if folders is not None:
        used = {image for images, _ in found.values() for image in images}
        for split, images in folders.images.items():
            if not used or (split in missing and used.isdisjoint(images)):
                found[split] = images, str(folders.sources[split])
    if not found:
        return None
    shape = content.get("kpt_shape")
    is_shape = isinstance(shape, list) and len(shape) == 2 and all(str(each).isdecimal() for each in shape)
    return YoloLayout(
        tree,
        {split: images for split, (images, _) in found.items()},
        {split: tree.root / source for split, (_, source) in found.items()},
        names if names is not None else _names_from_file(tree),
        (int(shape[0]), int(shape[1])) if isinstance(shape, list) and is_shape else None,
        [config] if (tree.root / config).is_file() else [],
        {split: _entry_of(content, split) for split in missing if split not in found},
    )


def _splits_of(tree: FolderTree, config: str, content: Mapping[str, Any], base: str) -> dict[str, Any]:
    """Images, and the folder or list that names them, of each split of a data.yaml whose files are found."""
    found: dict[str, tuple[list[str], str]] = {}
    for key, value in content.items():
        split = SPLIT_WORDS.get(str(key).lower())
        entries = [value] if isinstance(value, str) else value
        if split is None or split in found or not isinstance(entries, list):
            continue
        places = [_locate(tree, str(entry), folder_of(config), base) for entry in entries if entry]
        listed = [place for place in places if place is not None]
        images = [image for place in listed for image in _images_of(tree, place)]
        if images:
            found[split] = sorted(dict.fromkeys(images)), listed[0]
    return found


def _entry_of(content: Mapping[str, Any], split: str) -> str:
    """As the YAML has it, for messages."""
    return next(f"{key}: {value}" for key, value in content.items() if SPLIT_WORDS.get(str(key).lower()) == split)


def _locate(tree: FolderTree, entry: str, folder: str, base: str) -> str | None:
    """The folder or list that an entry means: below `path`, or the YAML's folder, whatever comes before it.

    `path` and absolute entries are those of the machine where the dataset was made, and Roboflow's entries begin with
    "../" without reason, so that leading parts are left out until the rest is there.
    """
    parts, above = _parts(entry), _parts(folder)
    candidates = [[*above, *_parts(base), *parts]]
    split = _split_of(parts)
    # "images" is not what is left of "valid/images": it may hold those of all splits.
    rests = [parts[skip:] for skip in range(len(parts) or 1) if _split_of(parts[skip:]) == split]
    candidates += [[*start, *rest] for rest in rests for start in (above, [])]
    for candidate in candidates:
        path = "/".join(candidate)
        if suffix_of(path) == ".txt" and path in tree.by_suffix.get(".txt", ()):
            return path
        if tree.has_folder(path) and tree.images_below(path):
            return path
    return None


def _split_of(parts: list[str]) -> str | None:
    return split_of("/".join([*parts, ""]), with_file_name=False)


def _parts(path: str) -> list[str]:
    plain = re.sub(r"^[A-Za-z]:", "", path.strip().replace("\\", "/"))
    return [part for part in plain.split("/") if part not in ("", ".", "..")]


def _images_of(tree: FolderTree, place: str) -> list[str]:
    """The images of a folder, or of a text file with one path a line."""
    if suffix_of(place) != ".txt":
        return tree.images_below(place)
    known = set(tree.images)
    lines = [line.strip() for line in read_text(tree.root / place).splitlines()]
    return [_known_path(line, folder_of(place), known) for line in lines if line]


def _known_path(line: str, folder: str, known: set[str]) -> str:
    """A path in a list of images is relative to the list or to some other folder, or absolute on another machine."""
    parts = _parts(line)
    for skip in range(len(parts)):
        rest = "/".join(parts[skip:])
        for candidate in (f"{folder}/{rest}" if folder else rest, rest):
            if candidate in known:
                return candidate
    return line


def _from_darknet(tree: FolderTree) -> YoloLayout | None:
    """obj.data with "train = data/train.txt", or lists of images called train.txt and val.txt."""
    content: dict[str, str] = {}
    configs = [path for path in tree.files(".data") if path.count("/") <= 1]
    for config in configs[:1]:
        pairs = (line.partition("=") for line in read_text(tree.root / config).splitlines())
        content = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    if not content:
        lists = [path for path in tree.files(".txt") if stem_of(path).lower() in SPLIT_WORDS and path.count("/") <= 1]
        content = {stem_of(path): path for path in lists if _lists_images(tree, path)}
    found = _splits_of(tree, configs[0] if configs else "", content, "")
    if not found:
        return None
    labels = LabelFinder(tree)
    if not any(labels.find(image) for images, _ in found.values() for image in images):
        return None
    return YoloLayout(
        tree,
        {split: images for split, (images, _) in found.items()},
        {split: tree.root / source for split, (_, source) in found.items()},
        _names_from_file(tree, content.get("names")),
        None,
        configs,
    )


def _lists_images(tree: FolderTree, path: str) -> bool:
    lines = read_head(tree.root / path).split("\n", 20)[:20]
    return any(suffix_of(line.strip()) in IMAGE_SUFFIXES for line in lines)


def _from_folders(tree: FolderTree) -> YoloLayout | None:
    """Images in folders for which there are labels, by the splits that the folders' names say."""
    labels = LabelFinder(tree)
    images = [image for image in tree.images if labels.folders(folder_of(image))]
    labeled = [(image, label) for image in images if (label := labels.find(image))]
    if not labeled or not any(is_label(tree, label) for _, label in labeled[:: max(1, len(labeled) // 20)]):
        return None
    used = {folder_of(image) for image, _ in labeled}
    groups: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if folder_of(image) in used:
            groups[split_of(image, with_file_name=False) or "train"].append(image)
    sources = {split: common_folder(tree.root, [*group, group[0]]) for split, group in groups.items()}
    return YoloLayout(tree, dict(groups), sources, _names_from_file(tree), None, [])


def _names_of(tree: FolderTree, config: str, content: Mapping[str, Any]) -> dict[int, str] | None:
    """The class names of a data.yaml: a list, an object with numbers as keys, or the path of a file with one a line."""
    names = content.get("names")
    if isinstance(names, str) and suffix_of(names):
        return _names_from_file(tree, names)
    if isinstance(names, str) and names:
        names = names.split(",")
    pairs = enumerate(names) if isinstance(names, list) else names.items() if isinstance(names, dict) else ()
    named = {str(number).strip(): name for number, name in pairs}
    wrong = [number for number, name in named.items() if not (number.isdecimal() and isinstance(name, str))]
    if wrong:
        raise DetrLiteError(f'{config}: "names" has no text under the class number {wrong[0]!r}; correct it')
    return {int(number): name.strip() for number, name in named.items()} or None


def _names_from_file(tree: FolderTree, named: str | None = None) -> dict[int, str] | None:
    """One name a line."""
    files = [*tree.by_suffix.get(".txt", ()), *tree.by_suffix.get(".names", ()), *tree.by_suffix.get(".labels", ())]
    wanted = named.replace("\\", "/").rpartition("/")[2].lower() if named else ""
    places = {wanted: 0, **dict.fromkeys(NAME_FILES, 1)}
    found = [path for path in files if path.rpartition("/")[2].lower() in places or suffix_of(path) == ".names"]
    for path in sorted(found, key=lambda path: (places.get(path.rpartition("/")[2].lower(), 2), path.count("/"), path)):
        lines = [line.strip() for line in read_text(tree.root / path).splitlines()]
        while lines and not lines[-1]:
            lines.pop()
        if lines:
            return {number: name for number, name in enumerate(lines) if name}
    return None
