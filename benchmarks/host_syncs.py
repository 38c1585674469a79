"""Where a host would wait for its GPU, found without one: tensors on the GPU have shapes, but no numbers."""

import traceback
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

PACKAGE = Path(__file__).resolve().parents[1] / "detr_lite"

READS = ("aten._local_scalar_dense", "aten.is_nonzero", "aten.equal")
"""Operators whose result is a number on the host."""

DYNAMIC = ("aten.nonzero", "aten.masked_select", "aten._unique2", "aten.unique_dim", "aten.unique_consecutive")
"""Operators whose result has a shape that only the device knows."""


class HostSyncs(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which tensors of device "cuda" are fake, and each operator that makes the host wait is recorded.

    Recorded are numbers and shapes read from the device, indexing by masks and by lists, numbers written at an index,
    and copies in either direction, except asynchronous ones of pinned memory. What is copied to the host is zero there.
    Kernels that wait by themselves are not found.

    Args:
        device: "cpu" computes, and records the numbers and shapes that are read; torch's gradients need a real device.
    """

    def __init__(self, device: str = "cuda") -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places: Counter[str] = Counter()
        """The line of detr_lite and the operator -> how often."""
        self.device = device
        self._pinned: list[torch.UntypedStorage] = []
        self._fake = ExitStack()

    def __enter__(self) -> "HostSyncs":
        if self.device == "cuda":
            self._fake.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        self._fake.close()

    @staticmethod
    def move(model: nn.Module) -> None:
        """Move a module to the fake device, within the context."""
        for module in model.modules():
            for tensors in (module._parameters, module._buffers):
                for name, value in tensors.items():
                    if value is not None:
                        moved = torch.empty_strided(value.shape, value.stride(), dtype=value.dtype, device="cuda")
                        is_parameter = isinstance(value, nn.Parameter)
                        moved = nn.Parameter(moved, value.requires_grad) if is_parameter else moved
                        tensors[name] = moved  # type: ignore[assignment]

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(func).rpartition(".")[0]
        tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
        is_on_device = any(each.device.type == self.device for each in tensors)
        if is_on_device and name in (*READS, *DYNAMIC):
            self._record(name)
        if self.device == "cpu":
            return func(*args, **kwargs)
        if is_on_device and name in READS:
            return 0
        if name == "aten.is_pinned":
            return self._is_pinned(args[0])
        if name == "aten._pin_memory":
            return self._pin(args[0])
        if name == "aten.copy_" and args[0].device != args[1].device:
            self._check_copy(args[1], args[0], (len(args) > 2 and args[2]) or kwargs.get("non_blocking", False))
            with _disable_current_modes():
                return args[0] if args[0].device.type == "cuda" else args[0].zero_()
        if name in ("aten.index", "aten.index_put", "aten.index_put_") and is_on_device:
            self._check_index(name, *args)
        is_for_device = torch.device(kwargs.get("device") or ("cuda" if is_on_device else "cpu")).type == "cuda"
        if name == "aten._to_copy" and is_on_device != is_for_device:
            self._check_copy(args[0], None, kwargs.get("non_blocking", False))
        if is_for_device:
            return func(*args, **kwargs)
        with _disable_current_modes():  # what is on the host has numbers
            if name == "aten._to_copy" and is_on_device:
                return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
            result = func(*args, **{**kwargs, "pin_memory": False} if "pin_memory" in kwargs else kwargs)
        return self._pin(result) if kwargs.get("pin_memory") else result

    def _pin(self, tensor: Tensor) -> Tensor:
        self._pinned.append(tensor.untyped_storage())
        return tensor

    def _is_pinned(self, tensor: Tensor) -> bool:
        return any(tensor.untyped_storage()._cdata == pinned._cdata for pinned in self._pinned)

    def _check_copy(self, source: Tensor, target: Tensor | None, is_async: bool) -> None:
        host = source if source.device.type == "cpu" else target
        if not is_async:
            self._record(f"copies from {source.device.type}")
        elif host is None or not self._is_pinned(host):
            self._record(f"copies from {source.device.type}, of memory that is not pinned")

    def _check_index(self, name: str, values: Tensor, index: Any, new: Tensor | None = None, *_: Any) -> None:
        indices = [each for each in index if each is not None]
        is_number = new is not None and new.device.type == "cpu"
        if any(each.dtype in (torch.bool, torch.uint8) for each in indices):
            if not (is_number and len(indices) == 1):  # which is `masked_fill_`
                self._record(f"{name} with a mask")
        elif any(each.device.type == "cpu" for each in indices):
            self._record(f"{name} with an index of the host")
        elif is_number:
            self._record(f"{name} of a number")

    def _record(self, what: str) -> None:
        frames = [frame for frame in traceback.extract_stack() if frame.filename.startswith(str(PACKAGE))]
        place = f"{Path(frames[-1].filename).relative_to(PACKAGE.parent)}:{frames[-1].lineno} " if frames else ""
        self.places[place + what] += 1
