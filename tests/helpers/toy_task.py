"""A task that trains in a moment: points in the plane, of which a network with dropout learns the quadrant."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.config import Config, DataConfig, Invocation, OptimConfig, TrainerConfig
from detr_lite.training.callbacks.metrics import LoggedMetrics
from detr_lite.training.task import TaskSpec

Sample = tuple[Tensor, int]


def points(count: int, seed: int) -> list[Sample]:
    drawn = torch.randn(count, 2, generator=torch.Generator().manual_seed(seed))
    return [(point, int(point[0] > 0) + 2 * int(point[1] > 0)) for point in drawn]


def build_network(settings: Mapping[str, Any]) -> nn.Module:
    width = settings["width"]
    return nn.Sequential(nn.Linear(2, width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(width, 4))


def collate(samples: Sequence[Sample]) -> dict[str, Tensor]:
    return {
        "points": torch.stack([point for point, _ in samples]),
        "labels": torch.tensor([label for _, label in samples]),
    }


def jitter(sample: Sample, seed: int) -> Sample:
    noise = torch.randn(2, generator=torch.Generator().manual_seed(seed % 2**63))
    return sample[0] + 0.01 * noise, sample[1]


def toy_task(width: int = 16, **changes: Any) -> TaskSpec:
    val = points(64, seed=1)

    def losses(network: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        logits = network(batch["points"])
        return {"class": F.cross_entropy(logits, batch["labels"]), "size": 0.001 * logits.square().mean()}

    def predict(network: nn.Module, batch: dict[str, Tensor]) -> list[int]:
        labels: list[int] = network(batch["points"]).argmax(-1).tolist()
        return labels

    def score(predictions: Sequence[int]) -> dict[str, float]:
        right = sum(found == label for found, (_, label) in zip(predictions, val, strict=True))
        return {"accuracy": right / len(val), "errors": float(len(val) - right)}

    given: dict[str, Any] = {
        "name": "quadrants",
        "settings": {"width": width},
        "build_network": build_network,
        "train": points(100, seed=0),
        "val": val,
        "collate": collate,
        "losses": losses,
        "predict": predict,
        "score": score,
        "metrics": LoggedMetrics(("accuracy", "errors"), shown=("accuracy", "errors")),
        "optim": OptimConfig(optimizer="adamw", lr=0.03, warmup_steps=0),
        "batch_size": 20,
        "augment": jitter,
    }
    return TaskSpec(**{**given, **changes})


def toy_invocation(spec: TaskSpec, run_dir: Path | None, resume: str | None = None, **trainer: Any) -> Invocation:
    settings = {"max_epochs": 6, "num_evaluations": 3, "accelerator": "cpu", "devices": 1, "checkpoint_minutes": 0.0}
    config = Config(
        data=DataConfig(batch_size=spec.batch_size, num_workers=0),
        optim=spec.optim,
        trainer=TrainerConfig(**{**settings, "precision": "32-true", "threads": 1, **trainer}),
    )
    return Invocation(config, spec.name, run_dir, resume, overwrite=False)
