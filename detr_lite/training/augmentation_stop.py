"""When the augmentation of a run is switched off (YOLOX, arXiv 2107.08430; DEIM, arXiv 2412.04234)."""

import lightning as L

from detr_lite.training.schedule import TrainingProgress


class AugmentationStop:
    """Says which batches belong to the last part of a run.

    In a run of epochs that depends on the batch alone. In a run of minutes the progress decides when a batch is drawn,
    and the first one of the last part is kept, so that `replay` gives the same answers.

    Args:
        share: completed fraction of the run at which the last part begins; 1 for never.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self._first: tuple[int, int] | None = None

    def draw(self, trainer: L.Trainer | None, epoch: int, batch: int, batches: int) -> bool:
        """Whether a batch that is being drawn for training belongs to it; an epoch has `batches`."""
        progress = run_progress(trainer)
        is_late = (
            self.share < 1 and progress is not None and progress.fraction_before(epoch, batch, batches) >= self.share
        )
        if is_late and self._first is None:
            self._first = epoch, batch
        return is_late

    def replay(self, trainer: L.Trainer | None, epoch: int, batch: int, batches: int) -> bool:
        """Whether a batch that was drawn before belonged to it."""
        progress = run_progress(trainer)
        if progress is not None and progress.max_seconds is not None:
            return self._first is not None and (epoch, batch) >= self._first
        return self.draw(trainer, epoch, batch, batches)


def run_progress(trainer: L.Trainer | None) -> TrainingProgress | None:
    """None outside of a run."""
    callbacks = [] if trainer is None else trainer.callbacks  # type: ignore[attr-defined]
    return next((callback for callback in callbacks if isinstance(callback, TrainingProgress)), None)
