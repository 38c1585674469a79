"""The model: an encoder for characters and a decoder for words, both made of detection's layers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from detr_lite.errors import DetrLiteError
from detr_lite.model.autoregressive import CausalDecoder, CausalOutput
from detr_lite.model.encoder import EncoderLayer, Memory
from detr_lite.model.position import index_embed

TASK = "translation"
PADDING, START, END = 0, 1, 2
MAX_WORDS = 24
"""Of a translation; the longest of the grammar has 14."""


class Vocabulary:
    """Tokens and their numbers; the first three are padding, start and end."""

    def __init__(self, tokens: Iterable[str]) -> None:
        self.tokens = ["", "<start>", "<end>", *sorted(set(tokens))]
        self._numbers = {token: number for number, token in enumerate(self.tokens)}

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, tokens: Sequence[str]) -> list[int]:
        unknown = [token for token in tokens if token not in self._numbers]
        if unknown:
            raise DetrLiteError(f"the model has never seen {', '.join(unknown)}; see its words in lexicon.py")
        return [self._numbers[token] for token in tokens]

    def text(self, separator: str) -> str:
        """All tokens but the first three, as a checkpoint keeps them."""
        return separator.join(self.tokens[3:])

    def decode(self, numbers: Sequence[int]) -> list[str]:
        return [self.tokens[number] for number in numbers]


def pad(rows: Sequence[Sequence[int]]) -> Int[Tensor, "row token"]:
    """Padded at the right to the longest."""
    longest = max(map(len, rows), default=0)
    return torch.tensor([[*row, *[PADDING] * (longest - len(row))] for row in rows], dtype=torch.long)


@dataclass(frozen=True)
class Size:
    dim: int = 128
    layers: int = 2
    heads: int = 4
    feedforward_dim: int = 256
    dropout: float = 0.1


class Translator(nn.Module):
    """Sentences to scores of the next word ("Attention Is All You Need", figure 1; positions as in DETR).

    Three attentions: in the encoder Q, K and V are the source; in the decoder first Q, K and V are the words so far,
    then Q are these words, K and V the source.
    """

    def __init__(self, characters: Vocabulary, words: Vocabulary, size: Size) -> None:
        super().__init__()
        self.characters, self.words = characters, words
        self.embed = nn.Embedding(len(characters), size.dim)
        self.encoder = nn.ModuleList(
            EncoderLayer(size.dim, size.heads, size.feedforward_dim, size.dropout) for _ in range(size.layers)
        )
        self.decoder = CausalDecoder(len(words), size.dim, size.layers, size.heads, size.feedforward_dim, size.dropout)

    def encode(self, source: Int[Tensor, "batch character"]) -> Memory:
        is_padding = source == PADDING
        tokens = self.embed(source)
        position = index_embed(torch.arange(source.shape[1], device=source.device), tokens.shape[2]).expand_as(tokens)
        for layer in self.encoder:
            tokens, _ = layer(tokens, position, attn_mask=~is_padding[:, None])
        return Memory(tokens, position, is_padding)

    def forward(
        self, source: Int[Tensor, "batch character"], target: Int[Tensor, "batch word"], need_weights: bool = False
    ) -> CausalOutput:
        """Each word of `target`, which begins with the start token, gets the scores of the word after it."""
        return self.decoder(target, self.encode(source), need_weights=need_weights)  # type: ignore[no-any-return]

    def attention(
        self, source: Int[Tensor, "batch character"], target: Int[Tensor, "batch word"]
    ) -> Float[Tensor, "batch word character"]:
        """Cross-attention of the last layer, the mean over its heads: what chose the word after each of `target`."""
        weights = self(source, target, need_weights=True).cross_attention
        return weights[-1].mean(dim=1)  # type: ignore[no-any-return]


def build_network(settings: Mapping[str, Any]) -> Translator:
    """From what a checkpoint says of it."""
    size = Size(**{name: settings[name] for name in asdict(Size())})
    return Translator(Vocabulary(settings["characters"]), Vocabulary(settings["words"].split()), size)
