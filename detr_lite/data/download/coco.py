"""Downloads and unpacks COCO's archives."""

import json
import logging
from collections.abc import Sequence
from pathlib import Path

from detr_lite.data.download.files import RemoteFile, check_space, download, format_bytes, look_up, missing_bytes
from detr_lite.data.download.unpack import unpack
from detr_lite.io import atomic_write

logger = logging.getLogger(__name__)

SERVER = "http://images.cocodataset.org"
"""The official one, which has no certificate of its own for https."""

DONE = ".unpacked.json"
"""Number of files from each archive that was unpacked."""


def download_coco(
    folder: Path, splits: Sequence[str] = ("train", "val"), year: int = 2017, server: str = SERVER, keep: bool = True
) -> None:
    """Bring images and boxes of COCO into the folder, in the layout that `detr_lite.data` reads.

    COCO publishes no checksums: archives are compared with the size that the server announces, and every file in them
    with its checksum in the archive. What is there from an earlier call is not downloaded again.

    Args:
        keep: leave the archives in the folder.

    Errors: no connection, a wrong answer, too little disk space (before anything is downloaded), a damaged archive.
    """
    urls = [f"{server}/annotations/annotations_trainval{year}.zip", *(f"{server}/zips/{s}{year}.zip" for s in splits)]
    done = _read_done(folder)
    missing = [url for url in urls if not _is_done(url, done, folder, splits, year)]
    if not missing:
        logger.info(f"{folder} has all of it already")
        return
    remotes = [look_up(url) for url in missing]
    for remote in remotes:
        left = missing_bytes(remote, folder)
        rest = "here already" if left == 0 else f"{format_bytes(left)} of {format_bytes(remote.size)} to download"
        logger.info(f"{remote.name}: {rest}")
    annotation_files = {_annotation_file(split, year) for split in splits}
    check_space(folder, _needed(remotes, folder, keep))
    for remote in remotes:
        archive = download(remote, folder)
        count = unpack(archive, folder, None if "/zips/" in remote.url else annotation_files)
        done[remote.name] = count
        atomic_write(folder / DONE, lambda file: file.write(json.dumps(done).encode()))
        logger.info(f"{remote.name}: {count:,} file{'s' * (count != 1)} unpacked and compared with their checksums")
        if not keep:
            archive.unlink()


def _annotation_file(split: str, year: int) -> str:
    return f"annotations/instances_{split}{year}.json"


def _needed(remotes: Sequence[RemoteFile], folder: Path, keep: bool) -> int:
    """Bytes of disk space, at the worst moment.

    Photographs become no smaller in an archive, and those JSON files of the annotations that are unpacked are at most
    twice as large as the archive, which holds others too.
    """
    needed = most = 0
    for remote in remotes:
        needed += missing_bytes(remote, folder) + (remote.size if "/zips/" in remote.url else 2 * remote.size)
        most = max(most, needed)
        needed -= 0 if keep else remote.size
    return most


def _read_done(folder: Path) -> dict[str, int]:
    try:
        content = json.loads((folder / DONE).read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _is_done(url: str, done: dict[str, int], folder: Path, splits: Sequence[str], year: int) -> bool:
    """Whether an archive was unpacked, and its files have not been taken away since."""
    name = Path(url).name
    if name not in done:
        return False
    if "/zips/" not in url:
        return all((folder / _annotation_file(split, year)).is_file() for split in splits)
    images = folder / Path(name).stem
    return images.is_dir() and sum(1 for _ in images.iterdir()) >= done[name]
