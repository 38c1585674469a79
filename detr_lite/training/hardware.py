"""What a run computes on, and in which precision."""

from typing import Any

import torch


def device_type(accelerator: str) -> str:
    """torch's name of what Lightning takes for its `accelerator`: a graphics card where it may and there is one."""
    if accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available():
        return "cuda"
    if accelerator in ("auto", "gpu", "mps") and torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def choose_precision(precision: str, accelerator: str) -> str:
    """ "auto" is bfloat16 where the hardware computes in it, on processors too, and 32 bits elsewhere."""
    if precision != "auto":
        return precision
    device = device_type(accelerator)
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device == "cpu":
        # Without instructions for it bfloat16 is emulated, and far slower than 32 bits; with Intel's for vectors alone
        # a training step still took a third longer (docs/performance.md).
        can: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        has_vectors = can.get("avx512_bf16") and "Intel" not in can.get("cpu_name", "")
        return "bf16-mixed" if can.get("amx_bf16") or has_vectors else "32-true"
    return "32-true"
