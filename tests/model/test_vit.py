"""Plain vision transformers: equality with timm, image sizes, the pyramid, checkpoints."""

from dataclasses import replace

import pytest
import timm
import torch

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model.backbone import Backbone
from detr_lite.model.vit import SimplePyramid, pyramid_strides
from detr_lite.structures import DetrLiteError

NAMES = {"vit_tiny_patch16_224": 16, "vit_small_patch14_reg4_dinov2": 14, "vit_small_patch16_dinov3": 16}


@pytest.mark.parametrize(("name", "patch"), NAMES.items())
@pytest.mark.slow
def test_the_map_is_timms(name, patch):
    """The last layer's normed tokens, without class and register tokens, of an image padded at the right and bottom."""
    torch.manual_seed(0)
    backbone = Backbone(name, (patch,)).eval()
    reference = timm.create_model(name, num_classes=0, dynamic_img_size=True, dynamic_img_pad=True).eval()
    assert reference.load_state_dict(backbone.network.model.state_dict(), strict=False).unexpected_keys == []
    image = torch.randn(2, 3, 50, 70)
    (features,) = backbone(image)
    assert features.shape[2:] == (4, 5)
    tokens = reference.forward_features(image)[:, reference.num_prefix_tokens :]
    torch.testing.assert_close(features.flatten(2).transpose(1, 2), tokens)


@pytest.mark.parametrize(("name", "patch"), NAMES.items())
@pytest.mark.slow
def test_weights_do_not_depend_on_image_sizes(name, patch):
    torch.manual_seed(0)
    strides = (patch // 2, patch, 2 * patch)
    trained, fresh = Backbone(name, strides).eval(), Backbone(name, strides).eval()
    trained(torch.randn(1, 3, 45, 100))
    fresh(torch.randn(1, 3, 130, 30))
    fresh.load_state_dict(trained.state_dict())
    image = torch.randn(1, 3, 70, 55)
    for features, expected in zip(fresh(image), trained(image), strict=True):
        torch.testing.assert_close(features, expected)


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "vit_small_patch16_dinov3"])
@pytest.mark.slow
def test_a_checkpoint_of_a_pretrained_one_needs_no_download(name, monkeypatch):
    loads = []
    monkeypatch.setattr(timm.models._builder, "load_pretrained", lambda *_args, **_kwargs: loads.append(name))
    settings = ModelConfig(backbone=name, strides=(8, 16), pretrained=True, num_queries=5)
    trained = build_model(settings, classes=3)
    assert loads == [name]
    rebuilt = build_model(settings, classes=3, for_checkpoint=True)
    assert loads == [name]
    shapes = {key: value.shape for key, value in trained.state_dict().items()}
    assert {key: value.shape for key, value in rebuilt.state_dict().items()} == shapes
    random = build_model(replace(settings, pretrained=False), classes=3)
    assert {key: value.shape for key, value in random.state_dict().items()} == shapes


def test_pretrained_weights_that_cannot_be_loaded_are_an_error(monkeypatch):
    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(timm.models._builder, "load_pretrained", refuse)
    with pytest.raises(DetrLiteError, match=r"vit_tiny_patch16_224 could not be loaded \(Network is unreachable\)"):
        Backbone("vit_tiny_patch16_224", (8, 16), pretrained=True)


@pytest.mark.parametrize(
    ("patch", "strides"),
    [(16, [4, 8, 16, 32, 64]), (14, [7, 14, 28, 56]), (8, [2, 4, 8, 16, 32]), (7, [7, 14, 28]), (1, [1, 2, 4])],
)
def test_strides_of_a_pyramid(patch, strides):
    assert pyramid_strides(patch) == strides


def test_a_stride_that_no_pyramid_has_is_an_error():
    with pytest.raises(
        DetrLiteError, match=r"model.strides: eva02_tiny_patch14_224 has strides 7, 14, 28, 56, not 16; set --model"
    ):
        Backbone("eva02_tiny_patch14_224", (7, 16))


def test_without_other_strides_there_is_no_pyramid():
    assert Backbone("vit_tiny_patch16_224", (16,)).pyramid is None
    assert isinstance(Backbone("vit_tiny_patch16_224", (8,)).pyramid, SimplePyramid)


def test_shapes_of_all_levels():
    pyramid = SimplePyramid(64, patch=16, strides=(4, 8, 16, 32, 64))
    maps = pyramid(torch.randn(2, 64, 3, 5))
    assert [tuple(features.shape[1:]) for features in maps] == [
        (16, 12, 20),
        (32, 6, 10),
        (64, 3, 5),
        (64, 2, 3),
        (64, 1, 2),
    ]
    assert pyramid.channels == (16, 32, 64, 64, 64)


def test_a_token_of_the_pyramid_depends_on_the_patches_that_contain_it():
    torch.manual_seed(0)
    pyramid = SimplePyramid(32, patch=16, strides=(4, 8, 16, 32))
    before = torch.randn(1, 32, 5, 7)
    after = before.clone()
    after[:, :, 4, 3] += 100  # the last row, whose coarser token reaches beyond the map
    for old, new, stride in zip(pyramid(before), pyramid(after), (4, 8, 16, 32), strict=True):
        rows, columns = (old != new).any(1)[0].nonzero().unbind(1)
        assert set((rows * stride // 16).tolist()) <= {4}
        assert set((columns * stride // 16).tolist()) <= {3, 2}
        assert len(rows) == max(1, (16 // stride) ** 2)
