"""Results of slow checks of a dataset, kept in the user's cache folder and never in the dataset's own."""

import contextlib
import hashlib
import json
import os
import struct
import sys
import time
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from detr_lite.data.mapped_arrays import map_arrays, write_arrays
from detr_lite.errors import DetrLiteError
from detr_lite.io import atomic_write

VERSION = 4
"""Raised when what is kept would be computed or stored differently, so that older files are not used."""

MAX_AGE_DAYS = 60
"""Files that have not been used for so long are removed."""


def cache_folder() -> Path:
    """The folder that the environment variable DETR_LITE_CACHE names, or the usual one of the system."""
    if "DETR_LITE_CACHE" in os.environ:
        return Path(os.environ["DETR_LITE_CACHE"]).expanduser()
    if sys.platform == "darwin":
        return Path("~/Library/Caches/detr_lite").expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or "~/AppData/Local").expanduser() / "detr_lite" / "Cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "detr_lite"


def file_stamps(paths: Iterable[str | Path]) -> Int64[np.ndarray, "file 2"]:
    """Size in bytes and time of the last change in nanoseconds of each file; -1 and -1 where there is none."""
    stamps = (number for path in paths for number in _stamp(path))
    return np.fromiter(stamps, dtype=np.int64).reshape(-1, 2)


def _stamp(path: str | Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116 (Path.stat is slower for 100,000 files)
    except (OSError, ValueError):
        return -1, -1
    return status.st_size, status.st_mtime_ns


def cache_file(kind: str, *key: object) -> Path:
    """The file for this key; `kind` begins its name."""
    digest = hashlib.sha256(json.dumps([VERSION, *map(str, key)]).encode()).hexdigest()[:32]
    return cache_folder() / f"{kind}-{digest}.npz"


def load_cached(file: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]] | None:
    """Arrays and JSON values as `save_cached` kept them; None if there are none, or they cannot be read.

    The arrays cannot be written to: they lie in the file, which is mapped into memory.
    """
    try:
        arrays = map_arrays(file)
        facts: dict[str, Any] = json.loads(arrays.pop("facts").tobytes())
        with contextlib.suppress(OSError):
            os.utime(file)
    except (OSError, ValueError, KeyError, TypeError, EOFError, struct.error, zipfile.BadZipFile):
        return None
    return arrays, facts


def save_cached(file: Path, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> bool:
    """Keep arrays and JSON values. A folder that cannot be written to costs the next run time, and nothing else.

    Returns whether they are kept.
    """
    stored: dict[str, Any] = {**arrays, "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8)}
    try:
        atomic_write(file, lambda stream: write_arrays(stream, stored), durable=False)
    except (OSError, DetrLiteError):
        return False
    with contextlib.suppress(OSError):
        _remove_old(file.parent)
    return True


def _remove_old(folder: Path) -> None:
    oldest = time.time() - MAX_AGE_DAYS * 86_400
    old: Sequence[Path] = [path for path in folder.glob("*.npz") if path.stat().st_mtime < oldest]
    for path in old:
        path.unlink(missing_ok=True)
