"""Peak memory of a training step, worked out without a GPU: tensors have shapes, but no numbers."""

import weakref
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from detr_lite.config import Config
from detr_lite.loss.criterion import Criterion
from detr_lite.model.detr import Detr
from detr_lite.structures import Batch, Target
from detr_lite.training.memory.stand_ins import without_numbers
from detr_lite.training.trainer import run_optimizer


@dataclass(frozen=True)
class StepSize:
    """What decides how much memory a step of a given model needs."""

    images: int
    height: int
    width: int
    """Of the padded images, in pixels."""
    objects: int = 7
    """In each image; COCO's mean."""
    is_half: bool = True
    """Autocast to 16 bits."""
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class Peak:
    """Bytes of each kind of tensor at the moment of a step when their sum is largest.

    Not included: libraries' working memory, and what the allocator leaves unused.
    """

    parameters: int
    """With the moving average of the weights, if there is one."""
    gradients: int
    optimizer: int
    activations: int
    """All that is left: activations, images, buffers, temporary results."""

    @property
    def total(self) -> int:
        return self.parameters + self.gradients + self.optimizer + self.activations


class FakeStep:
    """Training steps of a model that nothing is computed of.

    Args:
        model: fresh from `build_model`; it loses its weights.
        config: of optimizer and moving average.
        is_fake: False computes the steps, and leaves the model its weights.
        as_on_gpu: with the kernels of CUDA (only fake).
    """

    def __init__(
        self, model: nn.Module, criterion: Criterion, config: Config, is_fake: bool = True, as_on_gpu: bool = True
    ) -> None:
        self.model = model.train()
        self.criterion = criterion
        self.as_on_gpu = as_on_gpu and is_fake
        self.mode = FakeTensorMode() if is_fake else None
        if self.mode is not None:
            _make_fake(model, self.mode)
        self.averages = sum(map(_bytes, model.parameters())) if config.optim.ema_decay else 0
        self.tracker = PeakTracker(model)
        self.update: tuple[int, int]
        """The peak of the optimizer's step, which is that of every batch, and the gradients in it."""
        with self.mode or nullcontext(), self.tracker:
            self.optimizer = run_optimizer(model, config.optim, fused=True)
            # Its state is there from the second step on, which is what counts.
            for parameter in self.tracker.trained:
                parameter.grad = torch.zeros_like(parameter)
            self.optimizer.step()
            self.tracker.start()
            self.optimizer.step()
            self.update = (self.tracker.peak, self.tracker.gradients_at_peak)

    def peak(self, size: StepSize) -> Peak:
        """Of a step that follows others, as Lightning takes it: the last step's gradients are there until the loss is.

        Errors: RuntimeError and others of the model, where it cannot be computed without numbers.
        """
        if isinstance(self.model, Detr):
            self.model.set_gradient_checkpointing(size.gradient_checkpointing)
        with self.mode or nullcontext(), without_numbers(self.as_on_gpu), self.tracker:
            self.tracker.start()
            batch = _random_batch(size)
            with torch.autocast("cpu", torch.bfloat16, enabled=size.is_half):
                losses = self.criterion(self.model(batch), batch.targets or ())
            self.optimizer.zero_grad()
            self.tracker.gradients = 0
            losses.total.backward()  # type: ignore[no-untyped-call]
            del losses
        state = [value for values in self.optimizer.state.values() for value in values.values()]
        optimizer = sum(_bytes(value) for value in state if isinstance(value, Tensor))
        parameters = sum(map(_bytes, self.model.parameters()))
        live, gradients = max(self.update, (self.tracker.peak, self.tracker.gradients_at_peak))
        return Peak(parameters + self.averages, gradients, optimizer, live - parameters - optimizer - gradients)


class PeakTracker(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that exist, from their first use to their end."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.alive: dict[int, Any] = {}
        self.live = self.peak = self.gradients = self.gradients_at_peak = 0
        for tensor in (*model.parameters(), *model.buffers()):
            self.see(tensor)
        for parameter in self.trained:
            parameter.register_post_accumulate_grad_hook(self._see_gradient)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """Forget the peak so far; all gradients are there."""
        self.peak, self.gradients = 0, sum(map(_bytes, self.trained))

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key in self.alive:
            return

        def forget(_: Any) -> None:
            del self.alive[key]
            self.live -= size

        self.alive[key] = weakref.ref(storage, forget)
        self.live += size
        if self.live > self.peak:
            self.peak, self.gradients_at_peak = self.live, self.gradients

    def _see_gradient(self, parameter: Tensor) -> None:
        self.gradients += _bytes(parameter)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Sequence[Any], args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.see(value)
        return result


def _random_batch(size: StepSize) -> Batch:
    targets = tuple(
        Target(torch.rand(size.objects, 4), torch.zeros(size.objects).long(), number, (size.height, size.width))
        for number in range(size.images)
    )
    shape = (size.images, size.height, size.width)
    images = torch.randn(size.images, 3, size.height, size.width)
    return Batch(images, torch.zeros(shape).bool(), targets)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _make_fake(model: nn.Module, mode: FakeTensorMode) -> None:
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, value in tensors.items():
                if value is not None:
                    tensors[name] = mode.from_tensor(value)  # type: ignore[assignment]
