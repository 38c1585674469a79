"""What of a backbone does not train."""

import pytest
import torch

from detr_lite.model.backbone import Backbone
from detr_lite.structures import DetrLiteError


@pytest.mark.parametrize("name", ["resnet10t", "resnet18"])  # a stem of several convolutions, and of one
@pytest.mark.parametrize("freeze_batch_norm", [False, True])
def test_stem_and_first_stage_get_no_gradient_and_all_others_do(name: str, freeze_batch_norm: bool) -> None:
    backbone = Backbone(name, (8, 16), freeze_first_stage=True, freeze_batch_norm=freeze_batch_norm)
    sum(features.square().mean() for features in backbone(torch.randn(2, 3, 64, 64))).backward()
    still = ("network.conv1.", "network.bn1.", "network.layer1.")
    for key, parameter in backbone.named_parameters():
        assert (parameter.grad is None) == key.startswith(still), key
    assert {key.split(".")[1] for key, parameter in backbone.named_parameters() if parameter.requires_grad} == {
        "layer2",
        "layer3",
    }


def test_nothing_is_frozen_unless_asked_for() -> None:
    assert all(parameter.requires_grad for parameter in Backbone("resnet18", (16,)).parameters())


@pytest.mark.parametrize("name", ["convnext_atto", "mobilenetv3_small_050"])
def test_a_network_without_a_first_stage_of_that_name_is_an_error(name: str) -> None:
    with pytest.raises(DetrLiteError, match=rf"model.freeze_first_stage is for ResNets, and {name} .* false$"):
        Backbone(name, (16,), freeze_first_stage=True)
