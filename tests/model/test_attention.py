import math

import pytest
import torch
from torch import nn

from detr_lite.model.attention import Attention, ConditionalCrossAttention, attend, combine_masks


@pytest.fixture
def tokens():
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 5, 32), torch.randn(2, 9, 32), torch.randn(2, 9, 32)
    is_padding = torch.zeros(2, 9, dtype=torch.bool)
    is_padding[1, 6:] = True
    return query, key, value, is_padding


def torch_reference(attention: Attention) -> nn.MultiheadAttention:
    """torch's module with the same weights."""
    for linear in (attention.query, attention.key, attention.value, attention.output):
        nn.init.normal_(linear.bias)  # zero biases would hide a forgotten one
    reference = nn.MultiheadAttention(32, attention.heads, batch_first=True).eval()
    state = {
        "in_proj_weight": torch.cat([attention.query.weight, attention.key.weight, attention.value.weight]),
        "in_proj_bias": torch.cat([attention.query.bias, attention.key.bias, attention.value.bias]),
        "out_proj.weight": attention.output.weight,
        "out_proj.bias": attention.output.bias,
    }
    reference.load_state_dict(state)
    return reference


@pytest.mark.parametrize("heads", [1, 4, 8])
@pytest.mark.parametrize("need_weights", [False, True])
def test_attention_is_torchs(tokens, heads, need_weights):
    query, key, value, is_padding = tokens
    attention = Attention(32, heads).eval()
    expected, weights = torch_reference(attention)(
        query, key, value, key_padding_mask=is_padding, average_attn_weights=False
    )
    attended = attention(query=query, key=key, value=value, attn_mask=~is_padding[:, None], need_weights=need_weights)
    torch.testing.assert_close(attended.values, expected, atol=1e-5, rtol=1e-5)
    if need_weights:
        torch.testing.assert_close(attended.weights, weights, atol=1e-6, rtol=1e-5)
    else:
        assert attended.weights is None


@pytest.mark.parametrize("need_weights", [False, True])
def test_a_bias_is_torchs_float_mask(tokens, need_weights):
    query, key, value, is_padding = tokens
    attention, bias = Attention(32, 4).eval(), torch.randn(2, 4, 5, 9)
    mask = bias.masked_fill(is_padding[:, None, None], -math.inf).flatten(0, 1)
    expected, weights = torch_reference(attention)(query, key, value, attn_mask=mask, average_attn_weights=False)
    attended = attention(
        query=query, key=key, value=value, attn_mask=~is_padding[:, None], bias=bias, need_weights=need_weights
    )
    torch.testing.assert_close(attended.values, expected, atol=1e-5, rtol=1e-5)
    if need_weights:
        torch.testing.assert_close(attended.weights, weights, atol=1e-6, rtol=1e-5)


def test_initial_weights_have_torchs_standard_deviation():
    torch.manual_seed(0)
    attention, reference = Attention(256, 8), nn.MultiheadAttention(256, 8)
    for weight in (attention.query.weight, attention.key.weight, attention.value.weight):
        torch.testing.assert_close(weight.std(), reference.in_proj_weight.std(), rtol=0.02, atol=0)
    assert not attention.query.bias.any()


def test_weights_are_0_on_padding_and_sum_to_1(tokens):
    query, key, value, is_padding = tokens
    attended = Attention(32, 4)(query=query, key=key, value=value, attn_mask=~is_padding[:, None], need_weights=True)
    torch.testing.assert_close(attended.weights.sum(-1), torch.ones(2, 4, 5))
    assert not attended.weights[1, :, :, 6:].any()


@pytest.mark.parametrize("need_weights", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
def test_a_row_of_padding_alone_is_finite(tokens, need_weights, with_bias):
    query, key, value, _ = tokens
    attn_mask = torch.zeros(2, 1, 9, dtype=torch.bool)
    query.requires_grad_()
    if with_bias:
        attention = ConditionalCrossAttention(32, 4)
        attended = attention(
            query=query, query_position=query, key=key, key_position=key, value=value, attn_mask=attn_mask,
            bias=torch.randn(2, 4, 5, 9), need_weights=need_weights,
        )  # fmt: skip
    else:
        attended = Attention(32, 4)(query=query, key=key, value=value, attn_mask=attn_mask, need_weights=need_weights)
    attended.values.sum().backward()
    assert attended.values.isfinite().all()
    assert query.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1.0, 200.0, 1e4])
