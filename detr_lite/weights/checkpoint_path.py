"""Which file or folder is meant where a checkpoint is named, without torch: a run folder means its best checkpoint."""

import re
from pathlib import Path

from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, url_of

HUB = "hf:"
"""Prefix of a name on the hub, where a path is expected, too."""
CONFIG_FILE = "config.json"
"""In a folder of `save_pretrained`."""

CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"
"""Where a run folder has its checkpoints."""

ONNX_MODEL = "model.onnx"
"""In the folder of a model that was exported as ONNX."""

_HUB_PAGE = re.compile(r"https?://(?:www\.)?huggingface\.co/([\w.-]+/[\w.-]+)/?")


def is_source(path: Path | str) -> bool:
    """Whether it is "hf:NAME", or a folder of `save_pretrained` with a model of transformers."""
    return str(path).startswith(HUB) or (Path(path).is_dir() and (Path(path) / CONFIG_FILE).is_file())


def source_name(path: Path | str) -> str:
    """What transformers calls it: the hub's name, or the folder."""
    text = path.as_posix() if isinstance(path, Path) else path
    return text.removeprefix(HUB)


def find_exported(path: Path) -> Path | None:
    """The .safetensors file at a path: the file itself, or the only one in a folder."""
    files = sorted(path.glob("*.safetensors")) if path.is_dir() else [path]
    return files[0] if len(files) == 1 and files[0].is_file() and files[0].suffix == ".safetensors" else None


def find_checkpoint(given: Path | str) -> Path:
    """What `load_any_model` reads: of a run folder its best checkpoint, anything else as it is.

    Errors: a URL, nothing of that name, a run folder without a best checkpoint, another folder.
    """
    if str(given).startswith(HUB) or is_source(given):
        return Path(given)
    path = Path(given)
    if not path.exists():
        if url := url_of(given):
            page = _HUB_PAGE.fullmatch(url)
            hint = f", or {HUB}{page[1]} for a detector of transformers" if page else ""
            raise DetrLiteError(f"{url}: is a URL; download the file first and give its path{hint}")
        raise DetrLiteError(f"{printable(given)}: no such checkpoint")
    if not path.is_dir() or find_exported(path) is not None:
        return path
    if (path / ONNX_MODEL).is_file():
        return path / ONNX_MODEL
    folder = path / CHECKPOINTS if (path / CHECKPOINTS).is_dir() else path
    if (folder / BEST).is_file():
        return folder / BEST
    if (folder / LAST).is_file():
        raise DetrLiteError(
            f"{printable(path)}: has no {BEST} yet, which the first evaluation of a run writes; give "
            f"{printable(folder / LAST)}, or wait"
        )
    raise DetrLiteError(
        f"{printable(path)}: no such checkpoint in this folder; it is no run folder with {CHECKPOINTS}/{BEST}, no "
        "export and no model of transformers"
    )


def refuse_missing(path: Path) -> None:
    """Errors: those of `find_checkpoint` for a path that does not exist; it may be of another program."""
    if not path.exists():
        find_checkpoint(path)
