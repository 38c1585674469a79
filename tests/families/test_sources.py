"""Detectors of transformers in Detector, beside their own image processor and postprocessing."""

import json
import re
import shutil

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from benchmarks.tiny_families import FAMILIES, QUERIES, save_source, tiny_model, tiny_processor
from detr_lite.data.transforms import ResizeRule
from detr_lite.detector import Detector
from detr_lite.structures import DetrLiteError
from detr_lite.weights.checkpoint import load_model, write_checkpoint
from detr_lite.weights.checkpoint_path import is_source
from detr_lite.weights.pretrained_source import label_categories, load_source

pytestmark = pytest.mark.slow

SIZES_WH = ((90, 60), (60, 90), (64, 64), (200, 40), (31, 47))


@pytest.fixture(scope="module")
def images():
    random = np.random.default_rng(0)
    small = [random.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8) for width, height in SIZES_WH]
    return [Image.fromarray(each).resize(size) for each, size in zip(small, SIZES_WH, strict=True)]


@pytest.fixture(scope="module", params=FAMILIES)
def source(request, tmp_path_factory):
    return save_source(tiny_model(request.param), tmp_path_factory.mktemp(request.param))


def expected_detections(folder, image):
    """As the documentation of transformers computes them."""
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    network = transformers.AutoModelForObjectDetection.from_pretrained(folder)
    with torch.no_grad():
        output = network(**processor(images=image, return_tensors="pt"))
    sizes = torch.tensor([[image.height, image.width]])
    (result,) = processor.post_process_object_detection(output, threshold=0.0, target_sizes=sizes)
    order = result["scores"].sort(descending=True, stable=True).indices
    return {name: values[order] for name, values in result.items()}


@pytest.mark.stress
def test_detections_are_those_of_transformers(source, images):
    detector = Detector.from_pretrained(source, "cpu")
    for image, found in zip(images, detector(images), strict=True):
        expected = expected_detections(source, image)
        count = min(len(found), len(expected["scores"]))
        assert count >= QUERIES
        torch.testing.assert_close(found.scores[:count], expected["scores"][:count], atol=1e-4, rtol=0)
        boxes = expected["boxes"].clone()
        boxes[:, 0::2] = boxes[:, 0::2].clamp(0, image.width)
        boxes[:, 1::2] = boxes[:, 1::2].clamp(0, image.height)
        # Scores that are nearly equal may be in another order.
        for box, score, label in zip(found.boxes_xyxy[:10], found.scores, found.labels, strict=False):
            is_alike = ((boxes - box).abs().amax(1) < 0.02) & ((expected["scores"] - score).abs() < 1e-4)
            assert bool((is_alike & (expected["labels"] == label)).any())


@pytest.mark.stress
def test_a_checkpoint_of_it_needs_no_source(source, images, tmp_path):
    model, description = load_source(str(source))
    write_checkpoint(tmp_path / "own.ckpt", model, description)
    loaded, same = load_model(tmp_path / "own.ckpt")
    assert same == description
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    expected = Detector.from_pretrained(source, "cpu")(images[0])
    found = Detector.from_checkpoint(tmp_path / "own.ckpt", "cpu")(images[0])
    # Where tensors lie in memory may change the order of additions.
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=1e-3, rtol=0)


@pytest.fixture
def d_fine(tmp_path):
    return save_source(tiny_model("d_fine"), tmp_path / "d_fine")


def test_what_is_a_source(d_fine, tmp_path):
    assert is_source("hf:ustc-community/dfine-small-coco")
    assert is_source(d_fine)
    assert is_source(str(d_fine))
    assert not is_source(tmp_path)
    assert not is_source(tmp_path / "best.ckpt")


def test_resize_rules_of_transformers():
    random = np.random.default_rng(0)
    rule = ResizeRule("shortest", 48, 80, rounds_shorter=True)
    processor = tiny_processor("detr", do_pad=False)
    for _ in range(60):
        height, width = random.integers(20, 200, 2).tolist()
        image = torch.zeros(3, height, width, dtype=torch.uint8)
        resized = processor(images=image, return_tensors="pt")["pixel_values"]
        assert rule.target_size(height, width) == tuple(resized.shape[-2:]), (height, width)
    assert ResizeRule("stretch", 32).target_size(10, 999) == (32, 32)
    assert ResizeRule("stretch", 32, 64).target_size(10, 999) == (32, 64)
    for each in (rule, ResizeRule("stretch", 32, 16, interpolation="bicubic")):
        assert ResizeRule.from_dict(each.to_dict()) == each


