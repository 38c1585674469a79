"""Downloads files from a web server: sizes known before, continued after an interruption, disk space checked."""

import contextlib
import http.client
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from detr_lite.errors import DetrLiteError
from detr_lite.io import PART
from detr_lite.text import printable, reason_of

TIMEOUT_SECONDS = 30.0
ATTEMPTS = 5
"""Interruptions in a row without a byte between them, after which a download is given up."""

PAUSE_SECONDS = 2.0
"""Before the second attempt; twice as long before each further one."""

CHUNK = 1 << 20


@dataclass(frozen=True)
class RemoteFile:
    """A file on a web server."""

    url: str
    size: int
    """In bytes."""
    version: str
    """Its entity tag or time of change, so that no two versions are joined to one file; may be empty."""

    @property
    def name(self) -> str:
        return Path(urlsplit(self.url).path).name


def look_up(url: str) -> RemoteFile:
    """Ask the server for a file's size. Errors: no connection, no such file, a server that does not say."""
    with _open(url, "HEAD") as answer:
        size, version = answer.headers.get("Content-Length"), _version(answer)
    if size is None or not size.isdecimal():
        raise DetrLiteError(f"{url}: the server does not say how large the file is; download it by other means")
    return RemoteFile(url, int(size), version)


def missing_bytes(remote: RemoteFile, folder: Path) -> int:
    """How much of a file is still to be downloaded into the folder."""
    file = folder / remote.name
    if file.is_file() and file.stat().st_size == remote.size:
        return 0
    return remote.size - _received(remote, folder)


def check_space(folder: Path, needed: int) -> None:
    """Errors: less free disk space than `needed` bytes. The folder need not exist."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise DetrLiteError(
            f"{folder}: needs {format_bytes(needed)} of disk space, {format_bytes(free)} are free; make room or name a "
            "folder on another disk"
        )


def download(remote: RemoteFile, folder: Path) -> Path:
    """The file in the folder, downloaded unless it is there already; what an earlier call received is kept.

    Errors: no connection; more or fewer bytes than the server said, in both cases with what to do.
    """
    file = folder / remote.name
    if missing_bytes(remote, folder) == 0 and file.is_file():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    part = _part(remote, folder)
    received = _received(remote, folder)
    if received == 0:
        part.unlink(missing_ok=True)
        _version_file(part).write_text(remote.version, encoding="utf-8")
    bar = tqdm(
        total=remote.size, initial=received, desc=remote.name, unit="B", unit_scale=True, leave=False, disable=None
    )
    with bar:
        failures = 0
        while received < remote.size:
            try:
                _receive(remote, part, received, bar)
                reason = "the connection was closed"
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, OSError) and error.filename is not None:  # the disk's, not the server's
                    raise
                reason = reason_of(error)
            before, received = received, part.stat().st_size if part.exists() else 0
            if received >= remote.size:
                break
            failures = 1 if received > before else failures + 1
            if failures == ATTEMPTS:
                raise DetrLiteError(
                    f"{remote.url}: interrupted at {format_bytes(received)} of {format_bytes(remote.size)} ({reason}); "
                    "the same command continues there"
                )
            time.sleep(PAUSE_SECONDS * 2 ** (failures - 1))
    if received != remote.size:
        part.unlink()
        raise DetrLiteError(
            f"{remote.url}: the server sent more than the {remote.size:,} bytes it announced; try again"
        )
    part.replace(file)
    _version_file(part).unlink(missing_ok=True)
    return file


def format_bytes(count: int) -> str:
    """In decimal units: "788 kB", "19.3 GB"."""
    value, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{value:.3g} {unit}"


def _receive(remote: RemoteFile, part: Path, start: int, bar: Any) -> None:
    """Append the rest of the file; or write all of it, if the server sends it from the beginning."""
    headers = {"Range": f"bytes={start}-", **({"If-Range": remote.version} if remote.version else {})} if start else {}
    with _open(remote.url, "GET", headers) as answer:
        if start and answer.status != 206:
            start = 0
            bar.reset()
        with part.open("ab" if start else "wb") as stream:
            for chunk in _chunks(answer, remote.size + 1 - start):
                stream.write(chunk)
                bar.update(len(chunk))


def _chunks(stream: Any, limit: int) -> Iterator[bytes]:
    while limit > 0 and (chunk := stream.read(min(CHUNK, limit))):
        limit -= len(chunk)
        yield chunk


@contextlib.contextmanager
def _open(url: str, method: str, headers: dict[str, str] | None = None) -> Iterator[Any]:
    if urlsplit(url).scheme not in ("http", "https"):
        raise DetrLiteError(f"{printable(url)} is not the address of a web server; give http://... or https://...")
    request = urllib.request.Request(url, method=method, headers=headers or {})
    try:
        answer = urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code >= 500 and method == "GET":
            raise ConnectionError(f"the server answers {error.code}") from error
        raise DetrLiteError(
            f"{url}: the server answers {error.code} ({reason_of(error)}); see whether it has moved"
        ) from error
    except urllib.error.URLError as error:
        cause = error.reason if isinstance(error.reason, BaseException) else error
        if method == "HEAD":
            raise DetrLiteError(
                f"{urlsplit(url).hostname} cannot be reached ({reason_of(cause)}); check the connection to the network"
            ) from error
        raise ConnectionError(reason_of(cause)) from error
    with answer:
        yield answer


def _version(answer: Any) -> str:
    tag = answer.headers.get("ETag") or ""
    return str(tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified") or "")


def _received(remote: RemoteFile, folder: Path) -> int:
    """Bytes of this version of the file that an earlier download left."""
    part = _part(remote, folder)
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if _version_file(part).read_text(encoding="utf-8") == remote.version and part.stat().st_size <= remote.size:
            return part.stat().st_size
    return 0


def _part(remote: RemoteFile, folder: Path) -> Path:
    return folder / f"{remote.name}{PART}"


def _version_file(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")
