import pytest
import timm
import torch
from torch import nn

from detr_lite.model.backbone import Backbone, FrozenBatchNorm, normalisation_of
from detr_lite.structures import DetrLiteError


@pytest.mark.parametrize(
    ("name", "strides"),
    [("resnet10t", (16,)), ("resnet18", (8, 16, 32)), ("mobilenetv3_small_050", (16, 32)), ("convnext_atto", (32,))],
)
def test_maps_come_at_the_wanted_strides(name, strides):
    backbone = Backbone(name, strides)
    features = backbone(torch.randn(1, 3, 96, 64))
    assert len(features) == len(strides)
    for feature, stride, channels in zip(features, strides, backbone.channels, strict=True):
        assert feature.shape == (1, channels, 96 // stride, 64 // stride)


def test_maps_are_timms_own():
    torch.manual_seed(0)
    backbone = Backbone("resnet10t", (16,)).eval()
    theirs = timm.create_model("resnet10t", features_only=True, out_indices=[3]).eval()
    theirs.load_state_dict(backbone.network.state_dict())
    image = torch.randn(1, 3, 50, 70)
    torch.testing.assert_close(backbone(image)[0], theirs(image)[0])


@pytest.mark.parametrize("name", ["resnet10t", "mobilenetv3_small_050"])  # plain norms; norms with their activation
def test_frozen_batch_norm_is_the_norm_in_evaluation(name):
    torch.manual_seed(0)
    trained = Backbone(name, (16,))
    for module in trained.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean):
                nn.init.normal_(values.data)
            nn.init.uniform_(module.running_var, 0.5, 2)
    frozen = Backbone(name, (16,), freeze_batch_norm=True)
    state = {key: value for key, value in trained.state_dict().items() if not key.endswith("num_batches_tracked")}
    frozen.load_state_dict(state)
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(frozen.train()(image)[0], trained.eval()(image)[0], atol=1e-4, rtol=1e-4)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in frozen.modules())
    assert sum(isinstance(module, FrozenBatchNorm) for module in frozen.modules()) > 5


def test_batch_norm_trains_unless_told_otherwise():
    assert not any(isinstance(module, FrozenBatchNorm) for module in Backbone("resnet10t", (16,)).modules())


def test_an_unknown_name_offers_near_ones():
    with pytest.raises(DetrLiteError, match=r"no model named 'resnet10tt'; did you mean .*resnet10t"):
        Backbone("resnet10tt")


def test_a_stride_that_the_network_lacks_is_an_error():
    with pytest.raises(
        DetrLiteError, match=r"model.stride: resnet10t has strides 2, 4, 8, 16, 32, not 7; set --model.stride"
    ):
        Backbone("resnet10t", (7,))


def test_weights_that_do_not_exist_are_an_error():
    with pytest.raises(DetrLiteError, match=r"no pretrained weights for convnext_atto_rms; .*--model.pretrained false"):
        Backbone("convnext_atto_rms", pretrained=True)


def test_random_residual_branches_are_open():
    """timm starts them at scale zero."""
    theirs = timm.create_model("resnet18", features_only=True)
    assert any(not norm.weight.any() for norm in theirs.modules() if isinstance(norm, nn.BatchNorm2d))
    ours = Backbone("resnet18", (16,))
    assert all(norm.weight.all() for norm in ours.modules() if isinstance(norm, nn.BatchNorm2d))


def test_weights_that_cannot_be_fetched_name_the_setting(monkeypatch):
    """Offline, and nothing cached: an error with the remedy, never a silent random start."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    with pytest.raises(DetrLiteError, match=r"resnet10t could not be had \(Network is unreachable\).*pretrained false"):
        Backbone("resnet10t", (16,), pretrained=True)


def test_normalisation_is_what_the_weights_were_trained_with():
    assert normalisation_of("resnet50.tv_in1k") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalisation_of("vit_tiny_patch16_224")[0] == (0.5, 0.5, 0.5)
