import pytest
import timm
import torch
from torch import nn

from detr_lite.model.backbone import Backbone
from detr_lite.model.frozen import FrozenBatchNorm
from detr_lite.model.pretrained import normalization_of
from detr_lite.structures import DetrLiteError


@pytest.mark.parametrize(
    ("name", "strides"),
    [("resnet10t", (16,)), ("resnet18", (8, 16, 32)), ("mobilenetv3_small_050", (16, 32)), ("convnext_atto", (32,))],
)
def test_maps_have_the_given_strides(name, strides):
    backbone = Backbone(name, strides)
    features = backbone(torch.randn(1, 3, 96, 64))
    assert len(features) == len(strides)
    for feature, stride, channels in zip(features, strides, backbone.channels, strict=True):
        assert feature.shape == (1, channels, 96 // stride, 64 // stride)


def test_maps_are_timms():
    torch.manual_seed(0)
    backbone = Backbone("resnet10t", (16,)).eval()
    reference = timm.create_model("resnet10t", features_only=True, out_indices=[3]).eval()
    reference.load_state_dict(backbone.network.state_dict())
    image = torch.randn(1, 3, 50, 70)
    torch.testing.assert_close(backbone(image)[0], reference(image)[0])


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


def test_batch_norm_is_not_frozen_by_default():
    assert not any(isinstance(module, FrozenBatchNorm) for module in Backbone("resnet10t", (16,)).modules())


def test_an_unknown_name_suggests_similar_ones():
    with pytest.raises(DetrLiteError, match=r"no model named 'resnet10tt'; did you mean .*resnet10t"):
        Backbone("resnet10tt")


def test_an_unavailable_stride_is_an_error():
    with pytest.raises(
        DetrLiteError, match=r"model.strides: resnet10t has strides 2, 4, 8, 16, 32, not 7; set --model.strides"
    ):
        Backbone("resnet10t", (7,))


def test_weights_that_do_not_exist_are_an_error():
    with pytest.raises(DetrLiteError, match=r"no pretrained weights for convnext_atto_rms; .*--model.pretrained false"):
        Backbone("convnext_atto_rms", pretrained=True)


def test_random_residual_branches_start_at_scale_one():
    """In timm they start at scale zero."""
    reference = timm.create_model("resnet18", features_only=True)
    assert any(not norm.weight.any() for norm in reference.modules() if isinstance(norm, nn.BatchNorm2d))
    backbone = Backbone("resnet18", (16,))
    assert all(norm.weight.all() for norm in backbone.modules() if isinstance(norm, nn.BatchNorm2d))


def test_pretrained_weights_that_cannot_be_loaded_name_the_setting(monkeypatch):
    """Offline without a cache; the network must not silently start from random weights."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    with pytest.raises(
        DetrLiteError, match=r"resnet10t could not be loaded \(Network is unreachable\).*pretrained false"
    ):
        Backbone("resnet10t", (16,), pretrained=True)


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
def test_nothing_is_downloaded_for_random_weights(name, monkeypatch):
    monkeypatch.setattr(timm.models._builder, "load_pretrained", lambda *_args, **_kwargs: pytest.fail("a download"))
    Backbone(name, (16,))


def test_out_indices_are_timms():
    """DLA has a map at stride 1 that timm leaves out; the others count from 1."""
    backbone = Backbone("dla34", (8, 16))
    assert [feature.shape[2:] for feature in backbone(torch.randn(1, 3, 64, 96))] == [(8, 12), (4, 6)]


def test_a_network_for_one_image_size_is_an_error():
    with pytest.raises(
        DetrLiteError, match=r"model.backbone: levit_128s does not accept images of every size \(.*choose"
    ):
        Backbone("levit_128s", (16,))


@pytest.mark.slow
def test_a_network_whose_maps_have_an_unexpected_size_is_an_error():
    """Its convolutions without padding would shift every box."""
    with pytest.raises(DetrLiteError, match=r"inception_v3 .*its maps do not have the expected size"):
        Backbone("inception_v3", (16,))


def test_an_older_timm_that_reads_weight_values_in_the_constructor(monkeypatch):
    create = timm.create_model

    def refuse(*args: object, **options: object) -> nn.Module:
        if torch.empty(0).is_meta:
            raise RuntimeError("Tensor.item() cannot be called on meta tensors")
        return create(*args, **options)

    monkeypatch.setattr(timm, "create_model", refuse)
    torch.manual_seed(0)
    backbone = Backbone("resnet10t", (16,))
    monkeypatch.undo()
    torch.manual_seed(0)
    expected = Backbone("resnet10t", (16,)).state_dict()
    torch.testing.assert_close(backbone.state_dict(), expected)


@pytest.mark.parametrize("name", ["convnext_atto", "vit_small_patch14_dinov2", "vit_small_patch16_dinov3"])
@pytest.mark.slow
def test_random_layer_scales_start_at_one(name, monkeypatch):
    """In timm they start at 1e-5; pretrained ones are not changed."""

    def scales(pretrained: bool) -> torch.Tensor:
        parameters = Backbone(name, (16 if "14" not in name else 14,), pretrained).named_parameters()
        return torch.cat([values.flatten() for key, values in parameters if ".gamma" in key])

    assert (scales(pretrained=False) == 1).all()
    name = {"convnext_atto": "convnext_atto.d2_in1k"}.get(name, name)
    monkeypatch.setattr(timm.models._builder, "load_pretrained", lambda *_args, **_kwargs: None)
    assert (scales(pretrained=True) < 1e-4).all()


def test_random_layer_norms_on_residual_branches_start_at_one():
    """In transformers."""
    norms = [module for module in Backbone("swinv2_cr_tiny_224", (8,)).modules() if isinstance(module, nn.LayerNorm)]
    assert all(norm.weight.all() for norm in norms)


def test_normalization_is_that_of_the_pretrained_weights():
    assert normalization_of("resnet50.tv_in1k") == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert normalization_of("vit_tiny_patch16_224")[0] == (0.5, 0.5, 0.5)
    assert normalization_of("vit_small_patch16_dinov3") == normalization_of("resnet50.tv_in1k")
    assert normalization_of("vit_small_patch14_dinov2.lvd142m") == normalization_of("resnet50.tv_in1k")
    assert normalization_of("eva02_tiny_patch14_336.mim_in22k_ft_in1k")[0] == (0.48145466, 0.4578275, 0.40821073)
