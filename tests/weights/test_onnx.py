"""Exported ONNX models answer as torch does, in every place that takes a checkpoint to predict with."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.tiny_families import SQUARE, save_source, tiny_model
from detr_lite import Detector
from detr_lite.build import build_model
from detr_lite.config import Config
from detr_lite.data.transforms import MEAN, STD, ResizeRule
from detr_lite.families.registry import FAMILIES
from detr_lite.runtime import OnnxDetector
from detr_lite.structures import Category, DetrLiteError
from detr_lite.training.evaluate import evaluate_checkpoint
from detr_lite.weights.any_model import load_any_model
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.onnx_export import compare, write_onnx
from detr_lite.weights.onnx_graph import OnnxGraph
from tests.helpers.photos import photo

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def best(finished_run: Path) -> Path:
    return finished_run / "checkpoints" / "best.ckpt"


@pytest.fixture(scope="module")
def exported(best: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported") / "model"
    write_onnx(folder, *load_any_model(best))
    return folder


def pictures() -> list[Image.Image]:
    turned = photo((50, 90))
    turned.getexif()[0x0112] = 8
    return [photo((90, 50)), photo((40, 40)).convert("L"), photo((33, 71)).convert("RGBA"), turned]


def test_the_same_detections_without_torch(best: Path, exported: Path) -> None:
    detector, runtime = Detector.from_checkpoint(best, "cpu"), OnnxDetector(exported / "model.onnx")
    assert runtime.class_names == detector.class_names
    assert runtime.category_ids == tuple(category.id for category in detector.categories)
    assert runtime.best_scores == detector.best_scores
    for image in pictures():
        expected, found = detector(image), runtime(image)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-3)
        clear = expected.scores.numpy() > 0.05
        assert clear.any()
        np.testing.assert_allclose(found.boxes_xyxy[clear], expected.boxes_xyxy[clear], atol=1e-3 * max(image.size))
        np.testing.assert_array_equal(found.labels[clear], expected.labels[clear])


def test_the_same_detections_in_the_detector(best: Path, exported: Path) -> None:
    detector, onnx = (Detector.from_checkpoint(path, "cpu") for path in (best, exported / "model.onnx"))
    for expected, found in zip(detector(pictures()), onnx(pictures()), strict=True):
        torch.testing.assert_close(found.scores, expected.scores, atol=1e-4, rtol=0)
        clear = expected.scores > 0.05
        torch.testing.assert_close(found.boxes_xyxy[clear], expected.boxes_xyxy[clear], atol=0.01, rtol=0)
    assert onnx.best_scores == detector.best_scores
    with pytest.raises(DetrLiteError, match="does not give its attention"):
        onnx.attend(pictures()[0])


def test_the_same_metrics(best: Path, exported: Path, tmp_path: Path) -> None:
    expected = evaluate_checkpoint(best, output=tmp_path / "torch")
    found = evaluate_checkpoint(exported / "model.onnx", output=tmp_path / "onnx")
    assert found.as_dict() == pytest.approx(expected.as_dict(), abs=1e-3)


def test_the_script_needs_nothing_but_its_folder(exported: Path, tmp_path: Path) -> None:
    """Copied elsewhere; -I keeps this checkout off the path."""
    for name in ("model.onnx", "detect.py"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    photo((90, 50)).save(tmp_path / "photo.png")
    words = [sys.executable, "-I", tmp_path / "detect.py", tmp_path / "photo.png", "--threshold", "0.01"]
    result = subprocess.run(
        [*words, "--output", tmp_path / "drawn"], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    (line,) = map(json.loads, result.stdout.splitlines())
    assert line["file"].endswith("photo.png")
    assert {"class", "score", "box"} == set(line["detections"][0])
    assert Image.open(tmp_path / "drawn/photo.png").size == (90, 50)
    metadata = json.loads((exported / "model.json").read_text())
    assert metadata == OnnxDetector(exported / "model.onnx").metadata
    assert [each["name"] for each in metadata["classes"]] == list(OnnxDetector(exported / "model.onnx").class_names)


def test_the_tools_take_it(exported: Path, run_tool: Callable[..., object], tiny_data: Path, tmp_path: Path) -> None:
    photo((90, 50)).save(tmp_path / "photo.png")
    words = ("--checkpoint", exported / "model.onnx", "--source", tmp_path / "photo.png")
    ended = run_tool("predict", *words, "--output", tmp_path / "out", "--threshold", 0.01, "--nms", 0.7)
    assert ended.code == 0, ended
    assert json.loads((tmp_path / "out/detections.json").read_text())["annotations"]
    refused = run_tool("visualize", *words, "--output", tmp_path / "attention")
    assert refused.code == 2
    assert "does not give its attention" in refused.err
    for options in (("--attention",), ("--attribution", 3)):
        words = ("--checkpoint", exported / "model.onnx", "--data.root", tiny_data, *options)
        refused = run_tool("evaluate", *words, "--output", tmp_path / "evaluation")
        assert refused.code == 2
        assert f"{options[0]}: an ONNX model does not give its attention" in refused.err
        assert not (tmp_path / "evaluation").exists()
    refused = run_tool("export", "--checkpoint", exported / "model.onnx", "--output", tmp_path / "again")
    assert refused.code == 2
    assert "give the checkpoint that it was made from" in refused.err


def test_other_weights_are_noticed(best: Path, exported: Path) -> None:
    model, description = load_any_model(best)
    with torch.no_grad():
        model.heads.label[-1].bias.add_(0.5)
    graph = OnnxGraph(model, description, is_float=False).eval()
    with pytest.raises(DetrLiteError, match=r"does not give torch's answers \(1 x 80 x 60: scores 0\."):
        compare((exported / "model.onnx").read_bytes(), graph, [(1, 60, 80)])


@pytest.mark.stress
def test_half_and_int8_say_what_they_cost(best: Path, run_tool: Callable[..., object], tmp_path: Path) -> None:
    ended = run_tool(
        "export", "--checkpoint", best, "--format", "onnx", "--output", tmp_path / "out", "--half", "--int8"
    )
    assert ended.code == 0, ended
    for name, precision in (("model_half.onnx", "float16"), ("model_int8.onnx", "int8")):
        (line,) = [line for line in ended.out.splitlines() if line.startswith(f"{name}: ")]
        assert "of the size, AP " in line
        assert "times as" in line
        assert OnnxDetector(tmp_path / "out" / name).metadata["precision"] == precision
        assert (tmp_path / "out" / name).stat().st_size < (tmp_path / "out/model.onnx").stat().st_size
        assert evaluate_checkpoint(tmp_path / "out" / name, output=tmp_path / name).metrics["AP"] == pytest.approx(
            float(line.split("AP ")[1].split()[0]), abs=6e-4
        )


@pytest.mark.stress
def test_detr_with_a_softmax(tiny_config: Config, tmp_path: Path) -> None:
    sizes = {"name": "detr", "backbone": "resnet18", "strides": (32,)}
    config = replace(tiny_config, model=replace(tiny_config.model, **sizes))
    torch.manual_seed(0)
    model = build_model(config.model, 2).eval()
    description = Description(config, (Category(3, "a"), Category(7, "b")), ResizeRule("longest", 64), MEAN, STD)
    write_onnx(tmp_path / "out", model, description)
    expected, found = Detector(model, description), OnnxDetector(tmp_path / "out/model.onnx")
    for image in pictures():
        np.testing.assert_allclose(found(image).scores, expected(image).scores, atol=1e-3)


@pytest.mark.stress
@pytest.mark.parametrize("family", ["detr", "conditional_detr", "dab_detr"])
def test_families_of_transformers(family: str, tmp_path: Path) -> None:
    source = save_source(tiny_model(family), tmp_path / "source")
    write_onnx(tmp_path / "out", *load_any_model(source))
    detector, runtime = Detector.from_pretrained(source, "cpu"), OnnxDetector(tmp_path / "out/model.onnx")
    for image in pictures():
        np.testing.assert_allclose(runtime(image).scores, detector(image).scores, atol=2e-3)


@pytest.mark.stress
def test_a_family_with_deformable_attention(tmp_path: Path) -> None:
    check_deformable("d_fine", tmp_path)


@pytest.mark.stress
@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.is_deformable])
def test_every_family_with_deformable_attention(family: str, tmp_path: Path) -> None:
    check_deformable(family, tmp_path)


def check_deformable(family: str, folder: Path) -> None:
    """Any number of images of one size."""
    square = {"size": {"height": SQUARE, "width": SQUARE}, "do_pad": False}
    model = tiny_model(family)
    for kernel in (parameter for parameter in model.parameters() if parameter.ndim == 4):
        kernel.data *= 3  # else tokens are alike, and rounding decides which of them become queries
    source = save_source(model, folder / "source", **square)
    write_onnx(folder / "out", *load_any_model(source))
    detector, runtime = Detector.from_pretrained(source, "cpu"), OnnxDetector(folder / "out/model.onnx")
    assert runtime.metadata["input"]["height_width"] == [SQUARE, SQUARE]
    # Not resized: of a random model, the rounding of one pixel may select other queries.
    images = [image.resize((SQUARE, SQUARE)) for image in pictures()]
    for image in images:
        found, expected = runtime(image), detector(image)
        np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
        np.testing.assert_allclose(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-2)


def test_deformable_attention_over_images_of_all_sizes_is_refused_in_one_line(tmp_path: Path) -> None:
    source = save_source(tiny_model("deformable_detr"), tmp_path / "source")
    with pytest.raises(DetrLiteError, match=r"--data\.resize stretch; nothing was written"):
        write_onnx(tmp_path / "out", *load_any_model(source))
    assert not (tmp_path / "out").exists()


def test_wrong_words(best: Path, refusal: Callable[..., str], tmp_path: Path) -> None:
    words = ("export", "--checkpoint", best)
    assert "--half, --int8 and --data.root are of --format onnx" in refusal(
        *words, "--output", tmp_path / "x", "--half"
    )
    onnx = (*words, "--format", "onnx", "--output")
    assert "it is a folder; name one without a suffix" in refusal(*onnx, tmp_path / "model.onnx")
    assert "give one of them" in refusal(*onnx, tmp_path / "x", "--data.root", tmp_path)
    (tmp_path / "model.onnx").write_text("")
    assert "--overwrite" in refusal(*onnx, tmp_path)
    wrong = ("predict", "--source", ".", "--output", tmp_path / "y", "--checkpoint")
    assert "not readable as an ONNX model" in refusal(*wrong, tmp_path / "model.onnx")
    assert "no such checkpoint" in refusal(*wrong, tmp_path / "missing.onnx")
