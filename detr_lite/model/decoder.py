"""Decoders: in each layer queries attend to each other (self-attention), then to the memory (cross-attention)."""

from dataclasses import dataclass, replace
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from detr_lite.attention_recorder import AttentionRecorder
from detr_lite.box_ops import cxcywh_to_xyxy
from detr_lite.model.attention import Attended, Attention, ConditionalCrossAttention
from detr_lite.model.encoder import EncoderOutput, FeedForward, Memory
from detr_lite.model.heads import DetrHeads, FDRHeads, HeadOutput, RefinementHeads
from detr_lite.model.key_value_cache import KeyValueCache, LayerCache
from detr_lite.model.onednn import Linear
from detr_lite.model.position import BoxPairBias, BoxRelativeBias, sine_embed
from detr_lite.model.queries import Queries
from detr_lite.model.query_chunks import QueryBias
from detr_lite.model.recompute import recomputed
from detr_lite.structures import AttentionSelection, EdgeDistributions


@dataclass(frozen=True)
class DecoderOutput:
    """Predictions of every layer, and the selected attention weights."""

    logits: Float[Tensor, "layer batch query class"]
    boxes_cxcywh: Float[Tensor, "layer batch query 4"]
    edges: EdgeDistributions | None
    cross_attention: Float[Tensor, "selected_layer batch head selected_query token"] | None
    """Like `self_attention` without the denoising queries."""
    self_attention: Float[Tensor, "selected_layer batch head selected_query other_query"] | None


