"""Which split the names of files and folders mean."""

import re
from collections.abc import Mapping
from pathlib import PurePath

SPLIT_WORDS: Mapping[str, str] = {
    "train": "train", "training": "train", "trainval": "train",
    "val": "val", "valid": "val", "validation": "val", "validate": "val", "dev": "val", "minival": "val",
    "test": "test", "testing": "test",
}  # fmt: skip


def split_of(name: str) -> str:
    """The split that the name of a file or folder means, "" if it means none or several."""
    splits = list(dict.fromkeys(SPLIT_WORDS[word] for word in words_of(name) if word in SPLIT_WORDS))
    if splits == ["test", "val"]:  # COCO's test-dev
        return "test"
    return splits[0] if len(splits) == 1 else ""


def split_of_path(path: PurePath, root: PurePath) -> str:
    """The split that the last name of a path means, or else the nearest folder above it within `root`; "" for none.

    The suffix of a file is no matter.
    """
    return next((split for name in reversed(path.relative_to(root).parts) if (split := split_of(name))), "")


def words_of(name: str) -> list[str]:
    """Words in lower case, each with and without the digits that follow it.

    "instances_train2017" has "instances", "train2017" and "train".
    """
    found = re.findall(r"[^\W\d_]+\d*", re.sub(r"([a-z])([A-Z])", r"\1 \2", name))
    return [word for each in found for word in dict.fromkeys((each.lower(), each.lower().rstrip("0123456789")))]
