"""The commands with a detector of transformers in place of a checkpoint."""

import json
from pathlib import Path

import pytest

from benchmarks.tiny_families import save_source, tiny_model
from detr_lite.training.state.evaluation_folder import model_name, results_home
from detr_lite.weights.checkpoint import load_model

pytestmark = pytest.mark.slow

NAMES = {0: "N/A", 1: "Red_Thing", 2: "blue thing", 3: "green thing"}


def make_source(family, folder, names):
    labels = {"id2label": names, "label2id": {name: label for label, name in names.items()}}
    return save_source(tiny_model(family, len(names), **labels), folder)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return make_source("detr", tmp_path_factory.mktemp("sources") / "tiny-detr", NAMES)


@pytest.fixture(autouse=True)
def in_empty_folder(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def test_evaluate(run_tool, source, tiny_data, in_empty_folder):
    before = sorted(source.iterdir())
    ended = run_tool("evaluate", "--checkpoint", source, "--data.root", tiny_data, "--num_workers", 0)
    assert ended.code == 0, ended.err
    folder = Path("runs/tiny-detr/evaluation")
    assert sorted(path.name for path in folder.iterdir()) == [
        *("detections.json", "metrics.json", "per_class.csv", "pr_curves.png", "thresholds.json")
    ]
    assert sorted(source.iterdir()) == before
    assert "categories matched under other names: red thing as Red_Thing" in ended.out
    assert ended.out.splitlines()[-1] == f"results written to {folder}"
    detected = {row["category_id"] for row in json.loads((folder / "detections.json").read_text())}
    assert detected
    assert detected <= {3, 7, 90}


@pytest.mark.stress
def test_objects_of_unknown_categories_are_said_to_count_as_missed(run_tool, tiny_data, tmp_path):
    source = make_source("d_fine", tmp_path / "some", {0: "red thing", 1: "cat"})
    words = ("--data.root", tiny_data, "--num_workers", 0, "--attention")
    ended = run_tool("evaluate", "--checkpoint", source, *words)
    assert ended.code == 0, ended.err
    line = "2 of 3 categories are unknown to the model, blue thing and green thing: their 3 objects count as missed"
    assert ended.out.index(line) < ended.out.index("AP50")
    assert json.loads(Path("runs/some/evaluation/attention.json").read_text())["objects"] == 2


def test_what_evaluate_refuses(refusal, source, tiny_data, tmp_path, in_empty_folder):
    words = ("evaluate", "--checkpoint", source)
    assert refusal(*words) == f"{source} has no dataset of its own; give --data.root"
    other = make_source("detr", tmp_path / "other", {0: "cat", 1: "dog"})
    message = refusal("evaluate", "--checkpoint", other, "--data.root", tiny_data)
    assert "the model knows none of its categories (blue thing, red thing, green thing); it knows cat, dog" in message
    assert list(in_empty_folder.iterdir()) == []


def test_predict(run_tool, source, tiny_data):
    words = ("--source", tiny_data / "val", "--output", "out", "--threshold", 0, "--device", "cpu")
    ended = run_tool("predict", "--checkpoint", source, *words)
    assert ended.code == 0, ended.err
    content = json.loads(Path("out/detections.json").read_text())
    assert len(content["images"]) == 5
    assert {row["category_name"] for row in content["annotations"]} <= {*NAMES.values(), "unused 0"}


@pytest.mark.stress
def test_visualize(run_tool, source, tiny_data):
    words = ("visualize", "--checkpoint", source, "--source", tiny_data / "val" / "002.png")
    query_boxes = ("--output", "boxes", "--figure", "query_boxes")
    for output in (("--output", "queries"), query_boxes, ("--explore", "page.html")):
        ended = run_tool(*words, *output)
        assert ended.code == 0, ended.err
    assert Path("queries/002.png").is_file()
    assert Path("boxes/query_boxes.png").is_file()
    assert Path("page.html").is_file()


def test_doctor(run_tool, source, tiny_data):
    ended = run_tool("doctor", tiny_data, "--checkpoint", source, "--device", "cpu")
    assert "wrote doctor.html" in ended.out, ended.err
    assert "classes matched under other names: red thing as Red_Thing" in ended.out


def test_export(run_tool, source):
    ended = run_tool("export", "--checkpoint", source, "--output", "exported")
    assert ended.code == 0, ended.err
    _, description = load_model(Path("exported"))
    assert [each.name for each in description.categories] == ["unused 0", *list(NAMES.values())[1:]]


def test_a_name_that_is_not_on_the_hub(refusal, tiny_data, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("transformers.PreTrainedConfig.get_config_dict", offline)
    message = refusal("evaluate", "--checkpoint", "hf:nobody/nothing", "--data.root", tiny_data)
    assert message.startswith("hf:nobody/nothing could not be loaded (no network); ")


def test_names_and_folders_of_results(source, in_empty_folder):
    hub = Path("hf:ustc-community/dfine-small-coco")
    assert model_name(hub) == "ustc-community/dfine-small-coco"
    assert results_home(hub) == Path("runs/ustc-community--dfine-small-coco")
    assert model_name(source) == "tiny-detr"
    assert model_name(Path("runs/a/checkpoints/best.ckpt")) == "a"
    assert model_name(Path("runs/a/checkpoints/last.ckpt")) == "a-last"
    assert model_name(Path("detr-r50.ckpt")) == "detr-r50"


def test_neither_a_source_nor_a_run_of_its_name_is_written_into(source, in_empty_folder):
    own = in_empty_folder / "runs" / "tiny-detr"
    (own / "checkpoints").mkdir(parents=True)
    assert results_home(source) == Path("runs/tiny-detr-2")
    (own / "checkpoints").rmdir()
    assert results_home(source) == Path("runs/tiny-detr")
    (own / "config.json").write_text("{}")
    assert results_home(own) == Path("runs/tiny-detr-2")
