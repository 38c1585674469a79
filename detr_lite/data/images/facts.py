"""Opens every image file once, in parallel, and keeps what it found for as long as the file does not change."""

import threading
import warnings
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from os.path import commonpath
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64
from tqdm import tqdm

from detr_lite.cores import usable_cores
from detr_lite.data.cache import cache_file, file_stamps, load_cached, save_cached
from detr_lite.data.images.depth import depth_of
from detr_lite.data.images.files import UnreadableImageError, decoding_bytes, pixel_limit, read_stored
from detr_lite.data.packed import PackedStrings

FILES_PER_TASK = 16

LARGE_IMAGE = 40_000_000
"""Bytes; images that take more are decoded one at a time, so that many threads do not exhaust the memory."""


@dataclass(frozen=True, eq=False)
class ImageFacts:
    """What a look at image files found, in their order."""

    sizes_wh: Int64[np.ndarray, "image 2"]
    """As stored, whatever the EXIF orientation says; 0 where the file is unreadable."""
    orientations: Int64[np.ndarray, " image"]
    """The EXIF orientation, 1 .. 8."""
    problems: np.ndarray
    """A `Problem` of `image_files` for each file that `load_image` would refuse, "" for the others."""
    depths: np.ndarray
    """A `Depth` of `image_depth`."""
    is_incomplete: Bool[np.ndarray, " image"]
    """JPEG files without their last bytes that are read nevertheless."""
    reasons: dict[int, str]
    """Why each unreadable file is."""

    def keep(self, mask: Bool[np.ndarray, " image"]) -> "ImageFacts":
        """The facts about some of the files."""
        places = {int(index): place for place, index in enumerate(np.flatnonzero(mask))}
        return ImageFacts(
            self.sizes_wh[mask],
            self.orientations[mask],
            self.problems[mask],
            self.depths[mask],
            self.is_incomplete[mask],
            {places[index]: reason for index, reason in self.reasons.items() if index in places},
        )


@dataclass(frozen=True)
class _Found:
    """The facts of a single file."""

    size_wh: tuple[int, int] = (0, 0)
    orientation: int = 1
    problem: str = ""
    depth: str = ""
    is_incomplete: bool = False
    reason: str = ""
    stamp: tuple[int, int] = (-1, -1)
    """Of the file when it was read: size in bytes, and time of the last change."""


def inspect_images(paths: Sequence[str]) -> ImageFacts:
    """Decode every file, except those that have not changed since the last time; repeated paths are read once.

    What has been found is kept even if the user interrupts this.
    """
    files = list(dict.fromkeys(paths))
    if not files:
        return _arrays([])
    folder = commonpath([Path(path).absolute() for path in files])
    file = cache_file("images", folder, pixel_limit())
    known = _load(file)
    stamps = dict(zip(files, map(tuple, file_stamps(files).tolist()), strict=True))
    changed = [path for path in files if path not in known or known[path].stamp != stamps[path]]
    if changed:
        try:
            for path, found in _inspect(changed):
                known[path] = replace(found, stamp=stamps[path])
        finally:
            _save(file, known, set(files))
    return _arrays([known[path] for path in paths])


def _inspect(files: Sequence[str]) -> Iterator[tuple[str, _Found]]:
    """Threads, as Pillow decodes without holding the interpreter's lock."""
    tasks = [files[start : start + FILES_PER_TASK] for start in range(0, len(files), FILES_PER_TASK)]
    large = threading.Lock()
    pool = ThreadPoolExecutor(usable_cores(), "inspect_images")
    with (
        warnings.catch_warnings(action="ignore"),  # not in each thread: filters belong to the whole process
        tqdm(total=len(files), desc="checking images", unit="image", leave=False, disable=None) as bar,
    ):
        try:
            found = pool.map(lambda task: [_look(path, large) for path in task], tasks)
            for task, results in zip(tasks, found, strict=True):
                yield from zip(task, results, strict=True)
                bar.update(len(task))
        finally:
            pool.shutdown(cancel_futures=True)


def _look(path: str, large: threading.Lock) -> _Found:
    with large if decoding_bytes(path) > LARGE_IMAGE else nullcontext():
        try:
            stored = read_stored(path, as_thumbnail=True)
            depth = depth_of(stored.image, stored.is_wide_color)
        except UnreadableImageError as error:
            return _Found(problem=error.kind, reason=str(error))
        return _Found(stored.size_wh, stored.orientation, depth=depth, is_incomplete=stored.is_incomplete)


def _arrays(found: Sequence[_Found]) -> ImageFacts:
    return ImageFacts(
        sizes_wh=np.array([each.size_wh for each in found], dtype=np.int64).reshape(-1, 2),
        orientations=np.array([each.orientation for each in found], dtype=np.int64),
        problems=np.array([each.problem for each in found], dtype=np.str_),
        depths=np.array([each.depth for each in found], dtype=np.str_),
        is_incomplete=np.array([each.is_incomplete for each in found], dtype=np.bool_),
        reasons={index: each.reason for index, each in enumerate(found) if each.reason},
    )


def _load(file: Path) -> dict[str, _Found]:
    cached = load_cached(file)
    if cached is None:
        return {}
    arrays, stored = cached
    paths = PackedStrings.of_arrays(arrays["path_bytes"], arrays["path_ends"])
    columns = (
        arrays[name].tolist() for name in ("sizes", "orientations", "problems", "depths", "incomplete", "stamps")
    )
    return {
        path: _Found(
            tuple(size), orientation, problem, depth, incomplete, stored["reasons"].get(str(index), ""), tuple(stamp)
        )
        for index, (path, size, orientation, problem, depth, incomplete, stamp) in enumerate(
            zip(paths, *columns, strict=True)
        )
    }


def _save(file: Path, known: dict[str, _Found], inspected: Collection[str]) -> None:
    """Facts about files that have changed or gone since are dropped."""
    others = [path for path in known if path not in inspected]
    stamps = map(tuple, file_stamps(others).tolist())
    outdated = {path for path, stamp in zip(others, stamps, strict=True) if known[path].stamp != stamp}
    kept = {path: found for path, found in known.items() if path not in outdated}
    facts, paths = _arrays(list(kept.values())), PackedStrings(list(kept))
    arrays: dict[str, np.ndarray] = {
        "path_bytes": paths.bytes, "path_ends": paths.ends, "sizes": facts.sizes_wh,
        "orientations": facts.orientations, "problems": facts.problems, "depths": facts.depths,
        "incomplete": facts.is_incomplete, "stamps": np.array([found.stamp for found in kept.values()], dtype=np.int64),
    }  # fmt: skip
    save_cached(file, arrays, {"reasons": facts.reasons})
