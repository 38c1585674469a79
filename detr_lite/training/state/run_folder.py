"""A run's folder: which one, what it may hold already, and that no other run writes there."""

from pathlib import Path

from lightning.pytorch.utilities import rank_zero_only

from detr_lite.config import Invocation
from detr_lite.io import refuse_links_out, remove_parts
from detr_lite.structures import DetrLiteError
from detr_lite.training.callbacks.attention_logger import ANIMATION, FRAMES, TABLE
from detr_lite.training.checks.nan_capture import FOLDER as NONFINITE
from detr_lite.training.evaluate import run_of
from detr_lite.training.loggers import remove_logs
from detr_lite.training.matched_attention import WRITTEN as ATTENTION
from detr_lite.training.state.checkpoint import BEST, LAST, PREVIOUS
from detr_lite.training.state.lock import RunLock

CHECKPOINTS = "checkpoints"

WRITTEN = (
    *("config.yaml", "metrics.csv", "curves.png", "samples.png", "attention.png"),
    *(f"{CHECKPOINTS}/{name}" for name in (BEST, LAST, PREVIOUS)),
    *(f"evaluation/{name}" for name in ("metrics.json", "per_class.csv", "detections.json", "pr_curves.png")),
)
"""The files of a run."""

ASKED_FOR = (TABLE, ANIMATION, *(f"evaluation/{name}" for name in ATTENTION))
"""Those that a run or an evaluation writes where settings say so."""


def choose_folder(invocation: Invocation, resumed: Path | None) -> Path:
    """The run folder: the explicit one, the resumed run's own, or the next that is free. Nothing is written yet."""
    folder = invocation.run_dir or Path("runs") / invocation.config_name
    if resumed is not None:
        own = run_of(resumed)
        folder = invocation.run_dir or own
        if folder.resolve() != own.resolve() and not invocation.overwrite and is_rank_0() and _holds_run(folder):
            raise DetrLiteError(f"--run_dir {folder} holds another run than {resumed}; give an empty folder, or none")
        return folder
    # Other ranks write nothing, and would mistake rank 0's folder for that of another run.
    if not is_rank_0():
        return folder
    if invocation.resume is not None or invocation.overwrite or not _holds_run(folder):
        return folder
    if invocation.run_dir is not None:
        raise DetrLiteError(f"--run_dir {folder} holds a run; continue it with --resume or replace it with --overwrite")
    base, number = folder, 1
    while _holds_run(folder):
        number += 1
        folder = base.with_name(f"{base.name}-{number}")
    print(f"run        {base} holds a run already; this one goes to {folder}")
    return folder


def take_folder(folder: Path, overwrite: bool, is_new: bool = False) -> RunLock:
    """Make the folder and keep other runs out until the lock is released.

    With `overwrite` what a run writes is removed, and nothing else that may lie there; half-written files of killed
    runs always are. Errors: another run is writing there, or has been since the folder was chosen as that of an
    `is_new` one; a link that leads elsewhere; a file.
    """
    if folder.exists() and not folder.is_dir():
        raise DetrLiteError(f"--run_dir {folder} is a file; name a folder")
    folder.mkdir(parents=True, exist_ok=True)
    lock = RunLock(folder)
    refuse_links_out(
        folder,
        [lock.path, *(folder / name for name in (*WRITTEN, *ASKED_FOR, FRAMES, NONFINITE, "tensorboard", "wandb"))],
    )
    lock.acquire()
    if is_new and not overwrite and _holds_run(folder):
        lock.release()
        raise DetrLiteError(f"{folder}: another run has been there in the meantime; give another --run_dir")
    for place in (folder, folder / CHECKPOINTS, folder / "evaluation", folder / FRAMES, folder / NONFINITE):
        remove_parts(place)
    if overwrite:
        for name in (*WRITTEN, *ASKED_FOR):
            (folder / name).unlink(missing_ok=True)
        for kept in (*(folder / NONFINITE).glob("step-*"), *(folder / FRAMES).glob("step-*.png")):
            kept.unlink()
        remove_logs(folder)
    return lock


def is_rank_0() -> bool:
    """Before there is a trainer to ask."""
    return int(getattr(rank_zero_only, "rank", 0) or 0) == 0


def _holds_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in WRITTEN)
