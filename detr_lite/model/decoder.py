"""Decoders: layer after layer, queries talk to each other and then ask the image."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.model.attention import Attended, Attention, PositionGuidedAttention
from detr_lite.model.encoder import FeedForward, Tokens
from detr_lite.model.heads import Answer, DistributionHeads, PlainHeads, RefiningHeads
from detr_lite.model.attention_recorder import KeptWeights
from detr_lite.model.position import BoxPairBias, BoxRelativeBias, encode_coordinates
from detr_lite.model.queries import Queries
from detr_lite.structures import AttentionChoice, EdgeDistributions


@dataclass(frozen=True)
class Decoded:
    """Every layer's answer, with the weights of its attention if they were asked for."""

    logits: Float[Tensor, "layer batch query class"]
    boxes_cxcywh: Float[Tensor, "layer batch query 4"]
    edges: EdgeDistributions | None
    cross_attention: Float[Tensor, "kept_layer batch head kept_query token"] | None
    """From here on without the denoising queries, as users choose theirs by number."""
    self_attention: Float[Tensor, "kept_layer batch head kept_query other_query"] | None


@dataclass(frozen=True)
class Guide:
    """What tells a layer's queries where they are."""

    position: Float[Tensor, "batch query dim"]
    """Added to queries and keys of self-attention (and in the original to those of cross-attention)."""
    place: Float[Tensor, "batch query dim"] | None = None
    """Code of the anchor's centre, to be compared with the tokens' positions."""
    bias: Float[Tensor, "batch head query token"] | None = None
    """Of cross-attention."""
    pair_bias: Float[Tensor, "batch head query other_query"] | None = None
    """Of self-attention."""


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; post-norm (DETR, appendix A.3)."""

    cross_attention: nn.Module

    def __init__(self, dim: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.cross_attention = self.make_cross_attention(dim, heads, dropout)
        self.feedforward = FeedForward(dim, feedforward_dim, dropout)
        self.self_norm = nn.LayerNorm(dim)
        self.cross_norm = nn.LayerNorm(dim)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def make_cross_attention(self, dim: int, heads: int, dropout: float) -> nn.Module:
        return Attention(dim, heads, dropout)

    def forward(
        self,
        content: Float[Tensor, "batch query dim"],
        guide: Guide,
        tokens: Tokens,
        may_attend: Bool[Tensor, "1 query query"] | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch query dim"], Attended, Attended]:
        placed = content + guide.position
        among = self.self_attention(
            query=placed,
            key=placed,
            value=content,
            may_attend=may_attend,
            bias=guide.pair_bias,
            need_weights=need_weights,
        )
        content = self.self_norm(content + self.dropout(among.values))
        asked = self.ask_image(content, guide, tokens, need_weights)
        content = self.cross_norm(content + self.dropout(asked.values))
        content = self.feedforward_norm(content + self.dropout(self.feedforward(content)))
        return content, among, asked

    def ask_image(self, content: Tensor, guide: Guide, tokens: Tokens, need_weights: bool) -> Attended:
        attended = self.cross_attention(
            query=content + guide.position,
            key=tokens.values + tokens.position,
            value=tokens.values,
            may_attend=tokens.may_attend,
            need_weights=need_weights,
        )
        return cast(Attended, attended)


class GuidedDecoderLayer(DecoderLayer):
    """The same layer, whose cross-attention compares content with content and place with place."""

    def make_cross_attention(self, dim: int, heads: int, dropout: float) -> nn.Module:
        return PositionGuidedAttention(dim, heads, dropout)

    def ask_image(self, content: Tensor, guide: Guide, tokens: Tokens, need_weights: bool) -> Attended:
        attended = self.cross_attention(
            query=content,
            query_position=guide.place,
            key=tokens.values,
            key_position=tokens.position,
            value=tokens.values,
            bias=guide.bias,
            need_weights=need_weights,
        )
        return cast(Attended, attended)


class PlainDecoder(nn.Module):
    """The original's: learned positions for all layers, one final norm before the shared heads."""

    def __init__(self, dim: int, layers: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, feedforward_dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)

    def forward(
        self, queries: Queries, tokens: Tokens, heads: PlainHeads, choice: AttentionChoice | None = None
    ) -> Decoded:
        """`choice` is which weights to keep; by default none."""
        assert queries.position is not None
        guide = Guide(position=queries.position)
        content, steps = queries.content, _Steps(self.layers, queries, tokens, choice)
        for index, layer in enumerate(self.layers):
            content, among, asked = layer(content, guide, tokens, queries.may_attend, steps.need_weights(index))
            steps.add(heads(self.norm(content)), among, asked)
        return steps.stack()


