"""The warnings of a run that does not learn, and that a healthy one gives none."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from torch import Tensor

from detr_lite.build import build_criterion, build_model, build_postprocess, build_resize
from detr_lite.config import Config
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.data.transforms import evaluation_transform
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.packing import pack_detections
from detr_lite.evaluation.zero import explain_zero
from detr_lite.structures import Category, Detections
from detr_lite.training.checks import diagnostics
from detr_lite.training.checks.diagnostics import LearningRate, TrainingDiagnostics, are_classes_random
from detr_lite.training.checks.prediction_stats import (
    ClassStats,
    best_by_query,
    detection_stats,
    spread_over_images,
    spread_over_queries,
)
from detr_lite.training.datamodule import DetectionData
from detr_lite.training.lightning_internals import NEVER
from detr_lite.training.module import DetectionModule
from detr_lite.training.optim import lr_factor, make_optimizer, parameter_groups
from detr_lite.training.schedule import LRSchedule, TrainingProgress
from tests.helpers.run_files import rows_of
from tests.helpers.splits import split_of

IMAGES, CLASSES, SIDE = 30, 3, 100


@pytest.fixture
def truth() -> Split:
    """30 images with three objects each, of a class each; only their boxes exist."""
    generator = np.random.default_rng(0)
    categories = tuple(Category(id, f"c{id}") for id in (3, 7, 90))
    all_boxes = []
    for _ in range(IMAGES):
        low = generator.uniform(0, 50, (3, 2)).astype(np.float32)
        all_boxes.append(np.concatenate([low, low + generator.uniform(20, 45, (3, 2))], axis=1).astype(np.float32))
    return split_of([(SIDE, SIDE)] * IMAGES, all_boxes, [np.arange(3)] * IMAGES, categories, "val")


def detections_at(split: Split, labels: Sequence[int] = (0, 1, 2), shift: float = 0.0) -> dict[int, Detections]:
    """The true boxes, moved by `shift`, with these labels."""
    scores = torch.tensor([0.9, 0.8, 0.7])
    return {
        record.index: Detections(
            torch.tensor(record.boxes_xyxy) + shift, scores, torch.tensor(labels), torch.arange(3), ("a", "b", "c")
        )
        for record in split.images
    }


def same_everywhere(split: Split, boxes_xyxy: Tensor) -> dict[int, Detections]:
    scores = torch.tensor([0.3, 0.2, 0.1])
    return {record.index: Detections(boxes_xyxy, scores, torch.arange(3), torch.arange(3)) for record in split.images}


class StillClock(TrainingProgress):
    def __init__(self, progress: float) -> None:
        super().__init__(10, None, 10)
        self.fraction = progress


def make_diagnostics(split: Split, progress: float = 0.6, lr: float = 1.5e-3) -> TrainingDiagnostics:
    return TrainingDiagnostics(StillClock(progress), split, LearningRate(lr, default=1.5e-3), warmup_steps=100)


def feed(callback: TrainingDiagnostics, losses: Sequence[float]) -> None:
    """Readings from the first step of the run on."""
    for number, loss in enumerate(losses):
        callback.read_loss(max(1, 10 * number), loss)


def falling(count: int = 60) -> list[float]:
    """From 45 to about 20, with the noise of single batches."""
    generator = np.random.default_rng(1)
    return [(20 + 25 * np.exp(-step / 15)) * generator.uniform(0.7, 1.4) for step in range(count)]


def warned(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("warning: step ") for line in lines)
    return lines


def test_healthy_losses_give_no_warning(truth: Split, capsys) -> None:
    callback = make_diagnostics(truth)
    feed(callback, falling(400))
    for AP50 in (0.02, 0.05, 0.4, 0.6):  # noqa: N806
        callback.read_evaluation(600, AP50, detections_at(truth))
    assert warned(capsys) == []


def test_a_healthy_run_gives_no_warning(finished_run: Path, tiny_data: Path, capsys) -> None:
    split = read_split(tiny_data, "val")
    callback = TrainingDiagnostics(StillClock(0.0), split, LearningRate(1.5e-3, default=1.5e-3), warmup_steps=2)
    results = json.loads((finished_run / "evaluation/detections.json").read_text())
    found = {record.index: detections_of(results, split.image_ids[record.index], split) for record in split.images}
    capsys.readouterr()
    for row in rows_of(finished_run):
        callback.progress.fraction = int(row["step"]) / 120
        if row["loss"]:
            callback.read_loss(int(row["step"]), float(row["loss"]))
        else:
            callback.read_evaluation(int(row["step"]), float(row["AP50"]), found)
    assert warned(capsys) == []
    assert not are_classes_random(detection_stats(found, split).classes)


def detections_of(results: list[dict[str, Any]], image: int, split: Split) -> Detections:
    own = [result for result in results if result["image_id"] == image]
    x, y, w, h = torch.tensor([result["bbox"] for result in own]).T
    ids = [category.id for category in split.categories]
    labels = torch.tensor([ids.index(result["category_id"]) for result in own])
    scores = torch.tensor([result["score"] for result in own])
    return Detections(torch.stack([x, y, x + w, y + h], 1), scores, labels, torch.arange(len(own)))


@pytest.mark.parametrize(
    ("lr", "remedy"),
    [(10.0, "lower --optim.lr from 10, e.g. to 0.0015"), (1.5e-3, "lower --optim.lr from 0.0015, e.g. to 0.00015"),
     (1e-6, "raise --optim.lr from 1e-06, e.g. to 0.0015")],
)  # fmt: skip
def test_a_loss_that_stays_where_it_was(lr: float, remedy: str, truth: Split, capsys) -> None:
    callback = make_diagnostics(truth, progress=0.1, lr=lr)
    feed(callback, [45.0, 46.0, 44.0, *[46.0] * 40])
    assert warned(capsys) == []  # before an evaluation it may be that little is to be learned any more
    callback.read_evaluation(400, 0.3, detections_at(truth))
    assert warned(capsys) == []
    callback.read_evaluation(400, 0.001, detections_at(truth))
    callback.read_evaluation(400, 0.001, detections_at(truth))
    (line,) = warned(capsys)
    assert "the loss is 46, and was 45 in the first step:" in line
    assert line.endswith(remedy)


def test_a_loss_far_above_the_first_needs_no_evaluation(truth: Split, capsys) -> None:
    callback = make_diagnostics(truth, progress=0.01, lr=0.1)
    feed(callback, [45.0, 46.0, 44.0, *[90.0] * 26])
    assert warned(capsys) == []
    feed(callback, [90.0] * 40)
    assert len(warned(capsys)) == 1


def test_a_loss_that_rises_for_long(truth: Split, capsys) -> None:
    callback = make_diagnostics(truth, progress=0.3)
    feed(callback, [45.0] * 3 + [20.0] * 47)
    callback.read_evaluation(500, 0.4, detections_at(truth))
    for number in range(50, 120):
        callback.read_loss(10 * number, 33.0)
        if number == 70:
            assert warned(capsys) == []  # AP does not suffer
            callback.read_evaluation(700, 0.1, detections_at(truth))
    (line,) = warned(capsys)
    assert "rising, from 20 to 33" in line
    assert "lower --optim.lr" in line
    assert line.endswith("and continue from the best checkpoint with --model.init_from")


def test_without_an_ap_no_checkpoint_is_recommended_as_the_best(truth: Split, capsys) -> None:
    callback = make_diagnostics(truth, progress=0.3)
    feed(callback, [45.0] * 3 + [20.0] * 47)
    callback.read_evaluation(500, -1.0, detections_at(truth))
    for number in range(50, 120):
        callback.read_loss(10 * number, 33.0)
    (line,) = warned(capsys)
    assert line.endswith("lower --optim.lr from 0.0015, e.g. to 0.00015, and train anew")


def test_a_loss_that_rises_for_a_while_only(truth: Split, capsys) -> None:
    callback = make_diagnostics(truth)
    feed(callback, [45.0] * 3 + [20.0] * 47 + [40.0] * 25 + [22.0] * 60 + [40.0] * 25)
    assert warned(capsys) == []


def test_queries_that_all_predict_the_same(truth: Split, capsys) -> None:
    box = torch.tensor([[20.0, 20.0, 80.0, 80.0]]) + torch.tensor([[0.0], [0.3], [0.1]])
    callback = make_diagnostics(truth, progress=0.3)
    feed(callback, falling(50))
    found = same_everywhere(truth, box)
    callback.read_evaluation(200, 0.0, found)  # early: queries start alike
    callback.read_evaluation(500, 0.3, found)  # and where that is right it is no fault
    assert warned(capsys) == []
    for _ in range(2):
        callback.read_evaluation(500, 0.0, found)
    (line,) = warned(capsys)
    assert "all queries of an image give the same box" in line
    assert "lower --optim.lr from 0.0015, e.g. to 0.00015" in line


def test_predictions_that_do_not_depend_on_the_image(truth: Split, capsys) -> None:
    boxes = torch.tensor([[0.0, 0.0, 5.0, 5.0], [20.0, 50.0, 25.0, 80.0], [90.0, 90.0, 99.0, 99.0]])
    callback = make_diagnostics(truth)
    callback.read_evaluation(700, 0.0, same_everywhere(truth, boxes))
    (line,) = warned(capsys)
    assert "the predictions are the same for every image" in line


def test_labels_that_cannot_be_learned(truth: Split, capsys) -> None:
    rng = np.random.default_rng(0)
    found = detections_at(truth)
    for image, detections in found.items():
        found[image] = replace(detections, labels=torch.tensor(rng.integers(0, 3, 3)))
    early, callback = make_diagnostics(truth, progress=0.4), make_diagnostics(truth)
    fit = detection_stats(found, truth)
    assert 0.1 < fit.AP50 < 0.6
    assert fit.boxes_AP50 == pytest.approx(1)
    for each in (early, callback):
        each.read_evaluation(900, fit.AP50, found)
        each.read_evaluation(900, fit.AP50, found)
    (line,) = warned(capsys)
    assert "the boxes fit (AP50 1.00 regardless of class) but the classes do not" in line
    assert f"{fit.classes.right} of 90 are right, where always predicting the most frequent one would give 30" in line


def test_ids_that_are_mixed_up(truth: Split, capsys) -> None:
    make_diagnostics(truth).read_evaluation(900, 0.0, detections_at(truth, labels=(1, 2, 0)))
    (line,) = warned(capsys)
    assert "of 90 are right, where always predicting the most frequent one would give 30" in line


def test_nothing_found_late(truth: Split, capsys) -> None:
    found = detections_at(truth, shift=60.0)
    make_diagnostics(truth, progress=0.4).read_evaluation(900, 0.0, found)
    make_diagnostics(truth).read_evaluation(400, 0.0, found)
    make_diagnostics(truth).read_evaluation(900, 0.02, found)
    make_diagnostics(truth).read_evaluation(900, -1.0, found)  # no objects to find
    assert warned(capsys) == []
    make_diagnostics(truth).read_evaluation(900, 0.0, found)
    (line,) = warned(capsys)
    assert "60% of the run: AP is 0, and boxes fit with AP50 0.0" in line
    assert "train longer" in line
    make_diagnostics(truth, lr=0.1).read_evaluation(900, 0.0, found)
    assert warned(capsys)[0].endswith("lower --optim.lr from 0.1, e.g. to 0.0015")


@pytest.mark.parametrize(
    ("classes", "is_random"),
    [
        (ClassStats(found=100, right=34, most_frequent=33), True),
        (ClassStats(found=100, right=45, most_frequent=33), False),
        (ClassStats(found=100, right=90, most_frequent=90), False),  # nearly all are of one class
        (ClassStats(found=30, right=10, most_frequent=10), False),  # too few to tell
        (ClassStats(found=0, right=0, most_frequent=0), False),
    ],
)
def test_when_classes_are_random(classes: ClassStats, is_random: bool) -> None:
    assert are_classes_random(classes) == is_random


def test_a_resumed_run_warns_of_nothing_twice(truth: Split, capsys, tmp_path: Path) -> None:
    callback = make_diagnostics(truth, lr=1.0)
    feed(callback, [45.0] * 25)
    torch.save(callback.state_dict(), tmp_path / "state.pt")
    resumed = make_diagnostics(truth, lr=1.0)
    resumed.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for step in range(250, 400, 10):
        resumed.read_loss(step, 45.0)
    resumed.read_evaluation(400, 0.0, detections_at(truth))
    assert len(warned(capsys)) == 1
    again = make_diagnostics(truth, lr=1.0)
    again.load_state_dict(resumed.state_dict())
    again.read_evaluation(410, 0.0, detections_at(truth))
    assert warned(capsys) == []


def test_each_query_counts_once() -> None:
    boxes = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0], [5.0, 5.0, 9.0, 9.0]])
    detections = Detections(boxes, torch.tensor([0.9, 0.5, 0.4]), torch.tensor([2, 1, 0]), torch.tensor([7, 7, 3]))
    best = best_by_query(detections)
    assert best.queries.tolist() == [3, 7]
    assert best.labels.tolist() == [0, 2]
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long(), torch.zeros(0).long())
    assert len(best_by_query(nothing)) == 0
    sizes_wh = np.full((3, 2), 10)
    assert spread_over_queries({1: nothing}, sizes_wh) == 1.0
    assert spread_over_images({1: nothing, 2: detections}, sizes_wh) == 1.0
    assert detection_stats({}, split_of([], [], [], [])).classes.found == 0


def run(config: Config, epochs: int, every_steps: int = 1) -> TrainingDiagnostics:
    """Real steps, with the callbacks that the callback needs."""
    train, val = (read_split(Path(config.data.root), split) for split in ("train", "val"))
    resize, optim, classes = build_resize(config.data), config.optim, len(train.categories)
    transform = evaluation_transform(resize)
    torch.manual_seed(0)
    groups = partial(parameter_groups, lr=optim.lr, backbone_lr_factor=1.0, weight_decay=0.0, decay_all=False)
    module = DetectionModule(
        model=build_model(config.model, classes),
        criterion=build_criterion(config, classes),
        postprocess=build_postprocess(config.model, [category.name for category in train.categories]),
        val=val,
        make_optimizer=lambda model: make_optimizer(groups(model), fused=False),
        max_grad_norm=optim.max_grad_norm,
    )
    progress = TrainingProgress(epochs, None, 3)
    factor = partial(lr_factor, schedule="constant", lr_hold=1.0, warmup_steps=optim.warmup_steps)
    callback = TrainingDiagnostics(
        progress, val, LearningRate(optim.lr, default=1.5e-3), optim.warmup_steps, every_steps=every_steps
    )
    trainer = L.Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        val_check_interval=NEVER,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[progress, LRSchedule(progress, factor), callback],
    )
    trainer.fit(module, DetectionData(train, val, transform, transform, resize, batch_size=4, num_workers=0, seed=0))
    return callback


@pytest.mark.stress
@pytest.mark.parametrize("lr", [10.0, 0.0, 1.5e-3])
def test_a_real_run_at_a_rate_far_too_high_and_at_a_good_one(lr: float, tiny_config: Config, capsys, monkeypatch):
    """A tenth of the steps, read ten times as often."""
    monkeypatch.setattr(diagnostics, "SETTLED_STEPS", 30)
    config = replace(tiny_config, optim=replace(tiny_config.optim, lr=lr, warmup_steps=10))
    callback = run(config, epochs=45)
    lines = warned(capsys)
    if lr == 1.5e-3:
        assert lines == []
    else:
        assert callback.reported == ["learning rate"]
        assert lines[0].endswith(f"{'lower' if lr else 'raise'} --optim.lr from {lr:g}, e.g. to 0.0015")
    assert callback._detections == {}


def test_an_evaluation_explains_zero_by_classes_where_boxes_fit(truth: Split) -> None:
    mixed, wrong = (
        detections_at(truth, labels=(1, 2, 0)),
        same_everywhere(truth, torch.tensor([[1.0, 1.0, 5.0, 5.0]] * 3)),
    )
    for found, words in ((mixed, "although the boxes fit (AP50 1.00 regardless of class)"), (wrong, None)):
        detections = pack_detections(found)
        evaluation = evaluate_detections(truth.ground_truth, detections, truth.categories)
        none = replace(evaluation, metrics=evaluation.metrics | {"AP": 0.0})  # by accident a wrong class may be right
        reason = explain_zero(none, truth.ground_truth, detections, truth.images.sizes_wh, truth.image_ids)
        assert reason is None if words is None else words in str(reason)
