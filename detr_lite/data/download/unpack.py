"""Unpacks zip archives that need not be trusted."""

import shutil
import stat
import zipfile
import zlib
from collections.abc import Collection
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from detr_lite.data.download.files import check_space
from detr_lite.errors import DetrLiteError
from detr_lite.io import atomic_write, refuse_links_out
from detr_lite.text import reason_of, shown


def unpack(archive: Path, folder: Path, wanted: Collection[str] | None = None) -> int:
    """Write the files of an archive, or those that are `wanted`, into the folder.

    Files that are there already, in their size, stay. Each one written is compared with its checksum in the archive,
    and is there whole or not at all. Returns the number of wanted files.

    Errors: an archive that is damaged, or has a name that leads out of the folder; too little disk space.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            if wanted is not None:
                members = [member for member in members if member.filename in wanted]
            for member in members:
                _check_member(archive, member)
            missing = [member for member in members if not _is_there(folder / member.filename, member.file_size)]
            check_space(folder, sum(member.file_size for member in missing))
            folder.mkdir(parents=True, exist_ok=True)
            refuse_links_out(folder, {(folder / member.filename).parent for member in members})
            for member in tqdm(missing, desc=archive.name, unit="file", leave=False, disable=None):
                with opened.open(member) as source:
                    write = lambda target, source=source: shutil.copyfileobj(source, target)  # noqa: E731
                    atomic_write(folder / member.filename, write, durable=False)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DetrLiteError(
            f"{archive}: a damaged archive ({reason_of(error)}); remove the file and download it again"
        ) from error
    return len(members)


def _check_member(archive: Path, member: zipfile.ZipInfo) -> None:
    path = PurePosixPath(member.filename)
    is_link = stat.S_ISLNK(member.external_attr >> 16)
    if path.is_absolute() or ".." in path.parts or "\\" in member.filename or ":" in path.parts[0] or is_link:
        raise DetrLiteError(
            f"{archive}: holds {shown(member.filename)}, which {'is a link' if is_link else 'leads out of the folder'}"
            "; this is not the archive that was asked for"
        )


def _is_there(path: Path, size: int) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size == size
