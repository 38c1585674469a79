"""A capture changes nothing: outputs to the bit, modules restored, no memory for what is not selected."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.tiny_families import QUERIES, tiny_model
from detr_lite.families.anatomy import anatomy_of
from detr_lite.families.capture import AttentionCapture
from detr_lite.families.registry import FAMILIES
from detr_lite.structures import AttentionSelection, DetrLiteError
from tests.helpers.captures import cached_model, captured, inputs

pytestmark = pytest.mark.slow


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def anything_installed(network):
    """What a capture could leave behind in any module: attributes, and the number of hooks."""
    left = {}
    for name, module in network.named_modules():
        hooks = [len(module._forward_hooks), len(module._forward_pre_hooks), len(module._forward_hooks_with_kwargs)]
        own = {key: id(value) for key, value in vars(module).items() if not isinstance(value, (dict, bool))}
        left[name] = (hooks, own, module.config._attn_implementation if hasattr(module, "config") else None)
    return left


def test_outputs_are_bit_equal_and_everything_is_restored(family):
    network = cached_model(family)
    batch, is_padding = inputs(family)
    with torch.no_grad():
        expected = network(**batch)
    before = anything_installed(network)
    maps, output = captured(network, family)
    assert anything_installed(network) == before
    assert output.keys() == expected.keys()
    assert torch.equal(output.logits, expected.logits)
    assert torch.equal(output.pred_boxes, expected.pred_boxes)
    assert torch.equal(output.last_hidden_state, expected.last_hidden_state)
    assert not maps.cross.requires_grad
    with AttentionCapture(network) as capture:  # gradients may be wanted of the output, never of the maps
        assert network(**batch).logits.requires_grad
    maps = capture.maps(is_padding)
    assert not any(each.requires_grad for each in (maps.cross, maps.queries, maps.encoder))


def test_everything_is_restored_after_an_exception(family, monkeypatch):
    network = cached_model(family)
    batch, is_padding = inputs(family)
    before = anything_installed(network)
    with pytest.raises(KeyError), AttentionCapture(network):
        raise KeyError
    assert anything_installed(network) == before
    with pytest.raises(DetrLiteError), AttentionCapture(network, AttentionSelection(queries=[QUERIES])):
        network(**batch)
    assert anything_installed(network) == before
    with monkeypatch.context() as patch:
        patch.setattr(anatomy_of(network).queries[-1], "register_forward_pre_hook", lambda *args, **_: 1 / 0)
        patch.setattr(f"{AttentionCapture.__module__}.on_dense_attention", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            AttentionCapture(network).__enter__()
    assert anything_installed(network) == before
    with pytest.raises(DetrLiteError, match="eval"), AttentionCapture(network.train()):
        network(**batch)
    network.eval()
    assert anything_installed(network) == before
    with AttentionCapture(network) as capture:
        pass
    with pytest.raises(RuntimeError, match="not been called"):
        capture.maps(is_padding)


class LargeTensors(TorchDispatchMode):
    """Counts the tensors that any operation makes with a row of tokens, or of other queries, for each query."""

    def __init__(self, tokens):
        super().__init__()
        self.rows = {(QUERIES, tokens), (QUERIES, QUERIES)}
        self.count = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        made = operation(*args, **(kwargs or {}))
        if any(returned.alias_info is not None for returned in operation._schema.returns):
            return made  # a view, or something in place
        for each in made if isinstance(made, (tuple, list)) else [made]:
            self.count += isinstance(each, torch.Tensor) and each.numel() > 0 and each.shape[-2:] in self.rows
        return made


def test_nothing_dense_is_made_of_what_is_not_selected(family):
    network = cached_model(family)
    batch, is_padding = inputs(family)
    whole, _ = captured(network, family)
    counts = {}
    for name, selection in {
        "plain": None,
        "none": AttentionSelection(layers=[], encoder_layers=[]),
        "one": AttentionSelection(layers=[-1], queries=[3, 5], encoder_layers=[]),
        "all": AttentionSelection(),
    }.items():
        with torch.no_grad(), LargeTensors(whole.cross.shape[-1]) as large:
            if selection is None:
                network(**batch)
            else:
                with AttentionCapture(network, selection) as capture:
                    network(**batch)
                capture.maps(is_padding)
        counts[name] = large.count
    assert counts["plain"] == counts["none"] == counts["one"] < counts["all"]


@pytest.mark.parametrize("family", ["detr", "rt_detr", "rt_detr_v2", "d_fine"])
def test_captures_of_two_models_do_not_disturb_each_other(family):
    first, second = cached_model(family), tiny_model(family, seed=1)
    before = anything_installed(first), anything_installed(second)
    expected = [captured(network, family)[0] for network in (first, second)]
    batch, is_padding = inputs(family)
    captures = AttentionCapture(first), AttentionCapture(second)
    with torch.no_grad():
        captures[0].__enter__()
        captures[1].__enter__()
        second(**batch)
        first(**batch)
        captures[0].__exit__()  # not in reverse order
        first(**batch)
        second(**batch)
        captures[1].__exit__()
    assert (anything_installed(first), anything_installed(second)) == before
    for capture, maps in zip(captures, expected, strict=True):
        assert torch.equal(capture.maps(is_padding).cross, maps.cross)
        assert torch.equal(capture.maps(is_padding).queries, maps.queries)
    assert not torch.equal(expected[0].cross, expected[1].cross)
