"""The captioner: Q are the words so far, K and V the features of the picture."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.model.autoregressive import CausalDecoder, CausalOutput
from detr_lite.model.detr import Detr
from detr_lite.model.encoder import EncoderOutput
from detr_lite.model.generation import greedy
from detr_lite.structures import AttentionMaps, AttentionSelection, DetrLiteError
from detr_lite.weights.checkpoint import load_model
from detr_lite.weights.checkpoint_path import find_checkpoint
from examples.captions.wording import END, MAX_WORDS, VOCABULARY

MODEL = ModelConfig(pretrained=False, strides=(8, 16), num_queries=1)
"""As for `coco_small`: the smallest objects are no larger than a token of stride 16. Object queries are not used."""


class Captioner(nn.Module):
    """Backbone and encoder as in detection; a decoder whose queries are words instead of object queries."""

    def __init__(self, *, backbone: nn.Module, encoder: nn.Module, decoder: CausalDecoder) -> None:
        super().__init__()
        self.backbone = backbone
        self.encoder = encoder
        self.decoder = decoder

    def encode(
        self, images: Float[Tensor, "batch 3 height width"], selection: AttentionSelection | None = None
    ) -> EncoderOutput:
        is_padding = torch.zeros_like(images[:, 0], dtype=torch.bool)
        encoded: EncoderOutput = self.encoder(self.backbone(images), is_padding, selection)
        return encoded

    def forward(
        self, images: Float[Tensor, "batch 3 height width"], tokens: Int[Tensor, "batch token"]
    ) -> Float[Tensor, "batch token vocabulary"]:
        """Scores of the next word after each one; `tokens` begin with the start token."""
        output: CausalOutput = self.decoder(tokens, self.encode(images))
        return output.logits

    def write(self, images: Float[Tensor, "batch 3 height width"]) -> list[list[int]]:
        """The tokens of each picture's caption, the most probable word after each other."""
        with torch.no_grad():
            start = torch.full((len(images), 1), END, device=images.device)
            return greedy(self.decoder, start, END, MAX_WORDS, self.encode(images))

    def look(self, images: Float[Tensor, "batch 3 height width"], tokens: Int[Tensor, "batch token"]) -> AttentionMaps:
        """All attention weights; query i chose the word after token i."""
        with torch.no_grad():
            encoded = self.encode(images, AttentionSelection())
            output: CausalOutput = self.decoder(tokens, encoded, need_weights=True)
        assert output.cross_attention is not None
        assert output.self_attention is not None
        assert encoded.attention is not None
        return AttentionMaps(
            cross=output.cross_attention,
            queries=output.self_attention,
            encoder=encoded.attention,
            grids=encoded.grids,
            encoder_grids=encoded.grids[-1:],
            is_padding=encoded.is_padding,
            spans=encoded.spans,
        )


def build_captioner(settings: Mapping[str, Any]) -> Captioner:
    """A captioner of random weights.

    Args:
        settings: "model" are the settings of a detector, whose backbone and encoder are taken. The decoder has its
            sizes, too.
    """
    model = ModelConfig(**{**settings["model"], "strides": tuple(settings["model"]["strides"])})
    detector = build_model(model, classes=1, for_checkpoint=True)
    sizes = (model.dim, model.decoder_layers, model.heads, model.feedforward_dim, model.dropout)
    decoder = CausalDecoder(len(VOCABULARY), *sizes)
    return Captioner(backbone=detector.backbone, encoder=detector.encoder, decoder=decoder)


def settings_of(model: ModelConfig) -> dict[str, Any]:
    """Plain types for a checkpoint."""
    return {"model": {**asdict(model), "strides": list(model.strides)}}


def read_detector(path: Path) -> tuple[Detr, ModelConfig]:
    """A trained detector, for its backbone and encoder.

    Errors: those of `load_model`, and a detector of transformers, whose parts are others.
    """
    detector, description = load_model(find_checkpoint(path))
    if not isinstance(detector, Detr):
        raise DetrLiteError(
            f"--detector {path}: of transformers; give one that was trained with model.name lite or detr"
        )
    return detector, description.config.model


def take_features(captioner: Captioner, detector: Detr) -> None:
    """Start from the detector's backbone and encoder."""
    captioner.backbone.load_state_dict(detector.backbone.state_dict())
    captioner.encoder.load_state_dict(detector.encoder.state_dict())


def started(captions: Sequence[Sequence[int]]) -> Int[Tensor, "batch token"]:
    """What the decoder reads: the start token and the words, padded at the right."""
    return _padded([[END, *tokens] for tokens in captions], END)


def ended(captions: Sequence[Sequence[int]], padding: int) -> Int[Tensor, "batch token"]:
    """What it is to answer: the words and the end token, padded at the right."""
    return _padded([[*tokens, END] for tokens in captions], padding)


def _padded(rows: Sequence[Sequence[int]], padding: int) -> Int[Tensor, "batch token"]:
    length = max(map(len, rows))
    return torch.tensor([[*row, *[padding] * (length - len(row))] for row in rows])
