"""Several checkpoints and detectors of transformers in one table."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from benchmarks.tiny_families import save_source, tiny_model
from detr_lite.build import build_model, build_resize
from detr_lite.data.reading import read_split
from detr_lite.training import compare
from detr_lite.training.evaluate import Throughput
from detr_lite.weights.checkpoint import Description, write_checkpoint

pytestmark = pytest.mark.slow

NAMES = {0: "red thing", 1: "blue thing", 2: "green thing"}
FILES = ["detections.json", "metrics.json", "per_class.csv", "pr_curves.png", "thresholds.json"]


def make_source(folder, names):
    labels = {"id2label": names, "label2id": {name: label for label, name in names.items()}}
    return save_source(tiny_model("d_fine", len(names), **labels), folder)


def write_own(path, config):
    categories = read_split(Path(config.data.root), "val").categories
    description = Description(config, categories, build_resize(config.data), (0.5,) * 3, (0.2,) * 3)
    torch.manual_seed(0)
    write_checkpoint(path, build_model(config.model, 3), description)
    return path


@pytest.fixture
def own(tiny_config, tmp_path):
    return write_own(tmp_path / "mine/checkpoints/best.ckpt", tiny_config)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.stress
def test_checkpoints_and_sources_in_one_table(run_tool, own, tiny_data, tmp_path):
    full, part = make_source(tmp_path / "full", NAMES), make_source(tmp_path / "a/mine", {0: "red thing", 1: "cat"})
    words = ("--data.root", tiny_data, "--num_workers", 0, "--batch_size", 2, "--iou", 0.33)
    ended = run_tool("evaluate", "--checkpoint", own, full, "--checkpoint", part, *words)
    assert ended.code == 0, ended.err
    folder = Path("runs/comparison")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("comparison.json", "comparison.md", "full", "mine", "mine-2")
    ]
    content = json.loads((folder / "comparison.json").read_text())
    assert (content["images"], content["device"]) == (5, "cpu")
    for entry, checkpoint in zip(content["models"], (own, full, part), strict=True):
        assert entry["checkpoint"] == str(checkpoint)
        assert entry["parameters"] > 10_000
        assert entry["images_per_second"] > 0
        assert entry["batch_size"] == 2
        results = folder / entry["folder"]
        assert sorted(path.name for path in results.iterdir()) == FILES
        metrics = json.loads((results / "metrics.json").read_text())
        assert metrics.pop("AP_at_iou") == entry["AP_at_iou"]
        assert metrics == entry["metrics"]

    page = (folder / "comparison.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in page if line.startswith("|")]
    assert rows[0] == [
        *("model", "AP", "AP50", "AP small", "AP medium", "AP large", "AP33", "parameters (M)", "images/s")
    ]
    assert [row[0] for row in rows[2:]] == ["mine", "full", "mine-2"]
    assert [row[1] for row in rows[2:]] == [f"{entry['metrics']['AP']:.3f}" for entry in content["models"]]
    assert rows[2][5] == "-", "there is no large object"
    unknown = "mine-2: 2 of 3 categories are unknown to the model, blue thing and green thing: their 3 objects count"
    assert any(line.startswith(unknown) for line in page)
    assert "model 2 of 3: full" in ended.out
    assert ended.out.index("model 3 of 3: mine-2") < ended.out.index("AP small  AP medium")
    assert "in batches of 2" in ended.out
    assert ended.out.splitlines()[-1] == f"comparison written to {folder}"


@pytest.mark.stress
def test_the_next_comparison_has_a_folder_of_its_own(run_tool, own):
    for folder in ("runs/comparison", "runs/comparison-2", "given"):
        output = () if folder.startswith("runs") else ("--output", folder)
        ended = run_tool("evaluate", "--checkpoint", own, own, "--num_workers", 0, *output)
        assert ended.code == 0, ended.err
        assert (Path(folder) / "comparison.md").is_file()
    first, second = (json.loads(Path(f"given/{name}/metrics.json").read_text()) for name in ("mine", "mine-2"))
    assert first == second


def test_nothing_is_evaluated_before_all_models_are_known(
    refusal, own, tiny_config, own_data, tmp_path, monkeypatch, in_empty_folder
):
    def never(*_):
        raise AssertionError

    monkeypatch.setattr(compare, "run_evaluation", never)
    assert "missing.ckpt" in refusal("evaluate", "--checkpoint", own, "missing.ckpt")
    source = make_source(tmp_path / "full", NAMES)
    assert refusal("evaluate", "--checkpoint", own, source) == f"{source} has no dataset of its own; give --data.root"
    elsewhere = replace(tiny_config, data=replace(tiny_config.data, root=str(own_data)))
    other = write_own(tmp_path / "other.ckpt", elsewhere)
    message = refusal("evaluate", "--checkpoint", own, other)
    assert message.startswith("the checkpoints were trained on different datasets (")
    assert message.endswith("; give --data.root")
    assert list(in_empty_folder.iterdir()) == []


def test_data_without_annotations_compare_nothing(refusal, own, edit_annotations):
    root = edit_annotations("val", lambda content: content["annotations"].clear())
    message = refusal("evaluate", "--checkpoint", own, own, "--data.root", root)
    assert "has no annotations, so there is nothing to compare the models by" in message


def test_the_first_of_several_batches_is_a_warm_up():
    assert Throughput().images_per_second is None
    assert Throughput([4], [2.0]).images_per_second == 2.0
    assert Throughput([4, 4, 2], [9.0, 1.0, 0.5]).images_per_second == 4.0
