"""Formats with a list of images in one JSON file for each split."""

import re
from collections.abc import Callable
from typing import Any

from detr_lite.data.formats.annotation_text import read_head
from detr_lite.data.formats.folder_tree import FolderTree, common_folder, group_by_split
from detr_lite.data.formats.json_file import read_json
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import SplitBuilder, reader_of
from detr_lite.errors import DetrLiteError

AddEntries = Callable[[SplitBuilder, list[Any], str], None]
"""Adds the entries of one file; the last argument is its path, for messages."""


def find_json_lists(
    tree: FolderTree, format: str, unit: str, sign: re.Pattern[str], add_entries: AddEntries
) -> Source | None:
    """The source made of all JSON files that are lists with this sign in them."""
    heads = ((path, read_head(tree.root / path)) for path in sorted(tree.files(".json")))
    paths = [path for path, head in heads if head.lstrip("\ufeff \t\r\n").startswith("[") and sign.search(head)]
    if not paths:
        return None
    splits = group_by_split(paths, with_file_name=True)

    def parse(split: str) -> SplitBuilder:
        builder = SplitBuilder(tree.root, unit, tree.image_folders(split))
        for path in splits[split]:
            content = read_json(tree.root / path, path)
            if not isinstance(content, list):
                raise DetrLiteError(f"{path}: not a list of images; export it again")
            add_entries(builder, content, path)
        return builder

    sources = {split: common_folder(tree.root, files) for split, files in splits.items()}
    return Source(
        tree.root, format, sources, reader_of(splits, parse), lambda split: [tree.root / path for path in paths]
    )
