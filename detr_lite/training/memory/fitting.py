"""Which steps fit into the memory of a device, by estimate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import sqrt

from detr_lite.training.memory.peak import FakeStep, Peak, StepSize

OVERHEAD = 2**30
"""Bytes that are no tensors: kernels, and the workspaces of cuBLAS and cuDNN."""
FRAGMENTATION = 1.1
"""Bytes that the allocator reserves for each that tensors take. Neither number has been measured on a card."""
SIDE_STEP = 32


def required_bytes(peak: Peak) -> int:
    return round(peak.total * FRAGMENTATION) + OVERHEAD


@dataclass(frozen=True)
class Fitting:
    """Finds steps that need no more than `memory` bytes.

    Args:
        required: bytes that a step needs.
    """

    required: Callable[[StepSize], int]
    memory: int

    @staticmethod
    def of(step: FakeStep, memory: int) -> "Fitting":
        return Fitting(lambda size: required_bytes(step.peak(size)), memory)

    def fits(self, size: StepSize) -> bool:
        return self.required(size) <= self.memory

    def images(self, size: StepSize) -> int | None:
        """The most images, of the divisors of their number, so that accumulated batches make up the same step."""
        divisors = [count for count in range(size.images, 0, -1) if size.images % count == 0]
        return next((count for count in divisors if self.fits(replace(size, images=count))), None)

    def scale(self, size: StepSize) -> float | None:
        """By which factor, at most 1, the sides of images must shrink."""
        if self.fits(size):
            return 1.0
        least = self.required(replace(size, height=SIDE_STEP, width=SIDE_STEP))
        if least > self.memory:
            return None
        # Activations grow with the pixels, attention faster, so that this is a start and not always enough.
        factor = sqrt((self.memory - least) / (self.required(size) - least))
        while min(size.height, size.width) * factor >= SIDE_STEP:
            if self.fits(scaled(size, factor)):
                return factor
            factor *= 0.9
        return None


def scaled(size: StepSize, factor: float) -> StepSize:
    return replace(size, height=round(size.height * factor), width=round(size.width * factor))


def remedies(fitting: Fitting, size: StepSize, image_size: int, accumulated: int, can_recompute: bool) -> list[str]:
    """Settings with which a step that did not fit does, the least costly first; each is enough by itself.

    Args:
        image_size: the setting that led to `size`.
        accumulated: batches of a step.
        can_recompute: whether the model supports gradient checkpointing.
    """
    found = list(_single_remedies(fitting, size, image_size, accumulated, can_recompute))
    if found:
        return found
    least, words = (
        replace(size, images=1),
        f"--data.batch_size 1 --optim.accumulate_grad_batches {size.images * accumulated}",
    )
    if not size.is_half:
        least, words = replace(least, is_half=True), f"{words} --trainer.precision bf16-mixed"
    if can_recompute and not size.gradient_checkpointing:
        least, words = replace(least, gradient_checkpointing=True), f"{words} --trainer.gradient_checkpointing true"
    factor = fitting.scale(least)
    if factor is None:
        return []
    smaller = _image_size(image_size, factor)
    return [words if smaller == image_size else f"{words} --data.image_size {smaller}"]


def _single_remedies(
    fitting: Fitting, size: StepSize, image_size: int, accumulated: int, can_recompute: bool
) -> Iterator[str]:
    if not size.is_half and fitting.fits(replace(size, is_half=True)):
        yield "--trainer.precision bf16-mixed"
    images = fitting.images(size)
    if images is not None and images < size.images:
        times = accumulated * size.images // images
        yield f"--data.batch_size {images} --optim.accumulate_grad_batches {times}"
    if can_recompute and not size.gradient_checkpointing and fitting.fits(replace(size, gradient_checkpointing=True)):
        yield "--trainer.gradient_checkpointing true"
    factor = fitting.scale(size)
    if factor is not None and factor < 1:
        yield f"--data.image_size {_image_size(image_size, factor)}"


def _image_size(image_size: int, factor: float) -> int:
    """A multiple of 32 pixels where there is one."""
    smaller = int(image_size * factor)
    return image_size if factor == 1 else max(16, smaller // SIDE_STEP * SIDE_STEP or smaller)
