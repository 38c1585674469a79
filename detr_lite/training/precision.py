"""The precision of a run: that of the settings, what the hardware does well, or on a CPU what is faster when timed."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from detr_lite.build import build_criterion
from detr_lite.config import Config
from detr_lite.data.records import Split
from detr_lite.training.auto import device_type
from detr_lite.training.detection import make_data
from detr_lite.weights.checkpoint import model_of
from detr_lite.weights.init import new_description

CPUPrecision = Literal["32-true", "bf16-mixed"]

logger = logging.getLogger(__name__)

PASSES = 3
"""Timed in each precision, of which the fastest counts: other programs only make a pass slower."""
WORTH_IT = 0.9
"""bfloat16, which rounds more, is chosen if it takes no more than this share of the time."""
LONG = 5.0
"""Seconds of processor time; a pass that takes less is timed on one core, where other programs do not matter."""


def choose_precision(precision: str, accelerator: str) -> str:
    """Replace "auto" by bfloat16 where the hardware is known to be fast at it, and by 32 bits elsewhere."""
    if precision != "auto":
        return precision
    device = device_type(accelerator)
    if device == "cuda":
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "32-true"
    if device == "cpu":
        # With Intel's vector instructions alone a training step took a third longer (docs/performance.md).
        is_fast = _computes_bfloat16() and (_capabilities().get("amx_bf16") or "Intel" not in _cpu_name())
        return "bf16-mixed" if is_fast else "32-true"
    return "32-true"


def keep_precision(config: Config, before: Config) -> Config:
    """On a CPU, that of a run which is resumed, if none is given: it is chosen once."""
    kept = before.trainer.precision
    is_open = config.trainer.precision == "auto" and device_type(config.trainer.accelerator) == "cpu"
    if not is_open or kept not in ("32-true", "bf16-mixed"):
        return config
    return replace(config, trainer=replace(config.trainer, precision=kept))


def settle_precision(config: Config, train: Split, val: Split) -> Config:
    """On a CPU, the settings with a precision in place of "auto"; elsewhere the same settings.

    Where the CPU has instructions for bfloat16, both precisions are timed on a model of the run's own architecture and
    the run's first batch. Nothing of the run itself is touched: not its weights, and not torch's random numbers.

    Errors: those of reading the batch's images.
    """

    def first_pass() -> TrainingPass:
        description = new_description(config, train.categories)
        model = model_of(description).train()
        criterion = build_criterion(config, len(train.categories), description.architecture)
        batch = make_data(config, train, val, description).training_batch(0, 0, 0, 1)
        assert batch.targets is not None
        targets = batch.targets
        return TrainingPass(model, lambda: criterion(model(batch), targets).total)

    return time_precisions(config, first_pass)


@dataclass(frozen=True)
class TrainingPass:
    """A model and the loss of a batch."""

    model: nn.Module
    compute_loss: Callable[[], Tensor]


def time_precisions(config: Config, first_pass: Callable[[], TrainingPass]) -> Config:
    """On a CPU, the settings with a precision in place of "auto", as `settle_precision`, for a run of any task."""
    if config.trainer.precision != "auto" or device_type(config.trainer.accelerator) != "cpu":
        return config
    chosen: CPUPrecision = "32-true"
    if _computes_bfloat16():
        with torch.random.fork_rng(devices=[]):
            chosen, reason = faster_precision(first_pass())
        logger.info(f"chose --trainer.precision {chosen}: {reason}")
    return replace(config, trainer=replace(config.trainer, precision=chosen))


def faster_precision(training_pass: TrainingPass) -> tuple[CPUPrecision, str]:
    """The precision in which a training pass is faster, and why; the model's gradients are dropped."""
    threads = torch.get_num_threads()
    begin = time.process_time()
    try:
        # The first passes select kernels and allocate memory.
        _pass_seconds(training_pass, is_half=False, clock=time.monotonic)
        is_long = time.process_time() - begin > LONG
        clock: Callable[[], float] = time.monotonic
        if not is_long:
            torch.set_num_threads(1)
            clock = time.thread_time
        _pass_seconds(training_pass, is_half=True, clock=clock)
        seconds = {False: float("inf"), True: float("inf")}
        for _ in range(1 if is_long else PASSES):
            for is_half in seconds:
                seconds[is_half] = min(seconds[is_half], _pass_seconds(training_pass, is_half, clock))
    finally:
        torch.set_num_threads(threads)
    where = f"with {threads} threads" if is_long else "on one core"
    times = f"{1e3 * seconds[True]:,.0f} ms in bfloat16 and {1e3 * seconds[False]:,.0f} ms in float32"
    reason = f"the passes of the first batch, forward and backward, take {times} {where}"
    if seconds[True] <= WORTH_IT * seconds[False]:
        return "bf16-mixed", reason
    is_tie = seconds[True] < seconds[False]
    return "32-true", reason + (", which is too little to gain for what it rounds" if is_tie else "")


def _pass_seconds(training_pass: TrainingPass, is_half: bool, clock: Callable[[], float]) -> float:
    begin = clock()
    with torch.autocast("cpu", torch.bfloat16, enabled=is_half):
        total = training_pass.compute_loss()
    torch.autograd.backward(total)
    seconds = clock() - begin
    training_pass.model.zero_grad()
    return seconds


def _computes_bfloat16() -> bool:
    """Without instructions for it, bfloat16 is emulated and far slower than 32 bits."""
    return bool(_capabilities().get("amx_bf16") or _capabilities().get("avx512_bf16"))


def _cpu_name() -> str:
    return str(_capabilities().get("cpu_name", ""))


def _capabilities() -> dict[str, Any]:
    return dict(getattr(torch.cpu, "get_capabilities", dict)())
