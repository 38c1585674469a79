"""A batch size that was left open, made to fit into a GPU."""

import logging
from dataclasses import replace

import torch

from detr_lite.build import build_augmentation, build_resize, require
from detr_lite.config import Config
from detr_lite.data.records import Split
from detr_lite.data.sampler import BucketedBatchSampler
from detr_lite.structures import DetrLiteError
from detr_lite.text import reason_of
from detr_lite.training.auto import device_type
from detr_lite.training.memory.fitting import Fitting
from detr_lite.training.memory.out_of_memory import fake_step
from detr_lite.training.memory.peak import StepSize

logger = logging.getLogger(__name__)


def free_memory(processes: int) -> int | None:
    """Bytes that a run may use of each GPU; None without one.

    Several processes must come to the same number, so theirs is that of the smallest device, used or not.
    """
    if not torch.cuda.is_available():
        return None
    if processes == 1:
        return int(torch.cuda.mem_get_info()[0])
    return min(torch.cuda.get_device_properties(index).total_memory for index in range(torch.cuda.device_count()))


def fit_batch_size(
    config: Config, given: Config, train: Split, precision: str, processes: int, memory: int | None = None
) -> Config:
    """The settings with a batch size that fits, if it was left open and the run is on a CUDA GPU; a log line says so.

    As many images are accumulated in a step as were asked for, unless the number of batches was given.

    Args:
        given: the settings before open ones were chosen.
        memory: bytes of a device, by default `free_memory`.

    Errors: not even one image fits.
    """
    if given.data.batch_size is not None or device_type(config.trainer.accelerator) != "cuda":
        return config
    memory = free_memory(processes) if memory is None else memory
    if memory is None or config.model.source is not None:
        return config
    size = largest_step(config, train, precision)
    try:
        fitting = Fitting.of(fake_step(config, len(train.categories), as_on_gpu=True), memory)
        images = fitting.images(size)
        saving = replace(size, images=1, gradient_checkpointing=True)
        would_fit = images is None and not size.gradient_checkpointing and fitting.fits(saving)
    except Exception as error:  # without an estimate the run starts as if there were room
        logger.info(f"the memory of a step could not be estimated ({reason_of(error)})")
        return config
    of_memory = f"by estimate, {size.width} x {size.height} pixels in {memory / 2**30:.1f} GiB"
    if images is None:
        remedy = (
            "--trainer.gradient_checkpointing true or a smaller --data.image_size"
            if would_fit
            else ("a smaller --data.image_size")
        )
        raise DetrLiteError(f"a step of a single image does not fit into the GPU ({of_memory}); give {remedy}")
    if images == size.images:
        return config
    times = size.images // images
    data, optim = replace(config.data, batch_size=images), config.optim
    line = f"chose --data.batch_size {images}: more images do not fit ({of_memory})"
    if given.optim.accumulate_grad_batches is None:
        optim = replace(optim, accumulate_grad_batches=times)
        line += f"; with --optim.accumulate_grad_batches {times} a step still has {size.images}"
    logger.info(line)
    return replace(config, data=data, optim=optim)


def largest_step(config: Config, train: Split, precision: str) -> StepSize:
    """The batch with the most pixels that the training images give, and the most objects of any."""
    images = require("data.batch_size", config.data.batch_size)
    resize = build_resize(config.data)
    sizes = [resize.target_size(height, width) for width, height in train.images.sizes_wh.tolist()]
    batches = BucketedBatchSampler(sizes, images, shuffle=True, seed=config.seed)
    padded = [batches.sizes[batch].max(axis=0).tolist() for batch in batches]
    height, width = max(padded, key=lambda size: size[0] * size[1])
    if build_augmentation(config.data).geometry == "detr":  # its crops turn landscapes into portraits
        height = width = max(height, width)
    objects = int(train.images.counts.max(initial=0))
    return StepSize(images, height, width, objects, precision != "32-true", config.trainer.gradient_checkpointing)
