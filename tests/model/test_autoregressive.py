"""The causal decoder against torch's layers, and what its mask and its cache promise."""

import math

import pytest
import torch
from torch import nn

from detr_lite.model.attention import Attention
from detr_lite.model.autoregressive import CausalDecoder
from detr_lite.model.decoder import DecoderLayer, QueryPosition
from detr_lite.model.encoder import EncoderLayer, Memory
from detr_lite.model.position import index_embed

DIM, HEADS, VOCABULARY = 16, 4, 11


@pytest.fixture
def memory() -> Memory:
    """Two sentences of 7 and 4 tokens."""
    torch.manual_seed(1)
    is_padding = torch.arange(7) >= torch.tensor([[7], [4]])
    return Memory(torch.randn(2, 7, DIM), torch.randn(2, 7, DIM), is_padding)


@pytest.fixture
def tokens() -> torch.Tensor:
    return torch.randint(VOCABULARY, (2, 6), generator=torch.Generator().manual_seed(2))


def make_decoder(cross_attention: bool = True, dropout: float = 0.0) -> CausalDecoder:
    torch.manual_seed(0)
    decoder = CausalDecoder(VOCABULARY, DIM, 3, HEADS, 32, dropout, cross_attention)
    for name, parameter in decoder.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter)  # zero biases would hide a forgotten one
    return decoder


def copy_attention(attention: Attention, reference: nn.MultiheadAttention) -> None:
    nn.init.normal_(reference.in_proj_bias)
    nn.init.normal_(reference.out_proj.bias)
    for name, weight, bias in zip(
        ("query", "key", "value"), reference.in_proj_weight.chunk(3), reference.in_proj_bias.chunk(3), strict=True
    ):
        attention.get_submodule(name).load_state_dict({"weight": weight, "bias": bias})
    attention.output.load_state_dict(reference.out_proj.state_dict())


def copy_rest(layer: nn.Module, reference: nn.Module, norms: dict[str, str]) -> None:
    for name, theirs in {**norms, "feedforward.0": "linear1", "feedforward.3": "linear2"}.items():
        part = reference.get_submodule(theirs)
        nn.init.normal_(part.weight)
        nn.init.normal_(part.bias)
        layer.get_submodule(name).load_state_dict(part.state_dict())


def test_a_causal_decoder_layer_is_torchs(memory):
    torch.manual_seed(0)
    reference = nn.TransformerDecoderLayer(DIM, HEADS, 32, dropout=0.0, batch_first=True)
    layer = DecoderLayer(DIM, HEADS, 32, dropout=0.0)
    copy_attention(layer.self_attention, reference.self_attn)
    copy_attention(layer.cross_attention, reference.multihead_attn)
    copy_rest(layer, reference, {"self_norm": "norm1", "cross_norm": "norm2", "feedforward_norm": "norm3"})
    hidden, no_position = torch.randn(2, 5, DIM), QueryPosition(embed=torch.zeros(2, 5, DIM))
    expected = reference(
        hidden,
        memory.memory,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(5),
        memory_key_padding_mask=memory.is_padding,
        tgt_is_causal=True,
    )
    unplaced = Memory(memory.memory, torch.zeros(2, 7, DIM), memory.is_padding)
    output, _, _ = layer(hidden, no_position, unplaced, torch.ones(1, 5, 5).tril().bool())
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_a_causal_encoder_layer_is_torchs():
    torch.manual_seed(0)
    reference = nn.TransformerEncoderLayer(DIM, HEADS, 32, dropout=0.0, batch_first=True)
    layer = EncoderLayer(DIM, HEADS, 32, dropout=0.0)
    copy_attention(layer.attention, reference.self_attn)
    copy_rest(layer, reference, {"attention_norm": "norm1", "feedforward_norm": "norm2"})
    hidden = torch.randn(2, 5, DIM)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    expected = reference(hidden, src_mask=mask, is_causal=True)
    output, _ = layer(hidden, torch.zeros(2, 5, DIM), torch.ones(1, 5, 5).tril().bool())
    torch.testing.assert_close(output, expected, atol=1e-5, rtol=1e-5)


