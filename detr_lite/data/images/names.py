"""Finds the file of each image that annotations name, whatever program on whatever system wrote the names."""

# ruff: noqa: PTH100, PTH117, PTH112, PTH118, PTH119, PTH120, PTH122 (for 118,000 names `Path` takes seconds)

import difflib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path, PurePath
from typing import Literal
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from detr_lite.data.folder_listing import FolderListing, spelling_key
from detr_lite.data.image_sources import SUFFIXES as IMAGE_SUFFIXES
from detr_lite.data.records import RawSplit
from detr_lite.data.report import SplitReport
from detr_lite.data.split_names import split_of_path
from detr_lite.text import printable

Way = Literal["spelling", "prefix", "suffix", "subfolder"]

FAULTS: dict[Way, tuple[str, str, str]] = {
    "spelling": (
        "image_name_spelling",
        "image names whose case, Unicode form or escapes differ from the file's",
        "are matched with it",
    ),
    "prefix": ("image_name_prefix", "image names with a foreign folder or address before them", "are found without it"),
    "suffix": ("image_name_suffix", "image names without the ending of the file's", "are found with it"),
}
"""Kind, fault and remedy of names that differ from their file's."""

UPLOAD_PREFIX = re.compile(r"^[0-9a-f]{8}-")
"""Label Studio puts it before the name of an uploaded file."""

ADDRESS = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://")

MAX_PARTS = 20
"""Folders and name at the end of a name that are looked up without what is before them."""

MAX_COMPARED = 5000
"""Similar names are looked for among so many; comparing takes about a second for this many."""

MAX_NEAREST = 20
"""Missing images whose nearest name is looked for; the log shows fewer."""


def resolve_images(names: Sequence[str], folders: Sequence[Path], root: Path, report: SplitReport) -> list[str]:
    """The path of the file that each name means; for a name without one, a path at which there is nothing.

    Names may be relative to one of the split's image folders or to the dataset folder `root`, or absolute; they may
    have backslashes, another case or Unicode form than the file, URL escapes, or the folders of another machine before
    them. What may be either of two files is not guessed. Links are followed, but a name that itself leads out of
    `root` is refused, and what it names is not opened.

    Args:
        folders: the first has precedence; those that are missing are ignored.
        report: gets the names that were matched in another way than as they stand, those that are missing (as
            "missing_image", with the nearest name that there is), and those that are refused. `drop_missing` then
            leaves out the images without a path.
    """
    resolver = _Resolver(folders, root)
    found = {name: resolver.exact(name) for name in dict.fromkeys(names)}
    backslashes = [name for name, path in found.items() if path and "\\" in name and not path.endswith(name)]
    if backslashes:
        report.note("image_name_backslashes", "image names with backslashes are read as paths", backslashes)
    unknown = [name for name, path in found.items() if not path]
    if unknown:
        _find_otherwise(unknown, found, resolver, report)
    return [found[name] or resolver.absent(name) for name in names]


def drop_missing(raw: RawSplit, report: SplitReport) -> RawSplit:
    """Without the images that `resolve_images` has reported to be missing or refused."""
    if not report.findings:
        return raw
    return raw.keep_images(np.array([os.path.lexists(path) for path in raw.paths], dtype=bool))


