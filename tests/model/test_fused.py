"""Inference with fused convolutions: the network's own maps, of the weights that it has at the moment."""

import pickle
import threading
from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import nn

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model import onednn
from detr_lite.model.backbone import Backbone
from detr_lite.model.frozen import FrozenBatchNorm, freeze_batch_norms, freeze_first_layers
from detr_lite.model.fused import fused_convs
from detr_lite.model.fused_conv import FusedConv
from detr_lite.structures import Batch

IMAGES = torch.randn(2, 3, 75, 90, generator=torch.Generator().manual_seed(0))
NETWORKS = {"resnet18": 6, "resnet50": 13, "mobilenetv3_small_050": 0, "tf_efficientnet_lite0": 0, "resnet10t": 3}
"""Each with how many residual sums up to stride 16 are a part of a convolution."""


@torch.no_grad()
def randomize_norms(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, FrozenBatchNorm | nn.BatchNorm2d):
            module.weight.uniform_(0.5, 1.5)
            module.bias.normal_(std=0.3)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 1.5)


def make_pair(name: str = "resnet10t", freeze: bool = False) -> tuple[Backbone, Backbone]:
    """A backbone and the same one that computes as the original, in evaluation mode."""
    torch.manual_seed(0)
    backbone = Backbone(name, (8, 16), freeze_batch_norm=freeze).eval()
    exact = Backbone(name, (8, 16), freeze_batch_norm=freeze, exact=True).eval()
    randomize_norms(backbone.network)
    exact.load_state_dict(backbone.state_dict())
    return backbone, exact


@torch.no_grad()
def assert_equal_maps(backbone: Backbone, exact: Backbone) -> None:
    for new, old in zip(backbone(IMAGES), exact(IMAGES), strict=True):
        torch.testing.assert_close(new, old, rtol=1e-4, atol=1e-5 * float(old.abs().max()))


def convs_of(backbone: Backbone) -> list[FusedConv]:
    assert backbone.fused is not None
    assert backbone.fused.traced is not None
    return fused_convs(backbone.fused.traced)


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow
def test_maps_are_those_of_the_network(name: str, freeze: bool) -> None:
    backbone, exact = make_pair(name, freeze)
    assert_equal_maps(backbone, exact)
    assert len(convs_of(backbone)) == sum(isinstance(module, nn.Conv2d) for module in backbone.network.modules())
    graph = backbone.fused.traced.graph
    assert not any("BatchNorm" in type(module).__name__ for module in backbone.fused.traced.modules())
    sums = [node for node in graph.nodes if node.op == "call_module" and len(node.args) == 2]
    assert len(sums) == NETWORKS[name]
    assert exact.fused is None


def scale_in_place(backbone: Backbone) -> None:
    with torch.no_grad():
        backbone.network.conv1[0].weight.mul_(2)


def scaled(backbone: Backbone) -> dict[str, torch.Tensor]:
    return {
        name: values * 1.5 if values.is_floating_point() else values for name, values in backbone.state_dict().items()
    }


def load_others(backbone: Backbone) -> None:
    state = {
        name: values * 1.5 if values.is_floating_point() else values for name, values in backbone.state_dict().items()
    }
    backbone.load_state_dict(state)


def assign_others(backbone: Backbone) -> None:
    state = {
        name: values * 1.5 if values.is_floating_point() else values for name, values in backbone.state_dict().items()
    }
    backbone.load_state_dict(state, assign=True)


def swap_data(backbone: Backbone) -> None:
    """As the moving average of the weights is swapped in by Lightning: no version changes."""
    for tensor in (*backbone.parameters(), *backbone.buffers()):
        if tensor.is_floating_point():
            tensor.data.copy_(tensor.data * 1.5)


def change_a_statistic(backbone: Backbone) -> None:
    with torch.no_grad():
        next(iter(dict(backbone.network.named_buffers()).values()))[-1] += 1


@pytest.mark.parametrize(
    "change",
    [scale_in_place, load_others, assign_others, swap_data, change_a_statistic],
    ids=lambda each: each.__name__,
)
def test_other_weights_are_noticed(change: Callable[[Backbone], None]) -> None:
    backbone, exact = make_pair()
    assert_equal_maps(backbone, exact)
    with torch.no_grad():
        before = backbone(IMAGES)[-1]
    change(backbone)
    exact.load_state_dict(backbone.state_dict())
    assert_equal_maps(backbone, exact)
    with torch.no_grad():
        assert not torch.allclose(backbone(IMAGES)[-1], before, rtol=1e-2)


def test_a_training_step_between_two_predictions() -> None:
    backbone, exact = make_pair()
    assert_equal_maps(backbone, exact)
    optimizer = torch.optim.SGD(backbone.parameters(), lr=0.01)
    backbone.train()
    assert all(module.packed is None and module.weight is None for module in convs_of(backbone))
    backbone(IMAGES)[-1].square().mean().backward()
    optimizer.step()
    exact.load_state_dict(backbone.eval().state_dict())
    assert_equal_maps(backbone, exact)


@torch.no_grad()
def test_maps_do_not_depend_on_the_images_before() -> None:
    backbone, _ = make_pair()
    sizes = [(1, 3, 64, 96), (3, 3, 40, 33), (1, 3, 200, 64)]
    batches = [torch.randn(size, generator=torch.Generator().manual_seed(1)) for size in sizes]
    expected = [deepcopy(backbone)(images)[-1] for images in batches]
    for index in (0, 1, 2, 1, 0):
        assert torch.equal(backbone(batches[index])[-1], expected[index])


