"""`gpu`: the peak memory of a training step beside what `memory` works out without a GPU."""

from functools import partial

import torch

from benchmarks.gpu import Row
from benchmarks.gpu_part import Part
from benchmarks.gpu_speed import autocast, some_batch, some_model
from benchmarks.memory import peak_bytes
from detr_lite.build import build_criterion
from detr_lite.training.trainer import run_optimizer


def measure_memory(part: Part) -> None:
    counts = (1, 2) if part.settings.toy else (2, part.images)
    part.each([{"images": count} for count in counts], partial(_measure_memory, part))


def _measure_memory(part: Part, images: int) -> Row:
    """In bfloat16, as `peak_bytes` has it by default. The measured peak comes first: it takes seconds."""
    found = _on_device(part, images) if part.is_cuda else _on_processor(part, images)
    predicted = peak_bytes(part.config(), part.side, part.side, images).total
    return {**found, "worked out, GiB": predicted / 2**30, "measured / worked out": found["bytes"] / predicted}


def _on_device(part: Part, images: int) -> Row:
    """Two steps, as the optimizer's state is there from the second one on."""
    config = part.config()
    part.free()
    before = torch.cuda.memory_allocated(part.device)
    model = some_model(part).train()
    optimizer, criterion = run_optimizer(model, config.optim, fused=False), build_criterion(config, part.classes)
    batch = some_batch(part, images)
    torch.cuda.reset_peak_memory_stats(part.device)
    for _ in range(2):
        optimizer.zero_grad()
        with autocast(part, "bf16-mixed"):
            total = criterion(model(batch), batch.targets or ()).total
        torch.autograd.backward(total)
        del total
        optimizer.step()
    part.synchronize()
    peak = torch.cuda.max_memory_allocated(part.device) - before
    reserved = torch.cuda.max_memory_reserved(part.device)
    return {"bytes": peak, "measured, GiB": peak / 2**30, "reserved, GiB": reserved / 2**30}


def _on_processor(part: Part, images: int) -> Row:
    peak = peak_bytes(part.config(), part.side, part.side, images, is_fake=False).total
    return {"bytes": peak, "measured, GiB": peak / 2**30}
