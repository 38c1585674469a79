"""A run that gets nowhere says so: one line with the likely cause and the remedy."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import lightning as L
from lightning.pytorch import Callback
from lightning.pytorch.utilities import rank_zero_only
from tqdm import tqdm

from detr_lite.data.coco import CocoSplit
from detr_lite.evaluation.coco_map import BOXES_FIT
from detr_lite.structures import Detections
from detr_lite.training.checks.prediction_stats import ClassStats, class_stats, detection_stats, find_collapse
from detr_lite.training.schedule import TrainingProgress

# Each limit is such that a healthy run stays far from it: a false alarm is worse than silence.

READINGS = 20
"""The loss is the median of so many readings (200 steps): a batch of fuller images may have twice that of the next."""
SETTLED_STEPS = 200
"""After the warm-up. In healthy runs the loss is well below that of the first step before the warm-up is over."""
FAR_ABOVE = 1.5
"""Loss, as a multiple of the first step's, that says by itself that the run diverges, before there is an evaluation.
Weights that have been trained before begin with a small loss, of which the full rate may make more, but hardly so much,
and not for 200 steps."""
NOT_BELOW = 0.97
"""The same where no detection matches either: learning of any kind takes more than 3 % off."""
RISEN = 1.5
"""Loss, as a multiple of its own minimum. Medians of 200 steps vary by a few per cent; noise, new augmentations and the
restart of a schedule stay below 1.2."""
RISEN_STEPS = 300
"""For so long without a break."""
NOTHING = 0.01
"""AP50 below which no detection matches but by accident."""
LATE = 0.5
"""Share of the run after which AP has to be above nothing: from there on the rate fades, and what is not there does not
come."""
LATE_STEPS = 500
"""Shorter runs are trials of the machinery, in which nothing is learned for lack of steps."""
COLLAPSED_FROM, COLLAPSED_STEPS = 0.2, 300
"""Share of the run, and steps, before which a sound model too may answer alike everywhere: queries start alike."""
FEW_OBJECTS = 50
"""On fewer the share of right classes is accident."""

Cause = Literal["rate", "rising", "alike", "labels", "zero"]


@dataclass(frozen=True)
class Rate:
    """What is said of the learning rate."""

    lr: float
    usual: float
    """What would be chosen if it were not given."""

    @property
    def is_high(self) -> bool:
        return self.lr > 3 * self.usual

    @property
    def remedy(self) -> str:
        if self.lr < self.usual / 10:
            return f"raise --optim.lr from {self.lr:g}, e.g. to {self.usual:g}"
        return f"lower --optim.lr from {self.lr:g}, e.g. to {min(self.lr / 10, self.usual):.2g}"


class TrainingDiagnostics(Callback):
    """Looks at losses and evaluations that are there anyway, and prints a line when they show that the run is stuck.

    At most one line per cause and run, also when the run is resumed. To be called after the clock and `MetricsFile`,
    in whose steps it reads the losses: at other times that would wait for the device.

    Args:
        rate: the run's full one.
        warmup_steps: of the rate.
        every_steps: as in `MetricsFile`.
    """

    def __init__(
        self, progress: TrainingProgress, val: CocoSplit, rate: Rate, warmup_steps: int, every_steps: int = 10
    ) -> None:
        self.progress = progress
        self.val = val
        self.rate = rate
        self.warmup_steps = warmup_steps
        self.every_steps = every_steps
        self.said: list[Cause] = []
        self._first: float | None = None
        self._recent: deque[float] = deque(maxlen=READINGS)
        self._lowest: float | None = None
        self._high_since: int | None = None
        """Step since which the loss has been far above its minimum."""
        self._best = self._latest = -1.0
        """AP50 of evaluations; -1 while there is none."""
        self._last_step = 0
        self._found: Mapping[int, Detections] = {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "said": list(self.said),
            "first": self._first,
            "recent": list(self._recent),
            "lowest": self._lowest,
            "high_since": self._high_since,
            "AP50": [self._best, self._latest],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.said = list(state_dict["said"])
        self._first = state_dict["first"]
        self._recent = deque(state_dict["recent"], maxlen=READINGS)
        self._lowest, self._high_since = state_dict["lowest"], state_dict["high_since"]
        self._best, self._latest = state_dict["AP50"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last_step = trainer.global_step

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, is_new = trainer.global_step, trainer.global_step != self._last_step
        self._last_step = step
        if is_new and (step % self.every_steps == 0 or step == 1) and "loss" in trainer.callback_metrics:
            self.read_loss(step, float(trainer.callback_metrics["loss"]))

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Callbacks come before the module, which forgets the detections when it has evaluated them.
        self._found = dict(getattr(pl_module, "_detections", {})) if trainer.is_global_zero else {}

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if "AP50" in trainer.callback_metrics:
            self.see_evaluation(trainer.global_step, float(trainer.callback_metrics["AP50"]), self._found)
        self._found = {}

    def read_loss(self, step: int, loss: float) -> None:
        """A reading, and what follows from the loss alone."""
        if self._first is None:
            self._first = loss
        self._recent.append(loss)
        if len(self._recent) < READINGS:
            return
        now = median(self._recent)
        self._lowest = now if self._lowest is None else min(self._lowest, now)
        if now <= RISEN * self._lowest:
            self._high_since = None
        elif self._high_since is None:
            self._high_since = step
        if self._latest < NOTHING:
            self._compare_with_first(step, FAR_ABOVE)
        # Whatever the loss, a run whose AP is about as good as ever is no stalled one.
        is_worse = self._latest < 0.9 * self._best or self._best < NOTHING
        if self._high_since is not None and step - self._high_since >= RISEN_STEPS and is_worse:
            self._say(
                "rising",
                f"step {step:,}: the loss has been rising, from {self._lowest:.3g} to {now:.3g}; the rate is probably "
                f"too high for what is learned by now: {self.rate.remedy}, and go on from the best checkpoint with "
                "--model.init_from",
            )

    def see_evaluation(self, step: int, AP50: float, found: Mapping[int, Detections]) -> None:  # noqa: N803
        """An evaluation, and what follows from it.

        Args:
            found: detections of (this rank's) validation images by image id.
        """
        self._latest, self._best = AP50, max(self._best, AP50)
        if AP50 < 0:  # no objects to find
            return
        if AP50 < NOTHING:
            self._compare_with_first(step, NOT_BELOW)
        # What is wrong with the rate shows in the answers, too: one line is enough.
        if "rate" in self.said or not found:
            return
        if AP50 < NOTHING and self.progress.fraction >= COLLAPSED_FROM and step >= COLLAPSED_STEPS:
            self._look_for_collapse(step, found)
        if "alike" not in self.said and self.progress.fraction >= LATE and step >= LATE_STEPS:
            self._look_at_fit(step, found, is_zero=AP50 < NOTHING)

    def _look_for_collapse(self, step: int, found: Mapping[int, Detections]) -> None:
        alike = find_collapse(found, {record.id: (record.height, record.width) for record in self.val.images})
        if alike is not None:
            self._say("alike", f"step {step:,}: {alike}; {against_collapse(self.rate)}")

    def _look_at_fit(self, step: int, found: Mapping[int, Detections], is_zero: bool) -> None:
        classes = class_stats(found, self.val)
        are_random = are_classes_random(classes)
        if not (is_zero or are_random) or {"labels", "zero"} & {*self.said}:
            return
        # Two evaluations more, which a healthy run is spared.
        boxes = detection_stats(found, self.val).boxes_AP50
        if boxes >= BOXES_FIT and are_random:
            self._say(
                "labels",
                f"step {step:,}: the boxes fit (AP50 {boxes:.2f} regardless of class) but the classes do not: "
                f"{classes.right:,} of {classes.found:,} are right, where always the same one would give "
                f"{classes.most_frequent:,}; look at the category ids of training and validation: objects that look "
                "alike have different ones, or ids are mixed up",
            )
        elif is_zero:
            if boxes >= BOXES_FIT:
                remedy = "but the classes do not: look at the category ids of training and validation"
            elif self.rate.is_high:
                remedy = f"too badly to match: {self.rate.remedy}"
            else:
                remedy = (
                    "too badly to match: train longer, and see with --overfit_check whether these images can be learned"
                )
            self._say(
                "zero",
                f"step {step:,}, {self.progress.fraction:.0%} of the run: AP is 0, and boxes fit with AP50 {boxes:.2f} "
                f"regardless of class, {remedy}",
            )

    def _compare_with_first(self, step: int, limit: float) -> None:
        if self._first is None or len(self._recent) < READINGS or step < self.warmup_steps + SETTLED_STEPS:
            return
        now = median(self._recent)
        if now >= limit * self._first:
            self._say(
                "rate",
                f"step {step:,}: the loss is {now:.3g}, and was {self._first:.3g} in the first step: nothing is "
                f"learned at this rate; {self.rate.remedy}",
            )

    def _say(self, cause: Cause, text: str) -> None:
        if cause not in self.said:
            self.said.append(cause)
            # tqdm's way of printing, as a bar may stand on the line.
            tqdm.write(f"stalled    {text}")


def against_collapse(rate: Rate | None) -> str:
    """The cause and the remedy where all answers are alike; None is a rate that nobody knows."""
    cause = "" if rate is None else f", most often by too high a rate: {rate.remedy}"
    return f"the model has collapsed{cause}; --overfit_check tells whether it can learn these images at all"


def are_classes_random(classes: ClassStats) -> bool:
    """Whether classes are no better than by always answering the most frequent one.

    Not by the loss: its class part falls in any case, as the model learns which answers are objects at all.
    Where nearly all objects are of one class, that answer is as good as any model's.
    """
    return (
        classes.found >= FEW_OBJECTS
        and classes.most_frequent <= 0.8 * classes.found
        and classes.right <= classes.most_frequent + 0.05 * classes.found
    )
