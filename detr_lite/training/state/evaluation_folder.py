"""What an evaluated model is called, and the folder that its results go to."""

from pathlib import Path

from detr_lite.io import is_below
from detr_lite.training.state.run_files import BEST, CHECKPOINTS, run_of
from detr_lite.weights.checkpoint_path import is_source, source_name

RUNS = Path("runs")


def model_name(checkpoint: Path) -> str:
    """The run of a checkpoint, with the file's name if it is not the best one; a source's name, or its folder's."""
    if is_source(checkpoint):
        name = source_name(checkpoint)
        return Path(name).resolve().name if Path(name).is_dir() else name
    path = checkpoint.resolve()
    if path.parent.name != CHECKPOINTS:
        return path.name if path.is_dir() else path.stem
    return run_of(path).name + ("" if path.name == BEST else f"-{path.stem}")


def folder_name(name: str) -> str:
    """A model's name without the / of names on the hub."""
    return name.replace("/", "--")


def results_home(checkpoint: Path) -> Path:
    """The folder in which the folder `evaluation` is made: the checkpoint's run, for a source one below `runs`.

    A source's own folder is never written into, nor that of a training run that has the same name.
    """
    if not is_source(checkpoint):
        return run_of(checkpoint)
    base = RUNS / folder_name(model_name(checkpoint))
    home, number = base, 1
    while (home / CHECKPOINTS).exists() or (Path(source_name(checkpoint)).is_dir() and is_below(home, checkpoint)):
        number += 1
        home = base.with_name(f"{base.name}-{number}")
    return home
