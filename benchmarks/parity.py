"""Parity of `detr` with transformers' DETR: the largest differences in each part of the model, as a table."""

import re
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from benchmarks.hf_reference import hf_reference_losses, hf_reference_matches, hf_reference_outputs, random_batch
from benchmarks.parity_models import Network, Sizes, make_parity_models, paired_tensors
from detr_lite.loss import official_criterion
from detr_lite.loss.matcher import match
from detr_lite.loss.targets import pad_targets
from detr_lite.structures import DetrLiteError, DetrOutput, Target

ONLY_ROUNDING = re.compile(
    r".*key\.bias|decoder\.layers\.0\.self_attention\.(query\.(weight|bias)|(key|value)\.weight)"
)
"""Parameters whose gradient is zero except for rounding."""

ORDER = ("backbone", "projection", "encoder", "decoder", "heads")
"""First words of the rows, in the order of the forward pass."""

COLUMNS = ("logits", "boxes", "ce", "l1", "giou", "gradients")


@dataclass
class Differences:
    """The largest difference in each part of the model, and the number of matched pairs that differ."""

    largest: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    pairs: int = 0
    different_pairs: int = 0

    def add(self, part: str, column: str, difference: float) -> None:
        # max() would drop a NaN.
        self.largest[part][column] = float(np.maximum(self.largest[part].get(column, 0.0), difference))


def compare(sizes: Sizes, seed: int, differences: Differences, attention: Literal["sdpa", "eager"] = "sdpa") -> None:
    """Run one batch of three images with different sizes and numbers of objects through both models, with gradients."""
    generator = torch.Generator().manual_seed(seed)
    reference, model = make_parity_models(sizes, seed, attention=attention)
    sides = [(int(height), int(width)) for height, width in torch.randint(65, 257, (3, 2), generator=generator)]
    counts = torch.randint(0, 8, (3,), generator=generator).tolist()
    batch = random_batch(sides, counts, sizes.classes, generator)
    assert batch.targets is not None

    expected, output = hf_reference_outputs(reference, batch), model(batch)
    expected_losses = hf_reference_losses(reference, expected, batch.targets)
    losses = official_criterion(sizes.classes)(output, batch.targets)
    for layer in range(sizes.layers):
        part = f"decoder layer {layer + 1}"
        differences.add(part, "logits", _largest(output.logits[layer] - expected.logits[layer]))
        differences.add(part, "boxes", _largest(output.boxes_cxcywh[layer] - expected.boxes_cxcywh[layer]))
        for name, values in losses.parts.items():
            differences.add(part, name, _relative(values[layer], expected_losses.parts[name][layer]))
    pairs = detr_lite_matches(output, batch.targets)
    expected_pairs = hf_reference_matches(reference, expected, batch.targets)
    differences.pairs += len(expected_pairs)
    differences.different_pairs += len(expected_pairs - pairs)

    torch.autograd.backward(expected_losses.total)
    torch.autograd.backward(losses.total)
    for name, difference in gradient_differences(reference, model).items():
        differences.add(_part(name), "gradients", difference)


def detr_lite_matches(output: DetrOutput, targets: Sequence[Target]) -> set[tuple[int, ...]]:
    """(layer, image, query, object) of every pair that detr_lite's matcher finds."""
    matches = match(official_criterion(1).cost, output.logits, output.boxes_cxcywh, pad_targets(targets))
    columns = (matches.layer, matches.image, matches.query, matches.object)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def gradient_differences(reference: Network, model: Network) -> dict[str, float]:
    """For each parameter of `model` the largest difference of its gradient, relative to the largest gradient value.

    Some gradients are zero except for rounding in any DETR: softmax is invariant to the keys' bias, and the decoder's
    first self-attention, whose queries all have the same content, is invariant to its query and key weights. Their
    differences are relative to the median parameter's gradient. For the others the denominator is at least a hundredth
    of that median, as small gradients are what remains when larger terms, and their rounding errors, cancel.
    """
    gradients: dict[str, tuple[Tensor, Tensor]] = {}
    for name, reference_values, values in paired_tensors(reference, model):
        if not values.requires_grad:
            continue
        if reference_values.grad is None or values.grad is None:
            raise ValueError(f"{name} has no gradient")
        gradients[name] = reference_values.grad, values.grad
    scales = {name: _largest(expected) for name, (expected, _) in gradients.items()}
    median = sorted(scales.values())[len(scales) // 2]
    differences = {}
    for name, (expected, gradient) in gradients.items():
        scale = median if ONLY_ROUNDING.fullmatch(name) else max(scales[name], 0.01 * median)
        difference = _largest(gradient - expected)
        # In a batch without objects the box head has no gradient in either model.
        differences[name] = difference / scale if difference else 0.0
    return differences


def parity_table(bodies: Sequence[str], seeds: int, attention: Literal["sdpa", "eager"] = "sdpa") -> str:
    """Markdown: for each backbone a table of the largest differences over the seeds, at the published sizes.

    Args:
        bodies: names of timm's ResNets; "-dc5" at the end dilates the last stage.
        attention: implementation used by transformers, fused or eager.

    Errors: no seeds, a backbone other than a ResNet, transformers missing.
    """
    if seeds < 1:
        raise DetrLiteError(f"--seeds is {seeds}; it must be at least 1")
    for body in bodies:
        # In other networks transformers would replace batch norm and lose the activation that timm fuses with it.
        if not re.fullmatch(r"resnet\d+(-dc5)?", body):
            raise DetrLiteError(f"--bodies: {body!r} is not a ResNet; give names such as resnet50 or resnet50-dc5")
    tables = []
    for body in bodies:
        differences = Differences()
        for seed in range(seeds):
            sizes = Sizes(body.removesuffix("-dc5"), dilation=body.endswith("-dc5"))
            compare(sizes, seed, differences, attention)
            print(f"{body}: finished seed {seed + 1} of {seeds}", file=sys.stderr)
        tables.append(_table(body, seeds, differences))
    versions = ", ".join(f"{name} {version(name)}" for name in ("transformers", "torch", "timm"))
    return "\n\n".join([*tables, f"{versions}; float32 on the CPU; attention of transformers: {attention}."])


def _table(body: str, seeds: int, differences: Differences) -> str:
    heading = f"`{body}`, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    lines = [f"| {heading} | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for part in sorted(differences.largest, key=lambda part: ORDER.index(part.split()[0])):
        of_part = differences.largest[part]
        cells = (f"{of_part[column]:.1e}" if column in of_part else "" for column in COLUMNS)
        lines.append(f"| {part} | {' | '.join(cells)} |")
    lines.append(
        f"\nMatched pairs of query and object that differ: {differences.different_pairs} of {differences.pairs}."
    )
    return "\n".join(lines)


def _part(name: str) -> str:
    """The row of the table for a parameter of detr_lite's model."""
    words = name.split(".")
    if words[1] == "layers":
        return f"{words[0]} layer {int(words[2]) + 1}"
    if words[0] == "backbone":
        return "backbone"
    return "heads and their norm" if words[0] in ("heads", "decoder") else "projection and queries"


def _largest(values: Tensor) -> float:
    return values.detach().abs().max().item()


def _relative(value: Tensor, expected: Tensor) -> float:
    """Relative difference of loss terms, which are zero without objects."""
    return _largest(value - expected) / max(_largest(expected), 1e-3)
