"""Texts written by a `CausalDecoder`: greedy, drawn at random, or by beam search."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from detr_lite.model.autoregressive import CausalDecoder
from detr_lite.model.encoder import Memory

LENGTH_PENALTY = 0.6
"""Exponent of the length penalty of beam search, as chosen by its authors (arXiv 1609.08144, section 7)."""


@dataclass(frozen=True)
class Hypothesis:
    """A text that beam search found."""

    tokens: list[int]
    """Without the prefix and the end token."""
    log_probability: float
    score: float
    """The log probability over the length penalty; the higher, the better."""
    is_complete: bool
    """Whether it came to its end token within the allowed length."""


def greedy(
    decoder: CausalDecoder,
    prefix: Int[Tensor, "batch token"],
    end: int,
    max_tokens: int,
    memory: Memory | None = None,
    use_cache: bool = True,
) -> list[list[int]]:
    """The most probable next token again and again, up to `max_tokens` or `end`; without prefix and end token.

    Args:
        prefix: the start token, or more of the text.
        use_cache: keep keys and values; without, all tokens are computed again for each new one.
    """
    return _write(decoder, prefix, end, max_tokens, memory, use_cache, lambda scores: scores.argmax(-1))


def sample(
    decoder: CausalDecoder,
    prefix: Int[Tensor, "batch token"],
    end: int,
    max_tokens: int,
    memory: Memory | None = None,
    use_cache: bool = True,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> list[list[int]]:
    """Like `greedy`, with each token drawn by its probability; a `temperature` above 1 makes the rare ones likelier."""
    if temperature <= 0:
        raise ValueError(f"temperature is {temperature}, and must be above 0")

    def choose(scores: Tensor) -> Tensor:
        return torch.multinomial((scores / temperature).softmax(-1), 1, generator=generator)[:, 0]

    return _write(decoder, prefix, end, max_tokens, memory, use_cache, choose)


def beam_search(
    decoder: CausalDecoder,
    prefix: Int[Tensor, "batch token"],
    end: int,
    max_tokens: int,
    memory: Memory | None = None,
    use_cache: bool = True,
    width: int = 4,
    length_penalty: float = LENGTH_PENALTY,
) -> list[list[Hypothesis]]:
    """For each row of the prefix at most `width` texts, the best first (arXiv 1609.08144, section 7, without coverage).

    Each step keeps the `width` most probable unfinished texts. It ends when none of them can still get a better score
    than the `width` best finished ones. Width 1 without a length penalty is `greedy`.

    Args:
        length_penalty: alpha of equation 14, at least 0; 0 compares log probabilities, which favors short texts.
    """
    if width < 1 or length_penalty < 0:
        raise ValueError(f"width is {width} and length_penalty {length_penalty}; at least 1 and 0 are allowed")

    def penalty(length: int) -> float:
        return float(((5 + length) / 6) ** length_penalty)

    batch, start = prefix.shape
    first_row = torch.arange(batch, device=prefix.device)[:, None] * width
    tokens = prefix.repeat_interleave(width, 0)
    # All beams of a row are equal at first, so only one may go on.
    total = torch.full((batch, width), -torch.inf, device=prefix.device)
    total[:, 0] = 0
    found: list[list[Hypothesis]] = [[] for _ in range(batch)]

    def add(row: int, tokens: Tensor, log_probability: float, length: int, is_complete: bool) -> None:
        score = log_probability / penalty(length)
        found[row].append(Hypothesis(tokens[start:].tolist(), log_probability, score, is_complete))
        found[row] = sorted(found[row], key=lambda hypothesis: -hypothesis.score)[:width]

    with _next_token(decoder, memory, width, use_cache) as (log_probabilities, select):
        for length in range(1, max_tokens + 1):
            scores = log_probabilities(tokens)
            vocabulary = scores.shape[1]
            extended = total[:, :, None] + scores.view(batch, width, vocabulary)
            # A beam has one way to end, so that of twice as many at least `width` go on.
            best, index = extended.flatten(1).topk(2 * width)
            parents, is_end = first_row + index // vocabulary, index % vocabulary == end
            for row, rank in (is_end[:, :width] & best[:, :width].isfinite()).nonzero().tolist():
                add(row, tokens[parents[row, rank]], best[row, rank].item(), length, is_complete=True)
            going_on = is_end.int().argsort(dim=1, stable=True)[:, :width]
            total, parents = best.gather(1, going_on), parents.gather(1, going_on).flatten()
            new = (index % vocabulary).gather(1, going_on).flatten()
            tokens = torch.cat([tokens[parents], new[:, None]], dim=1)
            highest = (total.amax(1) / penalty(max_tokens)).tolist()
            if all(len(some) == width and some[-1].score >= limit for some, limit in zip(found, highest, strict=True)):
                return found
            select(parents)
    for row, beam in total.isfinite().nonzero().tolist():
        add(row, tokens[row * width + beam], total[row, beam].item(), max_tokens, is_complete=False)
    return found


def _write(
    decoder: CausalDecoder,
    prefix: Tensor,
    end: int,
    max_tokens: int,
    memory: Memory | None,
    use_cache: bool,
    choose: Callable[[Tensor], Tensor],
) -> list[list[int]]:
    tokens, is_done = prefix, torch.zeros(len(prefix), dtype=torch.bool, device=prefix.device)
    with _next_token(decoder, memory, 1, use_cache) as (log_probabilities, _):
        for _ in range(max_tokens):
            if is_done.all():
                break
            new = choose(log_probabilities(tokens)).masked_fill(is_done, end)
            tokens = torch.cat([tokens, new[:, None]], dim=1)
            is_done |= new == end
    written = tokens[:, prefix.shape[1] :].tolist()
    return [row[: row.index(end)] if end in row else row for row in written]


@contextmanager
def _next_token(
    decoder: CausalDecoder, memory: Memory | None, copies: int, use_cache: bool
) -> Iterator[tuple[Callable[[Tensor], Float[Tensor, "row vocabulary"]], Callable[[Int[Tensor, " row"]], None]],]:
    """A function of all tokens so far that gives the next one's log probabilities, and one that chooses rows.

    The decoder is in evaluation mode meanwhile. `copies` rows have the same memory.
    """
    cache = decoder.empty_cache() if use_cache else None
    if memory is not None and copies > 1:
        repeated = (each.repeat_interleave(copies, 0) for each in (memory.memory, memory.position, memory.is_padding))
        memory = Memory(*repeated)

    def log_probabilities(tokens: Tensor) -> Tensor:
        new = tokens[:, len(cache[0].tokens) :] if cache else tokens
        return decoder(new, memory, cache).logits[:, -1].float().log_softmax(-1)  # type: ignore[no-any-return]

    def select(rows: Tensor) -> None:
        """The rows of a beam search stay with their memory, so that its keys and values can stay as they are."""
        for layer in cache or ():
            layer.tokens.select(rows)

    was_training = decoder.training
    decoder.eval()
    try:
        with torch.no_grad():
            yield log_probabilities, select
    finally:
        decoder.train(was_training)
