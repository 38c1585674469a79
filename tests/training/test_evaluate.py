"""Evaluation of a checkpoint, on the dataset it was trained on and on others."""

import contextlib
import csv
import io
import json
import math
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_convert, generalized_box_iou

from detr_lite.build import build_model, build_resize
from detr_lite.config import Config
from detr_lite.data.reading import read_split
from detr_lite.evaluation.coco_map import METRICS
from detr_lite.model.detr import Detr
from detr_lite.structures import Detections, DetrOutput
from detr_lite.training import evaluate
from detr_lite.training.state.run_files import run_of
from detr_lite.weights.checkpoint import Description, write_checkpoint
from tests.helpers.run_files import rows_of

FILES = ["detections.json", "metrics.json", "per_class.csv", "pr_curves.png", "thresholds.json"]


def stats_of(annotations: Path, detections: Path) -> list[float]:
    """pycocotools by itself."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(annotations))
        evaluation = COCOeval(truth, truth.loadRes(str(detections)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


@pytest.fixture
def checkpoint(finished_run: Path, tmp_path: Path) -> Path:
    """A copy of the best checkpoint in a run folder of its own."""
    path = tmp_path / "run" / "checkpoints" / "best.ckpt"
    path.parent.mkdir(parents=True)
    return shutil.copy(finished_run / "checkpoints" / "best.ckpt", path)


@pytest.mark.slow
def test_the_tool_repeats_the_metrics_of_the_run(
    run_tool: Callable[..., Any], finished_run: Path, checkpoint: Path
) -> None:
    ended = run_tool("evaluate", "--checkpoint", checkpoint, "--num_workers", 0)
    assert ended.code == 0, ended.err
    folder = checkpoint.parents[1] / "evaluation"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    written = json.loads((folder / "metrics.json").read_text())
    at_the_end = json.loads((finished_run / "evaluation" / "metrics.json").read_text())
    assert written == pytest.approx(at_the_end, abs=1e-6)
    for name in METRICS:
        assert f"\n{name:<6}" in ended.out
    assert str(folder) in ended.out


def test_the_final_evaluation_shows_the_number_that_the_run_logged_for_its_best_checkpoint(finished_run: Path) -> None:
    """To the last digit: on the same hardware in 32 bits nothing differs."""
    logged = [float(row["AP"]) for row in rows_of(finished_run) if row["AP"]]
    assert max(logged) > 0
    assert json.loads((finished_run / "evaluation" / "metrics.json").read_text())["AP"] == max(logged)


@pytest.mark.slow
def test_nms_and_other_thresholds_of_iou(
    run_tool: Callable[..., Any], refusal: Callable[..., str], checkpoint: Path, tmp_path: Path
) -> None:
    words = ("evaluate", "--checkpoint", checkpoint, "--num_workers", 0)
    plain, fewer = tmp_path / "plain", tmp_path / "fewer"
    assert run_tool(*words, "--output", plain).code == 0
    ended = run_tool(*words, "--output", fewer, "--iou", 0.33, 0.5, "--nms", 0.5)
    assert ended.code == 0, ended.err
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (plain, fewer))
    assert list(before) == list(METRICS), "nothing else unless it is asked for"
    assert list(after) == [*METRICS, "AP_at_iou", "nms"]
    assert list(after["AP_at_iou"]) == ["0.33", "0.5"]
    assert after["AP_at_iou"]["0.5"] == after["AP50"]
    assert after["AP_at_iou"]["0.33"] >= after["AP50"]
    assert after["nms"] == 0.5
    assert "\nAP33  " in ended.out
    rows = list(csv.DictReader((fewer / "per_class.csv").read_text().splitlines()))
    assert {"AP33", "AP50", "AP100"} & set(rows[0]) == {"AP33", "AP50"}
    counts = [len(json.loads((folder / "detections.json").read_text())) for folder in (plain, fewer)]
    assert counts[1] < counts[0]

    assert "--iou is 33.0" in refusal(*words, "--output", tmp_path / "no", "--iou", 33)
    assert "--nms is 7.0" in refusal(*words, "--output", tmp_path / "no", "--nms", 7)
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"tf32": True}, "multiplied matrices in TF32, and this evaluation in full float32"),
        ({"device": "cuda"}, "ran on cuda, and this evaluation on cpu"),
        ({}, "added up floating-point numbers in another order"),
        (
            {"tf32": True, "device": "mps"},
            "multiplied matrices in TF32, and this evaluation in full float32 "
            "and ran on mps, and this evaluation on cpu",
        ),
    ],
)
def test_another_number_than_the_logged_one_is_explained(changes: dict[str, Any], reason: str) -> None:
    logged = replace(evaluate.LoggedAP(AP=0.4312, tf32=False, device="cpu"), **changes)
    cpu = torch.device("cpu")
    assert logged.explain_difference(0.4308, cpu) is None  # shown as 0.431 both
    assert logged.explain_difference(0.4321, cpu) == (
        f"training logged AP 0.431 for this checkpoint, not 0.432: it {reason}"
    )


@pytest.mark.stress
def test_the_line_follows_the_metrics(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    same = evaluate.evaluate_checkpoint(checkpoint, output=tmp_path / "out", num_workers=0)
    for AP, count in ((same.metrics["AP"], 0), (same.metrics["AP"] - 0.1, 1)):  # noqa: N806
        logged = evaluate.LoggedAP(AP, False, "cpu")
        capsys.readouterr()
        evaluate.evaluate_checkpoint(checkpoint, output=tmp_path / "out", num_workers=0, logged=logged)
        assert capsys.readouterr().out.count("training logged AP") == count


@pytest.mark.slow
def test_noisy_detections_get_the_metrics_of_pycocotools(
    checkpoint: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the last digit, with values that are neither 0 nor 1."""
    random = torch.Generator().manual_seed(1)

    def detect(*_: Any) -> dict[int, Detections]:
        found = {}
        for image in read_split(tiny_data, "train").images:
            boxes_xyxy = torch.tensor(image.boxes_xyxy).repeat(2, 1)
            boxes_xyxy += 2.5 * torch.randn(boxes_xyxy.shape, generator=random)
            labels = torch.tensor(image.labels).repeat(2)
            labels[len(image.labels) :] = torch.randint(0, 3, (len(image.labels),), generator=random)
            scores = torch.rand(len(labels), generator=random)
            found[image.index] = Detections(boxes_xyxy, scores, labels, torch.zeros_like(labels))
        return found

    monkeypatch.setattr(evaluate, "detect", detect)
    evaluation = evaluate.evaluate_checkpoint(checkpoint, split="train", output=tmp_path / "out", num_workers=0)
    written = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert list(written.values()) == stats_of(
        tiny_data / "annotations/instances_train.json", tmp_path / "out" / "detections.json"
    )
    assert 0.02 < written["AP"] < 0.98
    assert written == evaluation.metrics