@pytest.mark.parametrize("bias", [None, 0.0, -3e4, 3e4])
def test_large_scores_are_finite_and_equal_with_weights(dtype, size, bias):
    """Products beyond the range of float16 and large biases; one image is partly padding, one entirely."""
    torch.manual_seed(0)
    query, key = ((size * torch.randn(3, 2, 4, 8)).to(dtype).requires_grad_() for _ in range(2))
    value = torch.randn(3, 2, 4, 8).to(dtype).requires_grad_()
    attn_mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()[:, None]
    mask = combine_masks(attn_mask, None if bias is None else bias + torch.randn(3, 2, 4, 4))
    fused, _ = attend(query, key, value, mask)
    explicit, weights = attend(query, key, value, mask, need_weights=True)
    (fused.float().sum() + explicit.float().sum()).backward()
    for values in (fused, explicit, weights, query.grad, key.grad, value.grad):
        assert values.isfinite().all()
    assert not weights[1, :, :, 2:].any()
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 4))
    if not bias or dtype == torch.float32:  # in half precision the bias hides the scores
        tolerance = 1e-4 if dtype == torch.float32 else 2e-2
        torch.testing.assert_close(fused, explicit, atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("need_weights", [False, True])
def test_conditional_cross_attention_adds_content_position_and_bias(tokens, need_weights):
    """By hand, head by head: (content . content + position . position) / sqrt(2 channels) + bias."""
    query, key, value, is_padding = tokens
    query_position, key_position, bias = torch.randn(2, 5, 32), torch.randn(2, 9, 32), torch.randn(2, 4, 5, 9)
    attention = ConditionalCrossAttention(32, 4).eval()
    heads = []
    for head in range(4):
        part = slice(8 * head, 8 * head + 8)
        content = attention.query_content(query)[..., part] @ attention.key_content(key)[..., part].mT
        position = (
            attention.query_position(query_position)[..., part] @ attention.key_position(key_position)[..., part].mT
        )
        score = (content + position) / math.sqrt(16) + bias[:, head]
        score = score.masked_fill(is_padding[:, None], -math.inf)
        heads.append(score.softmax(-1) @ attention.value(value)[..., part])
    expected = attention.output(torch.cat(heads, dim=-1))
    attended = attention(
        query=query, query_position=query_position, key=key, key_position=key_position, value=value,
        attn_mask=~is_padding[:, None], bias=bias, need_weights=need_weights,
    )  # fmt: skip
    torch.testing.assert_close(attended.values, expected, atol=1e-5, rtol=1e-5)


def test_dropout_applies_to_the_weights_in_training_only(tokens):
    query, key, value, _ = tokens
    attention = Attention(32, 4, dropout=0.5)
    once, again = (attention(query=query, key=key, value=value).values for _ in range(2))
    assert not torch.equal(once, again)
    attention.eval()
    once, again = (attention(query=query, key=key, value=value).values for _ in range(2))
    assert torch.equal(once, again)


def test_dim_must_be_divisible_by_heads():
    for attention in (Attention, ConditionalCrossAttention):
        with pytest.raises(ValueError, match="dim 30 is not divisible by 4 heads"):
            attention(30, 4)


def test_no_masks_combine_to_none():
    assert combine_masks(None, None) is None


@pytest.mark.parametrize("kind", ["no mask", "padding", "queries", "bias"])
def test_written_out_attention_in_bfloat16(kind):
    """Against double precision; bfloat16 has 8 significant bits."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 4, 5, 16), torch.randn(2, 4, 9, 16)
    value, bias = torch.randn(2, 4, 9, 8), torch.randn(2, 4, 5, 9)
    attn_mask = torch.rand(2, 1 if kind == "padding" else 5, 9) < 0.6
    attn_mask[1] = False  # everything may be padding
    masks = {
        "no mask": None,
        "padding": combine_masks(attn_mask, None),
        "queries": combine_masks(attn_mask[:1], None),
        "bias": combine_masks(attn_mask, bias),
    }
    mask = masks[kind]
    exact, _ = attend(
        query.double(),
        key.double(),
        value.double(),
        mask if mask is None else mask.double() if kind == "bias" else mask,
    )
    halves = [part.bfloat16().requires_grad_() for part in (query, key, value)]
    values, weights = attend(*halves, mask)
    assert weights is None
    assert values.dtype == torch.bfloat16
    torch.testing.assert_close(values.double(), exact, atol=0.05, rtol=0)
    values.float().sum().backward()
    assert all(part.grad.isfinite().all() for part in halves)


def test_attention_with_a_learned_bias_has_torchs_values_and_gradients():
    torch.manual_seed(0)
    shapes = ((2, 4, 5, 16), (2, 4, 9, 16), (2, 4, 9, 8), (2, 4, 5, 9))
    parts = [torch.randn(shape).requires_grad_() for shape in shapes]
    attn_mask = torch.rand(2, 5, 9) < 0.6
    attn_mask[1, 2:] = False

    def gradients(function):
        query, key, value, bias = parts
        values = function(query, key, value, combine_masks(attn_mask, bias))
        return [values, *torch.autograd.grad(values.square().sum(), parts)]

    def fused(query, key, value, mask):
        return nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)

    values = gradients(lambda *inputs: attend(*inputs)[0])
    for value, expected in zip(values, gradients(fused), strict=True):
        torch.testing.assert_close(value, expected, atol=1e-5, rtol=1e-5)


def test_written_out_attention_applies_dropout_to_the_weights():
    torch.manual_seed(0)
    query, key, value = (torch.randn(1, 1, 200, 8).bfloat16() for _ in range(3))
    values, _ = attend(query, key, torch.ones_like(value), None, dropout=0.5)
    assert values.float().mean() == pytest.approx(1, abs=0.05)  # the other weights are scaled up
    assert values.float().std() > 0.02


def test_fewer_value_channels_than_key_channels():
    """As in conditional cross-attention; torch's fused kernel gets padded values."""
    torch.manual_seed(0)
    query, key, value = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 7, 8), torch.randn(2, 3, 7, 4)
    mask = torch.randn(2, 3, 5, 7)
    fused, _ = attend(query, key, value, mask)
    separate, _ = attend(query, key, value, mask, need_weights=True)
    assert fused.shape == (2, 3, 5, 4)
    torch.testing.assert_close(fused, separate)
