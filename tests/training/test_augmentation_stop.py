"""Augmentation that ends before the run does: which batches, the same ones when they are loaded again."""

from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch import Callback
from torch import nn

from detr_lite.data.reading import read_split
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.structures import Batch
from detr_lite.training.augmentation_stop import AugmentationStop, run_progress
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.schedule import TrainingProgress

RESIZE = ResizeRule("longest", 64)
BATCHES = 4


def trainer_of(progress: TrainingProgress) -> L.Trainer:
    return L.Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False, callbacks=[progress])


@pytest.mark.parametrize(("share", "first"), [(0.0, 0), (0.5, 10), (0.76, 16), (0.95, 19), (0.96, 20), (1.0, 20)])
def test_in_a_run_of_epochs_the_place_of_the_batch_decides(share: float, first: int) -> None:
    trainer = trainer_of(TrainingProgress(max_epochs=5, max_minutes=None, num_evaluations=1))
    stop = AugmentationStop(share)
    places = [(epoch, batch) for epoch in range(5) for batch in range(BATCHES)]
    expected = [number >= first for number in range(20)]
    assert [stop.draw(trainer, *place, BATCHES) for place in places] == expected
    # In any order, of the run itself or of a resumed one that has drawn nothing yet.
    for asked in (stop, AugmentationStop(share)):
        assert [asked.replay(trainer, *place, BATCHES) for place in reversed(places)] == expected[::-1]


def test_in_a_run_of_minutes_the_progress_at_the_draw_decides() -> None:
    progress = TrainingProgress(max_epochs=None, max_minutes=10.0, num_evaluations=1)
    trainer, stop = trainer_of(progress), AugmentationStop(0.8)
    assert not stop.draw(trainer, 0, 0, BATCHES)
    progress.fraction = 0.79
    assert not stop.draw(trainer, 0, 1, BATCHES)
    progress.fraction = 0.81
    assert not stop.replay(trainer, 0, 1, BATCHES), "it was drawn before"
    assert stop.draw(trainer, 0, 2, BATCHES)
    assert stop.draw(trainer, 1, 0, BATCHES)
    replayed = [stop.replay(trainer, *place, BATCHES) for place in ((0, 0), (0, 1), (0, 2), (0, 3), (1, 0))]
    assert replayed == [False, False, True, True, True]


def test_a_resumed_run_of_minutes_goes_on_in_its_last_part() -> None:
    """Worker processes load the first batches before training starts."""
    progress = TrainingProgress(max_epochs=None, max_minutes=10.0, num_evaluations=1)
    progress.load_state_dict({"seconds": 540, "step_seconds": 1.0, "is_pending": False})
    assert progress.fraction == pytest.approx(0.9)
    assert AugmentationStop(0.85).draw(trainer_of(progress), 7, 0, BATCHES)


def test_outside_of_a_run_nothing_stops() -> None:
    assert run_progress(None) is None
    assert not AugmentationStop(0.0).draw(None, 3, 3, BATCHES)
    assert not AugmentationStop(0.0).replay(None, 3, 3, BATCHES)


BLACK = evaluation_transform(RESIZE, mean=(0.0,) * 3, std=(1e9,) * 3)


class Recorder(L.LightningModule):
    """Learns nothing, and keeps its batches."""

    def __init__(self) -> None:
        super().__init__()
        self.model = nn.Linear(1, 1)
        self.batches: dict[tuple[int, int], Batch] = {}

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self.batches[self.current_epoch, index] = batch
        return self.model(torch.ones(1)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("minutes", [None, 1000.0])
def test_persistent_workers_obey_and_batches_can_be_loaded_again(
    tiny_data: Path, num_workers: int, minutes: float | None
) -> None:
    train, val = (read_split(tiny_data, split) for split in ("train", "val"))
    plain = evaluation_transform(RESIZE)
    data = DetectionData(
        train, val, plain, plain, RESIZE, 2, num_workers, seed=0, late_transform=BLACK, augmentation_stop=0.6
    )
    progress = TrainingProgress(5 if minutes is None else None, minutes, num_evaluations=1)
    recorder = Recorder()

    class Clock(Callback):
        """In minutes: over the threshold after the second epoch's second batch."""

        def on_train_batch_end(self, trainer: L.Trainer, *words: Any) -> None:
            if minutes is not None and trainer.current_epoch == 1 and words[-1] >= 1:
                progress.seconds = 0.7 * 60 * minutes

    trainer = L.Trainer(
        accelerator="cpu", devices=1, max_epochs=5, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, limit_val_batches=0, use_distributed_sampler=False,
        callbacks=[Clock(), progress],
    )  # fmt: skip
    trainer.fit(recorder, data)

    places = sorted(recorder.batches)
    assert places == [(epoch, batch) for epoch in range(5) for batch in range(BATCHES)]
    is_late = [bool(recorder.batches[place].images.abs().max() < 1e-6) for place in places]
    assert is_late == sorted(is_late), "never back again"
    if minutes is None:
        assert is_late == [number >= 12 for number in range(20)]
    else:  # workers are ahead by a few batches, which were drawn before
        assert is_late.index(True) == (6 if num_workers == 0 else is_late.index(True))
        assert 6 <= is_late.index(True) <= 10
    for (epoch, index), batch in recorder.batches.items():
        again = data.training_batch(epoch, index, 0, 1)
        assert torch.equal(again.images, batch.images)
        assert [target.image_id for target in again.targets] == [target.image_id for target in batch.targets]
