"""Lane queries that attend to a picture (Q: lanes; K, V: the picture's tokens), after CLRNet (arXiv 2203.10350)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from detr_lite.model.backbone import Backbone
from detr_lite.model.decoder import DecoderLayer, QueryPosition
from detr_lite.model.encoder import Encoder, EncoderOutput
from detr_lite.model.heads import MLP, class_layer
from detr_lite.model.position import AnchoredMLP, CenterSinePosition
from detr_lite.structures import AttentionMaps, AttentionSelection
from examples.lanes.data import INPUT, POINTS, RoadBatch
from examples.lanes.lines import WAVES, Lines, at_height, cosines


@dataclass(frozen=True)
class LaneOutput:
    """Of every decoder layer; denoising queries, if any, come first."""

    logits: Float[Tensor, "layer batch query"]
    lines: Lines
    tokens: Float[Tensor, "batch token 2"]
    """Of the finest tokens: the logit of a lane passing through, and its x from the token's middle, in tokens."""
    encoded: EncoderOutput
    attention: AttentionMaps | None = None


class LaneBias(nn.Module):
    """Draws a query's attention to the tokens near its line: what `BoxRelativeBias` is to a box.

    A Gaussian across the line and one along it for each head. At first each head looks at its own section of the line,
    and from one of its sides.
    """

    masks_padding = True

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.section = nn.Parameter(torch.linspace(0.1, 0.9, heads // 2).repeat_interleave(2))
        self.beside = nn.Parameter(torch.tensor([-1.0, 1.0]).repeat(heads // 2))
        self.log_sharpness = nn.Parameter(torch.tensor([[0.2, 10.0]]).log().repeat(heads, 1))

    def forward(self, lines: Lines, encoded: EncoderOutput) -> Float[Tensor, "batch head query token"]:
        x, y = encoded.centers[:, None].unbind(-1)
        beside = (x - at_height(lines.xs, y[0, 0])) / encoded.sizes[:, None, :, 0]  # in tokens
        along = (lines.shape[..., 1:2] - y) / lines.shape[..., 3:].clamp(min=0.1)
        # Each Gaussian's exponent, multiplied out: one product for all heads, of features that need no gradient.
        features = torch.stack([beside.square(), beside, along.square(), along, torch.ones_like(along)], 1)
        across, length = self.log_sharpness.exp().unbind(1)
        constant = across * self.beside.square() + length * self.section.square()
        factors = torch.stack([across, -2 * across * self.beside, length, -2 * length * self.section, constant], 1)
        return -torch.einsum("hf,bfqt->bhqt", factors, features).clamp(max=20)


class LanePairBias(nn.Module):
    """Bias of each head's self-attention by how far two lines are apart and whose score is higher.

    Of several queries on one lane all but one have to step back: what `BoxPairBias` is for boxes.
    """

    def __init__(self, heads: int, hidden: int = 16) -> None:
        super().__init__()
        self.network = AnchoredMLP(4, hidden, heads)
        self.overlap = nn.Parameter(torch.full((heads,), 4.0))

    def forward(self, lines: Lines, scores: Float[Tensor, "batch query"]) -> Float[Tensor, "batch head query query"]:
        xs = lines.xs[..., 1::4]
        apart = (xs[:, :, None] - xs[:, None]).clamp(-0.3, 0.3) / 0.1
        overlap = (1 - apart.abs().mean(-1)).clamp(min=0)
        difference = scores[:, None] - scores[:, :, None]
        inputs = torch.stack([overlap, difference, apart.mean(-1), overlap * difference.sign()], -1)
        return (self.network(inputs) + self.overlap * overlap[..., None]).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


class LaneNet(nn.Module):
    """Backbone and encoder as in detection; each decoder layer moves the queries' lines to where it sees lanes."""

    def __init__(self, backbone: str, dim: int, heads: int, layers: int, queries: int) -> None:
        super().__init__()
        self.backbone = Backbone(backbone, strides=(8, 16))
        self.encoder = Encoder(
            self.backbone.channels, (8, 16), dim, 1, heads, 2 * dim, 0.0, CenterSinePosition(dim), True
        )
        self.content = nn.Embedding(2, dim)  # of the lane queries, and of the denoising queries
        self.anchors = nn.Parameter(fan(queries))
        self.position = nn.Sequential(nn.Linear(4 + POINTS, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.layers = nn.ModuleList(DecoderLayer(dim, heads, 2 * dim, 0.0) for _ in range(layers))
        self.biases = nn.ModuleList(LaneBias(heads) for _ in range(layers))
        self.pair_biases = nn.ModuleList(LanePairBias(heads) for _ in range(layers))
        self.label = nn.ModuleList(class_layer(dim, 1) for _ in range(layers))
        self.moves = nn.ModuleList(MLP(dim, start_at_zero=True, outputs=4 + WAVES) for _ in range(layers))
        self.token_label = class_layer(dim, 2)
        self.register_buffer("waves", cosines(), persistent=False)

    def forward(self, batch: RoadBatch, noised: Lines | None = None, need_attention: bool = False) -> LaneOutput:
        selection = AttentionSelection() if need_attention else None
        encoded = self.encoder(self.backbone(batch.images.images), batch.images.is_padding, selection)
        # Values, too, say where they are from, or a query would know what it has found but not where.
        encoded = replace(encoded, memory=encoded.memory + encoded.position)
        count = len(batch.images.images)
        shape = self.anchors.expand(count, -1, -1)
        lines = Lines(shape, shape.new_zeros(*shape.shape[:-1], POINTS))
        queries = self.content.weight[0].expand(count, shape.shape[1], -1)
        attn_mask = None
        if noised is not None:
            lines = Lines(torch.cat([noised.shape, shape], 1), torch.cat([noised.offsets, lines.offsets], 1))
            extra = noised.shape.shape[1]
            queries = torch.cat([self.content.weight[1].expand(count, extra, -1), queries], 1)
            is_extra = torch.arange(queries.shape[1], device=queries.device) < extra
            attn_mask = (is_extra[:, None] == is_extra)[None]  # denoising queries would tell the others the answer
            # They would tell each other, too.
            attn_mask = attn_mask & (~is_extra | torch.eye(len(is_extra), dtype=torch.bool, device=queries.device))
        logits, found, crosses, selves = [], [], [], []
        scores = queries.new_zeros(queries.shape[:2])
        steps = zip(self.layers, self.biases, self.pair_biases, self.label, self.moves, strict=True)
        for layer, bias, pair_bias, label, move in steps:
            embed = self.position(torch.cat([lines.shape, lines.xs], -1))
            position = QueryPosition(embed, bias=bias(lines, encoded), pair_bias=pair_bias(lines, scores))
            queries, itself, cross = layer(queries, position, encoded, attn_mask, need_attention)
            moved = 0.1 * move(queries)
            lines = Lines(lines.shape + moved[..., :4], lines.offsets + moved[..., 4:] @ self.waves)
            logits.append(label(queries)[..., 0])
            found.append(lines)
            crosses.append(cross.weights)
            selves.append(itself.weights)
            scores = logits[-1].detach().sigmoid()
            lines = lines.detach()  # each layer learns to correct what it is given (Deformable DETR, section 4.2)
        stacked = Lines(torch.stack([each.shape for each in found]), torch.stack([each.offsets for each in found]))
        fine = encoded.grids[0][0] * encoded.grids[0][1]
        output = LaneOutput(torch.stack(logits), stacked, self.token_label(encoded.memory[:, :fine]), encoded)
        return replace(output, attention=attention_maps(crosses, selves, encoded)) if need_attention else output


def attention_maps(crosses: Sequence[Tensor], selves: Sequence[Tensor], encoded: EncoderOutput) -> AttentionMaps:
    """The weights of all layers, as the explorer and the figures of detection take them."""
    assert encoded.attention is not None
    return AttentionMaps(
        cross=torch.stack(list(crosses)),
        queries=torch.stack(list(selves)),
        encoder=encoded.attention,
        grids=encoded.grids,
        encoder_grids=encoded.grids[-1:],
        is_padding=encoded.is_padding,
        spans=encoded.spans,
    )


def fan(queries: int) -> Float[Tensor, "query 4"]:
    """The first lines: from a vanishing point in the upper middle to points at the bottom, left to right."""
    bottom = torch.linspace(-0.7, 1.7, queries)
    angle = ((0.5 - bottom) * INPUT[0] / INPUT[1]).atan() / torch.pi
    # Lines that leave the picture at a side start there.
    y = torch.where(bottom.clamp(0, 1) == bottom, 1.0, 1 - (bottom - bottom.clamp(0, 1)).abs() / (bottom - 0.5).abs())
    return torch.stack([bottom.clamp(0, 1), y, angle, 0.85 * y], 1)


def build_network(settings: Mapping[str, Any]) -> LaneNet:
    return LaneNet(**{name: settings[name] for name in ("backbone", "dim", "heads", "layers", "queries")})
