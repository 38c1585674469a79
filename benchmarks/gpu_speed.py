"""`gpu`: training steps, optimizers and inference of one image, in each precision."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Literal

import torch
from torch import nn

from benchmarks.gpu import Row
from benchmarks.gpu_part import OBJECTS, Part
from detr_lite.build import build_criterion, build_model
from detr_lite.structures import Batch, DetrOutput, Target
from detr_lite.training.trainer import run_optimizer

PRECISIONS = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16, "32-true": None}


def compile_model(model: nn.Module, toy: bool = False) -> Callable[..., Any]:
    """The model compiled for the one size of a measurement; as a toy without generating code, which takes minutes."""
    compiled: Callable[..., Any] = torch.compile(model, dynamic=False, backend="aot_eager" if toy else "inductor")
    return compiled


def measure_steps(part: Part) -> None:
    """Forward, loss, backward, clipping and fused AdamW on images that are on the device, of one size."""
    rows: list[Row] = [{"precision": name, "compiled": False} for name in PRECISIONS]
    if part.is_cuda:
        rows.append({"precision": "32-true, TF32", "compiled": False})
    rows += [{"precision": name, "compiled": True} for name in PRECISIONS]
    part.each(rows, partial(_measure_step, part))


def autocast(part: Part, precision: str, cache: bool = True) -> AbstractContextManager[Any]:
    dtype = PRECISIONS[precision.partition(",")[0]]
    return nullcontext() if dtype is None else torch.autocast(part.device.type, dtype, cache_enabled=cache)


def some_batch(part: Part, images: int, side: int | None = None) -> Batch:
    """Random images without padding, each with as many objects."""
    side = side or part.side
    generator = torch.Generator().manual_seed(0)
    targets = []
    for number in range(images):
        corners = torch.rand(OBJECTS, 2, generator=generator)
        boxes_cxcywh = torch.cat([0.2 + 0.6 * corners, 0.1 + 0.2 * corners], dim=1)
        labels = torch.randint(part.classes, (OBJECTS,), generator=generator)
        targets.append(Target(boxes_cxcywh, labels, number, (side, side)))
    pixels = torch.randn(images, 3, side, side, generator=generator)
    batch = Batch(pixels, torch.zeros(images, side, side, dtype=torch.bool), tuple(targets)).to(part.device)
    part.synchronize()
    return batch


def some_model(part: Part) -> nn.Module:
    torch.manual_seed(0)
    return build_model(part.config().model, part.classes, for_checkpoint=True).to(part.device)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """With TF32 in matrix products and convolutions, or without; autocast is not concerned."""
    before, of_cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    has_tf32 = precision.endswith("TF32")
    torch.set_float32_matmul_precision("high" if has_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = has_tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
        torch.backends.cudnn.allow_tf32 = of_cudnn


def _measure_step(part: Part, precision: str, compiled: bool) -> Row:
    if compiled and part.left < 20 and not part.settings.toy:
        return {"error": f"{part.left:.0f} s were left, too few to compile"}
    config = part.config()
    model = some_model(part).train()
    optimizer = run_optimizer(model, config.optim, fused=precision != "16-mixed")
    scaler = torch.amp.GradScaler(part.device.type, enabled=precision == "16-mixed")
    criterion, batch = build_criterion(config, part.classes), some_batch(part, part.images)
    forward = compile_model(model, part.settings.toy) if compiled else model

    def step() -> None:
        optimizer.zero_grad()
        with autocast(part, precision):
            output: DetrOutput = forward(batch)
            loss = criterion(output, batch.targets or ()).total
        torch.autograd.backward(scaler.scale(loss))
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), config.optim.max_grad_norm or 1.0)
        scaler.step(optimizer)
        scaler.update()

    with float32_products(precision):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        start = time.perf_counter()
        step()
        part.synchronize()
        first = time.perf_counter() - start
        if part.is_cuda:
            torch.cuda.reset_peak_memory_stats(part.device)
        seconds = part.time(step)
    median = seconds[len(seconds) // 2]
    row: Row = {"ms": 1e3 * median, "images/s": part.images / median, "first step, s": first}
    if part.is_cuda:
        row["most memory, GiB"] = torch.cuda.max_memory_allocated(part.device) / 2**30
        row["reserved, GiB"] = torch.cuda.max_memory_reserved(part.device) / 2**30
    if compiled:
        row["graph breaks"] = sum(torch._dynamo.utils.counters["graph_break"].values())
    return row


def measure_optimizers(part: Part) -> None:
    """The update alone, of the parameters of the model with gradients of ones."""
    rows: list[Row] = [
        {"optimizer": name, "fused": is_fused} for name in ("adamw", "muon") for is_fused in (False, True)
    ]
    part.each(rows, partial(_measure_optimizer, part))


def _measure_optimizer(part: Part, optimizer: Literal["adamw", "muon"], fused: bool) -> Row:
    model = some_model(part).train()
    updates = run_optimizer(model, replace(part.config().optim, optimizer=optimizer), fused=fused)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.ones_like(parameter)
    seconds = part.time(lambda: updates.step())
    return {"ms": 1e3 * seconds[len(seconds) // 2]}


def measure_latency(part: Part) -> None:
    """One image through the model in evaluation: called as it is, and replayed as a CUDA graph."""
    rows: list[Row] = [{"precision": name, "how": how} for how in ("eager", "CUDA graph") for name in PRECISIONS]
    part.each(rows, partial(_measure_latency, part))


@torch.no_grad()
def _measure_latency(part: Part, precision: str, how: str) -> Row:
    if how == "CUDA graph" and not part.is_cuda:
        return {"skipped": "a graph needs a CUDA device"}
    model, batch = some_model(part).eval(), some_batch(part, 1)

    def run() -> DetrOutput:
        # Without the cache: weights cast within a capture belong to the graph.
        with autocast(part, precision, cache=False):
            output: DetrOutput = model(batch)
        return output

    with float32_products(precision):
        if how == "eager":
            seconds = part.time(run)
            return _latency(seconds)
        expected = run()
        graph, output = _capture(run)
        seconds = part.time(graph.replay)
        # After other pixels the same input must give what it gave without the graph.
        before = batch.images.clone()
        batch.images.normal_()
        graph.replay()
        batch.images.copy_(before)
        graph.replay()
        part.synchronize()
        difference = (output.logits.float() - expected.logits.float()).abs().max()
        return {**_latency(seconds), "largest difference of logits": float(difference)}


def _capture(run: Callable[[], DetrOutput]) -> tuple[torch.cuda.CUDAGraph, DetrOutput]:
    """The calls are made on another stream first, as libraries allocate and choose kernels in them (torch's notes on
    CUDA graphs)."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = run()
    return graph, output


def _latency(seconds: list[float]) -> Row:
    return {"median, ms": 1e3 * seconds[len(seconds) // 2], "90 %, ms": 1e3 * seconds[int(0.9 * (len(seconds) - 1))]}
