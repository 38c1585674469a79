"""The images of formats with an annotation file for each."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from detr_lite.data.formats.folder_tree import FolderTree, folder_of, stem_of
from detr_lite.data.formats.split_builder import SplitBuilder


class ImageFinder:
    """The image of each annotation file: that of the same name nearest to it.

    The path inside the file is often that of another machine or of before a renaming, the file's own name hardly ever.
    """

    def __init__(self, tree: FolderTree, annotations: Sequence[str]) -> None:
        self.tree, self.annotations = tree, annotations
        self._by_stem: dict[str, list[str]] = defaultdict(list)
        for image in tree.images:
            self._by_stem[stem_of(image)].append(image)

    def find(self, annotation: str) -> str | None:
        """None if there is none, or if two are equally near."""
        found = self._by_stem.get(stem_of(annotation), [])
        if len(found) < 2:
            return found[0] if found else None
        ranked = sorted((_distance(folder_of(image), folder_of(annotation)), image) for image in found)
        return ranked[0][1] if ranked[0][0] < ranked[1][0] else None

    def folders(self, images: Collection[str]) -> list[Path]:
        return [self.tree.root / folder for folder in sorted({folder_of(image) for image in images})]

    def note_unlabeled(self, builder: SplitBuilder, used: Collection[str]) -> None:
        """Images beside those used that no annotation file is for: nobody has looked whether there are objects."""
        folders = {folder_of(image) for image in used}
        labeled = {self.find(path) for path in self.annotations}
        for image in self.tree.images:
            if folder_of(image) in folders and image not in labeled:
                builder.note("unlabeled_image", "images without an annotation file count as not labeled and are left "
                             "out", image)  # fmt: skip


def _distance(folder: str, other: str) -> tuple[int, int]:
    """Smaller for folders with more of their path in common."""
    parts, others = folder.split("/"), other.split("/")
    common = 0
    while common < min(len(parts), len(others)) and parts[common] == others[common]:
        common += 1
    return -common, -len(set(parts) & set(others))
