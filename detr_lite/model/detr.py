"""The detector: backbone, tokens, queries, decoder, heads, in the order in which a picture passes them."""

import torch
from torch import nn

from detr_lite.model.decoder import Decoded
from detr_lite.model.encoder import Tokens
from detr_lite.structures import AttentionMaps, Batch, DenoisingPredictions, DetrOutput


class Detr(nn.Module):
    """A detection transformer from its parts.

    Args:
        backbone: images -> feature maps.
        encoder: feature maps, padding -> `Tokens`, the keys and values.
        queries: tokens, targets -> `Queries`.
        decoder: queries, tokens, heads -> `Decoded`.
        heads: what the decoder turns each query's state into an answer with.
    """

    def __init__(
        self, *, backbone: nn.Module, encoder: nn.Module, queries: nn.Module, decoder: nn.Module, heads: nn.Module
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.queries = queries
        self.decoder = decoder
        self.heads = heads

    def forward(self, batch: Batch, need_attention: bool = False) -> DetrOutput:
        """Every decoder layer's answer. In training mode the batch's targets also make denoising queries."""
        features = self.backbone(batch.images)
        tokens = self.encoder(features, batch.is_padding, need_attention)
        queries = self.queries(tokens, batch.targets if self.training else None)
        decoded = self.decoder(queries, tokens, self.heads, need_attention)
        noisy = 0 if queries.noisy is None else queries.noisy.labels.shape[1]
        edges = decoded.edges
        denoising = None
        if queries.noisy is not None:
            denoising = DenoisingPredictions(
                decoded.logits[:, :, :noisy],
                decoded.boxes_cxcywh[:, :, :noisy],
                queries.noisy.objects,
                queries.noisy.is_real,
                queries.noisy.is_near,
                None if edges is None else edges.of_queries(slice(noisy)),
            )
        return DetrOutput(
            logits=decoded.logits[:, :, noisy:],
            boxes_cxcywh=decoded.boxes_cxcywh[:, :, noisy:],
            tokens=queries.tokens,
            denoising=denoising,
            edges=None if edges is None else edges.of_queries(slice(noisy, None)),
            attention=_maps(decoded, tokens, noisy) if need_attention else None,
        )


def _maps(decoded: Decoded, tokens: Tokens, noisy: int) -> AttentionMaps:
    cross = torch.stack(decoded.cross_attention)
    height, width = tokens.grids[-1]
    count = height * width
    encoder = torch.stack(tokens.attention) if tokens.attention else cross.new_zeros(0, *cross.shape[1:3], count, count)
    return AttentionMaps(
        cross=cross[:, :, :, noisy:],
        queries=torch.stack(decoded.self_attention)[:, :, :, noisy:, noisy:],
        encoder=encoder,
        grids=tokens.grids,
        encoder_grids=tokens.grids[-1:],
        is_padding=tokens.is_padding,
        spans=tokens.spans,
    )
