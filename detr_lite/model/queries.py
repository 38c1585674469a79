"""Object queries: who asks the image. Learned ones (DETR), or anchors placed by the image's own tokens (lite)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou
from detr_lite.model.denoising import DenoisingQueries, denoising_attn_mask, make_denoising_queries
from detr_lite.model.encoder import EncoderOutput
from detr_lite.model.heads import MLP, class_layer, inverse_sigmoid, single_precision
from detr_lite.structures import Target, TokenPredictions

CANDIDATES = 3
"""So many times the wanted number of tokens are looked at for distinct ones."""


@dataclass(frozen=True)
class Queries:
    """What the decoder starts from. Denoising queries, if any, precede the object queries."""

    content: Float[Tensor, "batch query dim"]
    position: Float[Tensor, "batch query dim"] | None = None
    anchors_cxcywh: Float[Tensor, "batch query 4"] | None = None
    scores: Float[Tensor, "batch query"] | None = None
    """How sure the tokens are that placed the anchors, 0..1; denoising queries get 0.5."""
    attn_mask: Bool[Tensor, "1 query query"] | None = None
    tokens: TokenPredictions | None = None
    denoising: DenoisingQueries | None = None


class LearnedQueries(nn.Module):
    """The original's: zero content and one learned position for each query, the same for every image."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.position = nn.Embedding(count, dim)

    def forward(self, encoded: EncoderOutput, targets: Sequence[Target] | None) -> Queries:
        position = self.position.weight.expand(len(encoded.memory), -1, -1)
        return Queries(content=torch.zeros_like(position), position=position)


class AnchorQueries(nn.Module):
    """Every token proposes a class and a box; the `count` best proposals place the anchors, contents are learned.

    Two-stage selection (Deformable DETR, arXiv 2010.04159, appendix A.4; mixed with learned contents as in DINO, arXiv
    2203.03605, section 3.4). In training, denoising queries precede the object queries.

    Args:
        dedup_iou: of proposals that overlap more than this (IoU), whatever their classes, the best comes first and the
            others only where places are left (distinct queries, arXiv 2303.12776). As several tokens learn to answer
            for one object, the best proposals would otherwise be copies of each other.
    """

    def __init__(
        self,
        count: int,
        dim: int,
        classes: int,
        denoising_queries: int,
        contrastive: bool = False,
        dedup_iou: float = 0.8,
    ) -> None:
        super().__init__()
        self.count = count
        self.dedup_iou = dedup_iou
        self.classes = classes
        self.denoising_queries = denoising_queries
        self.contrastive = contrastive
        self.content = nn.Embedding(count, dim)
        self.denoising_embed = nn.Embedding(classes, dim) if denoising_queries else None
        self.token_state = nn.Sequential(nn.Linear(dim, dim), nn.LayerNorm(dim))
        self.token_label = class_layer(dim, classes)
        self.token_box = MLP(dim, start_at_zero=True)

    def forward(self, encoded: EncoderOutput, targets: Sequence[Target] | None) -> Queries:
        proposals = self.propose(encoded)
        score = proposals.logits.max(dim=-1).values.masked_fill(encoded.is_padding, -torch.inf)
        # A very small image may have fewer tokens than there are queries; beside a larger one, its padding must not be
        # chosen in their place, so its best token is chosen again.
        top = topk_distinct(score, proposals.boxes_cxcywh.detach(), self.count, self.dedup_iou)
        top = torch.where(score.gather(1, top).isinf(), top[:, :1], top)
        anchors_cxcywh = proposals.boxes_cxcywh.detach().gather(1, top[..., None].expand(-1, -1, 4))
        content = self.content.weight[: top.shape[1]].expand(len(top), -1, -1)
        queries = Queries(
            content=content,
            anchors_cxcywh=anchors_cxcywh,
            scores=score.detach().gather(1, top).sigmoid(),
            tokens=proposals,
        )
        if targets is None or self.denoising_embed is None:
            return queries
        return self._with_denoising(queries, targets, self.denoising_embed)

    def propose(self, encoded: EncoderOutput) -> TokenPredictions:
        """A class and a box for every token; a box starts at the token's middle, four tokens wide and high.

        But not as large as a short image: the sigmoid's slope there is next to nothing, and it would hardly learn.
        """
        start_cxcywh = torch.cat([encoded.centers, (4 * encoded.sizes).clamp(max=0.9)], dim=-1)
        with single_precision(self.token_state(encoded.memory)) as state:
            logits = self.token_label(state)
            boxes_cxcywh = (self.token_box(state) + inverse_sigmoid(start_cxcywh)).sigmoid()
        return TokenPredictions(logits, boxes_cxcywh, encoded.centers, encoded.sizes, encoded.is_padding)

    def _with_denoising(self, queries: Queries, targets: Sequence[Target], embedding: nn.Embedding) -> Queries:
        assert queries.anchors_cxcywh is not None
        assert queries.scores is not None
        denoising = make_denoising_queries(targets, self.classes, self.denoising_queries, self.contrastive)
        count = denoising.labels.shape[1]
        attn_mask = denoising_attn_mask(count, denoising.groups, queries.content.shape[1], queries.content.device)
        return replace(
            queries,
            content=torch.cat([embedding(denoising.labels), queries.content], dim=1),
            anchors_cxcywh=torch.cat([denoising.boxes_cxcywh, queries.anchors_cxcywh], dim=1),
            scores=torch.cat([torch.full_like(denoising.boxes_cxcywh[..., 0], 0.5), queries.scores], dim=1),
            attn_mask=attn_mask[None],
            denoising=denoising,
        )


@torch.no_grad()
def topk_distinct(
    scores: Float[Tensor, "batch token"], boxes_cxcywh: Float[Tensor, "batch token 4"], count: int, dedup_iou: float
) -> Int[Tensor, "batch count"]:
    """The `count` tokens with the best scores, but those whose box overlaps a better one's by more than `dedup_iou` last.

    All overlaps are looked at at once (fast non-maximum suppression, YOLACT, arXiv 1904.02689, section 5), of
    `CANDIDATES` times as many tokens as are wanted. With a score of minus infinity a token is chosen after all others.
    """
    order = scores.topk(min(CANDIDATES * count, scores.shape[1]), dim=1).indices
    boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh.gather(1, order[..., None].expand(-1, -1, 4)))
    overlaps = paired_iou(boxes_xyxy[:, :, None], boxes_xyxy[:, None])
    is_copy = overlaps.tril(-1).amax(-1) > dedup_iou
    is_none = scores.gather(1, order).isinf()
    place = torch.arange(order.shape[1], device=order.device) + order.shape[1] * (is_copy + 2 * is_none)
    return order.gather(1, place.argsort(dim=1)[:, :count])
