"""A dilated last stage (DC5) equals torchvision's; networks that cannot have one are refused."""

import pytest
import torch
import torchvision
from torch import nn

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model.backbone import Backbone
from detr_lite.structures import Batch, DetrLiteError


def randomise(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight.data, module.running_var):
                values.uniform_(0.5, 1.5)
            for values in (module.bias.data, module.running_mean):
                values.normal_(std=0.3)


@pytest.mark.stress
@torch.no_grad()
@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_map_is_torchvisions(name: str, frozen: bool) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, name)(replace_stride_with_dilation=[False, False, True]).eval()
    randomise(reference)
    backbone = Backbone(name, strides=(16,), dilation=True, freeze_batch_norm=frozen).eval()
    state = {key: value for key, value in reference.state_dict().items() if not key.startswith("fc.")}
    missing, unexpected = backbone.network.load_state_dict(state, strict=False)
    assert missing == []
    assert all(key.endswith("num_batches_tracked") for key in unexpected)

    images = torch.randn(2, 3, 70, 93).double()  # rounding errors grow over so many blocks
    trunk = nn.Sequential(*list(reference.children())[:-2])
    (features,) = backbone.double()(images)
    assert features.shape == (2, 2048, 5, 6)
    torch.testing.assert_close(features, trunk.double()(images), atol=1e-8, rtol=1e-8)


def test_levels_before_the_dilated_stage_do_not_change() -> None:
    backbone = Backbone("resnet18", strides=(8, 16), dilation=True)
    assert backbone.channels == (128, 512)
    assert [features.shape[1:] for features in backbone(torch.randn(1, 3, 64, 96))] == [(128, 8, 12), (512, 4, 6)]


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050"])
@pytest.mark.slow
def test_other_networks_can_be_dilated(name: str) -> None:
    backbone = Backbone(name, strides=(16,), dilation=True)
    last = Backbone(name, strides=(32,))
    assert backbone.channels == last.channels
    assert sum(values.numel() for values in backbone.parameters()) == sum(
        values.numel() for values in last.parameters()
    )


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "dla34"])
def test_a_network_that_cannot_be_dilated_is_an_error(name: str) -> None:
    with pytest.raises(
        DetrLiteError, match=f"model.dilation: {name} cannot dilate its last stage; set --model.dilation f"
    ):
        Backbone(name, strides=(16,), dilation=True)


def test_the_stride_of_the_dilated_stage_is_an_error() -> None:
    with pytest.raises(DetrLiteError, match=r"resnet18 with model.dilation has strides 2, 4, 8, 16, not 32"):
        Backbone("resnet18", strides=(32,), dilation=True)


def test_the_setting_reaches_the_network() -> None:
    config = ModelConfig(name="detr", backbone="resnet18", pretrained=False, dilation=True, num_queries=3)
    output = build_model(config, classes=2).eval()(Batch.from_images([torch.randn(3, 64, 96)]), need_attention=True)
    assert output.attention is not None
    assert output.attention.grids == ((4, 6),)