def test_detections_have_the_data_sets_own_ids_and_pixels(finished_run: Path, tiny_data: Path) -> None:
    results = json.loads((finished_run / "evaluation" / "detections.json").read_text())
    assert {result["category_id"] for result in results} <= {3, 7, 90}
    val = read_split(tiny_data, "val")
    sizes = dict(zip(val.image_ids, val.images.sizes_wh.tolist(), strict=True))
    assert {result["image_id"] for result in results} == set(sizes)
    for result in results:
        x, y, width, height = result["bbox"]
        limits = sizes[result["image_id"]]
        assert 0 <= x <= x + width <= limits[0] + 0.01
        assert 0 <= y <= y + height <= limits[1] + 0.01
        assert 0 <= result["score"] <= 1
    widest = max(results, key=lambda result: result["bbox"][0] + result["bbox"][2])
    assert widest["bbox"][0] + widest["bbox"][2] > 64  # the model saw at most 64 pixels


def test_per_class_rows_name_the_categories(finished_run: Path) -> None:
    with (finished_run / "evaluation" / "per_class.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["category_id"], row["category"], row["objects"]) for row in rows] == [
        ("3", "blue thing", "2"), ("7", "red thing", "2"), ("90", "green thing", "1")]  # fmt: skip
    written = json.loads((finished_run / "evaluation" / "metrics.json").read_text())
    assert sum(float(row["AP"]) for row in rows) / 3 == pytest.approx(written["AP"])


