"""The detector: every form of image, alone and in lists, from a checkpoint alone."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import detr_lite
from detr_lite.build import build_model, build_postprocess, build_resize
from detr_lite.config import Config
from detr_lite.data.collate import collate
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.reading import read_split
from detr_lite.data.transforms import MEAN, STD
from detr_lite.detector import Detector, choose_device
from detr_lite.structures import AttentionMaps, Category, Detections, DetrLiteError
from detr_lite.weights.checkpoint import Description
from detr_lite.weights.score_thresholds import ScoreThresholds
from tests.helpers.waiting import PATIENCE

CATEGORIES = (Category(3, "blue thing"), Category(7, "red thing"), Category(90, "green thing"))


@pytest.fixture(scope="module")
def make_detector(tiny_config: Config) -> Callable[..., Detector]:
    """A detector with random weights and the tiny settings, with the given changes."""

    def make(**model_settings: Any) -> Detector:
        config = replace(tiny_config, model=replace(tiny_config.model, **model_settings))
        torch.manual_seed(0)
        model = build_model(config.model, len(CATEGORIES))
        return Detector(model, Description(config, CATEGORIES, build_resize(config.data), MEAN, STD))

    return make


@pytest.fixture(scope="module")
def detector(make_detector: Callable[..., Detector]) -> Detector:
    return make_detector()


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def assert_same(found: Detections, expected: Detections, tolerance: float = 0.0) -> None:
    torch.testing.assert_close(found.scores, expected.scores, atol=tolerance, rtol=0)
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy, atol=100 * tolerance, rtol=0)
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.queries.tolist() == expected.queries.tolist()


def test_thresholds_of_the_checkpoint(detector: Detector, photo: np.ndarray) -> None:
    assert detector.thresholds is None
    with pytest.raises(DetrLiteError, match=r"no score thresholds.*evaluation/thresholds\.json"):
        _ = detector.best_scores
    every = detector(photo)
    scores = (1.0, float(every.scores.median()), 0.0)
    described = replace(detector.description, thresholds=ScoreThresholds(0.5, scores))
    own = Detector(detector.model, described)
    assert own.thresholds == dict(zip(("blue thing", "red thing", "green thing"), scores, strict=True))
    found = own(photo).above(own.best_scores)
    columns = (every.queries.tolist(), every.scores.tolist(), every.labels.tolist())
    expected = [query for query, score, label in zip(*columns, strict=True) if score >= scores[label]]
    assert found.queries.tolist() == expected
    assert 0 < len(found) < len(every)


def test_the_package_exports_the_detector() -> None:
    assert detr_lite.Detector is Detector
    with pytest.raises(AttributeError, match="module 'detr_lite' has no attribute 'Detectr'"):
        detr_lite.Detectr  # noqa: B018


@pytest.mark.parametrize("name", ["lite", "detr"])
@pytest.mark.slow
def test_it_detects_what_model_and_postprocess_give(
    make_detector: Callable[..., Detector], tiny_data: Path, name: str
) -> None:
    """The reference is what evaluation does."""
    detector = make_detector(name=name)
    images = DetectionDataset(read_split(tiny_data, "val"), detector.transform)
    postprocess = build_postprocess(detector.description.config.model, detector.class_names)
    for index, record in enumerate(images.images):
        (expected,) = postprocess(detector.model(collate([images[index]])), [(record.height, record.width)])
        found = detector(record.path)
        assert_same(found, expected, tolerance=1e-6)  # with gradients another kernel sums the bias between queries
        assert found.class_names == ("blue thing", "red thing", "green thing")
        assert (found.boxes_xyxy[:, 2:] <= torch.tensor([record.width, record.height])).all()


@pytest.mark.slow
def test_every_form_of_an_image_gives_the_same(detector: Detector, photo: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.png"
    Image.fromarray(photo).save(path)
    tensor = torch.from_numpy(photo).permute(2, 0, 1)
    forms = [path, str(path), Image.fromarray(photo), photo, photo / 255, photo.astype(np.uint16) * 257]
    forms += [tensor, tensor / 255]
    found = detector(forms, batch_size=3)
    assert len(found) == len(forms)
    for one in found:
        assert_same(one, detector(photo), tolerance=1e-5)


def test_boxes_are_in_the_upright_images_pixels(detector: Detector, photo: np.ndarray, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "turned.png", exif=exif)
    assert_same(detector(tmp_path / "turned.png"), detector(np.rot90(photo, k=-1)))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 100])
@pytest.mark.slow
def test_a_list_gives_the_same_as_one_by_one(detector: Detector, batch_size: int) -> None:
    """Also for different sizes, where padding to a common size would make a difference."""
    random = np.random.default_rng(1)
    sizes = [(64, 48), (48, 64), (64, 48), (100, 30), (48, 64), (20, 30), (64, 48)]
    images = [random.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]
    for found, image in zip(detector(images, batch_size), images, strict=True):
        assert_same(found, detector(image), tolerance=1e-5)
    assert_same(detector(tuple(images), batch_size)[3], detector(images[3]), tolerance=1e-5)


def test_an_empty_list(detector: Detector) -> None:
    assert detector([]) == []


@pytest.mark.parametrize("size", [(300, 1), (1, 300), (17, 17), (6000, 4000)])
def test_unusual_sizes(detector: Detector, size: tuple[int, int]) -> None:
    found = detector(Image.new("RGB", size))
    assert torch.isfinite(found.boxes_xyxy).all()
    assert (found.boxes_xyxy <= torch.tensor([*size, *size])).all()


def test_detections_may_be_changed_in_place(detector: Detector, photo: np.ndarray) -> None:
    found = detector(photo)
    found.boxes_xyxy[:, 0] += 1
    assert not found.scores.requires_grad


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (7, "int is not an image: give a path, a Pillow image"),
        ("nowhere.jpg", "nowhere.jpg: no such file"),
        ([np.zeros((4, 4)), "nowhere.jpg"], r"images\[1\]: nowhere.jpg: no such file"),
        ([np.zeros((4, 4))] * 3 + [[np.zeros((4, 4))]], r"images\[3\]: list is not an image"),
        ((path for path in "ab"), "generator is not an image"),
    ],
)
def test_what_is_not_an_image(detector: Detector, given: Any, message: str) -> None:
    with pytest.raises(DetrLiteError, match=rf"^{message}"):
        detector(given, batch_size=2)


@pytest.mark.parametrize("batch_size", [0, -1])
def test_an_invalid_batch_size(detector: Detector, batch_size: int) -> None:
    with pytest.raises(DetrLiteError, match=f"batch_size is {batch_size}; it must be at least 1"):
        detector([], batch_size)


@pytest.mark.parametrize("settings", [{}, {"name": "detr", "decoder_layers": 2}, {"strides": (8, 16)}])
def test_attention_is_from_the_pass_of_the_detections(
    make_detector: Callable[..., Detector], photo: np.ndarray, settings: dict[str, Any]
) -> None:
    detector = make_detector(**settings)
    explained = detector.explain(photo)
    assert_same(explained.detections, detector(photo), tolerance=1e-5)
    maps = detector.attend(Image.fromarray(photo))
    assert isinstance(maps, AttentionMaps)
    layers, batch, heads, queries, tokens = maps.cross.shape
    assert (layers, batch, heads, queries) == (settings.get("decoder_layers", 2), 1, 2, 6)
    assert tokens == sum(height * width for height, width in maps.grids)
    torch.testing.assert_close(maps.cross.sum(-1), torch.ones(layers, 1, 2, 6))
    torch.testing.assert_close(maps.cross, explained.attention.cross)
    assert not maps.cross.requires_grad


@pytest.mark.parametrize("name", ["cuda", "cuda:99", "gpu", "meta", ""])
def test_a_device_that_is_not_available(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if name == "cuda" and torch.cuda.device_count():
        pytest.skip("there is one")
    with pytest.raises(DetrLiteError, match=f'device "{name}" cannot be used here .* give "auto" or "cpu"') as error:
        choose_device(name)
    assert "\n" not in str(error.value)
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_gives_the_same(make_detector: Callable[..., Detector], photo: np.ndarray) -> None:
    there, here = make_detector(), make_detector()
    there = Detector(there.model, there.description, choose_device("auto"))
    assert there.device.type == "cuda"
    found, expected = there(photo), here(photo)
    assert found.boxes_xyxy.device.type == there.attend(photo).cross.device.type == "cpu"
    torch.testing.assert_close(found.scores, expected.scores, atol=1e-2, rtol=0)


def test_what_is_not_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match=r"none\.ckpt: no such checkpoint"):
        Detector.from_checkpoint(tmp_path / "none.ckpt")
    (tmp_path / "some.ckpt").write_text("text")
    with pytest.raises(DetrLiteError, match=r"some\.ckpt: not a checkpoint"):
        Detector.from_checkpoint(str(tmp_path / "some.ckpt"))


def test_a_subclass_is_loaded_as_itself(finished_run: Path) -> None:
    class Counter(Detector):
        def count(self, image: Any) -> int:
            return len(self(image).above(0.5))

    counter = Counter.from_checkpoint(finished_run / "checkpoints" / "best.ckpt", "cpu")
    assert type(counter) is Counter
    assert counter.count(np.zeros((40, 40, 3), dtype=np.uint8)) >= 0


@pytest.mark.stress
def test_a_checkpoint_alone_is_enough_in_any_folder(finished_run: Path, tiny_data: Path, tmp_path: Path) -> None:
    shutil.copy(finished_run / "checkpoints" / "best.ckpt", tmp_path / "model.ckpt")
    shutil.copy(tiny_data / "val" / "000.png", tmp_path / "photo.png")
    code = (
        "import detr_lite; detector = detr_lite.Detector.from_checkpoint('model.ckpt', device='cpu'); "
        "best = detector('photo.png'); print(best.class_names[best.labels[0]], best.boxes_xyxy[0].tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    best = Detector.from_checkpoint(finished_run / "checkpoints" / "best.ckpt", "cpu")(tiny_data / "val" / "000.png")
    assert done.stdout.startswith(best.class_names[int(best.labels[0])])