class RefiningDecoder(nn.Module):
    """Anchors tell the queries where they are; each layer moves them (DAB-DETR, arXiv 2201.12329, section 4).

    The place code of the anchor's centre is scaled channel by channel by the content (conditional DETR, arXiv
    2108.06152, eq. 3), and the box biases cross-attention by where each token lies relative to it (Plain-DETR).

    Args:
        relate_queries: self-attention is biased by how the boxes of two queries lie to each other.
    """

    def __init__(
        self, dim: int, layers: int, heads: int, feedforward_dim: int, dropout: float, relate_queries: bool = True
    ) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.ModuleList(GuidedDecoderLayer(dim, heads, feedforward_dim, dropout) for _ in range(layers))
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.position = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.place_scale = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.bias = nn.ModuleList(BoxRelativeBias(heads) for _ in range(layers))
        self.pair_bias = nn.ModuleList(BoxPairBias(heads) for _ in range(layers)) if relate_queries else None

    def forward(
        self,
        queries: Queries,
        tokens: Tokens,
        heads: RefiningHeads | DistributionHeads,
        choice: AttentionChoice | None = None,
    ) -> Decoded:
        """`choice` is which weights to keep; by default none."""
        assert queries.anchors_cxcywh is not None
        assert queries.scores is not None
        content, anchors_cxcywh, scores = queries.content, queries.anchors_cxcywh, queries.scores
        steps = _Steps(self.layers, queries, tokens, choice)
        answer: Answer | None = None
        for index, layer in enumerate(self.layers):
            guide = self.guide(index, content, anchors_cxcywh, scores, tokens)
            content, among, asked = layer(content, guide, tokens, queries.may_attend, steps.need_weights(index))
            answer = heads(index, self.norms[index](content), anchors_cxcywh, answer)
            steps.add(answer, among, asked)
            anchors_cxcywh = answer.boxes_cxcywh.detach()
            scores = answer.logits.detach().sigmoid().amax(-1)
        return steps.stack()

    def guide(
        self,
        index: int,
        content: Float[Tensor, "batch query dim"],
        anchors_cxcywh: Float[Tensor, "batch query 4"],
        scores: Float[Tensor, "batch query"],
        tokens: Tokens,
    ) -> Guide:
        # y before x, as in the tokens' positions: the codes are compared by their dot product.
        code = encode_coordinates(anchors_cxcywh[..., [1, 0, 2, 3]], self.dim // 2, temperature=20.0)
        return Guide(
            position=self.position(code),
            place=code[..., : self.dim] * self.place_scale(content),
            bias=self.bias[index](cxcywh_to_xyxy(anchors_cxcywh), tokens.grids, tokens.spans),
            pair_bias=None if self.pair_bias is None else self.pair_bias[index](anchors_cxcywh, scores),
        )


class _Steps:
    """Collects the layers' answers, and those weights that are to be kept."""

    def __init__(self, layers: nn.ModuleList, queries: Queries, tokens: Tokens, choice: AttentionChoice | None) -> None:
        self.answers: list[Answer] = []
        self.noisy = 0 if queries.noisy is None else queries.noisy.labels.shape[1]
        self.like = queries.content
        self.cross: KeptWeights | None = None
        self.among: KeptWeights | None = None
        if choice is not None:
            first = cast(DecoderLayer, layers[0])
            batch, count = queries.content.shape[0], queries.content.shape[1] - self.noisy
            chosen = ("decoder", choice.layers, choice.heads, choice.queries)
            rows = (len(layers), batch, first.self_attention.heads, count)
            self.cross = KeptWeights(*chosen, shape=(*rows, tokens.values.shape[1]))
            self.among = KeptWeights(*chosen, shape=(*rows, count))

    def need_weights(self, layer: int) -> bool:
        return self.cross is not None and self.cross.wants(layer)

    def add(self, answer: Answer, among: Attended, asked: Attended) -> None:
        layer = len(self.answers)
        self.answers.append(answer)
        if self.cross is not None and asked.weights is not None:
            self.cross.add(layer, asked.weights[:, :, self.noisy :])
        if self.among is not None and among.weights is not None:
            self.among.add(layer, among.weights[:, :, self.noisy :, self.noisy :])

    def stack(self) -> Decoded:
        return Decoded(
            torch.stack([answer.logits for answer in self.answers]),
            torch.stack([answer.boxes_cxcywh for answer in self.answers]),
            self._edges(),
            None if self.cross is None else self.cross.stack(self.like),
            None if self.among is None else self.among.stack(self.like),
        )

    def _edges(self) -> EdgeDistributions | None:
        """None where no layer has any: the first one's answer only says where they would start."""
        by_layer = [answer.edges for answer in self.answers if answer.edges is not None]
        if len(by_layer) < 2:
            return None
        return replace(by_layer[0], logits=torch.cat([edges.logits for edges in by_layer]))
