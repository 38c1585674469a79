"""The line that a run out of memory ends with."""

import logging

import torch
from torch import nn

from detr_lite.build import build_criterion, build_model, require
from detr_lite.config import Config
from detr_lite.structures import DetrLiteError
from detr_lite.training.memory.fitting import Fitting, remedies, required_bytes
from detr_lite.training.memory.peak import FakeStep, StepSize
from detr_lite.training.module import DetectionModule

logger = logging.getLogger(__name__)

LESS = 0.9
"""The estimate of a remedy is at most this share of that of the step which failed, however large the memory is: other
programs may hold a part of it."""


def is_out_of_memory(error: BaseException) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )


def out_of_memory_error(
    module: DetectionModule, config: Config, classes: int, precision: str, device: torch.device
) -> DetrLiteError:
    """The size of the step that failed, and settings that fit by estimate.

    Args:
        module: knows the last batch, if there was one.
        device: whose memory was too small.
    """
    size = None
    if module.images_shape is not None:
        images, _, height, width = module.images_shape
        recompute = config.trainer.gradient_checkpointing
        size = StepSize(images, height, width, module.most_objects, precision != "32-true", recompute)
    batch_size = require("data.batch_size", config.data.batch_size)
    accumulated = config.optim.accumulate_grad_batches or 1
    where = f"out of memory on {device}"
    if device.type == "cuda":
        where += f" ({device_memory(device) / 2**30:.1f} GiB)"
    if size is not None:
        where += f" with {size.images} images of {size.width} x {size.height} pixels"
    found: list[str] = []
    if size is not None and config.model.source is None:
        logger.info("out of memory; looking for settings that fit")
        try:
            found = _remedies(size, config, classes, device, accumulated)
        except Exception as error:  # an estimate that fails must not hide what has happened
            logger.info(f"no estimate of the memory that other settings need: {error}")
    if found:
        return DetrLiteError(f"{where}; by estimate, one of these fits: {'; or '.join(found)}")
    smaller = max(1, batch_size // 2)
    advice = [f"--data.batch_size {smaller} --optim.accumulate_grad_batches {accumulated * 2}"] * (batch_size > 1)
    advice += ["--trainer.gradient_checkpointing true"] * (not config.trainer.gradient_checkpointing)
    advice += ["--data.image_size with fewer pixels"]
    return DetrLiteError(f"{where}; try {'; or '.join(advice)}")


def device_memory(device: torch.device) -> int:
    """Bytes of a CUDA device."""
    return int(torch.cuda.get_device_properties(device).total_memory)


def fake_step(config: Config, classes: int, as_on_gpu: bool) -> FakeStep:
    """Steps of the run's model; torch's random state is not changed."""
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = build_model(config.model, classes, for_checkpoint=True)
        return FakeStep(model, build_criterion(config, classes), config, as_on_gpu=as_on_gpu)


def _remedies(size: StepSize, config: Config, classes: int, device: torch.device, accumulated: int) -> list[str]:
    step = fake_step(config, classes, as_on_gpu=device.type == "cuda")
    limit = int(LESS * required_bytes(step.peak(size)))
    if device.type == "cuda":
        limit = min(limit, device_memory(device))
    image_size = require("data.image_size", config.data.image_size)
    return remedies(Fitting.of(step, limit), size, image_size, accumulated, can_recompute=True)