def test_class_names():
    assert [each.name for each in label_categories({0: "N/A", 1: "person", 2: "N/A", 3: "person"})] == [
        *("unused 0", "person", "unused 2", "person (3)")
    ]
    coco = label_categories({label: f"LABEL_{label}" for label in range(91)})
    assert [coco[label].name for label in (0, 1, 12, 90)] == ["unused 0", "person", "unused 12", "toothbrush"]
    assert [each.name for each in label_categories({0: "LABEL_0", 1: "LABEL_1"})] == ["LABEL_0", "LABEL_1"]


def rewrite(folder, file, **changes):
    content = {**json.loads((folder / file).read_text()), **changes}
    (folder / file).write_text(json.dumps(content))


WRONG_SETTINGS = [
    ("config.json", {"auto_map": {"AutoModel": "code.Model"}}, "asks for code of its own (auto_map)"),
    ("config.json", {"model_type": "bert"}, "its model_type 'bert' is none of detr, "),
    ("config.json", {"architectures": ["DFineModel"]}, "it is a DFineModel, not an object detector"),
    (
        "config.json",
        {"id2label": {"0": "a"}, "label2id": {"a": 0}},
        "tensors do not have the shapes of its config.json, such as ",
    ),
    ("config.json", {"id2label": {"1": "a", "2": "b", "3": "c"}}, "names labels 1, 2, 3, not 0, 1, 2"),
    ("preprocessor_config.json", {"do_rescale": False}, "do_rescale is false"),
    ("preprocessor_config.json", {"do_resize": False}, "do_resize is false"),
    ("preprocessor_config.json", {"resample": 1}, "resample 1 is none of"),
    ("preprocessor_config.json", {"size": {"shortest_edge": 30}}, "is no resize rule"),
]


@pytest.mark.parametrize(("file", "changes", "message"), WRONG_SETTINGS)
def test_settings_that_cannot_be_used(file, changes, message, d_fine):
    rewrite(d_fine, file, **changes)
    with pytest.raises(DetrLiteError, match=re.escape(message)) as caught:
        load_source(str(d_fine))
    assert str(caught.value).startswith(str(d_fine))
    assert "\n" not in str(caught.value)


def test_weights_of_half_precision_compute_in_float32(tmp_path, images):
    network = tiny_model("d_fine")
    whole = save_source(network, tmp_path / "whole")
    half = save_source(network.half(), tmp_path / "half")
    expected, found = (Detector.from_pretrained(folder, "cpu")(images[0]) for folder in (whole, half))
    assert found.scores.dtype == torch.float32
    torch.testing.assert_close(found.scores[:5], expected.scores[:5], atol=0.02, rtol=0)


def test_a_shorter_side_without_smoothing(tmp_path, images):
    """The only sign of it is the class of the image processor."""
    folder = save_source(tiny_model("rf_detr"), tmp_path / "rf_detr", size={"shortest_edge": 48, "longest_edge": 80})
    assert load_source(str(folder))[1].resize == ResizeRule("shortest", 48, 80, rounds_shorter=True, antialias=False)


def test_weights_that_cannot_be_used(d_fine):
    weights = d_fine / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DetrLiteError, match="could not be loaded"):
        load_source(str(d_fine))
    weights.unlink()
    torch.save({"model": Detector}, d_fine / "pytorch_model.bin")
    with pytest.raises(DetrLiteError, match="could not be loaded"):
        load_source(str(d_fine))


def test_missing_weights_are_refused(d_fine, tmp_path):
    other = save_source(tiny_model("d_fine", decoder_layers=2), tmp_path / "two_layers")
    shutil.copy(other / "model.safetensors", d_fine)
    with pytest.raises(DetrLiteError, match=r"its weights lack \d+ of the model's tensors, such as"):
        load_source(str(d_fine))


def test_names_that_cannot_be_found(tmp_path, monkeypatch):
    with pytest.raises(DetrLiteError, match="no such folder, and not a name on the hub"):
        load_source(str(tmp_path / "missing"))
    monkeypatch.setattr("transformers.PreTrainedConfig.get_config_dict", offline)
    with pytest.raises(
        DetrLiteError, match=r"^hf:nobody/nothing could not be loaded \(no network\); check the name on"
    ):
        load_source("nobody/nothing")


def offline(*args, **kwargs):
    raise OSError("no network")


def test_without_transformers_the_extra_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DetrLiteError, match=r"^transformers is not installed.*\[transformers\]"):
        load_source("somebody/something")


def test_the_logging_of_transformers_is_left_as_it_was(d_fine, capfd):
    from transformers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()
    load_source(str(d_fine))
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before
    assert capfd.readouterr() == ("", "")
