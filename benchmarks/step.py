"""Where the time of a run goes: loading, forward, matching and losses, backward, optimiser, evaluation."""

import contextlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detr_lite.build import build_criterion, build_model, build_postprocess
from detr_lite.config import Config
from detr_lite.data.coco import CocoDetection
from detr_lite.data.collate import collate
from detr_lite.data.sampler import Draw
from detr_lite.loss.criterion import Criterion
from detr_lite.model.attention import attend
from detr_lite.structures import Batch, DetrLiteError
from detr_lite.training.auto import choose_precision, device_type
from detr_lite.training.detection import make_data, read_data
from detr_lite.training.trainer import run_optimizer

BATCHES = 4
"""Different ones, which come in turn."""
WARMUP = 3
"""Steps before the clock runs: memory is taken and kernels are chosen in them."""
SHAPES = ((8, 4, 90, 100, 64), (8, 4, 90, 500, 64), (8, 4, 180, 1620, 64), (8, 4, 324, 324, 32))
"""(batch, head, query, token, channel) of attention in small runs; the last is an encoder's."""


@dataclass
class Shares:
    """Seconds by part of the step, added up."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    @contextlib.contextmanager
    def of(self, part: str, device: torch.device) -> Iterator[None]:
        start = time.perf_counter()
        yield
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        self.seconds[part] += time.perf_counter() - start


def step_table(config: Config, steps: int) -> str:
    """Markdown: milliseconds and share of each part of a training step, and of evaluation beside it, for a config.

    The model has random weights, which take as long as others. Loading is that of one process, in turn with the rest;
    in a run, processes of its own do it meanwhile.
    """
    config, train, val = read_data(config)
    device = torch.device(device_type(config.trainer.accelerator))
    precision = choose_precision(config.trainer.precision, config.trainer.accelerator)
    if precision == "16-mixed":
        raise DetrLiteError("trainer.precision is 16-mixed, whose scaling is not timed here; set bf16-mixed or 32-true")
    half = torch.autocast(device.type, torch.bfloat16) if precision == "bf16-mixed" else contextlib.nullcontext()
    data = make_data(config, train, val)
    size = data.batch_size
    model = build_model(config.model, len(train.categories), for_checkpoint=True).to(device)
    criterion = build_criterion(config, len(train.categories))
    optimizer = run_optimizer(model, config.optim, fused=True)
    images = CocoDetection(train, data.train_transform)
    shares, batches = Shares(), []
    for batch in range(BATCHES):
        with shares.of("loading", device):
            places = [(batch * size + number) % len(train.images) for number in range(size)]
            batches.append(collate([images[Draw(place, place)] for place in places]))
    loading = shares.seconds["loading"] / BATCHES
    for step in range(WARMUP + steps):
        if step == WARMUP:
            shares = Shares()
        _step(
            model.train(),
            criterion,
            optimizer,
            batches[step % BATCHES].to(device),
            half,
            config.optim.max_grad_norm,
            shares,
        )
    milliseconds = {"loading": 1e3 * loading} | {part: 1e3 * all / steps for part, all in shares.seconds.items()}
    total = sum(milliseconds.values()) - milliseconds["loading"]

    postprocess = build_postprocess(config.model, [category.name for category in train.categories])
    images = CocoDetection(val, data.val_transform)
    shown = collate([images[place % len(val.images)] for place in range(size)]).to(device)
    evaluation = Shares()
    for number in range(WARMUP + 5):
        if number == WARMUP:
            evaluation = Shares()
        with evaluation.of("evaluation", device), half, torch.no_grad():
            postprocess(model.eval()(shown), [target.original_size for target in shown.targets or ()])
    per_image = 1e3 * evaluation.seconds["evaluation"] / 5 / size
    height, width = batches[0].images.shape[2:]
    lines = [
        f"| {size} images of {height} x {width}, {precision}, {config.optim.optimizer} | ms | share |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {part} | {value:.0f} | {value / total:.0%} |" for part, value in milliseconds.items()]
    lines.append(f"| the step without loading | {total:.0f} | |")
    lines.append(f"| an image in evaluation | {per_image:.1f} | |")
    return "\n".join(lines)


def _step(
    model: nn.Module,
    criterion: Criterion,
    optimizer: torch.optim.Optimizer,
    batch: Batch,
    half: contextlib.AbstractContextManager[object],
    clip: float,
    shares: Shares,
) -> None:
    device = batch.images.device
    assert batch.targets is not None
    with half:
        with shares.of("forward", device):
            output = model(batch)
        with shares.of("matching and losses", device):
            total = criterion(output, batch.targets).total
    with shares.of("backward", device):
        optimizer.zero_grad()
        torch.autograd.backward(total)
    with shares.of("clipping and optimiser", device):
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()


def attention_table(repeats: int = 20) -> str:
    """Markdown: milliseconds of attention on the processor, forward and back, as torch's function and written out."""
    lines = [
        "| precision | batch, heads, queries, tokens, channels | torch's | written out | ratio |",
        "| --- " * 5 + "|",
    ]
    for dtype in (torch.float32, torch.bfloat16):
        for batch, heads, queries, tokens, channels in SHAPES:
            query, key, value, bias = (
                torch.randn(batch, heads, *shape).to(dtype).requires_grad_()
                for shape in ((queries, channels), (tokens, channels), (tokens, channels), (queries, tokens))
            )
            theirs = _milliseconds(partial(F.scaled_dot_product_attention, query, key, value, attn_mask=bias), repeats)
            ours = _milliseconds(partial(_written_out, query, key, value, bias), repeats)
            sizes = ", ".join(map(str, (batch, heads, queries, tokens, channels)))
            name = str(dtype).removeprefix("torch.")
            lines.append(f"| {name} | {sizes} | {theirs:.1f} | {ours:.1f} | {theirs / ours:.1f} |")
    return "\n".join(lines)


def _written_out(query: Tensor, key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
    return attend(query, key, value, bias)[0]


def _milliseconds(function: Callable[[], Tensor], repeats: int) -> float:
    """Of the median call, with its gradient."""
    taken = []
    for _ in range(WARMUP + repeats):
        start = time.perf_counter()
        torch.autograd.backward(function().float().sum())
        taken.append(time.perf_counter() - start)
    return 1e3 * sorted(taken[WARMUP:])[repeats // 2]
