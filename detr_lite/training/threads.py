"""How many threads a training step computes with on the CPU, chosen by the time of the run's own steps."""

import logging
import os
from collections import deque
from dataclasses import dataclass, field
from statistics import fmean

import torch

from detr_lite.cores import usable_cores
from detr_lite.structures import DetrLiteError

logger = logging.getLogger(__name__)

VARIABLE = "OMP_NUM_THREADS"
"""Environment variable with a fixed number of threads, for all programs that use OpenMP."""

STEPS = 3
"""Timed with a number of threads before it is compared."""
WINDOW = 8
"""The latest steps, of which the mean is what others are compared with; not the median: where a core is shared, a few
steps take most of the time. The slowest is left out, as something else may have happened in it."""
BETTER = 0.95
"""A number of threads is exchanged for one that takes no more than this share of its time."""
CHANGED = 1.25
"""The machine got busier or freer if steps take so many times what they took, or so much less."""
TRIAL_SHARE = 0.02
"""Share of the training time that may be lost by trying another number of threads that turns out to be slower."""
SHORTEST_WAIT, LONGEST_WAIT = 2.0, 60.0
"""Seconds of training between trials of one number of threads."""


def fixed_threads(setting: int | None) -> int | None:
    """The number of threads that the user has fixed: by the setting, or else by `OMP_NUM_THREADS`.

    Errors: the variable is no number.
    """
    value = os.environ.get(VARIABLE)
    if setting is not None or value is None:
        return setting
    first = value.split(",")[0].strip()  # OpenMP's own format is a list with the number of each level of nesting
    if not first.isdecimal() or int(first) < 1:
        raise DetrLiteError(f"{VARIABLE}={value} is no number of threads; unset it, or give --trainer.threads")
    return int(first)


def set_fixed_threads(setting: int | None) -> None:
    """Set torch's number of threads if the user has fixed it, with a warning where that is more than there are cores.

    Errors: those of `fixed_threads`.
    """
    threads, cores = fixed_threads(setting), usable_cores()
    if threads is None:
        return
    if threads > cores:
        source = VARIABLE if setting is None else "--trainer.threads"
        logger.warning(f"{source} {threads}: there are {cores} cores, and more threads than cores wait for each other")
    torch.set_num_threads(threads)


def thread_candidates(cores: int) -> tuple[int, ...]:
    """Powers of two, all cores, and with many cores all but one and three quarters; in ascending order."""
    powers = {1 << exponent for exponent in range(cores.bit_length())}
    return tuple(sorted({*powers, cores, max(1, cores - 1), max(1, 3 * cores // 4)} if cores > 2 else {*powers, cores}))


@dataclass
class _Trial:
    """Some steps with another number of threads."""

    threads: int
    is_new: bool
    """Whether it was never tried: the first step then prepares what later ones reuse, and is not compared."""
    costs: list[float] = field(default_factory=list)
    excess: float = 0.0
    """Seconds more than with the best number."""


class ThreadChooser:
    """Finds the number of threads with which steps are fastest, and follows the machine as it gets busier or freer.

    It begins with all cores and tries the next smaller and larger candidate now and then, for one step, or for `STEPS`
    while they are faster. How often depends on what the trials cost: those of a slower number take no more than
    `TRIAL_SHARE` of the time, unless they would be rarer than every `LONGEST_WAIT` seconds. Where steps get slower,
    fewer threads are tried at once, and where they get faster, more.

    Steps differ in size, so that what is compared is the time by size.
    """

    def __init__(self, cores: int) -> None:
        self.cores = cores
        self.candidates = thread_candidates(cores)
        self.best = cores
        """The number of threads that is the fastest so far."""
        self.costs: dict[int, float] = {}
        """The latest seconds by size with each number of threads."""
        self.seconds = 0.0
        """Of all steps so far."""
        self._size = 1.0
        self._is_first = True
        self._has_chosen = False
        self._trial: _Trial | None = None
        self._recent: deque[float] = deque(maxlen=WINDOW)
        self._reference: float | None = None
        self._not_before = dict.fromkeys(self.candidates, 0.0)

    @property
    def threads(self) -> int:
        """Of the next step."""
        return self.best if self._trial is None else self._trial.threads

    def record(self, seconds: float, size: float) -> str | None:
        """Take note of a step with `threads`; returns a line if the choice was made or has changed."""
        self.seconds += seconds
        self._size = size
        if self._is_first:  # it allocates memory and selects kernels
            self._is_first = False
            return None
        before = self.best
        if self._trial is None:
            self._record_best(seconds / size)
        else:
            self._record_trial(self._trial, seconds / size)
        if self._trial is None and len(self._recent) >= STEPS:
            self._trial = self._next_trial()
        if self._has_chosen and self.best != before:
            return f"now {_count(self.best)} of {self.cores}: {self._times()}"
        if not self._has_chosen and self._trial is None and len(self._recent) >= STEPS:
            self._has_chosen = True
            return f"chose {_count(self.best)} of {self.cores}: {self._times()}"
        return None

    def _record_best(self, cost: float) -> None:
        self._recent.append(cost)
        costs = sorted(self._recent)
        mean = self.costs[self.best] = fmean(costs[:-1] if len(costs) > STEPS else costs)
        if len(self._recent) < STEPS:
            return
        if self._reference is None:
            self._reference = mean
        ratio = fmean(list(self._recent)[-STEPS:]) / self._reference
        if max(ratio, 1 / ratio) > CHANGED:
            self._reference *= ratio
            for threads in self.candidates:
                if (threads < self.best) == (ratio > 1):
                    self._not_before[threads] = 0.0

    def _record_trial(self, trial: _Trial, cost: float) -> None:
        best = self.costs[self.best]
        trial.excess += (cost - best) * self._size
        if trial.is_new and cost < CHANGED * best:
            trial.is_new = False
            return
        trial.costs.append(cost)
        mean = self.costs[trial.threads] = fmean(trial.costs)
        if mean < best and len(trial.costs) < STEPS:
            return
        self._trial = None
        if mean > BETTER * best:
            self._postpone(trial.threads, trial.excess)
            return
        self._postpone(self.best, STEPS * (best - mean) * self._size)
        self.best = trial.threads
        self._recent.clear()
        self._recent.extend(trial.costs)
        self._reference = mean

    def _postpone(self, threads: int, excess: float) -> None:
        wait = min(LONGEST_WAIT, max(SHORTEST_WAIT, excess / TRIAL_SHARE))
        self._not_before[threads] = self.seconds + wait

    def _next_trial(self) -> _Trial | None:
        place = self.candidates.index(self.best)
        for threads in (*self.candidates[:place][-1:], *self.candidates[place + 1 :][:1]):
            if self.seconds >= self._not_before[threads]:
                return _Trial(threads, threads not in self.costs)
        return None

    def _times(self) -> str:
        """What a step takes with the best number, and took with its neighbors."""
        place = self.candidates.index(self.best)
        near = [each for each in self.candidates[max(0, place - 1) : place + 2] if each != self.best]
        times = [f"with {_count(each)} {self._milliseconds(each)}" for each in near if each in self.costs]
        return ", ".join([f"a step takes {self._milliseconds(self.best)}", *times])

    def _milliseconds(self, threads: int) -> str:
        return f"{1e3 * self.costs[threads] * self._size:,.0f} ms"


def _count(threads: int) -> str:
    return f"{threads} thread{'s' if threads > 1 else ''}"