def _find_otherwise(unknown: list[str], found: dict[str, str], resolver: "_Resolver", report: SplitReport) -> None:
    """Fill in the paths of names that are no files as they stand, and report them."""
    outside: list[str] = []
    guesses = {name: resolver.guess(name) for name in unknown}
    claims = Counter(guess[1] for guess in guesses.values() if guess is not None)
    taken = set(found.values())
    missing: list[str] = []
    by_way: dict[Way, dict[str, str]] = {"spelling": {}, "prefix": {}, "suffix": {}, "subfolder": {}}
    for name, guess in guesses.items():
        if guess is not None and claims[guess[1]] == 1 and guess[1] not in taken:
            by_way[guess[0]][name] = guess[1]
        elif resolver.leads_out(name) or resolver.is_file_outside(name):
            outside.append(name)
        else:
            missing.append(name)
    if by_way["subfolder"]:
        report.note("image_in_subfolder", "images are in subfolders that their names do not have", by_way["subfolder"])
        found.update(by_way["subfolder"])
    for way, (kind, what, remedy) in FAULTS.items():
        if by_way[way] and report.repair(kind, what, remedy, by_way[way], unit="image"):
            found.update(by_way[way])
    if outside:
        report.refuse(
            "image_outside", "image names that lead out of the data folder; give names of files inside it", outside
        )
    if missing and len(missing) == len(found):
        report.refuse(
            "no_image_found",
            f"none of the images is in {resolver.places()}; put them there",
            map(resolver.with_nearest, missing[:MAX_NEAREST]),
        )
    elif missing:
        entries = [resolver.with_nearest(name) if place < MAX_NEAREST else name for place, name in enumerate(missing)]
        report.skip("missing_image", "images without a file", entries, unit="image")


