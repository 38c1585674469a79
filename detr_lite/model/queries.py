"""Object queries: learned ones (`detr`), or anchors selected from the predictions of the encoder tokens (`lite`)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from detr_lite.box_ops import cxcywh_to_xyxy, paired_iou
from detr_lite.model.denoising import (
    DenoisingQueries,
    denoising_attn_mask,
    make_denoising_queries,
    pad_denoising_queries,
)
from detr_lite.model.encoder import EncoderOutput
from detr_lite.model.heads import BOX_EPS, MLP, class_layer, single_precision
from detr_lite.model.onednn import Linear
from detr_lite.structures import Target, TokenPredictions

CANDIDATES = 3
"""Number of candidates among which duplicates are searched, as a multiple of the number of queries."""

MAX_PAIRS = 2**21
"""Pairs of boxes compared at once; 300 queries of 16 images are 13 million, and would take half a gigabyte."""


@dataclass(frozen=True)
class Queries:
    """Input of the decoder. Denoising queries, if any, precede the object queries."""

    content: Float[Tensor, "batch query dim"]
    position: Float[Tensor, "batch query dim"] | None = None
    anchors_cxcywh: Float[Tensor, "batch query 4"] | None = None
    scores: Float[Tensor, "batch query"] | None = None
    """Score in 0..1 of the token prediction that each anchor comes from; 0.5 for denoising queries."""
    attn_mask: Bool[Tensor, "1 query query"] | None = None
    tokens: TokenPredictions | None = None
    denoising: DenoisingQueries | None = None


class LearnedQueries(nn.Module):
    """DETR's: zero content and a learned position for each query, the same for every image (section 3.2)."""

    def __init__(self, count: int, dim: int) -> None:
        super().__init__()
        self.position = nn.Embedding(count, dim)

    def forward(self, encoded: EncoderOutput, targets: Sequence[Target] | None) -> Queries:
        position = self.position.weight.expand(encoded.memory.shape[0], -1, -1)
        return Queries(content=torch.zeros_like(position), position=position)


class AnchorQueries(nn.Module):
    """Every encoder token predicts a class and a box; the `count` with the highest scores become anchors.

    Two-stage selection (Deformable DETR, arXiv 2010.04159, appendix A.4) with learned contents (mixed query selection,
    DINO, arXiv 2203.03605, section 3.4). In training, denoising queries precede the object queries.

    Args:
        dedup_iou: proposals whose IoU with a higher-scoring one is above this, whatever their classes, are taken last
            (distinct queries, arXiv 2303.12776). With one-to-many matching of tokens, the highest-scoring proposals
            would otherwise be duplicates.
        denoising_noise: of the boxes, the `box_noise` of `make_denoising_queries`.
    """

    def __init__(
        self,
        count: int,
        dim: int,
        classes: int,
        denoising_queries: int,
        contrastive: bool = False,
        dedup_iou: float = 0.8,
        denoising_noise: float = 0.4,
    ) -> None:
        super().__init__()
        self.count = count
        self.dedup_iou = dedup_iou
        self.classes = classes
        self.denoising_queries = denoising_queries
        self.contrastive = contrastive
        self.denoising_noise = denoising_noise
        self.is_padded = False
        """Whether there are always `denoising_queries` of them, however many objects."""
        self.content = nn.Embedding(count, dim)
        self.denoising_embed = nn.Embedding(classes, dim) if denoising_queries else None
        self.token_state = nn.Sequential(Linear(dim, dim), nn.LayerNorm(dim))
        self.token_label = class_layer(dim, classes)
        self.token_box = MLP(dim, start_at_zero=True)

    def forward(self, encoded: EncoderOutput, targets: Sequence[Target] | None) -> Queries:
        proposals = self.propose(encoded)
        score = proposals.logits.max(dim=-1).values.masked_fill(encoded.is_padding, -torch.inf)
        # An image with fewer tokens than queries repeats its highest-scoring token rather than select padding.
        top = topk_distinct(score, proposals.boxes_cxcywh.detach(), self.count, self.dedup_iou)
        top = torch.where(score.gather(1, top).isinf(), top[:, :1], top)
        anchors_cxcywh = proposals.boxes_cxcywh.detach().gather(1, top[..., None].expand(-1, -1, 4))
        content = self.content.weight[: top.shape[1]].expand(top.shape[0], -1, -1)
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
        """A class and a box for every token; boxes start at the token's center, four tokens wide and high.

        At most 0.9 of the image, as the gradient of the sigmoid vanishes near 1.
        """
        start_cxcywh = torch.cat([encoded.centers, (4 * encoded.sizes).clamp(max=0.9)], dim=-1)
        with single_precision(self.token_state(encoded.memory)) as state:
            logits = self.token_label(state)
            boxes_cxcywh = (self.token_box(state) + start_cxcywh.logit(BOX_EPS)).sigmoid()
        return TokenPredictions(logits, boxes_cxcywh, encoded.centers, encoded.sizes, encoded.is_padding)

    def _with_denoising(self, queries: Queries, targets: Sequence[Target], embedding: nn.Embedding) -> Queries:
        assert queries.anchors_cxcywh is not None
        assert queries.scores is not None
        denoising = make_denoising_queries(
            targets, self.classes, self.denoising_queries, self.contrastive, self.denoising_noise
        )
        count = denoising.labels.shape[1]
        padding = max(0, self.denoising_queries - count) if self.is_padded else 0
        attn_mask = denoising_attn_mask(
            count, denoising.groups, queries.content.shape[1], queries.content.device, padding
        )
        denoising = pad_denoising_queries(denoising, count + padding)
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
    """The `count` tokens with the highest scores; those whose box overlaps a higher-scoring one's come last.

    Duplicates, with an IoU above `dedup_iou`, are found in one pass (fast NMS, YOLACT, arXiv 1904.02689, section 5)
    among the `CANDIDATES` x `count` highest scores. Tokens with a score of minus infinity come after all others.
    """
    order = scores.topk(torch.sym_min(CANDIDATES * count, scores.shape[1]), dim=1).indices
    boxes_xyxy = cxcywh_to_xyxy(boxes_cxcywh.gather(1, order[..., None].expand(-1, -1, 4)))
    # An exported graph has no loop over a number of images that is not known yet.
    if torch.compiler.is_exporting():
        parts: Sequence[Tensor] = (boxes_xyxy,)
    else:
        parts = torch.split(boxes_xyxy, max(1, MAX_PAIRS // max(1, order.shape[1] ** 2)))
    is_duplicate = torch.cat([_overlaps_earlier(part, dedup_iou) for part in parts])
    is_excluded = scores.gather(1, order).isinf()
    rank = torch.arange(order.shape[1], device=order.device) + order.shape[1] * (is_duplicate + 2 * is_excluded)
    return order.gather(1, rank.argsort(dim=1)[:, :count])


def _overlaps_earlier(boxes_xyxy: Float[Tensor, "batch box 4"], iou: float) -> Bool[Tensor, "batch box"]:
    """Whether each box overlaps one before it, of the same image, by more than `iou`."""
    return paired_iou(boxes_xyxy[:, :, None], boxes_xyxy[:, None]).tril(-1).amax(-1) > iou
