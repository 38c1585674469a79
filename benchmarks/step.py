"""Time of each part of a training step (loading, forward, losses, backward, optimizer) and of evaluation."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.allocator import keep_freed_memory
from detr_lite.build import build_criterion, build_model, build_postprocess
from detr_lite.config import Config
from detr_lite.data.collate import collate
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.sampler import SeededIndex
from detr_lite.loss.criterion import Criterion
from detr_lite.model.attention import attend
from detr_lite.structures import Batch, DetrLiteError
from detr_lite.training.auto import device_type
from detr_lite.training.detection import make_data, read_data
from detr_lite.training.precision import choose_precision
from detr_lite.training.trainer import run_optimizer

BATCHES = 4
"""Number of different batches, used in turn."""
WARMUP = 3
"""Steps that are not timed: they allocate memory and select kernels."""
SHAPES = ((8, 4, 90, 100, 64), (8, 4, 90, 500, 64), (8, 4, 180, 1620, 64), (8, 4, 324, 324, 32))
"""(batch, head, query, token, channel) of the attention in small runs; the last is an encoder's."""


@dataclass
class Timings:
    """Total seconds of each part of the step."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextlib.contextmanager
    def measure(self, part: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds[part] += time.perf_counter() - start


def step_table(config: Config, steps: int) -> str:
    """Markdown: milliseconds and share of each part of a training step, and milliseconds of evaluation.

    The model has random weights. Loading is timed in this process, before the steps; in a run, worker processes load
    batches during the steps.
    """
    config, train, val = read_data(config)
    device = torch.device(device_type(config.trainer.accelerator))
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    if device.type == "cpu":
        keep_freed_memory()  # as a run does
    if precision == "16-mixed":
        raise DetrLiteError("trainer.precision is 16-mixed, whose loss scaling is not timed; set bf16-mixed or 32-true")
    autocast = torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext()
    data = make_data(config, train, val)
    size = data.batch_size
    model = build_model(config.model, len(train.categories), for_checkpoint=True).to(device)
    criterion = build_criterion(config, len(train.categories))
    optimizer = run_optimizer(model, config.optim, fused=True)
    images = DetectionDataset(train, data.train_transform)
    timings, batches = Timings(), []
    for batch in range(BATCHES):
        with timings.measure("loading", device):
            indices = [(batch * size + number) % len(train.images) for number in range(size)]
            batches.append(collate([images[SeededIndex(index, index)] for index in indices]))
    loading = timings.seconds["loading"] / BATCHES
    for step in range(WARMUP + steps):
        if step == WARMUP:
            timings = Timings()
        _step(
            model.train(),
            criterion,
            optimizer,
            batches[step % BATCHES].to(device),
            autocast,
            config.optim.max_grad_norm,
            timings,
        )
    milliseconds = {"loading": 1e3 * loading} | {
        part: 1e3 * seconds / steps for part, seconds in timings.seconds.items()
    }
    total = sum(milliseconds.values()) - milliseconds["loading"]

    postprocess = build_postprocess(config.model, [category.name for category in train.categories])
    images = DetectionDataset(val, data.val_transform)
    val_batch = collate([images[index % len(val.images)] for index in range(size)]).to(device)
    evaluation = Timings()
    for number in range(WARMUP + 5):
        if number == WARMUP:
            evaluation = Timings()
        with evaluation.measure("evaluation", device), autocast, torch.no_grad():
            postprocess(model.eval()(val_batch), [target.original_size for target in val_batch.targets or ()])
    per_image = 1e3 * evaluation.seconds["evaluation"] / 5 / size
    height, width = batches[0].images.shape[2:]
    lines = [
        f"| {size} images of {height} x {width}, {precision}, {config.optim.optimizer} | ms | share |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {part} | {value:.0f} | {value / total:.0%} |" for part, value in milliseconds.items()]
    lines.append(f"| step without loading | {total:.0f} | |")
    lines.append(f"| evaluation of one image | {per_image:.1f} | |")
    return "\n".join(lines)


def _step(
    model: nn.Module,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    autocast: contextlib.AbstractContextManager[object],
    max_grad_norm: float,
    timings: Timings,
) -> None:
    device = batch.images.device
    assert batch.targets is not None
    with autocast:
        with timings.measure("forward", device):
            output = model(batch)
        with timings.measure("matching and losses", device):
            total = criterion(output, batch.targets).total
    with timings.measure("backward", device):
        optimizer.zero_grad()
        torch.autograd.backward(total)
    with timings.measure("clipping and optimizer", device):
        if max_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), max_grad_norm)
        optimizer.step()


def attention_table(repeats: int = 20) -> str:
    """Markdown: milliseconds of attention on the CPU, forward and backward, of torch's function and of `attend`."""
    lines = [
        "| precision | batch, heads, queries, tokens, channels | torch | detr_lite | ratio |",
        "| --- " * 5 + "|",
    ]
    for dtype in (torch.float32, torch.bfloat16):
        for batch, heads, queries, tokens, channels in SHAPES:
            query, key, value, bias = (
                torch.randn(batch, heads, *shape).to(dtype).requires_grad_()
                for shape in ((queries, channels), (tokens, channels), (tokens, channels), (queries, tokens))
            )
            fused = _milliseconds(partial(F.scaled_dot_product_attention, query, key, value, attn_mask=bias), repeats)
            explicit = _milliseconds(partial(_attend, query, key, value, bias), repeats)
            sizes = ", ".join(map(str, (batch, heads, queries, tokens, channels)))
            name = str(dtype).removeprefix("torch.")
            lines.append(f"| {name} | {sizes} | {fused:.1f} | {explicit:.1f} | {fused / explicit:.1f} |")
    return "\n".join(lines)


def _attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    return attend(query, key, value, bias)[0]


def _milliseconds(function: Callable[[], Tensor], repeats: int) -> float:
    """The median call with its backward pass."""
    seconds = []
    for _ in range(WARMUP + repeats):
        start = time.perf_counter()
        torch.autograd.backward(function().float().sum())
        seconds.append(time.perf_counter() - start)
    return 1e3 * sorted(seconds[WARMUP:])[repeats // 2]
