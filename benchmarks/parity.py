"""How far `detr` is from the original: the largest differences to transformers' DETR, part by part, as a table."""

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
"""Parameters whose gradient is zero but for rounding."""

PATH = ("backbone", "projection", "encoder", "decoder", "heads")
"""First words of the rows, in the order in which a picture passes."""

COLUMNS = ("logits", "boxes", "ce", "l1", "giou", "gradients")


@dataclass
class Differences:
    """The largest ones of each part of the model, and of how many matched pairs how many are not the same."""

    largest: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    pairs: int = 0
    other_pairs: int = 0

    def add(self, part: str, column: str, difference: float) -> None:
        # Not max(), which would lose what is not a number.
        self.largest[part][column] = float(np.maximum(self.largest[part].get(column, 0.0), difference))


def compare(sizes: Sizes, seed: int, differences: Differences, attention: Literal["sdpa", "eager"] = "sdpa") -> None:
    """One batch of three images of different sizes and numbers of objects through both models, and back."""
    generator = torch.Generator().manual_seed(seed)
    theirs, ours = make_parity_models(sizes, seed, attention=attention)
    sides = [(int(height), int(width)) for height, width in torch.randint(65, 257, (3, 2), generator=generator)]
    counts = torch.randint(0, 8, (3,), generator=generator).tolist()
    batch = random_batch(sides, counts, sizes.classes, generator)
    assert batch.targets is not None

    expected, output = hf_reference_outputs(theirs, batch), ours(batch)
    expected_losses = hf_reference_losses(theirs, expected, batch.targets)
    losses = official_criterion(sizes.classes)(output, batch.targets)
    for layer in range(sizes.layers):
        part = f"decoder layer {layer + 1}"
        differences.add(part, "logits", _largest(output.logits[layer] - expected.logits[layer]))
        differences.add(part, "boxes", _largest(output.boxes_cxcywh[layer] - expected.boxes_cxcywh[layer]))
        for name, values in losses.parts.items():
            differences.add(part, name, _relative(values[layer], expected_losses.parts[name][layer]))
    pairs, expected_pairs = our_matches(output, batch.targets), hf_reference_matches(theirs, expected, batch.targets)
    differences.pairs += len(expected_pairs)
    differences.other_pairs += len(expected_pairs - pairs)

    torch.autograd.backward(expected_losses.total)
    torch.autograd.backward(losses.total)
    for name, difference in gradient_differences(theirs, ours).items():
        differences.add(_part(name), "gradients", difference)


def our_matches(output: DetrOutput, targets: Sequence[Target]) -> set[tuple[int, ...]]:
    """(layer, image, query, object) of every pair that our matcher makes."""
    matches = match(official_criterion(1).cost, output.logits, output.boxes_cxcywh, pad_targets(targets))
    columns = (matches.layer, matches.image, matches.query, matches.object)
    return set(zip(*(column.tolist() for column in columns), strict=True))


def gradient_differences(theirs: Network, ours: Network) -> dict[str, float]:
    """For each of our parameters the largest difference of its gradient, relative to the gradient's largest value.

    Some gradients are zero but for rounding, in any DETR: softmax does not see what all keys have in common, their
    bias; and the decoder's first self-attention, whose contents are all the same, sees neither queries nor keys. They
    are held against the median parameter's gradient. No other is held against less than a hundredth of that, which is
    what remains of larger numbers, and of their rounding, that cancel out.
    """
    gradients: dict[str, tuple[Tensor, Tensor]] = {}
    for name, their_values, our_values in paired_tensors(theirs, ours):
        if not our_values.requires_grad:
            continue
        if their_values.grad is None or our_values.grad is None:
            raise ValueError(f"{name} has no gradient")
        gradients[name] = their_values.grad, our_values.grad
    scales = {name: _largest(expected) for name, (expected, _) in gradients.items()}
    median = sorted(scales.values())[len(scales) // 2]
    differences = {}
    for name, (expected, gradient) in gradients.items():
        scale = median if ONLY_ROUNDING.fullmatch(name) else max(scales[name], 0.01 * median)
        difference = _largest(gradient - expected)
        # Without objects the box network has none at all, in either model.
        differences[name] = difference / scale if difference else 0.0
    return differences


def parity_table(bodies: Sequence[str], seeds: int, attention: Literal["sdpa", "eager"] = "sdpa") -> str:
    """Markdown: for each body one table of the largest differences over the seeds, at the published sizes.

    Args:
        attention: theirs, fused or written out.

    Errors: no seeds, a body that transformers cannot use as the original does, or no transformers.
    """
    if seeds < 1:
        raise DetrLiteError(f"--seeds is {seeds}; it must be at least 1")
    for body in bodies:
        # Of other networks it would replace batch norm and lose the activation that timm folds into it.
        if not re.fullmatch(r"resnet\d+(-dc5)?", body):
            raise DetrLiteError(
                f"--bodies: {body!r} is no body of the original's kind; give resnet50, resnet50-dc5 ..."
            )
    tables = []
    for body in bodies:
        differences = Differences()
        for seed in range(seeds):
            sizes = Sizes(body.removesuffix("-dc5"), dilation=body.endswith("-dc5"))
            compare(sizes, seed, differences, attention)
            print(f"{body}: seed {seed + 1} of {seeds} is done", file=sys.stderr)
        tables.append(_table(body, seeds, differences))
    versions = ", ".join(f"{name} {version(name)}" for name in ("transformers", "torch", "timm"))
    return "\n\n".join([*tables, f"With {versions}, in float32 on the processor, their attention {attention}."])


def _table(body: str, seeds: int, differences: Differences) -> str:
    heading = f"`{body}`, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    lines = [f"| {heading} | {' | '.join(COLUMNS)} |", "| --- " * (len(COLUMNS) + 1) + "|"]
    for part in sorted(differences.largest, key=lambda part: PATH.index(part.split()[0])):
        of_part = differences.largest[part]
        cells = (f"{of_part[column]:.1e}" if column in of_part else "" for column in COLUMNS)
        lines.append(f"| {part} | {' | '.join(cells)} |")
    lines.append(f"\nMatched otherwise: {differences.other_pairs} of {differences.pairs} pairs of query and object.")
    return "\n".join(lines)


def _part(name: str) -> str:
    """The row of the table for one of our parameters."""
    words = name.split(".")
    if words[1] == "layers":
        return f"{words[0]} layer {int(words[2]) + 1}"
    if words[0] == "backbone":
        return "backbone"
    return "heads and their norm" if words[0] in ("heads", "decoder") else "projection and queries"


def _largest(values: Tensor) -> float:
    return values.detach().abs().max().item()


def _relative(value: Tensor, expected: Tensor) -> float:
    """Of loss terms, which are zero where there are no objects."""
    return _largest(value - expected) / max(_largest(expected), 1e-3)
