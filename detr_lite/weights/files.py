"""Reads JSON settings beside weights, and keeps existing files from being replaced."""

import json
from pathlib import Path
from typing import Any

from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line, reason_of


def read_json(path: Path) -> dict[str, Any]:
    """Errors: a file that is not readable as JSON, or whose content is not an object."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DetrLiteError(f"{path}: not readable as JSON ({reason_of(error)})") from error
    if not isinstance(content, dict):
        raise DetrLiteError(f"{path}: expected a JSON object, got a {type(content).__name__}")
    return content


def refuse_existing(path: Path, overwrite: bool) -> None:
    """Errors: the output is a folder, or an existing file without `overwrite`."""
    if path.is_dir():
        raise DetrLiteError(f"{path} is a folder; name a file")
    if path.exists() and not overwrite:
        raise DetrLiteError(f"{path} exists; name another file, or give --overwrite to replace it")


def check_new_checkpoint(path: Path, overwrite: bool) -> None:
    """Errors: a name of another format, and those of `refuse_existing`."""
    if path.suffix == ".safetensors":
        raise DetrLiteError(f"{path}: name a .ckpt file; {command_line('export')} converts it to .safetensors")
    refuse_existing(path, overwrite)
