"""An early end for a run whose AP rises no more."""

from typing import Any

import lightning as L
from lightning.pytorch import callbacks
from tqdm import tqdm

from detr_lite.training.schedule import TrainingProgress


class EarlyStopping(callbacks.EarlyStopping):
    """Ends the run when so many evaluations in a row have not raised the best AP, and says so.

    To be called after the clock, which decides first whether a resumed run is over.
    """

    def __init__(self, evaluations: int, progress: TrainingProgress) -> None:
        super().__init__(monitor="AP", mode="max", patience=evaluations, check_on_train_epoch_end=False)
        self.progress = progress

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A run that was stopped is over when it is resumed, too, unless it is given more patience.
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.wait_count >= self.patience and not self.progress.is_over and trainer.is_global_zero:
            times = f"{self.wait_count} evaluations in a row have" if self.wait_count > 1 else "1 evaluation has"
            best = f"{float(self.best_score):.3f} (--trainer.patience {self.patience})"
            # tqdm's way of printing, as a bar may stand on the line.
            tqdm.write(f"stopped early: {times} not raised the best AP, {best}")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning's takes over the old patience; a resumed run may be given another.
        super().load_state_dict({**state_dict, "patience": self.patience})