class _Resolver:
    """Looks names up in the image folders of a split and in the dataset folder."""

    def __init__(self, folders: Sequence[Path], root: Path) -> None:
        self._listing = FolderListing()
        self._root = os.path.abspath(root)  # links in it stay as they are
        self._real_root = os.path.realpath(root)
        places = [os.path.abspath(folder) for folder in folders]
        self._bases = list(dict.fromkeys([*places, self._root]))

    def exact(self, name: str) -> str:
        """The file of the name as it stands or with slashes for backslashes; "" if there is none."""
        for spelled in (name, name.replace("\\", "/")) if "\\" in name else (name,):
            for path in self._inside(spelled):
                if self._listing.has_file(path):
                    return path
        return ""

    def guess(self, name: str) -> tuple[Way, str] | None:
        """The only file that the name can mean, and what is to be changed in the name for it."""
        plain = _without_address(name)
        leads_out = self.leads_out(name)
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if leads_out:
            # "../../media/a.jpg" may be of the computer where it was written, but "../../val/a.jpg" of a dataset that
            # has a folder val/ is more likely an image of another dataset.
            while parts[:1] == [".."]:
                del parts[0]
            if len(parts) < 2 or os.path.lexists(os.path.join(self._root, parts[0])):
                return None
        if not parts or ".." in parts:
            return None
        if len(parts) == 1 and (path := self._in_subfolder(parts[0])):
            return "subfolder", path
        is_foreign = plain != name.replace("\\", "/") or plain.startswith("/") or leads_out
        for spelled in dict.fromkeys(("/".join(parts), unquote("/".join(parts)))):
            if path := self._only_file(spelled):
                return "prefix" if is_foreign else "spelling", path
        uploaded = UPLOAD_PREFIX.sub("", parts[-1])
        for last in dict.fromkeys((parts[-1], unquote(parts[-1]), uploaded, unquote(uploaded))):
            for first in range(max(0, len(parts) - MAX_PARTS), len(parts)):
                if path := self._only_file("/".join([*parts[first:-1], last])):
                    return "prefix", path
        has_suffix = os.path.splitext(parts[-1])[1].lower() in IMAGE_SUFFIXES
        path = None if has_suffix else self._only_own(self._images_of_stem(spelling_key(parts[-1])))
        return None if path is None else ("suffix", path)

    def places(self) -> str:
        """The folders that exist, for a message."""
        folders = [base for base in self._bases if os.path.isdir(base)]
        return " or ".join(printable(os.path.relpath(folder, os.path.dirname(self._root))) for folder in folders)

    def leads_out(self, name: str) -> bool:
        """Whether a relative name climbs out of the dataset folder from wherever it starts."""
        plain = name.replace("\\", "/")
        return ".." in plain.split("/") and not plain.startswith("/") and not any(True for _ in self._inside(plain))

    def is_file_outside(self, name: str) -> bool:
        """Whether an absolute name is that of a file outside the dataset folder; the file is not opened."""
        return os.path.isabs(name) and not any(True for _ in self._inside(name)) and os.path.lexists(name)

    def absent(self, name: str) -> str:
        """Where the file of a name would be expected, or "": in any case a path at which there is nothing."""
        path = next(self._inside(name), "")
        try:
            os.fsencode(path)
        except UnicodeEncodeError:
            return ""
        return "" if os.path.lexists(path) else path

    def with_nearest(self, name: str) -> str:
        """The name and, if there is one, the file whose name is most like it."""
        last = _without_address(name).rsplit("/", 1)[-1]
        stem = os.path.splitext(spelling_key(last))[0]
        nearest = self._files_by_key.get(spelling_key(last)) or self._images_of_stem(stem)
        if not nearest and len(self._files_by_stem) <= MAX_COMPARED:
            # Another number is another image, not a misspelling.
            candidates = [other for other in self._files_by_stem if _numbers_in(other) == _numbers_in(stem)]
            similar = difflib.get_close_matches(stem, candidates, n=1, cutoff=0.8)
            nearest = self._images_of_stem(similar[0]) if similar else []
        shown = [os.path.relpath(path, self._root) for path in sorted(nearest)[:2]]
        return f"{name}; there {'is' if len(shown) == 1 else 'are'} {' and '.join(shown)}" if shown else name

    def _inside(self, name: str) -> Iterator[str]:
        """The paths inside the dataset folder that the name may stand for."""
        if os.path.isabs(name):
            for root in (self._root, self._real_root):
                if name.startswith(os.path.join(root, "")):
                    name = os.path.relpath(name, root)
                    break
            else:
                return
        for base in self._bases:
            path = os.path.normpath(os.path.join(base, name))
            if path.startswith(os.path.join(self._root, "")):
                yield path

    def _in_subfolder(self, name: str) -> str | None:
        """The only file of this name below the dataset folder."""
        return self._only_own(
            [path for path in self._files_by_key.get(spelling_key(name), []) if os.path.basename(path) == name]
        )

    def _only_own(self, files: list[str]) -> str | None:
        """The only one of the files, if it is not among those of another split."""
        if len(files) != 1:
            return None
        is_own = any(files[0].startswith(os.path.join(base, "")) for base in self._bases if base != self._root)
        is_others = bool(split_of_path(PurePath(files[0]).parent, PurePath(self._root)))
        return files[0] if is_own or not is_others else None

    def _only_file(self, relative: str) -> str | None:
        """The file of this name, in any case and Unicode form, if only one of the folders has one."""
        paths = {path for base in self._bases if (path := self._listing.find_file(base, relative))}
        return paths.pop() if len(paths) == 1 else None

    @cached_property
    def _files_by_key(self) -> dict[str, list[str]]:
        """Paths of all files below the dataset folder by the key of their name."""
        files: dict[str, list[str]] = {}
        for folder, name in self._listing.files_below(self._root):
            files.setdefault(spelling_key(name), []).append(os.path.join(folder, name))
        return files

    def _images_of_stem(self, stem: str) -> list[str]:
        paths = self._files_by_stem.get(stem, [])
        return [path for path in paths if os.path.splitext(path)[1].lower() in IMAGE_SUFFIXES]

    @cached_property
    def _files_by_stem(self) -> dict[str, list[str]]:
        stems: dict[str, list[str]] = {}
        for key, paths in self._files_by_key.items():
            stems.setdefault(os.path.splitext(key)[0], []).extend(paths)
        return stems


def _numbers_in(name: str) -> list[int]:
    return [int(digits[:18]) for digits in re.findall(r"[0-9]+", name)]


def _without_address(name: str) -> str:
    """The name with slashes, without "file://", "https://host", a drive's letter or Label Studio's "?d="."""
    name = name.replace("\\", "/")
    if ADDRESS.match(name) or "?d=" in name:
        try:
            address = urlsplit(name)
        except ValueError:
            return name
        name = unquote(parse_qs(address.query).get("d", [address.path])[0])
    return re.sub(r"^[A-Za-z]:(?=/)", "", name)
