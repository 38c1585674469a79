"""Greedy decoding, sampling and beam search, against an exhaustive search and without the cache."""

import itertools
from dataclasses import replace

import pytest
import torch
from torch import nn

from detr_lite.model.autoregressive import CausalDecoder
from detr_lite.model.encoder import Memory
from detr_lite.model.generation import beam_search, greedy, sample

START, END, LENGTH = 0, 1, 4


def make_decoder(seed: int, vocabulary: int, cross_attention: bool = False) -> CausalDecoder:
    """Random, with scores that differ enough for texts of different lengths to be best."""
    torch.manual_seed(seed)
    decoder = CausalDecoder(vocabulary, 16, 2, 2, 32, dropout=0.1, cross_attention=cross_attention)
    nn.init.normal_(decoder.head.weight, std=0.5)
    return decoder.eval()


def make_memory(rows: int) -> Memory:
    generator = torch.Generator().manual_seed(7)
    is_padding = torch.arange(5) >= torch.randint(1, 6, (rows, 1), generator=generator)
    return Memory(torch.randn(rows, 5, 16, generator=generator), torch.zeros(rows, 5, 16), is_padding)


def log_probability(decoder: CausalDecoder, tokens: list[int], memory: Memory | None = None) -> float:
    """Of `tokens` after the start token, in one pass."""
    whole = torch.tensor([[START, *tokens]])
    scores = decoder(whole[:, :-1], memory).logits.log_softmax(-1)
    return scores[0].gather(1, whole[0, 1:, None]).sum().item()


def search_exhaustively(
    decoder: CausalDecoder, vocabulary: int, length_penalty: float
) -> list[tuple[float, list[int]]]:
    """Every text that ends within `LENGTH` tokens or is cut off there, the best first."""
    others = [token for token in range(vocabulary) if token != END]
    found = []
    with torch.no_grad():
        for count in range(LENGTH + 1):
            for tokens in itertools.product(others, repeat=count):
                written = [*tokens, END] if count < LENGTH else list(tokens)
                penalty = ((5 + len(written)) / 6) ** length_penalty
                found.append((log_probability(decoder, written) / penalty, list(tokens)))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 2.0])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.slow
def test_a_wide_beam_is_an_exhaustive_search(seed, length_penalty):
    vocabulary = 4
    decoder = make_decoder(seed, vocabulary)
    expected = search_exhaustively(decoder, vocabulary, length_penalty)
    [found] = beam_search(decoder, torch.tensor([[START]]), END, LENGTH, width=4**LENGTH, length_penalty=length_penalty)
    assert len(found) == len(expected) == 1 + 3 + 9 + 27 + 81
    assert [hypothesis.tokens for hypothesis in found[:20]] == [tokens for _, tokens in expected[:20]]
    for hypothesis, (score, _) in zip(found, expected, strict=True):
        assert hypothesis.score == pytest.approx(score, abs=1e-4)


@pytest.mark.slow
def test_the_length_penalty_favors_longer_texts():
    lengths = {0.0: 0, 2.0: 0}
    for seed, penalty in itertools.product(range(8), lengths):
        [found] = beam_search(make_decoder(seed, 6), torch.tensor([[START]]), END, 12, length_penalty=penalty)
        lengths[penalty] += len(found[0].tokens)
    assert lengths[2.0] > lengths[0.0]


@pytest.mark.stress
@pytest.mark.parametrize("cross_attention", [True, False])
@pytest.mark.parametrize("width", [1, 3])
def test_decoding_with_the_cache_is_as_without(cross_attention, width):
    for seed in range(5):
        decoder = make_decoder(seed, 12, cross_attention)
        memory = make_memory(6) if cross_attention else None
        prefix = torch.randint(2, 12, (6, 2), generator=torch.Generator().manual_seed(seed))
        arguments = (decoder, prefix, END, 9, memory)
        assert greedy(*arguments) == greedy(*arguments, use_cache=False)
        cached, plain = beam_search(*arguments, width=width), beam_search(*arguments, use_cache=False, width=width)
        for row, other in zip(cached, plain, strict=True):
            assert [replace(each, log_probability=0.0, score=0.0) for each in row] == [
                replace(each, log_probability=0.0, score=0.0) for each in other
            ]
            assert [each.score for each in row] == pytest.approx([each.score for each in other], abs=1e-5)


@pytest.mark.slow
def test_width_1_without_penalty_is_greedy_and_hypotheses_say_their_probability():
    decoder, memory = make_decoder(3, 12, cross_attention=True), make_memory(6)
    prefix = torch.full((6, 1), START)
    found = beam_search(decoder, prefix, END, 9, memory, width=1, length_penalty=0.0)
    assert [row[0].tokens for row in found] == greedy(decoder, prefix, END, 9, memory)
    for index, row in enumerate(beam_search(decoder, prefix, END, 9, memory)):
        assert len(row) == 4
        assert [each.score for each in row] == sorted((each.score for each in row), reverse=True)
        assert len({tuple(each.tokens) for each in row}) == 4
        own = Memory(memory.memory[index, None], memory.position[index, None], memory.is_padding[index, None])
        for each in row:
            written = [*each.tokens, END] if each.is_complete else each.tokens
            assert each.log_probability == pytest.approx(log_probability(decoder, written, own), abs=1e-4)


@pytest.mark.slow
def test_a_row_is_decoded_as_if_it_were_alone():
    decoder, memory = make_decoder(5, 12, cross_attention=True), make_memory(6)
    prefix = torch.full((6, 1), START)
    together = beam_search(decoder, prefix, END, 9, memory)
    for index in range(6):
        own = Memory(memory.memory[index, None], memory.position[index, None], memory.is_padding[index, None])
        [alone] = beam_search(decoder, prefix[:1], END, 9, own)
        assert [each.tokens for each in alone] == [each.tokens for each in together[index]]


def test_sampling_has_the_probabilities_of_the_model():
    decoder, rows = make_decoder(1, 5), 4000
    for temperature in (0.5, 1.0, 3.0):
        scores = decoder(torch.tensor([[START]])).logits[0, 0]
        expected = (scores / temperature).softmax(-1)
        generator = torch.Generator().manual_seed(0)
        prefix = torch.full((rows, 1), START)
        drawn = sample(decoder, prefix, END, 1, temperature=temperature, generator=generator)
        count = torch.tensor([sum((row or [END])[0] == token for row in drawn) for token in range(5)])
        assert (count / rows - expected).abs().max() < 0.03


def test_it_leaves_the_decoder_as_it_was_and_ignores_dropout():
    decoder = make_decoder(2, 12).train()
    prefix = torch.full((3, 1), START)
    assert greedy(decoder, prefix, END, 9) == greedy(decoder, prefix, END, 9)
    assert decoder.training
    assert decoder.head.weight.grad is None


def test_nothing_to_write():
    decoder = make_decoder(0, 12)
    empty = torch.zeros(0, 1, dtype=torch.long)
    assert greedy(decoder, empty, END, 5) == beam_search(decoder, empty, END, 5) == []
    assert greedy(decoder, torch.zeros(2, 1, dtype=torch.long), END, 0) == [[], []]


@pytest.mark.parametrize(
    ("function", "wrong"),
    [(sample, {"temperature": 0.0}), (beam_search, {"width": 0}), (beam_search, {"length_penalty": -1.0})],
)
def test_wrong_settings(function, wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        function(make_decoder(0, 12), torch.zeros(1, 1, dtype=torch.long), END, 5, **wrong)
