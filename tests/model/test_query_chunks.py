"""Cross-attention of some queries at a time gives what that of all gives."""

import pytest
import torch

from detr_lite.model import query_chunks
from detr_lite.model.attention import ConditionalCrossAttention
from detr_lite.model.query_chunks import queries_at_once


def attend(bias, dropout=0.0, need_weights=False, training=True, per_query_mask=False):
    torch.manual_seed(0)
    attention = ConditionalCrossAttention(32, 4, dropout).train(training)
    inputs = {name: torch.randn(2, 7, 32, requires_grad=True) for name in ("query", "query_position")}
    inputs |= {name: torch.randn(2, 9, 32, requires_grad=True) for name in ("key", "key_position", "value")}
    weight = torch.randn(2, 4, 7, 9, requires_grad=True)
    mask = torch.rand(1, 7, 9) < 0.7 if per_query_mask else torch.ones(2, 1, 9).bool()
    with torch.set_grad_enabled(training):
        attended = attention(**inputs, attn_mask=mask, bias=bias(weight), need_weights=need_weights)
        if training:
            attended.values.square().sum().backward()
    gradients = [value.grad for value in (*inputs.values(), weight, *attention.parameters())]
    return attended, gradients


def whole(weight):
    return weight


def by_slices(sizes):
    def bias(weight):
        def some(which):
            sizes.append(which.stop - which.start)
            return weight[:, :, which]

        return some

    return bias


@pytest.mark.parametrize("per_query_mask", [False, True])
@pytest.mark.parametrize("training", [True, False])
def test_values_and_gradients_are_those_of_all_queries(monkeypatch, training, per_query_mask):
    expected, gradients = attend(whole, training=training, per_query_mask=per_query_mask)
    monkeypatch.setattr(query_chunks, "MAX_BIAS_BYTES", 2 * 4 * 3 * 9 * 4)  # of three queries
    sizes = []
    found, found_gradients = attend(by_slices(sizes), training=training, per_query_mask=per_query_mask)
    assert sorted(sizes) == sorted([3, 3, 1] * (1 + training))
    torch.testing.assert_close(found.values, expected.values)
    for one, other in zip(found_gradients, gradients, strict=True):
        if training:
            torch.testing.assert_close(one, other)


def test_a_small_bias_is_made_at_once():
    sizes = []
    expected, _ = attend(whole)
    found, _ = attend(by_slices(sizes))
    assert sizes == [7]
    assert torch.equal(found.values, expected.values)


def test_weights_are_those_of_all_queries(monkeypatch):
    expected, _ = attend(whole, need_weights=True)
    monkeypatch.setattr(query_chunks, "MAX_BIAS_BYTES", 1)
    found, _ = attend(by_slices([]), need_weights=True)
    assert torch.equal(found.weights, expected.weights)


def test_dropout_is_drawn_once(monkeypatch):
    """The gradient is that of the values: of a linear function, its dot product with the input is the output."""
    monkeypatch.setattr(query_chunks, "MAX_BIAS_BYTES", 1)
    torch.manual_seed(0)
    attention = ConditionalCrossAttention(32, 4, dropout=0.5)
    query, key = torch.randn(2, 5, 32), torch.randn(2, 9, 32)
    value = torch.randn(2, 9, 32, requires_grad=True)
    bias = torch.zeros(2, 4, 5, 9)
    torch.nn.init.zeros_(attention.value.bias)
    found = attention(
        query=query, query_position=query, key=key, key_position=key, value=value, bias=lambda which: bias[:, :, which]
    ).values.sum()
    (gradient,) = torch.autograd.grad(found, value)
    torch.testing.assert_close((gradient * value).sum(), found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bytes_", "count"), [(1, 1), (10**9, 100), (2 * 4 * 100 * 50 * 4 // 2, 50), (30_000, 17)])
def test_as_many_queries_as_fit(monkeypatch, bytes_, count):
    monkeypatch.setattr(query_chunks, "MAX_BIAS_BYTES", bytes_)
    assert queries_at_once(torch.zeros(2, 4, 100, 8), torch.zeros(2, 4, 50, 8)) == count
    assert queries_at_once(torch.zeros(2, 4, 0, 8), torch.zeros(2, 4, 50, 8)) == 0
