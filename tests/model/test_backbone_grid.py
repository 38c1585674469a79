"""The smallest network of each family with random weights: shapes, positions of tokens, a training step."""

from math import ceil

import pytest
import timm
import torch

from detr_lite.build import build_criterion, build_model
from detr_lite.config import Config, ModelConfig
from detr_lite.model.backbone import Backbone
from detr_lite.structures import Batch, Target

pytestmark = pytest.mark.slow

CONVOLUTIONAL = {
    "resnet10t": (8, 16, 32),
    "mobilenetv3_small_050": (8, 16, 32),
    "efficientnet_lite0": (8, 16, 32),
    "regnetx_002": (8, 16, 32),
    "hgnetv2_b0": (8, 16, 32),
}
PATCHES = {
    "convnext_atto": (8, 16, 32),
    "swin_tiny_patch4_window7_224": (8, 16, 32),  # channels last and windows
    "vit_tiny_patch16_224": (4, 8, 16, 32),
    "deit_tiny_patch16_224": (8, 16, 32),
    "deit_tiny_distilled_patch16_224": (16,),  # class and distillation tokens
    "eva02_tiny_patch14_224": (7, 14, 28),  # rotary and learned positions
    "vit_small_patch14_reg4_dinov2": (7, 14, 28),  # register tokens, and an embedding for 518 pixels
    "vit_small_patch16_dinov3": (8, 16, 32),  # rotary positions only
}
GRID = CONVOLUTIONAL | PATCHES
SIZES = [(70, 101), (45, 39)]
"""(height, width), no multiples of any stride."""


def grid_of(names):
    return pytest.mark.parametrize(("name", "strides"), list(names.items()), ids=list(names))


@grid_of(GRID)
def test_one_token_for_every_stride_pixels(name, strides):
    backbone = Backbone(name, strides).eval()
    assert backbone.strides == strides
    for height, width in [*SIZES, (9, 5)]:
        features = backbone(torch.randn(2, 3, height, width))
        shapes = [tuple(feature.shape) for feature in features]
        assert shapes == [
            (2, channels, ceil(height / stride), ceil(width / stride))
            for stride, channels in zip(strides, backbone.channels, strict=True)
        ]


@grid_of({"resnet10t": (8, 16), "densenet121": (8, 16)})  # without and with padding
def test_the_constructor_does_not_change_statistics(name, strides):
    """It runs the network once, which must not update batch norm."""
    backbone = Backbone(name, strides)
    assert all(module.training for module in backbone.modules())
    fresh = timm.create_model(name, features_only=True).state_dict()
    for key, value in backbone.network.state_dict().items():
        if "running" in key or "num_batches" in key:
            torch.testing.assert_close(value, fresh[key])


@grid_of(GRID)
def test_every_parameter_is_trained(name, strides):
    torch.manual_seed(0)
    sizes = {"dim": 32, "feedforward_dim": 32, "decoder_layers": 1, "num_queries": 5, "denoising_queries": 4}
    config = Config(model=ModelConfig(backbone=name, strides=strides, pretrained=False, **sizes))
    model = build_model(config.model, classes=3)
    images = [torch.randn(3, *size) for size in SIZES]
    targets = [
        Target(torch.rand(2, 4) * 0.3 + 0.3, torch.tensor([0, 2]), image_id=index, original_size=size)
        for index, size in enumerate(SIZES)
    ]
    batch = Batch.from_images(images, targets)
    criterion = build_criterion(config, classes=3)
    loss = criterion(model(batch), batch.targets).total
    loss.backward()
    assert [key for key, value in model.named_parameters() if value.grad is None] == []
    assert all(value.grad.isfinite().all() for value in model.parameters())
    assert sum(value.grad.abs().sum() for value in model.backbone.network.parameters()) > 0
    torch.optim.AdamW(model.parameters(), lr=1e-4).step()
    after = criterion(model(batch), batch.targets).total
    assert after.isfinite()
    assert after != loss


def most_changed_tokens(backbone, dots, height, width):
    """For each stride the (x, y) of the token that changes most when pixels around each of `dots` change."""
    image = torch.randn(1, 3, height, width)
    changed = image.repeat(len(dots), 1, 1, 1)
    for index, (x, y) in enumerate(dots.tolist()):
        changed[index, :, y - 2 : y + 3, x - 2 : x + 3] += 3
    with torch.no_grad():
        changes = [(new - old).norm(dim=1) for old, new in zip(backbone(image), backbone(changed), strict=True)]
    best = [(change.flatten(1).argmax(1), change.shape[2]) for change in changes]
    return [torch.stack([index % width, index // width], dim=1) for index, width in best]


@grid_of(PATCHES)
def test_pixels_change_the_token_of_their_patch(name, strides):
    torch.manual_seed(0)
    backbone = Backbone(name, strides).eval()
    patch = 14 if 14 in strides else 16
    dots = torch.tensor([(1, 4), (5, 2), (6, 0), (0, 0)]) * patch + 4  # inside one token at every stride
    for tokens, stride in zip(most_changed_tokens(backbone, dots, 107, 121), strides, strict=True):
        # In a pyramid all finer tokens of a patch depend on the whole patch.
        cell = stride if backbone.pyramid is None else max(stride, patch)
        assert (tokens * stride // cell).tolist() == (dots // cell).tolist()


@grid_of(CONVOLUTIONAL)
def test_tokens_of_convolutions_are_near_their_pixels(name, strides):
    """A strided convolution is centerd on its first pixel, so its tokens are shifted by half a token."""
    torch.manual_seed(0)
    dots = torch.stack([torch.randint(3, 198, (16,)), torch.randint(3, 147, (16,))], dim=1)
    for tokens, stride in zip(
        most_changed_tokens(Backbone(name, strides).eval(), dots, 150, 201), strides, strict=True
    ):
        offset = (tokens + 0.5 - (dots + 0.5) / stride).mean(0)
        assert offset.abs().max() < 1, offset