@dataclass(frozen=True)
class QueryPosition:
    """Position of the queries of one layer, in each form that attention uses."""

    embed: Float[Tensor, "batch query dim"]
    """Added to the queries and keys of self-attention, and in `detr` to the queries of cross-attention."""
    query_sine: Float[Tensor, "batch query dim"] | None = None
    """Scaled sine embedding of the anchor's center: the position part of the query in conditional cross-attention."""
    bias: Float[Tensor, "batch head query token"] | QueryBias | None = None
    """Added to the scores of cross-attention; a function makes that of some queries when it is needed."""
    pair_bias: Float[Tensor, "batch head query other_query"] | None = None
    """Added to the scores of self-attention."""


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward; post-norm (DETR, appendix A.3)."""

    cross_attention: nn.Module
    has_key_bias = True

    def __init__(self, dim: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout, self.has_key_bias)
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
        queries: Float[Tensor, "batch query dim"],
        position: QueryPosition,
        encoded: Memory,
        attn_mask: Bool[Tensor, "1 query all_queries"] | None = None,
        need_weights: bool = False,
        cache: LayerCache | None = None,
    ) -> tuple[Float[Tensor, "batch query dim"], Attended, Attended]:
        """With `cache` queries attend to the earlier ones that it holds, too."""
        query = queries + position.embed
        self_attended = self.self_attention(
            query=query,
            key=query,
            value=queries,
            attn_mask=attn_mask,
            bias=position.pair_bias,
            need_weights=need_weights,
            cache=None if cache is None else cache.tokens,
        )
        queries = self.self_norm(queries + self.dropout(self_attended.values))
        memory_cache = None if cache is None else cache.memory
        cross_attended = self.cross_attend(queries, position, encoded, need_weights, memory_cache)
        queries = self.cross_norm(queries + self.dropout(cross_attended.values))
        queries = self.feedforward_norm(queries + self.dropout(self.feedforward(queries)))
        return queries, self_attended, cross_attended

    def cross_attend(
        self,
        queries: Tensor,
        position: QueryPosition,
        encoded: Memory,
        need_weights: bool,
        cache: KeyValueCache | None = None,
    ) -> Attended:
        attended = self.cross_attention(
            query=queries + position.embed,
            key=encoded.memory + encoded.position,
            value=encoded.memory,
            attn_mask=encoded.attn_mask,
            bias=position.bias,
            need_weights=need_weights,
            cache=cache,
        )
        return cast(Attended, attended)


class ConditionalDecoderLayer(DecoderLayer):
    """A decoder layer whose cross-attention scores content and position separately (Conditional DETR)."""

    has_key_bias = False

    def make_cross_attention(self, dim: int, heads: int, dropout: float) -> nn.Module:
        return ConditionalCrossAttention(dim, heads, dropout)

    def cross_attend(
        self,
        queries: Tensor,
        position: QueryPosition,
        encoded: Memory,
        need_weights: bool,
        cache: KeyValueCache | None = None,
    ) -> Attended:
        """`cache` must be None: keys are scored in two parts, which it does not hold."""
        assert cache is None
        attended = self.cross_attention(
            query=queries,
            query_position=position.query_sine,
            key=encoded.memory,
            key_position=encoded.position,
            value=encoded.memory,
            bias=position.bias,
            need_weights=need_weights,
        )
        return cast(Attended, attended)


class DetrDecoder(nn.Module):
    """DETR's decoder: learned query positions for all layers, one final norm before the shared heads (appendix A.3)."""

    def __init__(self, dim: int, layers: int, heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, feedforward_dim, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(dim)
        self.recompute = False
        """Gradient checkpointing of the layers."""

    def forward(
        self, initial: Queries, encoded: EncoderOutput, heads: DetrHeads, selection: AttentionSelection | None = None
    ) -> DecoderOutput:
        """`selection` are the attention weights to return; by default none."""
        assert initial.position is not None
        position = QueryPosition(embed=initial.position)
        queries = initial.content
        collector = LayerCollector(self.layers, initial, encoded, selection)
        for index, layer in enumerate(self.layers):
            arguments = (queries, position, encoded, initial.attn_mask, collector.need_weights(index))
            queries, self_attended, cross_attended = (
                recomputed(layer, *arguments) if self.recompute and self.training else layer(*arguments)
            )
            collector.add(heads(self.norm(queries)), self_attended, cross_attended)
        return collector.stack()


class AnchorDecoder(nn.Module):
    """Queries with anchor boxes that each layer refines (DAB-DETR, arXiv 2201.12329, section 4).

    The sine embedding of the anchor's center is scaled by a function of the query (Conditional DETR, arXiv 2108.06152,
    eq. 3), and cross-attention is biased by each token's position relative to the box (Plain-DETR, arXiv 2308.01904).

    Args:
        relation_bias: bias self-attention by the relation between the boxes of two queries (Relation-DETR).
    """

    def __init__(
        self, dim: int, layers: int, heads: int, feedforward_dim: int, dropout: float, relation_bias: bool = True
    ) -> None:
        super().__init__()
        self.dim = dim
        self.layers = nn.ModuleList(
            ConditionalDecoderLayer(dim, heads, feedforward_dim, dropout) for _ in range(layers)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(dim) for _ in range(layers))
        self.position = nn.Sequential(Linear(2 * dim, dim), nn.ReLU(), Linear(dim, dim))
        self.query_scale = nn.Sequential(Linear(dim, dim), nn.ReLU(), Linear(dim, dim))
        self.bias = nn.ModuleList(BoxRelativeBias(heads) for _ in range(layers))
        self.pair_bias = nn.ModuleList(BoxPairBias(heads) for _ in range(layers)) if relation_bias else None
        self.recompute = False
        """Gradient checkpointing of the layers, with their positions and biases."""

    def forward(
        self,
        initial: Queries,
        encoded: EncoderOutput,
        heads: RefinementHeads | FDRHeads,
        selection: AttentionSelection | None = None,
    ) -> DecoderOutput:
        """`selection` are the attention weights to return; by default none."""
        assert initial.anchors_cxcywh is not None
        assert initial.scores is not None
        queries, anchors_cxcywh, scores = initial.content, initial.anchors_cxcywh, initial.scores
        collector = LayerCollector(self.layers, initial, encoded, selection)
        output: HeadOutput | None = None

        def run_layer(
            index: int, queries: Tensor, anchors_cxcywh: Tensor, scores: Tensor
        ) -> tuple[Tensor, Attended, Attended]:
            position = self.query_position(index, queries, anchors_cxcywh, scores, encoded)
            layer = cast(DecoderLayer, self.layers[index])
            return layer(queries, position, encoded, initial.attn_mask, collector.need_weights(index))  # type: ignore[no-any-return]

        for index in range(len(self.layers)):
            arguments = (index, queries, anchors_cxcywh, scores)
            queries, self_attended, cross_attended = (
                recomputed(run_layer, *arguments) if self.recompute and self.training else run_layer(*arguments)
            )
            output = heads(index, self.norms[index](queries), anchors_cxcywh, output)
            collector.add(output, self_attended, cross_attended)
            anchors_cxcywh = output.boxes_cxcywh.detach()
            scores = output.logits.detach().sigmoid().amax(-1)
        return collector.stack()

    def query_position(
        self,
        index: int,
        queries: Float[Tensor, "batch query dim"],
        anchors_cxcywh: Float[Tensor, "batch query 4"],
        scores: Float[Tensor, "batch query"],
        encoded: EncoderOutput,
    ) -> QueryPosition:
        # y before x, as in the positions of the memory, with which the dot product is taken. Not [..., [1, 0, 2, 3]]:
        # a GPU waits for an index made of a list.
        yxhw = torch.cat([anchors_cxcywh[..., :2].flip(-1), anchors_cxcywh[..., 2:]], dim=-1)
        sine = sine_embed(yxhw, self.dim // 2, temperature=20.0)
        return QueryPosition(
            embed=self.position(sine),
            query_sine=sine[..., : self.dim] * self.query_scale(queries),
            bias=lambda which: self.bias[index](cxcywh_to_xyxy(anchors_cxcywh[:, which]), encoded.grids, encoded.spans),
            pair_bias=None if self.pair_bias is None else self.pair_bias[index](anchors_cxcywh, scores),
        )


class LayerCollector:
    """Collects the predictions and the selected attention weights of the layers."""

    def __init__(
        self, layers: nn.ModuleList, initial: Queries, encoded: EncoderOutput, selection: AttentionSelection | None
    ) -> None:
        self.outputs: list[HeadOutput] = []
        self.num_denoising = 0 if initial.denoising is None else initial.denoising.labels.shape[1]
        self.like = initial.content
        self.cross_attention: AttentionRecorder | None = None
        self.self_attention: AttentionRecorder | None = None
        if selection is not None:
            first = cast(DecoderLayer, layers[0])
            batch, num_queries = initial.content.shape[0], initial.content.shape[1] - self.num_denoising
            selected = ("decoder", selection.layers, selection.heads, selection.queries)
            shape = (len(layers), batch, first.self_attention.heads, num_queries)
            self.cross_attention = AttentionRecorder(*selected, shape=(*shape, encoded.memory.shape[1]))
            self.self_attention = AttentionRecorder(*selected, shape=(*shape, num_queries))

    def need_weights(self, layer: int) -> bool:
        return self.cross_attention is not None and self.cross_attention.needs(layer)

    def add(self, output: HeadOutput, self_attended: Attended, cross_attended: Attended) -> None:
        layer = len(self.outputs)
        self.outputs.append(output)
        if self.cross_attention is not None and cross_attended.weights is not None:
            self.cross_attention.add(layer, cross_attended.weights[:, :, self.num_denoising :])
        if self.self_attention is not None and self_attended.weights is not None:
            self.self_attention.add(layer, self_attended.weights[:, :, self.num_denoising :, self.num_denoising :])

    def stack(self) -> DecoderOutput:
        return DecoderOutput(
            torch.stack([output.logits for output in self.outputs]),
            torch.stack([output.boxes_cxcywh for output in self.outputs]),
            self._edges(),
            None if self.cross_attention is None else self.cross_attention.stack(self.like),
            None if self.self_attention is None else self.self_attention.stack(self.like),
        )

    def _edges(self) -> EdgeDistributions | None:
        """None if only the first layer, which predicts the initial boxes, has them."""
        edges = [output.edges for output in self.outputs if output.edges is not None]
        if len(edges) < 2:
            return None
        return replace(edges[0], logits=torch.cat([each.logits for each in edges]))
