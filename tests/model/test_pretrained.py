"""Weights of a timm network from a file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model.backbone import Backbone
from detr_lite.model.pretrained import read_backbone_weights
from detr_lite.structures import DetrLiteError

Save = Callable[..., Path]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Save weights as safetensors, or by torch.save if they are in a container."""

    def write(weights: dict[str, Tensor], *containers: str) -> Path:
        if not containers:
            save_file(weights, tmp_path / "weights.safetensors")
            return tmp_path / "weights.safetensors"
        content: Any = weights
        for container in containers:
            content = {container: content, "epoch": 3} if container else content
        torch.save(content, tmp_path / "weights.pth")
        return tmp_path / "weights.pth"

    return write


def network(name: str) -> Any:
    torch.manual_seed(1)
    model = timm.create_model(name).eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return model


@pytest.mark.parametrize("container", [(), ("",), ("state_dict",), ("model",), ("state_dict_ema",)])
def test_maps_are_those_of_the_saved_network(save: Save, container: tuple[str, ...]) -> None:
    model = network("resnet10t")
    backbone = Backbone("resnet10t", (16,), weights=read_backbone_weights(save(model.state_dict(), *container))).eval()
    images = torch.randn(1, 3, 64, 96)
    expected = model.layer3(model.layer2(model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(images)))))))
    torch.testing.assert_close(backbone(images)[0], expected)


@pytest.mark.parametrize(
    "name",
    [
        "tf_efficientnet_lite0",
        "vit_tiny_patch16_224",
        pytest.param("convnext_atto", marks=pytest.mark.slow),
        pytest.param("swin_tiny_patch4_window7_224", marks=pytest.mark.slow),
        pytest.param("vit_small_patch16_dinov3", marks=pytest.mark.slow),
        pytest.param("mobilenetv3_small_050", marks=pytest.mark.slow),
        pytest.param("hgnetv2_b0", marks=pytest.mark.slow),
    ],
)
@pytest.mark.slow
def test_every_weight_of_the_backbone_is_the_files(save: Save, name: str) -> None:
    weights = network(name).state_dict()
    loaded = Backbone(name, (16,), weights=read_backbone_weights(save(weights))).network.state_dict()
    given = {key.replace(".", "_"): value for key, value in weights.items()}
    for key, value in loaded.items():
        torch.testing.assert_close(value, given[key.removeprefix("model.").replace(".", "_")], rtol=0, atol=0)


def test_prefixes_of_data_parallel_training_are_ignored(save: Save) -> None:
    weights = {f"module.{key}": value for key, value in network("resnet10t").state_dict().items()}
    Backbone("resnet10t", (16,), weights=read_backbone_weights(save(weights)))


@pytest.mark.parametrize("lost", ["layer2.0.conv1.weight", "bn1.running_mean"])
def test_a_file_without_some_weights_is_refused(save: Save, lost: str) -> None:
    weights = network("resnet18").state_dict()
    del weights[lost]
    with pytest.raises(DetrLiteError, match=rf"^model.pretrained: 1 of 75 weights of resnet18 .* such as {lost}; "):
        Backbone("resnet18", (16,), weights=read_backbone_weights(save(weights)))


@pytest.mark.slow
def test_weights_of_another_network_are_refused(save: Save) -> None:
    with pytest.raises(DetrLiteError, match=r"^model.pretrained: (the weights do not fit resnet18|.* not in the file)"):
        Backbone("resnet18", (16,), weights=read_backbone_weights(save(network("convnext_atto").state_dict())))
    with pytest.raises(DetrLiteError, match=r"^model.pretrained: the weights do not fit resnet10t"):
        Backbone("resnet10t", (16,), weights=read_backbone_weights(save(network("resnet18").state_dict())))


def broken(change: Callable[[dict[str, Tensor]], None]) -> dict[str, Tensor]:
    weights = network("resnet10t").state_dict()
    change(weights)
    return weights


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (lambda: broken(lambda w: w["fc.bias"].fill_(float("nan"))), "fc.bias has values that are not finite"),
        (lambda: broken(lambda w: w.update({"conv1.0.weight": w["conv1.0.weight"].to(torch.int8)})), "is torch.int8"),
        (lambda: {"backbone.network.conv1.weight": torch.zeros(1)}, "a whole detector.* --model.init_from"),
        (dict, "is not a state_dict"),
    ],
)
def test_other_content_is_refused(save: Save, weights: Callable[[], dict[str, Tensor]], message: str) -> None:
    with pytest.raises(DetrLiteError, match=rf"^model.pretrained: .*{message}"):
        read_backbone_weights(save(weights(), ""))


def test_a_missing_file_and_a_misspelt_word_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "none.safetensors", Path("ture"), tmp_path):
        with pytest.raises(DetrLiteError, match=rf"^model.pretrained: no file {path}; give true, false, or a file"):
            read_backbone_weights(path)


def test_settings_name_the_file_which_a_checkpoint_does_not_need(save: Save) -> None:
    path = save(network("resnet10t").state_dict())
    config = ModelConfig(pretrained=str(path), num_queries=10)
    model = build_model(config, classes=2)
    weights = read_backbone_weights(path)
    assert torch.equal(model.backbone.network.state_dict()["conv1.0.weight"], weights["conv1.0.weight"])
    path.unlink()
    assert build_model(config, classes=2, for_checkpoint=True).state_dict().keys() == model.state_dict().keys()