@pytest.mark.parametrize("copy", [deepcopy, lambda backbone: pickle.loads(pickle.dumps(backbone))])
def test_a_copy_has_weights_of_its_own(copy: Callable[[Backbone], Backbone]) -> None:
    backbone, exact = make_pair()
    assert_equal_maps(backbone, exact)
    other = copy(backbone)
    with torch.no_grad():
        for parameter in backbone.parameters():
            parameter.zero_()
        assert not backbone(IMAGES)[-1].any()
    assert_equal_maps(other, exact)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenetv3_small_050"])
@pytest.mark.slow
def test_frozen_networks_train_as_they_compute(name: str) -> None:
    """Their convolutions are fused in training too; gradients are those of separate layers."""
    backbone, exact = make_pair(name, freeze=True)
    for each in (backbone.train(), exact.train()):
        sum(features.square().mean() for features in each(IMAGES)).backward()
    assert backbone.fused is not None
    assert backbone.fused.is_same_in_training
    expected = dict(exact.named_parameters())
    for key, parameter in backbone.named_parameters():
        difference, norm = (parameter.grad - expected[key].grad).norm(), expected[key].grad.norm()
        assert difference <= 1e-3 * norm + 1e-6, key
    freeze_first_layers(name, backbone.network)
    backbone.zero_grad()
    backbone(IMAGES)[-1].square().mean().backward()
    trained = [parameter for parameter in backbone.parameters() if parameter.requires_grad]
    assert 0 < sum(parameter.grad is not None for parameter in backbone.parameters()) == len(trained)


def test_frozen_later_is_traced_again() -> None:
    backbone, exact = make_pair()
    assert_equal_maps(backbone, exact)
    before = backbone.fused
    freeze_batch_norms(backbone.network)
    randomize_norms(backbone.network)
    exact.load_state_dict(backbone.state_dict(), strict=False)
    assert_equal_maps(backbone, exact)
    assert backbone.fused is not before


def test_gradients_and_hooks_have_the_network_itself() -> None:
    backbone, _ = make_pair()
    with torch.no_grad():
        fused = backbone(IMAGES)[-1]
    separate = backbone(IMAGES)[-1]
    separate.square().mean().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())
    torch.testing.assert_close(fused, separate.detach(), rtol=1e-4, atol=1e-5 * float(fused.abs().max()))
    seen: list[torch.Size] = []
    handle = backbone.network.layer1[0].conv1.register_forward_hook(
        lambda module, inputs, output: seen.append(output.shape)
    )
    with torch.no_grad():
        backbone(IMAGES)
        assert len(seen) == 1
        handle.remove()
        backbone(IMAGES)
    assert len(seen) == 1


def test_a_network_without_batch_norm_computes_itself() -> None:
    backbone = Backbone("convnext_atto", (8, 16)).eval()
    with torch.no_grad():
        images = IMAGES[:, :, :64, :64]
        maps = backbone(images)
        assert backbone.fused is not None
        assert backbone.fused.traced is None
        expected = backbone.network(images.contiguous(memory_format=torch.channels_last))
        assert all(torch.equal(new, old) for new, old in zip(maps, expected, strict=True))


def test_without_onednn_the_network_computes_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onednn, "HAS_ONEDNN", False)
    backbone, exact = make_pair()
    assert_equal_maps(backbone, exact)
    assert backbone.fused is None


@pytest.mark.parametrize("pretrained", [False, True])
@pytest.mark.slow
def test_detr_is_the_exact_one_but_for_rounding(pretrained: bool) -> None:
    """Predictions, and gradients of a training step."""
    config = ModelConfig(
        name="detr", backbone="resnet18", pretrained=pretrained, strides=(32,), dim=32, num_queries=5, dropout=0.0
    )
    torch.manual_seed(0)
    fast = build_model(config, 3, for_checkpoint=True)
    randomize_norms(fast.backbone.network)
    exact = build_model(config, 3, for_checkpoint=True, exact=True)
    exact.load_state_dict(fast.state_dict())
    batch = Batch.from_images([IMAGES[0], IMAGES[1, :, :60]])
    with torch.no_grad():
        new, old = fast.eval()(batch), exact.eval()(batch)
    torch.testing.assert_close(new.logits, old.logits, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(new.boxes_cxcywh, old.boxes_cxcywh, rtol=1e-3, atol=1e-4)
    for model in (fast, exact):
        output = model.train()(batch)
        (output.logits.square().mean() + output.boxes_cxcywh.square().mean()).backward()
    gradients = dict(exact.named_parameters())
    for name, parameter in fast.named_parameters():
        expected = gradients[name].grad
        assert expected is not None, name
        assert parameter.grad is not None, name
        # Few pixels of the last map make trained statistics, of which one may be on the other side of a ReLU.
        share = 2e-3 if pretrained else 0.05
        assert (parameter.grad - expected).norm() <= share * expected.norm() + 1e-6, name


@pytest.mark.slow
def test_other_threads_compute_while_a_network_is_traced() -> None:
    """`torch.fx` replaces functions of all modules for as long as it traces."""
    images, faults, found = torch.randn(1, 3, 64, 64), [], []
    backbones = [Backbone("resnet10t", (16, 32)).eval() for _ in range(4)]

    def compute(backbone: Backbone) -> None:
        try:
            with torch.no_grad():
                found.append((backbone, [backbone(images) for _ in range(3)]))
        except Exception as error:
            faults.append(error)

    threads = [threading.Thread(target=compute, args=(backbone,)) for backbone in backbones]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert nn.Module.__call__.__name__ == "_wrapped_call_impl"
    with torch.no_grad():
        for backbone, results in found:
            for maps in results:
                torch.testing.assert_close(maps, backbone(images))
