"""Which text file has an image's labels, in any of the places where YOLO's tools keep them."""

import re
from collections import defaultdict

from detr_lite.data.formats.annotation_text import read_head
from detr_lite.data.formats.folder_tree import FolderTree, folder_of, stem_of

LABEL_LINE = re.compile(r"^\s*\d+(?:\.0+)?(?:[\s,;]+-?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?){4,}[\s,;]*$")
_IMAGE_FOLDERS = frozenset(("images", "jpegimages", "image", "imgs", "img"))


class LabelFinder:
    """The label file of an image: in the "labels" folder beside its "images" folder, or next to it."""

    def __init__(self, tree: FolderTree) -> None:
        self.stems: dict[str, set[str]] = defaultdict(set)
        for path in tree.by_suffix.get(".txt", ()):
            self.stems[folder_of(path)].add(path.rpartition("/")[2])
        self._spelled = {folder.lower(): folder for folder in self.stems}
        self._folders: dict[str, list[str]] = {}

    def find(self, image: str) -> str | None:
        name = f"{stem_of(image)}.txt"
        for folder in self.folders(folder_of(image)):
            if name in self.stems[folder]:
                return f"{folder}/{name}" if folder else name
        return None

    def folders(self, folder: str) -> list[str]:
        """Where the labels of a folder's images may be, among the folders with text files, in any case ("Labels")."""
        if folder not in self._folders:
            parts = folder.split("/")
            candidates = [
                "/".join([*parts[:place], "labels", *parts[place + 1 :]])
                for place in reversed(range(len(parts)))
                if parts[place].lower() in _IMAGE_FOLDERS
            ]
            candidates += [folder, f"{folder}/labels", f"labels/{folder}", "labels"]
            spelled = [each if each in self.stems else self._spelled.get(each.lower()) for each in candidates]
            self._folders[folder] = list(dict.fromkeys(each for each in spelled if each is not None))
        return self._folders[folder]


def is_label(tree: FolderTree, path: str) -> bool:
    """Whether a text file begins with an object's line."""
    lines = [line for line in read_head(tree.root / path).splitlines() if line.strip()]
    return bool(lines) and LABEL_LINE.match(lines[0]) is not None
