"""What captions add to the engine: samples, network, loss, predictions and metrics."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from detr_lite.config import OptimConfig
from detr_lite.data.transforms import MEAN, STD
from detr_lite.training.callbacks.metrics import LoggedMetrics
from detr_lite.training.task import TaskSpec
from examples.captions.metrics import exactness
from examples.captions.model import (
    MODEL,
    Captioner,
    build_captioner,
    ended,
    read_detector,
    settings_of,
    started,
    take_features,
)
from examples.captions.scenes import Captioned, Scenes
from examples.captions.wording import text_of, text_of_tokens, tokens_of

NAME = "captions"
PADDING = -1
"""Of the words to be answered: no loss."""
METRICS = ("exact", "exact_1", "exact_2", "exact_3")
"""Share of the captions that are right in every word: of all, and of those of 1, 2 and 3 objects."""


def captions_task(
    train: Scenes,
    val: Scenes,
    detector: Path | None = None,
    finish: Callable[[Captioner, Path], None] | None = None,
) -> TaskSpec:
    """
    Args:
        detector: a trained detector, whose backbone and encoder the captioner starts from.
        finish: as in `TaskSpec`.

    Errors: those of `read_detector`.
    """
    features, model = (None, MODEL) if detector is None else read_detector(detector)
    drawn = [val[index] for index in range(len(val))]  # once, as each evaluation needs them

    def build_network(settings: Mapping[str, Any]) -> Captioner:
        captioner = build_captioner(settings)
        if features is not None:
            take_features(captioner, features)
        return captioner

    def score(captions: Sequence[str]) -> dict[str, float]:
        result = exactness(captions, [text_of(scene.words) for scene in drawn], [len(scene.boxes) for scene in drawn])
        shares = [exact / scenes if scenes else -1.0 for exact, scenes in zip(result.exact, result.scenes, strict=True)]
        return dict(zip(METRICS, [result.share, *shares[1:]], strict=True))

    return TaskSpec(
        name=NAME,
        settings=settings_of(model),
        build_network=build_network,
        train=train,
        val=drawn,
        collate=collate,
        losses=losses,
        predict=predict,
        score=score,
        metrics=LoggedMetrics(METRICS, shown=METRICS),
        optim=OptimConfig(optimizer="muon", lr=4e-3),
        batch_size=8,
        finish=finish,
    )


def collate(scenes: Sequence[Captioned]) -> dict[str, Tensor]:
    captions = [tokens_of(scene.words) for scene in scenes]
    return {
        "images": as_images([scene.pixels for scene in scenes]),
        "read": started(captions),
        "answer": ended(captions, PADDING),
    }


def as_images(pixels: Sequence[UInt8[np.ndarray, "height width 3"]]) -> Float[Tensor, "batch 3 height width"]:
    """Normalized as for detection."""
    images = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (images - mean) / std


def losses(captioner: Captioner, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cross-entropy of each next word, of all words of a caption at once (teacher forcing)."""
    logits = captioner(batch["images"], batch["read"])
    return {"word": F.cross_entropy(logits.flatten(0, 1), batch["answer"].flatten(), ignore_index=PADDING)}


def predict(captioner: Captioner, batch: Mapping[str, Tensor]) -> list[str]:
    return [text_of_tokens(tokens) for tokens in captioner.write(batch["images"])]
