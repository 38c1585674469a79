"""Train lane queries on drawn roads: python examples/lanes/train.py"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

import torch
from torch import Tensor
from torch.nn import functional as F

from detr_lite.cli.command import run_command
from detr_lite.config import OptimConfig
from detr_lite.loss.losses import focal_cost, matchability_aware_loss
from detr_lite.loss.matcher import Matches, assign_one_to_one
from detr_lite.training.callbacks.metrics import LoggedMetrics
from detr_lite.training.task import TaskSpec
from examples.command import check_folder, train, training_parser
from examples.lanes.data import CROP, RoadBatch, RoadSamples, augment, collate
from examples.lanes.evaluation import FoundLanes, score_lanes
from examples.lanes.lines import Lines, at_height, line_iou, lines_of
from examples.lanes.model import LaneNet, build_network
from examples.lanes.prepare import LEVELS, splits_of

NOISED = 2
"""Denoising queries for each lane."""
METRICS = LoggedMetrics(("F1", "precision", "recall", "accuracy", "FP", "FN"), shown=("F1", "accuracy"))


def add_noise(true: Lines, repeats: int) -> Lines:
    """Lanes moved to the side, turned, bent and shortened at random: the denoising queries (DN-DETR, section 4)."""
    shape, offsets = true.shape.repeat(1, repeats, 1), true.offsets.repeat(1, repeats, 1)
    limits = shape.new_tensor([0.1, 0.1, 0.06, 0.15])
    return Lines(shape + limits * (2 * torch.rand_like(shape) - 1), offsets * torch.rand_like(shape[..., :1]))


def losses(network: LaneNet, batch: RoadBatch) -> Mapping[str, Tensor]:
    true = lines_of(batch.xs, batch.is_seen)
    noised = add_noise(true, NOISED)
    output = network(batch, noised)
    extra, lanes = noised.shape.shape[1], batch.xs.shape[1]
    logits, lines = output.logits[:, :, extra:], output.lines[:, :, extra:]
    matches = match(logits, lines, true, batch)
    parts = set_losses(logits, lines, true, batch, matches)
    # The nth denoising query of each repetition answers with the lane that it was made of.
    is_real = torch.arange(lanes, device=batch.xs.device) < torch.tensor(batch.counts, device=batch.xs.device)[:, None]
    layer, image, query = is_real.repeat(1, NOISED).expand(len(logits), -1, -1).nonzero(as_tuple=True)
    answers = Matches(layer, image, query, query % lanes)
    noise_parts = set_losses(None, output.lines[:, :, :extra], true, batch, answers)
    tokens = token_losses(output.tokens, output.encoded.grids[0], batch)
    return parts | {f"noised_{name}": part / NOISED for name, part in noise_parts.items()} | tokens


def match(logits: Tensor, lines: Lines, true: Lines, batch: RoadBatch) -> Matches:
    """One query for each lane, in each layer: class, line IoU and start, angle and length (Hungarian matching)."""
    labels = torch.zeros(batch.xs.shape[:2], dtype=torch.long, device=batch.xs.device)
    cost = 2 * focal_cost(logits[..., None].detach(), labels[None])
    cost = cost - 3 * line_iou(lines.xs.detach()[..., :, None, :], batch.xs[:, None], batch.is_seen[:, None])
    cost = cost + 2 * (lines.shape.detach()[..., :, None, :] - true.shape[:, None]).abs().sum(-1)
    return assign_one_to_one(cost, batch.counts)


def set_losses(
    logits: Tensor | None, lines: Lines, true: Lines, batch: RoadBatch, matches: Matches
) -> dict[str, Tensor]:
    """Focal loss, line IoU, and smooth L1 of start, angle and length; sums over layers, divided by the lanes."""
    lanes = max(1, sum(batch.counts))
    pair, aim = (matches.layer, matches.image, matches.query), (matches.image, matches.object)
    found = lines[pair]
    iou = line_iou(found.xs, batch.xs[aim], batch.is_seen[aim])
    smooth = F.smooth_l1_loss(found.shape, true.shape[aim], beta=0.05, reduction="none").sum()
    parts = {"iou": 2 * (1 - iou).sum() / lanes, "shape": 4 * smooth / lanes}
    if logits is not None:
        quality = torch.zeros_like(logits).index_put(pair, iou.detach().to(logits.dtype))
        is_lane = torch.zeros_like(logits, dtype=torch.bool).index_put(pair, torch.ones_like(iou, dtype=torch.bool))
        focal = matchability_aware_loss(logits[..., None], quality[..., None], is_lane[..., None])
        parts["class"] = 2 * focal.sum() / lanes
    return parts


def token_losses(tokens: Tensor, grid: tuple[int, int], batch: RoadBatch) -> dict[str, Tensor]:
    """Dense supervision: through which tokens lanes pass, and where; it teaches the backbone from the first step."""
    height, width = grid
    y = (torch.arange(height, device=tokens.device) + 0.5) / height
    xs = at_height(batch.xs, y) * width  # in tokens
    is_seen = at_height(batch.is_seen.float(), y) > 0.5
    apart = xs[..., None] - (torch.arange(width, device=tokens.device) + 0.5)
    apart = torch.where(is_seen[..., None], apart, torch.inf)
    nearest = apart.abs().argmin(1, keepdim=True)
    apart = apart.gather(1, nearest)[:, 0].flatten(1)
    is_lane = apart.abs() <= 0.5
    label = F.binary_cross_entropy_with_logits(tokens[..., 0], is_lane.float(), reduction="mean")
    place = F.smooth_l1_loss(tokens[..., 1][is_lane], apart[is_lane], beta=0.1, reduction="sum") / max(1, len(tokens))
    return {"token": 10 * label + 0.05 * place}


def parse(words: Sequence[str]) -> argparse.Namespace:
    parser = training_parser(__doc__ or "", minutes=10.0)
    add = parser.add_argument
    add("--level", choices=tuple(LEVELS), default="middle", help="of the drawn roads (default: middle)")
    add("--root", type=Path, help="folder of TuSimple, or of data in its format, in place of drawn roads")
    add("--roads", type=int, default=4000, help="roads to draw for training (default: 4000)")
    add("--backbone", default="regnetx_002", help="timm model, with random weights (default: regnetx_002)")
    return parser.parse_args(words)


def task(given: argparse.Namespace) -> TaskSpec:
    train_split, val = splits_of(given.root, given.level, given.roads)
    network = {"backbone": given.backbone, "dim": 96, "heads": 8, "layers": 3, "queries": 14}
    return TaskSpec(
        name="lanes",
        settings={**network, "data": given.level if given.root is None else str(given.root), "crop": CROP},
        build_network=build_network,
        train=RoadSamples(train_split),
        val=RoadSamples(val),
        collate=collate,
        losses=losses,
        predict=lambda network, batch: FoundLanes.of(network(batch)),
        score=lambda found: score_lanes(found, val),
        metrics=METRICS,
        optim=OptimConfig(optimizer="muon", lr=5e-3, warmup_steps=50),
        batch_size=8,
        augment=augment,
    )


def main() -> None:
    words = sys.argv[1:]
    given = parse(words)
    check_folder("lanes", given)
    train(task(given), given, words)


if __name__ == "__main__":
    run_command(main)
