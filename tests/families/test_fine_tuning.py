"""Fine-tuning a detector of transformers: initial weights, chosen settings, runs, resuming and export."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from benchmarks.tiny_families import FAMILIES, QUERIES, SQUARE, save_source, tiny_model
from detr_lite.build import build_criterion
from detr_lite.config import Config, OptimConfig, read_config
from detr_lite.data.transforms import ResizeRule
from detr_lite.detector import Detector
from detr_lite.evaluation.coco_map import evaluate_detections
from detr_lite.evaluation.packing import pack_detections
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.families.network import FamilyDetr
from detr_lite.structures import Batch, Category, DetrLiteError, GroundTruth, Target
from detr_lite.training.auto import choose_sizes, open_source_settings
from detr_lite.training.optim import make_optimizer, parameter_groups
from detr_lite.training.trainer import run_optimizer
from detr_lite.weights.checkpoint import load_model
from detr_lite.weights.export import write_transformers
from detr_lite.weights.family_init import initial_family_model
from detr_lite.weights.init import new_description
from detr_lite.weights.pretrained_source import load_source, source_settings
from tests.helpers.run_files import weights_of
from tests.training.test_auto import split

pytestmark = pytest.mark.slow

FROZEN_RESNETS = ("detr", "conditional_detr", "deformable_detr")
CATEGORIES = (Category(7, "CLASS 2"), Category(8, "helmet"), Category(9, "class 0"), Category(12, "vest"))


def settings(source: Path, **data: Any) -> Config:
    config = read_config(["--config", "finetune_pretrained.yaml", "--model.source", str(source)]).config
    config = replace(config, data=replace(config.data, batch_size=2, **data))
    return choose_sizes(config, split(4, 100, {0: 20.0}), source_settings(str(source)))[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_the_sources_and_class_rows_those_of_the_same_names(family: str, tmp_path: Path) -> None:
    source = save_source(tiny_model(family), tmp_path / "source")
    description = new_description(settings(source), CATEGORIES)
    torch.manual_seed(0)
    model, notes = initial_family_model(description)
    of_source, _ = load_source(str(source))
    state, theirs = model.state_dict(), of_source.state_dict()
    assert state.keys() == theirs.keys()
    resized = [name for name in state if state[name].shape != theirs[name].shape]
    assert resized
    for name in resized:
        assert len(state[name]) - len(theirs[name]) == len(CATEGORIES) - 3, name
        assert torch.equal(state[name][[0, 2]], theirs[name][[2, 0]]), name
        if len(state[name]) > len(CATEGORIES):  # "no object", padding
            assert torch.equal(state[name][-1], theirs[name][-1]), name
        assert not any(torch.equal(state[name][1], row) for row in theirs[name]), name
    assert all(torch.equal(state[name], theirs[name]) for name in state if name not in resized)
    assert notes[1:] == ["classes kept by name: CLASS 2, class 0", "classes initialized anew: helmet, vest"]


def test_no_row_is_kept_because_it_is_at_the_same_place(tmp_path: Path) -> None:
    source = save_source(tiny_model("d_fine"), tmp_path / "source")
    description = new_description(settings(source), tuple(Category(i, name) for i, name in enumerate("abc")))
    model, notes = initial_family_model(description)
    of_source, _ = load_source(str(source))
    name = "network.class_embed.0.weight"
    assert not (model.state_dict()[name] == of_source.state_dict()[name]).all(1).any()
    assert notes[1:] == ["classes initialized anew: a, b, c"]


def test_open_settings_are_the_sources(tmp_path: Path) -> None:
    source = save_source(tiny_model("rf_detr"), tmp_path / "source")
    config = settings(source)
    assert (config.data.image_size, config.data.resize, config.model.num_queries) == (SQUARE, "stretch", QUERIES)
    assert (config.optim.optimizer, config.optim.backbone_lr_factor) == ("adamw", 0.1)
    description = new_description(config, CATEGORIES)
    assert description.resize == ResizeRule("stretch", SQUARE, antialias=False)
    assert description.mean == pytest.approx((0.485, 0.456, 0.406))
    larger = new_description(settings(source, image_size=128), CATEGORIES)
    assert larger.resize == ResizeRule("stretch", 128, antialias=False)

    source = save_source(tiny_model("detr"), tmp_path / "detr")
    assert new_description(settings(source), CATEGORIES).resize == ResizeRule("shortest", 48, 80, True)
    assert new_description(settings(source, image_size=24), CATEGORIES).resize == ResizeRule("shortest", 24, 40, True)


def test_the_source_is_not_read_where_everything_is_chosen(tmp_path: Path) -> None:
    source = save_source(tiny_model("d_fine"), tmp_path / "source")
    config = settings(source)
    shutil.rmtree(source)
    assert open_source_settings(config) is None
    with pytest.raises(DetrLiteError, match="no such folder"):
        open_source_settings(replace(config, data=replace(config.data, image_size=None)))


def test_a_source_goes_with_the_name_transformers() -> None:
    for words in (["--model.name", "transformers"], ["--model.source", "somebody/something"]):
        with pytest.raises(DetrLiteError, match="a source, such as ustc-community/dfine-small-coco, goes with"):
            read_config(["--config", "coco_small.yaml", *words])


@pytest.mark.parametrize(
    "words",
    [
        ["--model.backbone", "resnet50"],
        ["--model.decoder_layers", "2"],
        ["--model.freeze_first_stage", "true"],
        ["--loss.giou", "3"],
    ],
)
def test_settings_that_it_would_ignore_are_refused(words: list[str]) -> None:
    with pytest.raises(DetrLiteError, match=rf"^{words[0][2:]} has no effect on ustc-community/dfine-small-coco"):
        read_config(["--config", "finetune_pretrained.yaml", *words])


def test_export_of_a_resize_rule_that_transformers_lacks_is_refused(tmp_path: Path) -> None:
    source = save_source(tiny_model("d_fine"), tmp_path / "source")
    description = new_description(settings(source, resize="longest"), CATEGORIES)
    model, _ = initial_family_model(description)
    with pytest.raises(DetrLiteError, match="longest leaves small images as they are"):
        write_transformers(tmp_path / "exported", model, description)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_backbone_has_its_own_rate_and_muon_leaves_class_layers_to_adamw(family: str) -> None:
    model = FamilyDetr(tiny_model(family))
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, 1.0, 0.1, 0.1, decay_all=False, optimizer="muon")
    rates = {names[id(parameter)]: group["lr"] for group in groups for parameter in group["params"]}
    assert rates.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, rate in rates.items():
        is_backbone = ("backbone" in name or "conv_encoder" in name) and ".projector." not in name
        assert rate == (0.1 if is_backbone else 1.0), name
    # transformers freezes a ResNet of its own whole in three families; those on the hub have timm's.
    assert set(rates.values()) == ({1.0} if family in FROZEN_RESNETS else {0.1, 1.0})
    by_muon = {names[id(parameter)] for group in groups if group["use_muon"] for parameter in group["params"]}
    assert by_muon
    assert not any("class" in name or "score" in name or "backbone.model" in name for name in by_muon)


RUN = ("--data.augmentation", "light", "--data.num_workers", 0, "--data.batch_size", 4, "--trainer.num_evaluations", 2)


HOLD = ("--optim.lr_hold", 1, "--data.augmentation_stop", 1)
"""Runs of two and of four epochs have the same first half."""


@pytest.fixture
def start(run_tool: Callable[..., Any], tiny_data: Path) -> Callable[..., Any]:
    def run(source: Path, folder: Path, *words: object) -> Any:
        fixed = ("--config", "finetune_pretrained.yaml", "--data.root", tiny_data, "--run_dir", folder, *RUN)
        ended = run_tool("train", *fixed, "--model.source", source, "--trainer.accelerator", "cpu", *words)
        assert ended.code == 0, ended.err
        return ended

    return run


@pytest.mark.stress
@pytest.mark.parametrize(
    "family",
    ["d_fine", pytest.param("rf_detr", marks=pytest.mark.stress), pytest.param("detr", marks=pytest.mark.stress)],
)
def test_a_run_is_evaluated_drawn_and_exported(
    family: str, start: Callable[..., Any], run_tool: Callable[..., Any], tiny_data: Path, tmp_path: Path
) -> None:
    source = save_source(tiny_model(family), tmp_path / "source")
    ended = start(source, tmp_path / "run", "--trainer.max_epochs", 2)
    assert "initial weights: classes initialized anew: " in ended.out
    shutil.rmtree(source)
    for name in ("attention.csv", "attention.png", "curves.png", "samples.png", "evaluation/metrics.json"):
        assert (tmp_path / "run" / name).is_file(), name

    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    again = run_tool("evaluate", "--checkpoint", best, "--output", tmp_path / "again", "--num_workers", 0)
    assert again.code == 0, again.err
    at_the_end = json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
    assert json.loads((tmp_path / "again" / "metrics.json").read_text()) == pytest.approx(at_the_end, abs=1e-6)

    image = next((tiny_data / "val").iterdir())
    expected = Detector.from_checkpoint(best, "cpu")(image)
    exported = tmp_path / "exported"
    ended = run_tool("export", "--checkpoint", best, "--format", "transformers", "--output", exported)
    assert ended.code == 0, ended.err
    network = transformers.AutoModelForObjectDetection.from_pretrained(exported)
    assert list(network.config.id2label.values()) == list(expected.class_names)
    state = load_model(best)[0].state_dict()
    assert all(torch.equal(state[f"network.{name}"], value) for name, value in network.state_dict().items())
    found = Detector.from_pretrained(exported, "cpu")(image)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2, rtol=0)

    words = ("export", "--checkpoint", best, "--format", "safetensors", "--output", tmp_path / "own")
    assert run_tool(*words).code == 0
    found = Detector.from_checkpoint(tmp_path / "own", "cpu")(image)
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-5, rtol=0)


@pytest.mark.stress
@pytest.mark.parametrize("family", ["rt_detr_v2", "lw_detr"])
def test_a_resumed_run_ends_as_one_that_was_not_interrupted(
    family: str, start: Callable[..., Any], tmp_path: Path
) -> None:
    source = save_source(tiny_model(family), tmp_path / "source")
    start(source, tmp_path / "whole", "--trainer.max_epochs", 4, *HOLD)
    start(source, tmp_path / "parts", "--trainer.max_epochs", 2, *HOLD)
    shutil.copytree(tmp_path / "parts", tmp_path / "kept")
    shutil.rmtree(source)  # a resumed run does not need it
    start(source, tmp_path / "parts", "--trainer.max_epochs", 4, "--resume", "last", *HOLD)
    whole, parts = (weights_of(tmp_path / name) for name in ("whole", "parts"))
    assert whole.keys() == parts.keys()
    kept = weights_of(tmp_path / "kept")
    assert not all(torch.equal(whole[name], value) for name, value in kept.items())
    assert all(torch.equal(whole[name], value) for name, value in parts.items())


@pytest.mark.stress
@pytest.mark.parametrize("family", ["d_fine", "rt_detr_v2", "rf_detr", "deimv2"])
def test_one_batch_is_learned(family: str) -> None:
    network = tiny_model(family, **({} if family == "rf_detr" else {"num_denoising": 20}))
    model, criterion = FamilyDetr(network), build_criterion(Config(), 3, network.config.to_dict())
    batch = drawn_batch()
    optimizer = make_optimizer(parameter_groups(model, 2e-3, 1.0, 0.0, decay_all=False), fused=False)
    torch.manual_seed(0)
    for step in range(300):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * min(1.0, (step + 1) / 20, 2 * (300 - step) / 300)
        losses = criterion(model.train()(batch), batch.targets)
        optimizer.zero_grad()
        losses.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    with torch.no_grad():
        output = model.eval()(batch)
    assert ap50(output, batch) >= 0.95


def drawn_batch() -> Batch:
    """Rectangles of three colors, one of each in each of two images."""
    images, targets = [], []
    places = [[(0.25, 0.25), (0.7, 0.3), (0.4, 0.75)], [(0.75, 0.75), (0.3, 0.7), (0.6, 0.25)]]
    for index, centers in enumerate(places):
        image, boxes = torch.zeros(3, SQUARE, SQUARE), []
        for label, (x, y) in enumerate(centers):
            width, height = 0.3 + 0.05 * label, 0.25
            left, right = round((x - width / 2) * SQUARE), round((x + width / 2) * SQUARE)
            top, bottom = round((y - height / 2) * SQUARE), round((y + height / 2) * SQUARE)
            image[label, top:bottom, left:right] = 2.0
            boxes.append([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top])
        images.append(image)
        targets.append(Target(torch.tensor(boxes) / SQUARE, torch.arange(3), index, (SQUARE, SQUARE)))
    return Batch.from_images(images, targets)


def ap50(output: Any, batch: Batch) -> float:
    found = Postprocess("sigmoid", ("a", "b", "c"))(output, [(SQUARE, SQUARE)] * 2)
    boxes = torch.cat([target.boxes_cxcywh for target in batch.targets]).double().numpy() * SQUARE
    boxes[:, :2] -= boxes[:, 2:] / 2
    labels = torch.cat([target.labels for target in batch.targets]).numpy()
    image = np.repeat(np.arange(2), 3)
    truth = GroundTruth(2, image, labels, boxes, boxes[:, 2] * boxes[:, 3], np.zeros(6, dtype=bool))
    categories = tuple(Category(index, name) for index, name in enumerate("abc"))
    return evaluate_detections(truth, pack_detections(dict(enumerate(found))), categories).metrics["AP50"]


def test_the_optimizer_of_a_run(tmp_path: Path) -> None:
    model = FamilyDetr(tiny_model("d_fine"))
    optimizer = run_optimizer(model, OptimConfig(optimizer="adamw", lr=1e-4, backbone_lr_factor=0.1), fused=False)
    assert {round(group["lr"], 6) for group in optimizer.param_groups} == {1e-4, 1e-5}
