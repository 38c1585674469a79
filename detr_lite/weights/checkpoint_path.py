"""Which file or folder is meant where a checkpoint is named: a run folder means its best checkpoint."""

import re
from pathlib import Path

from detr_lite.structures import DetrLiteError
from detr_lite.text import printable, url_of
from detr_lite.weights.checkpoint import find_exported
from detr_lite.weights.pretrained_source import HUB, is_source

CHECKPOINTS, BEST, LAST = "checkpoints", "best.ckpt", "last.ckpt"
"""Where a run folder has its checkpoints."""

ONNX_MODEL = "model.onnx"
"""In the folder of a model that was exported as ONNX."""

_HUB_PAGE = re.compile(r"https?://(?:www\.)?huggingface\.co/([\w.-]+/[\w.-]+)/?")


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
