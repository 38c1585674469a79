"""One part of `gpu` in a process of its own: `python -m benchmarks.gpu_part NAME SETTINGS` prints rows of JSON."""

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from benchmarks.gpu import GpuSettings, Row

if TYPE_CHECKING:
    from detr_lite.config import Config

TOY_CLASSES, CLASSES, OBJECTS = 3, 80, 7


class Part:
    """What the parts share: settings, device, sizes, and where rows go."""

    def __init__(self, settings: GpuSettings, limit: float, emit: Callable[[Row], None]) -> None:
        import torch

        self.settings = settings
        self.emit = emit
        self.end = time.monotonic() + limit
        name = settings.device
        if name == "auto":
            name = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(name)
        self.is_cuda = self.device.type == "cuda"
        self.side, self.images, self.classes = (64, 2, TOY_CLASSES) if settings.toy else (640, 16, CLASSES)
        self.seconds = 0.05 if settings.toy else 3.0
        """Of the repeats of one measurement."""

    @property
    def left(self) -> float:
        """Seconds that this part still has."""
        return self.end - time.monotonic()

    def config(self) -> "Config":
        from detr_lite.config import Config, ModelConfig, OptimConfig, read_config

        if not self.settings.toy:
            return read_config(["--config", "coco_lite_r50.yaml"]).config
        model = ModelConfig(
            backbone="resnet18", pretrained=False, dim=32, heads=2, num_queries=10, denoising_queries=10,
            decoder_layers=1, feedforward_dim=32,
        )  # fmt: skip
        return replace(Config(), model=model, optim=OptimConfig(optimizer="adamw", lr=1e-4))

    def synchronize(self) -> None:
        import torch

        if self.is_cuda:
            torch.cuda.synchronize(self.device)

    def time(self, function: Callable[[], object], warmup: int = 3) -> list[float]:
        """Seconds of each call, with all that it started on the device."""
        for _ in range(warmup):
            function()
        self.synchronize()
        seconds: list[float] = []
        while len(seconds) < 3 or (sum(seconds) < self.seconds and self.left > 1):
            start = time.perf_counter()
            function()
            self.synchronize()
            seconds.append(time.perf_counter() - start)
        return sorted(seconds)

    def each(self, rows: list[Row], measure: Callable[..., Row]) -> None:
        """A row for each of these keyword arguments; one that fails has its error in place of numbers."""
        for arguments in rows:
            try:
                found = measure(**arguments)
            except Exception as error:
                first = str(error).strip().splitlines() or [""]
                found = {"error": f"{type(error).__name__}: {first[0][:300]}"}
            self.emit({**arguments, **found})
            self.free()

    def free(self) -> None:
        import gc

        import torch

        gc.collect()
        if self.is_cuda:
            torch.cuda.empty_cache()


def describe_device(part: Part) -> None:
    """The card, or that none was used."""
    import platform

    import torch

    row: Row = {"device": str(part.device), "card": "none was used", "torch": torch.__version__}
    if part.is_cuda:
        properties = torch.cuda.get_device_properties(part.device)
        row |= {
            "card": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
            "memory, GiB": properties.total_memory / 2**30,
            "multiprocessors": properties.multi_processor_count,
            "CUDA": torch.version.cuda,
            "cuDNN": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        }
    row |= {"python": platform.python_version(), "processor cores": _cores()}
    part.emit(row)


def _cores() -> int:
    from detr_lite.cores import usable_cores

    return usable_cores()


def find_part(name: str) -> Callable[[Part], None]:
    """Imports what a part needs, and no more."""
    if name == "device":
        return describe_device
    if name in ("step", "optimizer", "latency"):
        from benchmarks import gpu_speed

        parts: dict[str, Any] = {
            "step": gpu_speed.measure_steps,
            "optimizer": gpu_speed.measure_optimizers,
            "latency": gpu_speed.measure_latency,
        }
        return parts[name]  # type: ignore[no-any-return]
    if name in ("attention", "memory"):
        from benchmarks import gpu_attention, gpu_memory

        return gpu_attention.measure_attention if name == "attention" else gpu_memory.measure_memory
    from benchmarks import gpu_data

    return gpu_data.measure_loading if name == "loading" else gpu_data.measure_learning


def main() -> None:
    name, text = sys.argv[1:]
    content = json.loads(text)
    limit = content.pop("limit")
    find_part(name)(Part(GpuSettings(**content), limit, lambda row: print(json.dumps(row), flush=True)))


if __name__ == "__main__":
    main()
