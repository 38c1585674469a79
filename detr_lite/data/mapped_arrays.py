"""Arrays in a file that are read where they lie: processes that map the same file share one copy of it."""

import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.context import get_spawning_popen
from pathlib import Path
from typing import IO, Any

import numpy as np

from detr_lite.errors import DetrLiteError

ALIGNMENT = 64
"""Bytes; numpy aligns the numbers within a member of an archive to as much."""

_LOCAL_HEADER = struct.Struct("<26xHH")
"""Before each member of a zip archive: lengths of its name and of its extra field at the end (APPNOTE.TXT, 4.3.7)."""
_EXTRA_HEADER = struct.Struct("<HH")
_PADDING_ID = 0xD935
"""Kind of an extra field that zipalign of Android uses for padding, too."""
_ZIP64_EXTRA = 20


class MappedFile(mmap.mmap):
    """A whole file as memory that cannot be written to. What replaces the file on the disk is not seen."""

    path: str
    identity: tuple[int, ...]

    @staticmethod
    def open(path: str | Path) -> "MappedFile":
        with Path(path).open("rb") as file:
            mapped = MappedFile(file.fileno(), 0, access=mmap.ACCESS_READ)
            mapped.path, mapped.identity = str(Path(path).absolute()), identity_of(os.fstat(file.fileno()))
        return mapped

    def array(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...], order: Any = "C") -> np.ndarray:
        return np.ndarray(shape, dtype, buffer=self, offset=offset, order=order)

    @property
    def address(self) -> int:
        return address_of(self.array(0, np.dtype(np.uint8), (len(self),)))


def write_arrays(stream: IO[bytes], arrays: Mapping[str, np.ndarray]) -> None:
    """As `numpy.savez`, with all numbers at multiples of `ALIGNMENT` in the file."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            info = zipfile.ZipInfo(f"{name}.npy")
            fixed = _LOCAL_HEADER.size + len(info.filename.encode()) + _EXTRA_HEADER.size + _ZIP64_EXTRA
            padding = -(stream.tell() + fixed) % ALIGNMENT
            info.extra = _EXTRA_HEADER.pack(_PADDING_ID, padding) + bytes(padding)
            with archive.open(info, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def map_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of `write_arrays`. They cannot be written to.

    Raises `ValueError`, `OSError` or `zipfile.BadZipFile` for a file that is cut off or damaged.
    """
    mapped = MappedFile.open(path)
    with zipfile.ZipFile(path) as archive:
        arrays = {info.filename.removesuffix(".npy"): _map_member(mapped, info) for info in archive.infolist()}
    if hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)  # read for the checksums; only what is used is to count as this process's
    return arrays


def _map_member(mapped: MappedFile, info: zipfile.ZipInfo) -> np.ndarray:
    names = _LOCAL_HEADER.unpack_from(mapped, info.header_offset)
    start = info.header_offset + _LOCAL_HEADER.size + sum(names)
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{info.filename} is compressed")
    with memoryview(mapped) as content, content[start : start + info.file_size] as member:
        if zlib.crc32(member) != info.CRC:
            raise ValueError(f"{info.filename} is damaged")
    mapped.seek(start)
    if np.lib.format.read_magic(mapped) == (1, 0):
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(mapped)
    else:
        raise ValueError(f"{info.filename} has another version of numpy's format")
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds objects of Python")
    return mapped.array(mapped.tell(), dtype, shape, "F" if is_fortran else "C")


@dataclass(frozen=True)
class PlaceInFile:
    """Where an array lies in a file, which is sent to another process in its place."""

    path: str
    identity: tuple[int, ...]
    offset: int
    dtype: str
    shape: tuple[int, ...]

    def read(self) -> np.ndarray:
        """Raises `DetrLiteError` if the file is another one by now."""
        return _mapped(self.path, self.identity).array(self.offset, np.dtype(self.dtype), self.shape)


def to_send(array: np.ndarray) -> np.ndarray | PlaceInFile:
    """What stands for the array in the pickle of a process that is being started: its place if it lies in a file.

    Otherwise, and in every other pickle, which may outlast the file, the array itself.
    """
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    if isinstance(base, memoryview):
        base = base.obj
    if get_spawning_popen() is None or not isinstance(base, MappedFile) or not array.flags.c_contiguous:
        return array
    try:
        if identity_of(Path(base.path).stat()) != base.identity:
            return array
    except OSError:
        return array
    return PlaceInFile(base.path, base.identity, address_of(array) - base.address, array.dtype.str, array.shape)


def received(sent: np.ndarray | PlaceInFile) -> np.ndarray:
    """The array of `to_send`, in the process that was started."""
    return sent.read() if isinstance(sent, PlaceInFile) else sent


@lru_cache(maxsize=8)
def _mapped(path: str, identity: tuple[int, ...]) -> MappedFile:
    try:
        mapped = MappedFile.open(path)
    except (OSError, ValueError) as error:
        raise DetrLiteError(f"{path}: was removed while a run was starting ({error}); start it again") from error
    if mapped.identity != identity:
        raise DetrLiteError(f"{path}: was replaced while a run was starting; start it again")
    return mapped


def identity_of(status: os.stat_result) -> tuple[int, ...]:
    """Changes when another file takes the name, as long as this one is open anywhere."""
    return status.st_dev, status.st_ino, status.st_size


def address_of(array: np.ndarray) -> int:
    address: int = array.__array_interface__["data"][0]
    return address
