"""The script beside an exported model: sizes and pixels as in training, files of any kind, and no torch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import tv_tensors

from detr_lite.data.images.convert import as_image
from detr_lite.data.transforms import ResizeByRule, ResizeRule
from detr_lite.runtime.detect import Detections, OnnxDetector, as_rgb, resize, target_size
from tests.helpers.photos import photo

RULES = [
    ResizeRule("longest", 64),
    ResizeRule("fit", 64),
    ResizeRule("shortest", 48, 80),
    ResizeRule("shortest", 48, 80, rounds_shorter=True),
    ResizeRule("shortest", 48),
    ResizeRule("stretch", 64),
    ResizeRule("stretch", 64, 96),
]


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_sizes_are_those_of_the_rule(rule: ResizeRule) -> None:
    random = np.random.default_rng(0)
    for height, width in [(1, 1), (1, 500), (64, 64), (48, 80), *random.integers(1, 400, (300, 2)).tolist()]:
        assert target_size(rule.to_dict(), height, width) == rule.target_size(height, width), (height, width)


@pytest.mark.parametrize("size", [(90, 70), (31, 57), (64, 64)])
@pytest.mark.parametrize(
    "rule",
    [
        ResizeRule("stretch", 48, 40),
        ResizeRule("stretch", 96, 112, interpolation="bicubic"),
        ResizeRule("stretch", 48, 40, interpolation="nearest"),
        ResizeRule("stretch", 48, 40, antialias=False),
        ResizeRule("stretch", 96, 112, antialias=False),
    ],
    ids=str,
)
def test_pixels_are_those_of_training(rule: ResizeRule, size: tuple[int, int]) -> None:
    image = photo(size)
    expected = ResizeByRule(rule)(tv_tensors.Image(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)))
    expected = expected.permute(1, 2, 0).numpy()
    found = resize(image, *rule.target_size(image.height, image.width), rule.to_dict())
    if found.dtype == np.uint8:
        difference = np.abs(found.astype(int) - expected.astype(int))
        assert difference.max() <= 1  # Pillow rounds between its two passes, in another order
        assert difference.mean() < 0.25
    else:
        np.testing.assert_allclose(found, 255 * expected, atol=2e-3)


def test_a_rule_that_it_lacks_is_refused() -> None:
    rule = ResizeRule("stretch", 48, 40, interpolation="bicubic", antialias=False)
    with pytest.raises(ValueError, match="bicubic interpolation without antialiasing"):
        resize(photo((20, 20)), 48, 40, rule.to_dict())


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_pixels_of_any_depth_are_those_of_the_detector(mode: str) -> None:
    if mode in ("I;16", "I", "F"):
        values = np.linspace(0, 4000, 30 * 20).reshape(20, 30)
        kinds = {"I;16": np.uint16, "I": np.int32, "F": np.float32}
        image = Image.fromarray(values.astype(kinds[mode]))
    else:
        image = photo((30, 20)).convert(mode)
    assert image.mode == mode
    np.testing.assert_array_equal(np.asarray(as_rgb(image)), np.asarray(as_image(image)))


@pytest.mark.parametrize("orientation", ["upright", "stored"])
def test_the_orientation_tag_is_applied_unless_pixels_are_stored(tmp_path: Path, orientation: str) -> None:
    image = photo((30, 20))
    tag = Image.Exif()
    tag[0x0112] = 6
    image.save(tmp_path / "turned.png", exif=tag)
    assert as_rgb(tmp_path / "turned.png", orientation).size == ((20, 30) if orientation == "upright" else (30, 20))


def test_thresholds_for_all_classes_and_for_each() -> None:
    found = Detections(np.zeros((3, 4), np.float32), np.array([0.9, 0.6, 0.3], np.float32), np.array([1, 0, 1]))
    assert len(found.above(0.5)) == 2
    assert found.above((0.7, 0.2)).labels.tolist() == [1, 1]
    assert [(score, label) for _, score, label in found.above(0.8)] == [(pytest.approx(0.9), 1)]


def test_files_that_are_no_exported_models(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        OnnxDetector(tmp_path / "missing.onnx")
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(ValueError, match="not readable as an ONNX model"):
        OnnxDetector(tmp_path / "text.onnx")


def test_importing_it_imports_no_torch() -> None:
    code = "import sys; import detr_lite.runtime; print({'torch', 'detr_lite.structures'} & {*sys.modules})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "set()"
