"""TensorFloat-32: products of float32 matrices on the tensor cores of NVIDIA's GPUs, in training alone."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

OVERRIDE = "NVIDIA_TF32_OVERRIDE"
"""Environment variable of NVIDIA's libraries; 0 forbids TF32 whatever a program sets."""


def uses_tf32(precision: str, device: torch.device) -> bool:
    """Whether a run in this precision multiplies matrices in TF32: float32 on a GPU since compute capability 8.0."""
    if precision != "32-true" or device.type != "cuda" or os.environ.get(OVERRIDE) == "0":
        return False
    return torch.cuda.get_device_capability(device) >= (8, 0)


@contextmanager
def tf32_matmuls(precision: str, device: torch.device) -> Iterator[None]:
    """A context in which matrices are multiplied in TF32 where `uses_tf32`; afterwards exactly, as before.

    TF32 rounds factors to 11 significant bits, of which float16 has as many, and adds in float32. Matching costs and
    losses multiply no matrices. torch's default allows TF32 in convolutions only.
    """
    before = torch.get_float32_matmul_precision()
    if uses_tf32(precision, device):
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