def renumber(content: dict[str, Any]) -> None:
    """Other ids, in another order."""
    ids = {3: 50, 7: 1, 90: 2}
    for category in content["categories"]:
        category["id"] = ids[category["id"]]
    for annotation in content["annotations"]:
        annotation["category_id"] = ids[annotation["category_id"]]


@pytest.mark.slow
def test_other_ids_for_the_same_names_make_no_difference(
    checkpoint: Path, edit_annotations: Callable[..., Path], tiny_data: Path, tmp_path: Path
) -> None:
    root = edit_annotations("val", renumber)
    same = evaluate.evaluate_checkpoint(checkpoint, output=tmp_path / "same", num_workers=0)
    other = evaluate.evaluate_checkpoint(checkpoint, root=root, output=tmp_path / "other", num_workers=0)
    assert other.metrics == pytest.approx(same.metrics)
    assert {row["category_id"] for row in json.loads((tmp_path / "other/detections.json").read_text())} <= {50, 1, 2}


@pytest.mark.slow
def test_faults_of_the_data_are_told(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def turn_round(content: dict[str, Any]) -> None:
        x, y, width, height = content["annotations"][0]["bbox"]
        content["annotations"][0]["bbox"] = [x + width, y + height, -width, -height]

    same = evaluate.evaluate_checkpoint(checkpoint, output=tmp_path / "same", num_workers=0)
    root = edit_annotations("val", turn_round)
    capsys.readouterr()
    turned = evaluate.evaluate_checkpoint(checkpoint, root=root, output=tmp_path / "out", num_workers=0)
    assert turned.metrics == same.metrics
    (line,) = (line for line in capsys.readouterr().out.splitlines() if "annotation 1" in line)
    assert line.startswith("annotations/instances_val.json: ")


@pytest.mark.slow
def test_categories_that_the_data_lack_are_left_out(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path
) -> None:
    def drop(content: dict[str, Any]) -> None:
        content["categories"] = [category for category in content["categories"] if category["id"] != 7]
        content["annotations"] = [entry for entry in content["annotations"] if entry["category_id"] != 7]

    root = edit_annotations("val", drop)
    evaluation = evaluate.evaluate_checkpoint(checkpoint, root=root, output=tmp_path / "out", num_workers=0)
    assert [result.category.id for result in evaluation.per_class] == [3, 90]
    assert {row["category_id"] for row in json.loads((tmp_path / "out/detections.json").read_text())} <= {3, 90}


def test_the_reason_for_an_ap_of_zero_is_reported(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(evaluate, "detect", lambda *_: {})
    evaluation = evaluate.evaluate_checkpoint(checkpoint, output=tmp_path / "out", num_workers=0)
    assert evaluation.metrics["AP"] == 0
    assert "AP is 0 because there is not a single detection" in capsys.readouterr().out
    assert json.loads((tmp_path / "out/detections.json").read_text()) == []


@pytest.mark.slow
def test_without_annotations_only_the_detections_are_written(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a challenge's test data have none; numbers of an earlier evaluation would be taken for theirs."""
    evaluate.evaluate_checkpoint(checkpoint, output=tmp_path / "out", num_workers=0)
    expected = (tmp_path / "out/detections.json").read_bytes()
    root = edit_annotations("val", lambda content: content["annotations"].clear())
    capsys.readouterr()
    evaluation = evaluate.evaluate_checkpoint(checkpoint, root=root, output=tmp_path / "out", num_workers=0)
    assert evaluation.metrics["AP"] == -1
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["detections.json"]
    assert (tmp_path / "out/detections.json").read_bytes() == expected
    lines = capsys.readouterr().out.splitlines()
    assert (
        "annotations/instances_val.json has no annotations, so there is nothing to compare the detections with: no "
        "metrics" in lines
    )
    assert not any(line.startswith("AP") for line in lines)


@pytest.mark.slow
def test_crowd_regions_alone_give_no_number(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path
) -> None:
    def keep_crowds(content: dict[str, Any]) -> None:
        content["annotations"] = [entry for entry in content["annotations"] if entry["iscrowd"]]

    root = edit_annotations("val", keep_crowds)
    evaluation = evaluate.evaluate_checkpoint(checkpoint, root=root, output=tmp_path / "out", num_workers=0)
    assert set(json.loads((tmp_path / "out/metrics.json").read_text()).values()) == {-1.0}
    assert evaluation.missing_reason() is not None


def add_class(content: dict[str, Any], **annotation: Any) -> None:
    """A class that the model does not know, and an annotation of it if one is given."""
    content["categories"].append({"id": 8, "name": "yellow thing"})
    if annotation:
        box = {"bbox": [2, 3, 10, 12], "area": 120, "iscrowd": 0}
        content["annotations"].append({**box, "id": 99, "image_id": 11, "category_id": 8, **annotation})


@pytest.mark.stress
@pytest.mark.parametrize("annotation", [{}, {"iscrowd": 1}])
def test_a_class_without_objects_that_the_model_does_not_know_makes_no_difference(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path, annotation: dict[str, Any]
) -> None:
    same = evaluate.evaluate_checkpoint(checkpoint, output=tmp_path / "same", num_workers=0)
    root = edit_annotations("val", lambda content: add_class(content, **annotation))
    evaluation = evaluate.evaluate_checkpoint(checkpoint, root=root, output=tmp_path / "out", num_workers=0)
    assert evaluation.metrics == same.metrics
    (unknown,) = (result for result in evaluation.per_class if result.category.name == "yellow thing")
    assert (unknown.objects, unknown.AP) == (0, -1)
    for name in ("same", "out"):
        attention_of(checkpoint, tmp_path / name, root=root)


def test_objects_of_a_class_that_the_model_does_not_know_are_refused(
    refusal: Callable[..., str], checkpoint: Path, edit_annotations: Callable[..., Path]
) -> None:
    root = edit_annotations("val", lambda content: add_class(content, iscrowd=0))
    message = refusal("evaluate", "--checkpoint", checkpoint, "--data.root", root)
    assert "has objects of yellow thing, for which the model was not trained; it knows" in message


@pytest.mark.slow
def test_both_engines_give_the_same_files(run_tool: Callable[..., Any], checkpoint: Path, tmp_path: Path) -> None:
    for engine in ("hotcoco", "pycocotools"):
        words = ("--checkpoint", checkpoint, "--num_workers", 0, "--engine", engine, "--output", tmp_path / engine)
        assert run_tool("evaluate", *words).code == 0
    for name in ("metrics.json", "per_class.csv", "detections.json"):
        assert (tmp_path / "hotcoco" / name).read_bytes() == (tmp_path / "pycocotools" / name).read_bytes()


@pytest.mark.slow
def test_more_than_100_objects_in_an_image_may_all_be_found(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit on detections follows the data, and AP without COCO's limit stands beside the metrics."""

    def fill(content: dict[str, Any]) -> None:
        for number in range(150):
            box = [number % 15 * 2, number // 15 * 2, 2, 2]
            entry = {"id": 1000 + number, "image_id": 11, "category_id": 7, "bbox": box, "area": 4, "iscrowd": 0}
            content["annotations"].append(entry)

    limits = []
    detect = evaluate.detect

    def remember(model: Any, postprocess: Any, *others: Any) -> dict[int, Detections]:
        limits.append(postprocess.max_detections)
        return detect(model, postprocess, *others)

    monkeypatch.setattr(evaluate, "detect", remember)
    root = edit_annotations("val", fill)
    evaluation = evaluate.evaluate_checkpoint(checkpoint, root=root, output=tmp_path / "out", num_workers=0)
    written = json.loads((tmp_path / "out/metrics.json").read_text())
    assert limits == [150]
    assert written == evaluation.as_dict()
    assert written["max_detections"] == 150
    assert "APmax" in written


@pytest.mark.parametrize(("option", "value", "least"), [("--num_workers", -1, 0), ("--batch_size", 0, 1)])
def test_wrong_numbers_are_refused_by_the_name_of_the_option(
    refusal: Callable[..., str], checkpoint: Path, option: str, value: int, least: int
) -> None:
    message = refusal("evaluate", "--checkpoint", checkpoint, option, value)
    assert message == f"{option} is {value}; it must be at least {least}"


def test_the_run_folder_of_a_checkpoint(tmp_path: Path) -> None:
    assert run_of(tmp_path / "runs/x/checkpoints/best.ckpt") == tmp_path / "runs/x"
    assert run_of(tmp_path / "somewhere/best.ckpt") == tmp_path / "somewhere"


ATTENTION_FILES = sorted([*FILES, "attention.json", "attention.png"])


def attention_of(
    checkpoint: Path, output: Path, files: Sequence[str] = ATTENTION_FILES, **options: Any
) -> dict[str, Any]:
    """The content of attention.json."""
    evaluate.evaluate_checkpoint(checkpoint, output=output, num_workers=0, attention=True, **options)
    assert sorted(path.name for path in output.iterdir()) == [*files]
    return json.loads((output / "attention.json").read_text())


@pytest.mark.slow
def test_attention_is_measured_layer_by_layer_and_reported(
    run_tool: Callable[..., Any], checkpoint: Path, tmp_path: Path
) -> None:
    ended = run_tool(
        "evaluate", "--checkpoint", checkpoint, "--num_workers", 0, "--attention", "--output", tmp_path / "out"
    )
    assert ended.code == 0, ended.err
    content = json.loads((tmp_path / "out" / "attention.json").read_text())
    assert (content["objects"], content["collapse"]) == (5, None)
    assert [(layer["layer"], len(layer["heads"])) for layer in content["layers"]] == [(0, 2), (1, 2)]
    last = content["layers"][-1]["mean_of_heads"]
    assert last["inside"] == pytest.approx(sum(head["inside"] for head in content["layers"][-1]["heads"]) / 2)
    assert (
        f"in the last layer {last['inside']:.1%} of the attention lies inside the true box, which covers "
        f"{content['box_area']:.1%} of the image" in ended.out
    )
    assert "warning" not in ended.out


@pytest.mark.stress
def test_attention_metrics_are_those_of_each_image_on_its_own(
    checkpoint: Path, tiny_data: Path, tmp_path: Path
) -> None:
    """Computed independently: `Detector.explain`, brute-force matching, and sums over the covered parts of tokens."""
    content = attention_of(checkpoint, tmp_path / "out")
    detector = evaluate.Detector.from_checkpoint(checkpoint, "cpu")
    shares, areas = [], []
    for record in read_split(tiny_data, "val").images:
        explained = detector.explain(str(record.path))
        maps, best = explained.attention, {}
        for box, score, label, query in zip(
            *(getattr(explained.detections, name).tolist() for name in ("boxes_xyxy", "scores", "labels", "queries")),
            strict=True,
        ):
            best.setdefault(query, {"box": box, "scores": {}})["scores"][label] = score
        for place, query in enumerate(_matched(best, record)):
            weights = maps.cross[-1, 0, :, query].mean(0)
            (height, width), span = maps.grids[0], maps.spans[0, 0].tolist()
            x0, y0, x1, y1 = record.boxes_xyxy[place].tolist()
            left, right, top, bottom = (value * scale for value, scale in (
                (x0 / record.width, span[0]), (x1 / record.width, span[0]),
                (y0 / record.height, span[1]), (y1 / record.height, span[1])))  # fmt: skip
            share = 0.0
            for row in range(height):
                for column in range(width):
                    size = (min(column + 1, span[0]) - column, min(row + 1, span[1]) - row)
                    inside = (min(column + 1, right) - max(column, left), min(row + 1, bottom) - max(row, top))
                    if min(*size, *inside) > 0:
                        part = inside[0] * inside[1] / (size[0] * size[1])
                        share += min(part, 1.0) * weights[row * width + column].item()
            shares.append(share)
            areas.append((x1 - x0) * (y1 - y0) / record.width / record.height)
    assert content["layers"][-1]["mean_of_heads"]["inside"] == pytest.approx(sum(shares) / len(shares), abs=1e-4)
    assert content["box_area"] == pytest.approx(sum(areas) / len(areas), abs=1e-6)


def _matched(best: dict[int, Any], record: Any) -> tuple[int, ...]:
    """The query of each object in the cheapest assignment, with the costs of `lite` written out."""
    size = torch.tensor([record.width, record.height] * 2)

    def cost(query: int, place: int) -> float:
        box, truth = torch.tensor([best[query]["box"]]) / size, torch.from_numpy(record.boxes_xyxy[[place]]) / size
        score = best[query]["scores"][int(record.labels[place])]
        focal = 0.25 * (1 - score) ** 2 * -math.log(score) - 0.75 * score**2 * -math.log(1 - score)
        distance = (box_convert(box, "xyxy", "cxcywh") - box_convert(truth, "xyxy", "cxcywh")).abs().sum().item()
        return 2 * focal + 5 * distance + 2 * (1 - generalized_box_iou(box, truth).item())

    return min(
        permutations(best, len(record.labels)),
        key=lambda queries: sum(cost(query, place) for place, query in enumerate(queries)),
    )


@pytest.mark.stress
def test_attention_is_matched_by_category_name(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path
) -> None:
    """With other ids the categories, and so the labels, are in another order."""
    same = attention_of(checkpoint, tmp_path / "same")
    other = attention_of(checkpoint, tmp_path / "other", root=edit_annotations("val", renumber))
    assert other["layers"][-1]["mean_of_heads"] == pytest.approx(same["layers"][-1]["mean_of_heads"])


@pytest.mark.slow
def test_attention_where_there_are_no_objects(
    checkpoint: Path, edit_annotations: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = edit_annotations("val", lambda content: content["annotations"].clear())
    files = ("attention.json", "attention.png", "detections.json")
    content = attention_of(checkpoint, tmp_path / "out", files, root=root)
    assert content["objects"] == 0
    assert content["layers"][-1]["mean_of_heads"]["inside"] is None
    assert "warning: attention was not measured, as there are no objects in these images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("predictions", "all queries of an image give the same box"),
        ("attention", "all queries of an image attend to the same places (in 99.6% of their attention)"),
    ],
)
@pytest.mark.slow
def test_a_collapsed_model_is_reported(
    checkpoint: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    expected: str,
) -> None:
    """Queries are alike in their predictions, or only in their attention."""
    forward = Detr.forward

    def collapsed(model: Detr, *words: Any, **options: Any) -> DetrOutput:
        output = forward(model, *words, **options)
        if kind == "predictions":
            boxes_cxcywh = output.boxes_cxcywh[:, :, :1].expand_as(output.boxes_cxcywh) * 0 + 0.01
            return replace(output, boxes_cxcywh=boxes_cxcywh)
        if output.attention is None:
            return output
        cross = torch.full_like(output.attention.cross, 1 / output.attention.cross.shape[-1])
        cross[:, :, :, 0, 0] += 0.03  # of six queries one differs a little
        return replace(output, attention=replace(output.attention, cross=cross))

    monkeypatch.setattr(Detr, "forward", collapsed)
    written = attention_of(checkpoint, tmp_path / "out")
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("warning: all queries"))
    assert line == f"warning: {written['collapse']}"
    assert written["collapse"].startswith(f"{expected}; the model has collapsed")
    assert "--optim.lr from 0.004" in line
    assert "--overfit_check" in line


@pytest.mark.stress
def test_attention_of_a_model_with_an_unknown_learning_rate(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with imported weights."""
    content = torch.load(checkpoint, weights_only=True)
    content["detr_lite"]["config"]["optim"].update(lr=None, optimizer=None)
    torch.save(content, checkpoint)
    assert attention_of(checkpoint, tmp_path / "sound")["collapse"] is None
    monkeypatch.setattr(evaluate, "find_attention_collapse", lambda *_: "all alike")
    expected = f"all alike; {evaluate.collapse_advice(None)}"
    assert attention_of(checkpoint, tmp_path / "collapsed")["collapse"] == expected


@pytest.mark.parametrize("queries", [1, 6])
@pytest.mark.slow
def test_attention_of_a_detr_model(tiny_config: Config, tmp_path: Path, queries: int) -> None:
    """With one query, one of an image's two objects is not matched."""
    config = replace(
        tiny_config, model=replace(tiny_config.model, name="detr", num_queries=queries, strides=(32,), decoder_layers=1)
    )
    description = Description(config, read_split(Path(config.data.root), "val").categories, build_resize(config.data),
                              (0.5, 0.5, 0.5), (0.2, 0.2, 0.2))  # fmt: skip
    torch.manual_seed(0)
    write_checkpoint(tmp_path / "original.ckpt", build_model(config.model, 3), description)
    content = attention_of(tmp_path / "original.ckpt", tmp_path / "out")
    assert content["objects"] == (4 if queries == 1 else 5)
    assert len(content["layers"]) == 1
    assert 0 < content["layers"][0]["mean_of_heads"]["inside"] < 1
