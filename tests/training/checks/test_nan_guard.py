"""Losses or gradients that are not finite: the run stops, says where, and applies nothing of the step."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor, nn
from torch import distributed as dist

from detr_lite.config import Config
from detr_lite.loss.criterion import Losses
from detr_lite.structures import DetrOutput
from detr_lite.tensor_files import read_torch
from detr_lite.training.checks import step_guard
from detr_lite.training.checks.nan_capture import FOLDER, NaNCapture
from detr_lite.training.checks.step_guard import RankReport
from detr_lite.training.module import DetectionModule
from detr_lite.training.schedule import step_seed
from detr_lite.weights.checkpoint import KEY, Description
from tests.helpers.guarded_run import Run, answers_at, guarded_run, ids_of, spoil, with_nan

pytestmark = pytest.mark.slow


@pytest.fixture
def make_run(tiny_config: Config, tmp_path: Path) -> Callable[..., Run]:
    def make(name: str = "lite", **options: Any) -> Run:
        return guarded_run(replace(tiny_config, model=replace(tiny_config.model, name=name)), tmp_path, **options)

    return make


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, dict | list):
        assert len(first) == len(second)
        for key in first if isinstance(first, dict) else range(len(first)):
            assert_same(first[key], second[key])
    else:
        assert torch.equal(first, second) if isinstance(first, Tensor) else first == second


@pytest.mark.parametrize(("optimizer", "fused"), [("adamw", False), ("adamw", True), ("muon", True)])
def test_a_bad_image_stops_the_run_and_leaves_everything_as_it_was(
    make_run, monkeypatch, tmp_path: Path, optimizer, fused
) -> None:
    run = make_run(fused=fused, optimizer=optimizer)
    ids = ids_of(run, 0, 2)
    spoil(monkeypatch, ids[1])
    message = run.stops()
    file = tmp_path / FOLDER / "step-3.pt"
    listed = ", ".join(map(str, ids))
    assert message.startswith(
        "step 3: the loss is not finite (class nan, l1 nan, giou nan, fdr nan, denoising_class nan"
    )
    assert f"; images {listed}, of which the predictions for " in message  # batch norm spoils the other image too
    assert "; the update was not applied; " in message
    assert f"the batch is in {file}, examine it with: detr-lite train --replay {file}; " in message
    assert message.endswith("usual remedies: a new run with a lower --optim.lr than 0.0015")
    assert run.trainer.global_step == 2
    assert len(run.snapshots.taken) == 3
    assert run.snapshots.taken[2]["optimizer"]
    assert_same(run.snapshots.take(run.trainer), run.snapshots.taken[2])


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_late_the_bad_step_is_skipped_on_the_device_and_the_next_one_not_begun(
    make_run, monkeypatch, tmp_path, optimizer
) -> None:
    run = make_run(is_late=True, optimizer=optimizer)
    ids = ids_of(run, 0, 1)
    spoil(monkeypatch, ids[0])
    message = run.stops()
    assert message.startswith("step 2: the loss is not finite (class nan")
    assert f"images {', '.join(map(str, ids))}" in message
    assert len(run.snapshots.taken) == 3  # one batch more was begun
    before, now = run.snapshots.taken[1], run.snapshots.take(run.trainer)
    assert_same(now["weights"], before["weights"])
    assert_same(now["optimizer"], before["optimizer"])
    saved = read_torch(tmp_path / FOLDER / "step-2.pt")["state_dict"]
    assert_same({name: saved[name] for name in before["weights"]}, before["weights"])


@pytest.mark.stress
@pytest.mark.parametrize("is_late", [False, True])
def test_a_good_run_is_the_same_with_and_without_the_guard(make_run, is_late: bool) -> None:
    guarded, free = make_run(is_late=is_late), make_run()
    free.module.guard = None
    for run in (guarded, free):
        run.trainer.fit(run.module, run.data)
        assert run.trainer.global_step == 8
    assert_same(guarded.snapshots.taken, free.snapshots.taken)
    assert_same(guarded.snapshots.take(guarded.trainer), free.snapshots.take(free.trainer))


def test_the_last_step_of_all_is_checked_too(make_run) -> None:
    run = make_run(is_late=True)
    answers_at(run.module, 8, with_nan)
    assert run.stops().startswith("step 8: ")


def test_before_a_checkpoint_and_an_evaluation_nothing_is_unread(make_run, tmp_path) -> None:
    class Saves(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: Any, outputs: Any, batch: Any, index: int) -> None:
            trainer.save_checkpoint(tmp_path / f"{index}.ckpt")

    run = make_run(is_late=True)
    run.trainer.callbacks.append(Saves())
    answers_at(run.module, 3, with_nan)
    assert run.stops().startswith("step 3: ")
    assert sorted(path.name for path in tmp_path.glob("*.ckpt")) == ["0.ckpt", "1.ckpt"]

    run = make_run(is_late=True, limit_val_batches=1.0, val_check_interval=2)
    answers_at(run.module, 2, with_nan)
    run.module.validation_step = lambda *_: pytest.fail("was evaluated")
    assert run.stops().startswith("step 2: ")


def test_the_check_can_be_asked_for(make_run) -> None:
    class Asks(Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: DetectionModule, *_: Any) -> None:
            assert pl_module.guard is not None
            pl_module.guard.check(trainer)

    run = make_run(is_late=True)
    run.trainer.callbacks.append(Asks())
    answers_at(run.module, 3, with_nan)
    run.stops()
    assert len(run.snapshots.taken) == 3


@pytest.mark.parametrize("bad", [3, 4])
@pytest.mark.parametrize("is_late", [False, True])
def test_with_accumulation_the_bad_batch_is_named_whichever_it_is(
    make_run, monkeypatch, tmp_path, bad, is_late
) -> None:
    run = make_run(accumulate=2, is_late=is_late)
    ids = ids_of(run, 0, bad - 1)
    spoil(monkeypatch, ids[0])
    message = run.stops()
    assert message.startswith("step 2: the loss is not finite")
    assert f"; images {', '.join(map(str, ids))}" in message
    (kept,) = NaNCapture.read(tmp_path / FOLDER / "step-2.pt").batches
    assert (kept.epoch, kept.index) == (0, bad - 1)
    assert_same(run.snapshots.take(run.trainer)["weights"], run.snapshots.taken[2]["weights"])


def test_infinite_gradients_of_a_finite_loss_stop_the_run(make_run, tmp_path) -> None:
    run = make_run(accumulate=2, max_grad_norm=0.0)
    answers_at(run.module, 3, lambda output: replace(output, logits=_Explodes.apply(output.logits)))
    message = run.stops()
    assert message.startswith("step 2: the gradients are not finite (norm nan; the loss is: class ")
    assert message.endswith("usual remedies: a new run with a lower --optim.lr than 0.0015, --optim.max_grad_norm 1")
    both = [*ids_of(run, 0, 2), *ids_of(run, 0, 3)]
    assert f"; images {', '.join(map(str, both))}; " in message
    assert len(NaNCapture.read(tmp_path / FOLDER / "step-2.pt").batches) == 2
    assert_same(run.snapshots.take(run.trainer)["weights"], run.snapshots.taken[2]["weights"])


class _Explodes(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient * math.inf


def test_matching_costs_alone_stop_the_run(make_run) -> None:
    """A box that no object is matched with is in no loss."""

    def spoil_boxes(output: DetrOutput) -> DetrOutput:
        boxes_cxcywh = output.boxes_cxcywh.clone()
        boxes_cxcywh[:, 0, 5] = math.nan
        return replace(output, boxes_cxcywh=boxes_cxcywh)

    run = make_run(name="detr")
    answers_at(run.module, 1, spoil_boxes)
    ids = ids_of(run, 0, 0)
    message = run.stops()
    assert message.startswith("step 1: the matching costs are not finite (the loss is: ce ")
    assert f"images {ids[0]}, {ids[1]}, of which the predictions for {ids[0]} are not finite" in message


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", ["lite", "detr"])
def test_weights_that_are_not_finite_stop_the_first_step(make_run, name: str, value: float) -> None:
    run = make_run(name=name)
    with torch.no_grad():
        run.module.model.decoder.layers[0].feedforward[0].bias[3] = value
    assert "step 1: the loss is not finite" in run.stops()


def test_the_file_holds_all_and_runs_no_code(make_run, monkeypatch, tmp_path) -> None:
    run = make_run(precision="bf16-mixed")
    ids = ids_of(run, 1, 1)
    answers_at(run.module, 6, with_nan)
    message = run.stops()
    assert message.endswith(
        "usual remedies: a new run with a lower --optim.lr than 0.0015, --trainer.precision 32-true"
    )
    content = read_torch(tmp_path / FOLDER / "step-6.pt")
    assert Description.from_dict(content[KEY]) == run.guard.description
    assert content["state_dict"].keys() == run.module.state_dict().keys()
    step = NaNCapture.read(tmp_path / FOLDER / "step-6.pt")
    assert (step.step, step.rank, step.world_size, step.precision, step.device) == (6, 0, 1, "bf16-mixed", "cpu")
    (kept,) = step.batches
    assert (kept.epoch, kept.index, kept.seed) == (1, 1, step_seed(0, 1, 1, 0))
    batch = run.data.training_batch(1, 1, 0, 1)
    assert torch.equal(kept.batch.images, batch.images)
    assert torch.equal(kept.batch.is_padding, batch.is_padding)
    assert [target.image_id for target in kept.batch.targets] == ids
    assert torch.equal(kept.batch.targets[0].boxes_cxcywh, batch.targets[0].boxes_cxcywh)
    assert math.isnan(kept.parts["class"][-1])
    assert math.isfinite(kept.parts["l1"][-1])


def test_a_batch_that_cannot_be_written_is_no_reason_to_go_on(make_run, tmp_path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    run = make_run()
    answers_at(run.module, 1, with_nan)
    message = run.stops()
    assert message.startswith("step 1: the loss is not finite")
    assert "; the batch could not be captured: " in message


def test_images_that_changed_meanwhile_are_not_captured(make_run, tmp_path) -> None:
    run = make_run()
    run.guard.rebuild = lambda epoch, index, rank, world_size: run.data.training_batch(epoch, index + 1, rank, 1)
    answers_at(run.module, 1, with_nan)
    assert "could not be captured: loading it again gave other images" in run.stops()


def test_with_a_gradient_scaler_infinite_gradients_are_normal(make_run) -> None:
    """It skips the step and lowers its scale; a loss that is not finite still stops the run."""
    run = make_run()
    guard, trainer = run.guard, run.trainer
    trainer.precision_plugin.scaler = object()
    stopped: list[int] = []
    guard._stop = lambda trainer, update: stopped.append(update.step)
    optimizer = torch.optim.AdamW([nn.Parameter(torch.zeros(1))])
    for loss in (1.0, math.nan):
        guard.record(trainer, 0, [], Losses(torch.tensor(loss), {"class": torch.tensor([loss])}))
        guard.before_update(trainer, optimizer, torch.tensor(math.inf))
        assert stopped == ([] if loss == 1.0 else [1])


def test_a_group_of_ranks_exchanges_reports_and_stops(make_run, tmp_path) -> None:
    """With a group of one: what is exchanged is the same."""
    run = make_run()
    answers_at(run.module, 3, with_nan)
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meeting'}", rank=0, world_size=1)
    try:
        message = run.stops()
    finally:
        dist.destroy_process_group()
    assert message.startswith("step 3: the loss is not finite (class nan, l1 ")


def test_all_broken_ranks_are_named_and_the_first_ones_batch(make_run, tmp_path, monkeypatch) -> None:
    """Ranks 1 and 3 of 4; this is rank 3, and rank 0 reports the error."""
    sent: list[Any] = []

    def exchange(mine: Any) -> list[Any]:
        sent.append(mine)
        if not isinstance(mine, RankReport):
            return [None, "the batch is in run/nonfinite/step-1.pt", None, mine]
        good = replace(mine, is_broken=False, broken_samples=(), parts={"class": [1.0]})
        return [replace(good, rank=0), replace(mine, rank=1, samples=("7", "8"), broken_samples=("8",)), good, mine]

    monkeypatch.setattr(step_guard, "_all_gather", exchange)
    for rank in (3, 0):
        run = make_run()
        answers_at(run.module, 1, with_nan)
        monkeypatch.setattr(L.Trainer, "global_rank", rank)
        monkeypatch.setattr(L.Trainer, "world_size", 4)
        if rank == 3:
            with pytest.raises(SystemExit) as ending:
                run.trainer.fit(run.module, run.data)
            assert ending.value.code == 2
            captured = tmp_path / "nonfinite" / "step-1-rank-3.pt"
            assert sent[1].startswith(f"the batch is in {captured}, ")
            assert NaNCapture.read(captured).rank == 3
        else:
            message = run.stops()
            assert "images 7, 8 of rank 1 (also rank 0)" in message


def test_objects_beyond_the_queries_are_warned_of_once(tiny_file: Path, tmp_path, run_tool, no_finish) -> None:
    words = ["--model.num_queries", 1, "--trainer.max_epochs", 2, "--run_dir", tmp_path / "run"]
    ended = run_tool("train", "--config", tiny_file, *words)
    assert ended.code == 0, ended.err
    warnings = [line for line in (ended.out + ended.err).splitlines() if "objects but there are" in line]
    assert len(warnings) == 1
    assert warnings[0].startswith("warning: an image holds 2 objects but there are 1 queries")