def test_positions_are_those_of_attention_is_all_you_need():
    """Section 3.5, by hand: PE(p, 2i) = sin(p / 10000^(2i / dim)), PE(p, 2i + 1) the cosine."""
    embedding = index_embed(torch.tensor([0, 3, 250]), 8)
    for row, place in enumerate((0, 3, 250)):
        for channel in range(8):
            angle = place / 10000 ** ((channel // 2 * 2) / 8)
            expected = math.cos(angle) if channel % 2 else math.sin(angle)
            assert embedding[row, channel].item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("cross_attention", [True, False])
@pytest.mark.parametrize("changed", range(6))
def test_a_change_in_the_future_changes_no_past_answer(memory, tokens, cross_attention, changed):
    decoder = make_decoder(cross_attention)
    given = memory if cross_attention else None
    other = tokens.clone()
    other[:, changed:] = (other[:, changed:] + 1) % VOCABULARY
    before, after = decoder(tokens, given).logits, decoder(other, given).logits
    torch.testing.assert_close(before[:, :changed], after[:, :changed], atol=1e-6, rtol=1e-6)
    assert (before[:, changed:] - after[:, changed:]).abs().amax(-1).gt(1e-3).all()


@pytest.mark.parametrize("cross_attention", [True, False])
@pytest.mark.parametrize("pieces", [[1] * 6, [3, 3], [1, 4, 1], [6], [2, 0, 4]])
def test_with_the_cache_all_is_as_without(memory, tokens, cross_attention, pieces):
    decoder, given = make_decoder(cross_attention), memory if cross_attention else None
    whole = decoder(tokens, given, need_weights=True)
    cache, start = decoder.empty_cache(), 0
    for count in pieces:
        part = decoder(tokens[:, start : start + count], given, cache, need_weights=True)
        rows = slice(start, start + count)
        torch.testing.assert_close(part.logits, whole.logits[:, rows], atol=1e-5, rtol=1e-5)
        expected = whole.self_attention[:, :, :, rows, : start + count]
        torch.testing.assert_close(part.self_attention, expected, atol=1e-6, rtol=1e-5)
        if cross_attention:
            torch.testing.assert_close(part.cross_attention, whole.cross_attention[:, :, :, rows], atol=1e-6, rtol=1e-5)
        start += count


def test_the_cache_projects_no_token_twice(memory, tokens):
    decoder, seen = make_decoder(), []
    for layer in decoder.layers:
        for attention in (layer.self_attention, layer.cross_attention):
            attention.key.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0].shape[1]))
    cache = decoder.empty_cache()
    for token in tokens.split(1, dim=1):
        decoder(token, memory, cache)
    assert sorted(seen) == 3 * 6 * [1] + 3 * [7]


def test_weights_are_causal_and_sum_to_1(memory, tokens):
    output = make_decoder()(tokens, memory, need_weights=True)
    assert output.self_attention.shape == (3, 2, HEADS, 6, 6)
    assert output.cross_attention.shape == (3, 2, HEADS, 6, 7)
    assert not output.self_attention.triu(1).any()
    assert not output.cross_attention[:, 1, :, :, 4:].any()
    for weights in (output.self_attention, output.cross_attention):
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    plain = make_decoder()(tokens, memory)
    torch.testing.assert_close(plain.logits, output.logits, atol=1e-5, rtol=1e-5)
    assert plain.self_attention is None
    assert plain.cross_attention is None


def test_padding_of_the_memory_changes_nothing(memory, tokens):
    decoder = make_decoder()
    alone = Memory(memory.memory[1:, :4], memory.position[1:, :4], memory.is_padding[1:, :4])
    both, one = decoder(tokens, memory).logits[1:], decoder(tokens[1:], alone).logits
    torch.testing.assert_close(both, one, atol=1e-5, rtol=1e-5)
    memory.memory[1, 4:] = 1e6
    torch.testing.assert_close(decoder(tokens, memory).logits[1:], one, atol=1e-5, rtol=1e-5)


def test_the_memory_matters_only_with_cross_attention(memory, tokens):
    with_memory, without = make_decoder(), make_decoder(cross_attention=False)
    assert not any("cross" in name for name, _ in without.named_parameters())
    with pytest.raises(ValueError, match="needs a memory"):
        with_memory(tokens)
    with pytest.raises(ValueError, match="needs a memory"):
        without(tokens, memory)


@pytest.mark.parametrize("cross_attention", [True, False])
def test_every_parameter_learns(memory, tokens, cross_attention):
    """But biases of keys, which the softmax cancels."""
    decoder = make_decoder(cross_attention, dropout=0.1)
    logits = decoder(tokens, memory if cross_attention else None).logits
    nn.functional.cross_entropy(logits.flatten(0, 1), tokens.roll(-1, 1).flatten()).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert name.endswith("key.bias") or parameter.grad.abs().max() > 1e-6, name


def test_without_rows_or_tokens():
    decoder = make_decoder(cross_attention=False)
    for rows, count in ((0, 3), (2, 0)):
        output = decoder(torch.zeros(rows, count, dtype=torch.long), need_weights=True)
        assert output.logits.shape == (rows, count, VOCABULARY)
        assert output.self_attention.shape == (3, rows, HEADS, count, count)
