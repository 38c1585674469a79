"""How far the biases of attention scores walk in a long run, by training them alone for very many steps."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.study import markdown
from detr_lite.model.position import MAX_BIAS, AxisBias, BoxPairBias, BoxRelativeBias

HEADS, QUERIES, GRID = 4, 12, (8, 8)
BATCHES = 16
"""Recorded: boxes, and the attention weights that a model with other parameters gives them."""
LR = 1.5e-3


@dataclass(frozen=True)
class Walk:
    """Where the parameters are after a run."""

    last_bias: float
    """Largest absolute value of the biases that the softmax cancels; 0 without them."""
    constant: float
    """Largest absolute mean over the tokens that a head adds to a query's scores before they are clamped."""
    loss: float


def long_run_table(steps: int) -> str:
    """Markdown: with the MLPs that models of format 5 have, and with those of now."""
    rows = []
    for name, has_bias in (("ordinary MLPs", True), ("now", False)):
        walk = simulate(steps, has_bias)
        rows.append([name, f"{walk.last_bias:.2f}", f"{walk.constant:.2f}", f"{walk.loss:.4f}"])
    header = [
        f"{steps:,} steps in bfloat16",
        "largest last bias",
        f"largest constant (clamped at {MAX_BIAS:g})",
        "loss",
    ]
    return markdown(header, rows)


def simulate(steps: int, has_bias: bool = False) -> Walk:
    """Train both biases with AdamW under bfloat16 autocast towards the recorded attention weights.

    Args:
        has_bias: with ordinary MLPs, whose constants the softmax cancels.
    """
    torch.manual_seed(0)
    teachers, students = _biases(), _biases()
    for parameter in teachers.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    if has_bias:
        for module in students.modules():
            if isinstance(module, AxisBias | BoxPairBias):
                first, relu, last = module.network
                last.bias = nn.Parameter(torch.zeros(HEADS))
                module.network = nn.Sequential(first, relu, last)
    with torch.no_grad():
        recorded = [(boxes, scores, _weights(teachers, boxes, scores)) for boxes, scores in _batches()]
    optimizer = torch.optim.AdamW(students.parameters(), lr=LR, weight_decay=0.0)
    loss = torch.zeros(())
    for step in range(steps):
        boxes, scores, targets = recorded[step % BATCHES]
        with torch.autocast("cpu", torch.bfloat16):
            found = _weights(students, boxes, scores)
        pairs = zip(targets, found, strict=True)
        loss = torch.stack([-(target * each.clamp(min=1e-9).log()).sum(-1).mean() for target, each in pairs]).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    biases = [last.bias for last in _last_layers(students) if last.bias is not None]
    return Walk(
        last_bias=max((float(bias.detach().abs().max()) for bias in biases), default=0.0),
        constant=max(_constant(students, boxes, scores) for boxes, scores, _ in recorded),
        loss=float(loss.detach()),
    )


def _biases() -> nn.ModuleList:
    return nn.ModuleList([BoxRelativeBias(HEADS), BoxPairBias(HEADS)])


def _last_layers(biases: nn.ModuleList) -> list[nn.Linear]:
    return [each for each in biases.modules() if isinstance(each, nn.Linear) and each.out_features == HEADS]


def _batches() -> Iterator[tuple[Tensor, Tensor]]:
    """Boxes and scores of queries."""
    for _ in range(BATCHES):
        yield torch.cat([torch.rand(1, QUERIES, 2), torch.rand(1, QUERIES, 2) * 0.4 + 0.05], -1), torch.rand(1, QUERIES)


def _weights(biases: nn.ModuleList, boxes_cxcywh: Tensor, scores: Tensor) -> list[Tensor]:
    """Attention weights of tokens and of other queries, of the biases alone."""
    half = boxes_cxcywh[..., 2:] / 2
    boxes_xyxy = torch.cat([boxes_cxcywh[..., :2] - half, boxes_cxcywh[..., :2] + half], -1)
    spans = torch.tensor([[[float(GRID[1]), float(GRID[0])]]])
    both = biases[0](boxes_xyxy, (GRID,), spans), biases[1](boxes_cxcywh, scores)
    return [each.softmax(-1).float() for each in both]


@torch.no_grad()
def _constant(biases: nn.ModuleList, boxes_cxcywh: Tensor, scores: Tensor) -> float:
    """The largest absolute mean over tokens of what an MLP adds to a query's scores."""
    means: list[Tensor] = []

    def keep(module: nn.Module, inputs: object, output: Tensor) -> None:
        means.append(output.mean(2).abs().max())  # (batch, query, token, head)

    handles = [last.register_forward_hook(keep) for last in _last_layers(biases)]
    _weights(biases, boxes_cxcywh, scores)
    for handle in handles:
        handle.remove()
    return float(torch.stack(means).max())
