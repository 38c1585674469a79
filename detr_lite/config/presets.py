"""Where the settings files of detr_lite and the drawn dataset are."""

import os
from pathlib import Path

from detr_lite.config.schema import DEFAULT_ROOT
from detr_lite.errors import DetrLiteError

_PACKAGE = Path(__file__).resolve().parents[1]
PRESETS = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
"""`configs/` of the installed package, or of the checkout."""


def available_presets() -> list[str]:
    """Names of the settings files that come with detr_lite."""
    return sorted(path.name for path in PRESETS.glob("*.yaml"))


def find_config(name: str) -> Path:
    """A path, or the bare name of a preset, with or without .yaml.

    Errors: no such file; the presets are listed.
    """
    for path in (Path(name), PRESETS / name, PRESETS / f"{name}.yaml"):
        if path.is_file():
            return path
    raise DetrLiteError(f"--config {name}: no such file; presets are {', '.join(available_presets())}")


def data_root(root: str) -> Path:
    """The folder of a `data.root` setting, in training and of a checkpoint alike.

    The default one is the drawn dataset, `coco_small` in the folder that the environment variable DETR_LITE_DATA names,
    or in `datasets` of the current folder. All others are paths as they stand.
    """
    if root != DEFAULT_ROOT:
        return Path(root)
    datasets, name = DEFAULT_ROOT.split("/")
    return Path(os.environ.get("DETR_LITE_DATA") or datasets).expanduser() / name
