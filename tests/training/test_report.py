"""Reports from the files of runs, evaluations and other programs: what is found, where pages go, what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_lite.config import write_config
from detr_lite.data.reading import read_split
from detr_lite.evaluation.result_files import write_detections
from detr_lite.structures import DetrLiteError
from detr_lite.training.report import write_comparison, write_report
from detr_lite.training.results import find_results
from tests.helpers.image_splits import save_image
from tests.helpers.random_detections import perfect_detections

Tool = Callable[..., Any]


@pytest.fixture
def run(tmp_path: Path, tiny_data: Path, tiny_config: Any) -> Path:
    """The files of a run that its report is made of."""
    return make_run(tmp_path / "run", tiny_data, tiny_config, 1.0)


def make_run(folder: Path, data: Path, config: Any, share: float) -> Path:
    """A run that has found this share of all objects, and nothing else."""
    (folder / "evaluation").mkdir(parents=True)
    write_config(config, folder / "config.yaml")
    (folder / "metrics.csv").write_text("step,loss,AP\n10,3.0,\n20,2.0,0.5\n")
    split = read_split(data, "val")
    found = perfect_detections(split.ground_truth.select(~split.ground_truth.is_crowd))
    found = found.select(slice(0, round(share * len(found.scores))))
    write_detections(folder / "evaluation" / "detections.json", found, split.image_ids, split.categories)
    metrics = dict.fromkeys(
        ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"), share
    )
    (folder / "evaluation" / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.mark.slow
def test_the_page_of_a_run(run: Path) -> None:
    results = write_report(run)
    assert results.metrics["AP"] == pytest.approx(1.0)
    page = (run / "report.html").read_text()
    assert "Report: run" in page
    assert "Training loss" in page
    assert "optim.optimizer" in page
    assert write_report(run).metrics == results.metrics, "the command replaces its own page"


@pytest.mark.parametrize("place", ["evaluation", "evaluation/metrics.json", "evaluation/detections.json"])
def test_a_run_is_found_by_its_parts(run: Path, place: str) -> None:
    results = find_results(run / place)
    assert results.name == "run"
    assert results.run == run
    assert results.model is not None


def test_the_data_of_another_evaluation_are_recorded(run: Path, tmp_path: Path, tiny_data: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run / "evaluation", other)
    with pytest.raises(DetrLiteError, match=r"not known which dataset.*--truth"):
        find_results(other)
    (other / "thresholds.json").write_text(json.dumps({"data": {"root": str(tiny_data), "split": "val"}}))
    assert find_results(other).metrics["AP"] == pytest.approx(1.0)
    (other / "thresholds.json").write_text(json.dumps({"data": {"root": "/gone", "split": "val"}}))
    with pytest.raises(DetrLiteError, match="/gone, do not exist"):
        find_results(other)


def test_moved_data_are_read_in_the_split_of_the_evaluation(run: Path, tmp_path: Path, tiny_data: Path) -> None:
    (run / "evaluation" / "thresholds.json").write_text(json.dumps({"data": {"root": "/gone", "split": "test"}}))
    moved = shutil.copytree(tiny_data, tmp_path / "moved")
    (moved / "annotations" / "instances_val.json").rename(moved / "annotations" / "instances_test.json")
    (moved / "val").rename(moved / "test")
    assert find_results(run, moved).metrics["AP"] == pytest.approx(1.0)


def test_a_folder_with_metrics_alone(run: Path) -> None:
    (run / "evaluation" / "detections.json").unlink()
    results = find_results(run / "evaluation")
    assert results.metrics["AP"] == 1.0
    assert results.model is None
    with pytest.raises(DetrLiteError, match=r"no detections.json beside these metrics.*evaluate writes one"):
        write_report(run / "evaluation")


@pytest.mark.parametrize(
    ("change", "expected"),
    [({"AP": 10**400}, "has no AP"), ({"AP": True}, "has no AP"), ({"AP": None}, "has no AP")],
)
def test_metrics_that_are_none(run: Path, change: dict[str, Any], expected: str) -> None:
    numbers = run / "evaluation" / "metrics.json"
    numbers.write_text(json.dumps({**json.loads(numbers.read_text()), **change}))
    (run / "evaluation" / "detections.json").unlink()
    with pytest.raises(DetrLiteError, match=expected):
        find_results(run)


def test_thresholds_of_iou_that_are_none(run: Path) -> None:
    numbers = run / "evaluation" / "metrics.json"
    numbers.write_text(json.dumps({"AP_at_iou": {"high": 0.5}}))
    with pytest.raises(DetrLiteError, match=r"AP_at_iou has 'high'.*evaluate again"):
        find_results(run)


def test_the_command_that_makes_what_is_missing_can_be_pasted(tmp_path: Path) -> None:
    (tmp_path / "my run" / "checkpoints").mkdir(parents=True)
    with pytest.raises(DetrLiteError, match=r"--checkpoint '.*/my run/checkpoints/best.ckpt'"):
        find_results(tmp_path / "my run")


def test_a_misspelt_dataset_names_the_option(run: Path, tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match=r"--truth .*nowhere: no such file or folder"):
        find_results(run, tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DetrLiteError, match="the data folder is empty") as caught:
        find_results(run, tmp_path / "empty")
    assert "--data.root" not in str(caught.value)


def test_a_file_of_several_splits_is_read_as_val_or_as_named(run: Path, tmp_path: Path) -> None:
    for split, count in (("train", 3), ("val", 2)):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (100, 80)).save(tmp_path / "images" / split / f"{number}.png")
            (tmp_path / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    data, file = tmp_path / "data.yaml", tmp_path / "theirs.json"
    data.write_text("train: images/train\nval: images/val\nnames: [cell]\n")
    file.write_text(json.dumps([{"image_id": 1, "category_id": 0, "bbox": [40, 32, 20, 16], "score": 0.5}]))
    for split, images in ((None, 2), ("val", 2), ("train", 3)):
        results = find_results(file, data, split)
        assert results.model is not None
        assert len(results.model.split.images) == images
    with pytest.raises(DetrLiteError, match="has no split test; it has train, val"):
        find_results(file, data, "test")


def test_a_page_that_cannot_be_written_is_refused_before_anything_is_computed(run: Path, monkeypatch: Any) -> None:
    with pytest.raises(DetrLiteError, match=r"config.yaml is a file; name a file elsewhere with --output"):
        write_report(run, run / "config.yaml" / "deep" / "page.html")
    monkeypatch.setattr("os.access", lambda *_: False)
    with pytest.raises(DetrLiteError, match="run may not be written to; name a file elsewhere with --output"):
        write_report(run)


@pytest.mark.parametrize("truth", ["", "annotations/instances_val.json"])
def test_a_file_of_another_program(run: Path, tmp_path: Path, tiny_data: Path, truth: str, monkeypatch: Any) -> None:
    file = tmp_path / "theirs.json"
    shutil.copy(run / "evaluation" / "detections.json", file)
    monkeypatch.chdir(tmp_path)
    results = write_report(file, truth=tiny_data / truth)
    assert results.name == "theirs"
    assert results.metrics["AP"] == pytest.approx(1.0)
    assert (tmp_path / "report.html").is_file()


def test_other_files_are_not_replaced(run: Path) -> None:
    (run / "report.html").write_text("<p>mine</p>")
    with pytest.raises(DetrLiteError, match="did not write"):
        write_report(run)
    assert (run / "report.html").read_text() == "<p>mine</p>"
    with pytest.raises(DetrLiteError, match="is a folder"):
        write_report(run, output=run)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda run: run / "nothing", "no such file or folder"),
        (lambda run: run.parent, "neither a run nor an evaluation folder"),
        (lambda run: (run / "evaluation/detections.json").unlink() or run / "evaluation/metrics.json", "no detections"),
    ],
)
def test_what_is_no_result_says_so(run: Path, change: Callable[[Path], Path], expected: str) -> None:
    given = change(run)
    with pytest.raises(DetrLiteError, match=expected):
        write_report(given)


def test_settings_of_another_version_are_no_reason_to_fail(run: Path, tiny_data: Path, caplog: Any) -> None:
    (run / "config.yaml").write_text("data: {workers: 3}\n")
    assert find_results(run, tiny_data).metrics["AP"] == pytest.approx(1.0)
    assert "settings are not shown" in caplog.text


@pytest.mark.slow
def test_non_maximum_suppression_is_said(run: Path) -> None:
    file = run / "evaluation" / "metrics.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "nms": 0.7}))
    write_report(run)
    assert "removed duplicates with --nms 0.7" in (run / "report.html").read_text()


def test_a_run_before_its_evaluation(run: Path) -> None:
    shutil.rmtree(run / "evaluation")
    (run / "checkpoints").mkdir()
    with pytest.raises(DetrLiteError, match=r"make it with: .*evaluate.* --checkpoint"):
        find_results(run)


@pytest.mark.slow
def test_a_comparison(run: Path, tmp_path: Path, tiny_data: Path, tiny_config: Any) -> None:
    worse = make_run(tmp_path / "worse" / "run", tiny_data, tiny_config, 0.4)
    numbers = tmp_path / "numbers" / "metrics.json"
    numbers.parent.mkdir()
    shutil.copy(worse / "evaluation" / "metrics.json", numbers)
    compared = write_comparison([worse, run, numbers], tmp_path / "comparison.html", samples=100)
    assert [each.name for each in compared.models] == ["run", "run-2", "numbers"]
    first, second, third = compared.models
    (difference,) = [each for each in second.differences if each.metric == "AP"]
    assert difference.difference == pytest.approx(second.metrics["AP"] - first.metrics["AP"])
    assert difference.difference > 0
    assert not third.differences
    assert third.metrics["AP"] == 0.4
    page = (tmp_path / "comparison.html").read_text()
    assert "Found by run-2, missed by run" in page
    assert "Only metrics are known of numbers: make sure" in page


def test_detections_in_different_data_are_not_compared(run: Path, tmp_path: Path, tiny_data: Path) -> None:
    split = read_split(tiny_data, "train")
    file = tmp_path / "train.json"
    write_detections(file, perfect_detections(split.ground_truth), split.image_ids, split.categories)
    with pytest.raises(DetrLiteError, match="detections in images that"):
        write_comparison([run, file], tmp_path / "comparison.html", truth=tiny_data)


@pytest.mark.slow
def test_a_corrected_copy_is_other_data(run: Path, tmp_path: Path, tiny_data: Path, tiny_config: Any) -> None:
    """Images, ids and categories are the same; a box is not."""
    copy = shutil.copytree(tiny_data, tmp_path / "copy")
    file = copy / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(content))
    config = replace(tiny_config, data=replace(tiny_config.data, root=str(copy)))
    other = make_run(tmp_path / "other", copy, config, 1.0)
    with pytest.raises(DetrLiteError, match=r"different data .*--truth"):
        write_comparison([run, other], tmp_path / "comparison.html", samples=100)
    assert write_comparison([run, other], tmp_path / "comparison.html", tiny_data, samples=100).models[1].differences


@pytest.mark.slow
def test_data_that_have_changed_since_are_noticed(run: Path, own_data: Path, tiny_config: Any, caplog: Any) -> None:
    config = replace(tiny_config, data=replace(tiny_config.data, root=str(own_data)))
    own = make_run(run.parent / "own", own_data, config, 1.0)
    find_results(own)
    assert "have changed since" not in caplog.text
    file = own_data / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        annotation["bbox"][2] *= 2
    file.write_text(json.dumps(content))
    find_results(own, own_data)
    assert "have changed since" not in caplog.text, "the user has named the data"
    find_results(own)
    assert "metrics.json has AP 1.000" in caplog.text
    assert "have changed since" in caplog.text


def test_detections_json_of_another_program(tmp_path: Path) -> None:
    """Without an evaluation's other files beside it the name says nothing: images without ids go by their names."""
    yolo = tmp_path / "yolo"
    names = ("2", "3", "frame")  # which are numbers 1, 2 and 3 here
    for place, name in enumerate(names):
        for split in ("train", "val"):
            save_image(yolo / "images" / split / f"{name}.png")
            (yolo / "labels" / split).mkdir(parents=True, exist_ok=True)
            (yolo / "labels" / split / f"{name}.txt").write_text(f"0 0.5 0.5 0.{place + 2} 0.4\n")
    (yolo / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [plate]\n")
    split = read_split(yolo, "val")
    stems = [Path(path).stem for path in split.images.paths]
    file = tmp_path / "theirs" / "detections.json"
    file.parent.mkdir()
    boxes = {stem: split.ground_truth.boxes_xywh[place].tolist() for place, stem in enumerate(stems)}
    entries = [
        {"image_id": int(stem), "category_id": split.categories[0].id, "bbox": boxes[stem], "score": 0.9}
        for stem in ("3", "2")
    ]
    file.write_text(json.dumps(entries))
    model = find_results(file, yolo).model
    assert model is not None
    assert [stems[image] for image in model.detections.image_index] == ["2", "3"]


@pytest.mark.slow
def test_no_detections_and_no_objects(run: Path, tmp_path: Path, tiny_data: Path) -> None:
    (run / "evaluation" / "detections.json").write_text("[]")
    assert write_report(run).metrics["AP"] == 0
    empty = tmp_path / "empty"
    shutil.copytree(tiny_data, empty)
    file = empty / "annotations" / "instances_val.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(DetrLiteError, match="has no annotations"):
        write_report(run, truth=empty)


@pytest.mark.slow
def test_the_command(run: Path, run_tool: Tool, tmp_path: Path) -> None:
    result = run_tool("report", run, "--output", tmp_path / "page.html")
    assert result.code == 0
    assert "report written to" in result.out
    wrong = run_tool("report", tmp_path / "nothing")
    assert wrong.code == 2
    assert wrong.err.count("\n") == 1
    few = run_tool("report", run, run, "--samples", 5)
    assert few.code == 2
    assert "--samples" in few.err
