"""The detector: backbone, encoder, queries, decoder and heads, in the order of the forward pass."""

from torch import nn

from detr_lite.model.decoder import DecoderOutput
from detr_lite.model.encoder import EncoderOutput
from detr_lite.structures import AttentionMaps, AttentionSelection, Batch, DenoisingPredictions, DetrOutput


class Detr(nn.Module):
    """A detection transformer from its parts.

    Args:
        backbone: images -> feature maps.
        encoder: feature maps, padding mask -> `EncoderOutput`, the keys and values of cross-attention.
        queries: encoder output, targets -> `Queries`.
        decoder: queries, encoder output, heads -> `DecoderOutput`.
        heads: state of the queries after a decoder layer -> `HeadOutput`.
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

    def set_gradient_checkpointing(self, is_on: bool = True) -> None:
        """Whether blocks of the backbone and layers of encoder and decoder are computed again in the backward pass,
        which takes about a third longer, instead of keeping their activations. The gradients are the same."""
        for part in (self.backbone, self.encoder, self.decoder):
            part.recompute = is_on  # type: ignore[assignment]

    def forward(self, batch: Batch, need_attention: bool | AttentionSelection = False) -> DetrOutput:
        """Predictions of every decoder layer. In training mode the batch's targets also give denoising queries.

        Args:
            need_attention: also return attention weights, all or a selection.

        Errors: a selection of layers, heads or queries that the model does not have.
        """
        selection = AttentionSelection() if need_attention is True else need_attention or None
        features = self.backbone(batch.images)
        encoded = self.encoder(features, batch.is_padding, selection)
        queries = self.queries(encoded, batch.targets if self.training else None)
        decoded = self.decoder(queries, encoded, self.heads, selection)
        num_denoising = 0 if queries.denoising is None else queries.denoising.labels.shape[1]
        edges = decoded.edges
        denoising = None
        if queries.denoising is not None:
            denoising = DenoisingPredictions(
                decoded.logits[:, :, :num_denoising],
                decoded.boxes_cxcywh[:, :, :num_denoising],
                queries.denoising.objects,
                queries.denoising.is_real,
                queries.denoising.is_near,
                None if edges is None else edges.select_queries(slice(num_denoising)),
            )
        return DetrOutput(
            logits=decoded.logits[:, :, num_denoising:],
            boxes_cxcywh=decoded.boxes_cxcywh[:, :, num_denoising:],
            tokens=queries.tokens,
            denoising=denoising,
            edges=None if edges is None else edges.select_queries(slice(num_denoising, None)),
            attention=None if selection is None else _attention_maps(decoded, encoded),
        )


def _attention_maps(decoded: DecoderOutput, encoded: EncoderOutput) -> AttentionMaps:
    assert decoded.cross_attention is not None
    assert decoded.self_attention is not None
    assert encoded.attention is not None
    return AttentionMaps(
        cross=decoded.cross_attention,
        queries=decoded.self_attention,
        encoder=encoded.attention,
        grids=encoded.grids,
        encoder_grids=encoded.grids[-1:],
        is_padding=encoded.is_padding,
        spans=encoded.spans,
    )
