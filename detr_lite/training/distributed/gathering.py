"""Detections of all processes on rank 0, as plain tensors: pickled ones would carry all memory they are views of."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch import distributed as dist

from detr_lite.evaluation.packing import DetectionRows


def gather_detections(mine: DetectionRows, device: torch.device) -> list[DetectionRows] | None:
    """On rank 0 those of each rank, in order, and None on the others; every rank must call it.

    Args:
        device: of the model, over which NCCL sends; other backends send from the CPU.
    """
    device = device if dist.get_backend() == "nccl" else torch.device("cpu")
    # Ranks have different numbers of images and detections, and collectives need equal shapes.
    counts = torch.tensor([len(mine.images), len(mine.rows)], device=device)
    all_counts = [torch.empty_like(counts) for _ in range(dist.get_world_size())]
    dist.all_gather(all_counts, counts)
    num_images, num_rows = torch.stack(all_counts).T.tolist()
    images, rows = _gather(mine.images.to(device), num_images), _gather(mine.rows.to(device), num_rows)
    if images is None or rows is None:
        return None
    return [DetectionRows(*part) for part in zip(images, rows, strict=True)]


def _gather(values: Tensor, lengths: Sequence[int]) -> list[Tensor] | None:
    """The values of each rank on rank 0, on the CPU; `lengths` are the ranks' numbers of them."""
    padded = values.new_zeros(max(lengths), *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in lengths] if dist.get_rank() == 0 else None
    dist.gather(padded, parts)
    return None if parts is None else [part[:length].cpu() for part, length in zip(parts, lengths, strict=True)]
