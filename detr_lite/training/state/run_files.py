"""The files of a run, by name: whether a folder holds a run, and which checkpoints, is known without torch."""

from pathlib import Path

from detr_lite.config import Invocation
from detr_lite.errors import DetrLiteError
from detr_lite.weights.checkpoint_path import BEST as BEST
from detr_lite.weights.checkpoint_path import CHECKPOINTS as CHECKPOINTS
from detr_lite.weights.checkpoint_path import LAST as LAST

PREVIOUS = "previous.ckpt"

EVALUATION_FILES = ("metrics.json", "per_class.csv", "detections.json", "thresholds.json", "pr_curves.png")
"""What every evaluation writes into its output folder."""

RUN_FILES = (
    *("config.yaml", "data_report.json", "metrics.csv", "curves.png", "samples.png", "attention.png"),
    *("explorer.html", "report.html"),
    *(f"{CHECKPOINTS}/{name}" for name in (BEST, LAST, PREVIOUS)),
    *(f"evaluation/{name}" for name in EVALUATION_FILES),
)
"""What every run writes into its folder."""


def holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in RUN_FILES)


def refuse_taken(invocation: Invocation) -> None:
    """Errors: the given folder of a new run holds another one, which is not to be replaced."""
    folder = invocation.run_dir
    if folder is not None and invocation.resume is None and not invocation.overwrite and holds_run(folder):
        raise DetrLiteError(f"--run_dir {folder} holds a run; continue it with --resume or replace it with --overwrite")


def run_of(checkpoint: Path) -> Path:
    """The run folder that a checkpoint belongs to; for one that was copied elsewhere, the folder that it is in."""
    folder = checkpoint.resolve().parent
    return folder.parent if folder.name == CHECKPOINTS else folder


def checkpoints_to_resume(invocation: Invocation) -> list[Path]:
    """The checkpoint that `--resume` names, or those of the run that it continues, the last one first.

    None at all for a new run, and for a run that ended before its first checkpoint.
    Errors: the checkpoint or the run does not exist.
    """
    if invocation.resume is None:
        return []
    if invocation.resume != "last":
        path = Path(invocation.resume)
        if path.is_dir():
            raise DetrLiteError(f"--resume: {path} is a folder; name a checkpoint in it, or: --run_dir {path} --resume")
        if not path.is_file():
            raise DetrLiteError(f"--resume: {path} does not exist; name the run with --run_dir, or a checkpoint")
        return [path]
    run = run_to_resume(invocation)
    found = [path for name in (LAST, PREVIOUS, BEST) if (path := run / CHECKPOINTS / name).is_file()]
    if not found and not (run / "config.yaml").is_file():
        missing = run / CHECKPOINTS / LAST
        raise DetrLiteError(f"--resume: {missing} does not exist; name the run with --run_dir, or a checkpoint")
    return found


def run_to_resume(invocation: Invocation) -> Path:
    """The folder of the run that `--resume` continues where it names no checkpoint."""
    return invocation.run_dir or Path("runs") / invocation.config_name
