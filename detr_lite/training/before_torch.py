"""Checks of a run that need no torch, whose import takes seconds: a mistake is reported before it."""

from detr_lite.config import DEFAULT_ROOT, Invocation, data_root
from detr_lite.data.formats.recognize import refuse_no_data
from detr_lite.errors import DetrLiteError
from detr_lite.ranks import is_first_process
from detr_lite.training.state.run_files import checkpoints_to_resume, refuse_taken
from detr_lite.weights.checkpoint_path import refuse_missing

ACCELERATORS = {
    "auto": ("cuda", "mps", "cpu"),
    "gpu": ("cuda", "mps"),
    "cuda": ("cuda",),
    "mps": ("mps",),
    "cpu": ("cpu",),
}
"""Values of `trainer.accelerator`, and the devices that each means, in order of preference, as torch names them."""


def check_before_torch(invocation: Invocation) -> None:
    """Errors: a checkpoint, captured batch or dataset that does not exist, a run folder that is taken, an unknown
    accelerator. The run checks all of them again, in every process; here the first one speaks for all."""
    if not is_first_process():
        return
    if invocation.replay is not None:
        refuse_missing(invocation.replay)
        return
    config = invocation.config
    if invocation.draw_augmented is None:
        checkpoints_to_resume(invocation)
        refuse_taken(invocation)
    refuse_unknown_accelerator(config.trainer.accelerator)
    if config.data.root != DEFAULT_ROOT:
        refuse_no_data(data_root(config.data.root))


def refuse_unknown_accelerator(accelerator: str) -> None:
    if accelerator not in ACCELERATORS:
        raise DetrLiteError(f"--trainer.accelerator {accelerator} is unknown; valid are {', '.join(ACCELERATORS)}")
