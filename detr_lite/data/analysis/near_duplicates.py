"""Images that stand in a dataset twice: as copies of one file, or nearly so, as frames of one video do.

Two images are near duplicates if their perceptual hashes agree. The hash is the difference hash of Krawetz ("Kind of
Like That", hackerfactor.com, 2013): the differences between neighboring pixels of a thumbnail. They are kept as numbers
and not as signs alone, since signs are random where an image is flat.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np
from jaxtyping import Float32, Int64, UInt8
from tqdm import tqdm

from detr_lite.data.images.thumbnails import color_range

COARSE, FINE = 0.8, 0.5
"""Least correlation of the hashes of 8 x 8 and of 16 x 16 pixels. Near frames of a video agree that much; the second
one tells images apart that share a pattern of bars or a bright spot."""

_FLAT = 8
"""Levels of any color between the darkest and the lightest pixel below which an image is flat: its hash would be noise.
"""

_BLOCK = 2048
"""Images whose hashes are compared at a time: the correlations of one block take 16 MB."""


@dataclass(frozen=True, eq=False)
class ImagePairs:
    """Pairs of images, the most alike first."""

    first: Int64[np.ndarray, " pair"]
    second: Int64[np.ndarray, " pair"]
    correlation: Float32[np.ndarray, " pair"]
    """Of the finer hashes; 1 is the same picture."""

    def __len__(self) -> int:
        return len(self.first)

    def best_of_first(self) -> "ImagePairs":
        """For each first image the pair that is most alike."""
        _, places = np.unique(self.first, return_index=True)
        places = np.sort(places)
        return ImagePairs(self.first[places], self.second[places], self.correlation[places])


def near_pairs(
    thumbnails: UInt8[np.ndarray, "image 16 16 3"], others: UInt8[np.ndarray, "other 16 16 3"] | None = None
) -> ImagePairs:
    """Pairs of an image and one of `others` that are near duplicates; without `others`, pairs of two of the images.

    A matrix product: 5,000 images are compared with 5,000 others in a second.
    """
    second_thumbnails = thumbnails if others is None else others
    first, second = _coarse_pairs(_hash(thumbnails, 8), None if others is None else _hash(others, 8)).T
    correlation = np.zeros(len(first), dtype=np.float32)
    for start in range(0, len(first), _BLOCK):
        some = slice(start, start + _BLOCK)
        hashes = _hash(thumbnails[first[some]], 16), _hash(second_thumbnails[second[some]], 16)
        correlation[some] = (hashes[0] * hashes[1]).sum(axis=1).clip(max=1)
    order = np.argsort(-correlation, kind="stable")
    order = order[correlation[order] >= FINE]
    return ImagePairs(first[order], second[order], correlation[order])


def same_files(paths: Sequence[str]) -> list[list[int]]:
    """Groups of two or more files with the same content, as places in `paths`; unreadable files are in none."""
    by_size: dict[int, list[int]] = defaultdict(list)
    for place, path in enumerate(paths):
        try:
            by_size[Path(path).stat().st_size].append(place)
        except (OSError, ValueError):
            continue
    by_content: dict[bytes, list[int]] = defaultdict(list)
    alike = [place for places in by_size.values() if len(places) > 1 for place in places]
    for place in tqdm(alike, "comparing files", unit="file", leave=False, disable=None):
        try:
            with Path(paths[place]).open("rb") as file:
                by_content[hashlib.file_digest(file, "sha256").digest()].append(place)
        except OSError:
            continue
    return sorted(places for places in by_content.values() if len(places) > 1)


def series_of(name: str) -> str:
    """What the names of the frames of one video share: the name without its last number, as `ride_` of `ride_017.jpg`.

    Roboflow appends `_jpg.rf.` and a random number to names, which belongs to none.
    """
    stem = re.sub(r"[_.](jpe?g|png)\.rf\.[0-9A-Za-z]+$", "", PurePath(name).stem)
    return re.sub(r"\d+\D*$", "", stem)


def _coarse_pairs(
    hashes: Float32[np.ndarray, "image difference"], others: Float32[np.ndarray, "other difference"] | None
) -> Int64[np.ndarray, "pair 2"]:
    """Pairs whose hashes correlate by at least `COARSE`, in blocks; without `others`, each pair of two images once."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    columns = hashes if others is None else others
    starts = range(0, len(hashes), _BLOCK)
    for start in tqdm(starts, "finding near duplicates", unit="block", leave=False, disable=None):
        for other in range(0 if others is not None else start, len(columns), _BLOCK):
            correlation = hashes[start : start + _BLOCK] @ columns[other : other + _BLOCK].T
            pairs = np.argwhere(correlation >= COARSE) + np.array([start, other])
            found.append(pairs if others is not None else pairs[pairs[:, 0] < pairs[:, 1]])
    return np.concatenate(found)


def _hash(thumbnails: UInt8[np.ndarray, "image 16 16 3"], side: int) -> Float32[np.ndarray, "image difference"]:
    """The differences between neighboring pixels, of unit length; zero for flat images.

    Of square roots of the pixels, so that headlights and the like do not outweigh everything else.
    """
    factor = 16 // side
    pixels = np.sqrt(thumbnails.astype(np.float32))
    pixels = pixels.reshape(len(pixels), side, factor, side, factor, 3).mean(axis=(2, 4))
    steps = [np.diff(pixels, axis=axis).reshape(len(pixels), side * (side - 1) * 3) for axis in (1, 2)]
    hashes: np.ndarray = np.concatenate(steps, axis=1, dtype=np.float32)
    hashes /= np.linalg.norm(hashes, axis=1, keepdims=True).clip(min=1e-6)
    hashes[color_range(thumbnails) < _FLAT] = 0
    return hashes
