"""`gpu`: which kernels of attention really run, and which could."""

import warnings
from collections.abc import Callable
from functools import partial

import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu import Row
from benchmarks.gpu_part import Part
from benchmarks.gpu_speed import PRECISIONS, autocast, some_batch, some_model
from detr_lite.build import build_criterion
from detr_lite.model.attention import attend

FUSED = "aten::_scaled_dot_product_"
"""Operators that `scaled_dot_product_attention` dispatches to begin with it."""
KERNEL_WORDS = ("flash", "fmha", "sdpa", "mem_eff", "attention")
"""Of the names of kernels on the device that compute attention."""
BACKENDS = (
    SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH,
)  # fmt: skip


def measure_attention(part: Part) -> None:
    """What a profile of a training step and of an inference says, then each backend by itself."""
    for precision in PRECISIONS:
        for is_training in (True, False):
            what = {"what": "training step" if is_training else "inference", "precision": precision}
            try:
                rows = _profiled(part, precision, is_training)
            except Exception as error:
                rows = [{"error": f"{type(error).__name__}: {str(error)[:300]}"}]
            for row in rows:
                part.emit({**what, **row})
            part.free()
    rows = [
        {"what": f"{backend.name} alone", "precision": name, "bias": bias}
        for backend in BACKENDS
        for name in PRECISIONS
        for bias in ("none", "learned")
    ]
    part.seconds = min(part.seconds, 0.3)  # there are 24 of them
    if part.is_cuda:
        part.each(rows, partial(_measure_backend, part))
    else:
        part.emit({"what": "each backend alone", "skipped": "there is one for processors"})


def _profiled(part: Part, precision: str, is_training: bool) -> list[Row]:
    """Each operator of attention that was called, and each kernel on the device."""
    model, batch = some_model(part).train(is_training), some_batch(part, part.images)
    criterion = build_criterion(part.config(), part.classes)

    def run() -> None:
        with torch.set_grad_enabled(is_training), autocast(part, precision):
            output = model(batch)
            if is_training:
                torch.autograd.backward(criterion(output, batch.targets or ()).total)

    run()
    part.synchronize()
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if part.is_cuda else [])]
    with profile(activities=activities) as profiler:
        run()
        part.synchronize()
    rows: list[Row] = []
    for event in profiler.key_averages():
        name, is_kernel = event.key, str(event.device_type) == "DeviceType.CUDA"
        if is_kernel and any(word in name.lower() for word in KERNEL_WORDS):
            rows.append({"runs": name[:80], "calls": event.count, "ms": event.device_time_total / 1e3})
        elif name.startswith(FUSED) and "backward" not in name:
            rows.append({"runs": name, "calls": event.count})
    return rows or [{"runs": "no fused attention: it is written out (docs/performance.md)"}]


def _measure_backend(part: Part, what: str, precision: str, bias: str) -> Row:
    """Forward and backward at the size of the decoder's cross-attention to the finest level."""
    config, backend = part.config().model, SDPBackend.__members__[what.removesuffix(" alone")]
    dtype = PRECISIONS[precision] or torch.float32
    tokens, channels = (part.side // 8) ** 2, config.dim // config.heads
    shape = (part.images, config.heads)

    def numbers(*sizes: int) -> torch.Tensor:
        return torch.randn(*shape, *sizes, device=part.device, dtype=dtype).requires_grad_()

    queries = config.num_queries or 300
    query, key, value = numbers(queries, channels), numbers(tokens, channels), numbers(tokens, channels)
    mask = numbers(queries, tokens) if bias == "learned" else None
    compute: Callable[[], torch.Tensor] = partial(F.scaled_dot_product_attention, query, key, value, attn_mask=mask)
    expected, _ = attend(query.float(), key.float(), value.float(), None if mask is None else mask.float(), 0.0, True)
    with warnings.catch_warnings(record=True) as told, sdpa_kernel([backend]):
        warnings.simplefilter("always")
        try:
            difference = (compute().float() - expected).abs().max()
        except RuntimeError:
            reasons = [str(each.message).splitlines()[0] for each in told]
            return {"error": "; ".join(dict.fromkeys(reasons))[:300] or "no such kernel"}
        seconds = part.time(lambda: torch.autograd.backward(compute().sum()))
    return {"ms": 1e3 * seconds[len(seconds) // 2], "largest difference": float(difference)}
