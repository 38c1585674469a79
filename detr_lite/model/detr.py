"""The detector: backbone, tokens, queries, decoder, heads, in the order in which a picture passes them."""

from torch import nn

from detr_lite.model.decoder import Decoded
from detr_lite.model.encoder import Tokens
from detr_lite.structures import AttentionChoice, AttentionMaps, Batch, DenoisingPredictions, DetrOutput


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

    def forward(self, batch: Batch, need_attention: bool | AttentionChoice = False) -> DetrOutput:
        """Every decoder layer's answer. In training mode the batch's targets also make denoising queries.

        Args:
            need_attention: also give the attention weights, all of them or a choice.

        Errors: a choice of what the model does not have.
        """
        choice = AttentionChoice() if need_attention is True else need_attention or None
        features = self.backbone(batch.images)
        tokens = self.encoder(features, batch.is_padding, choice)
        queries = self.queries(tokens, batch.targets if self.training else None)
        decoded = self.decoder(queries, tokens, self.heads, choice)
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
            attention=None if choice is None else _maps(decoded, tokens),
        )


def _maps(decoded: Decoded, tokens: Tokens) -> AttentionMaps:
    assert decoded.cross_attention is not None
    assert decoded.self_attention is not None
    assert tokens.attention is not None
    return AttentionMaps(
        cross=decoded.cross_attention,
        queries=decoded.self_attention,
        encoder=tokens.attention,
        grids=tokens.grids,
        encoder_grids=tokens.grids[-1:],
        is_padding=tokens.is_padding,
        spans=tokens.spans,
    )
