"""Warnings for a run that does not learn, each with its likely cause and remedy, and early stopping."""

import logging
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import lightning as L
from lightning.pytorch import Callback, callbacks
from lightning.pytorch.utilities import rank_zero_only

from detr_lite.data.records import Split
from detr_lite.evaluation.coco_map import BOXES_FIT
from detr_lite.structures import Detections
from detr_lite.training.checks.prediction_stats import ClassStats, class_stats, detection_stats, find_collapse
from detr_lite.training.schedule import TrainingProgress

logger = logging.getLogger(__name__)

# Each limit is far from what healthy runs show: a false alarm is worse than none.

READINGS = 20
"""The loss is the median of this many readings (200 steps): single batches differ by a factor of two."""
SETTLED_STEPS = 200
"""After the warm-up. In healthy runs the loss is well below that of the first step before the warm-up is over."""
DIVERGED = 1.5
"""Loss relative to the first step's that shows divergence before there is an evaluation. Trained weights begin with a
small loss, which the full learning rate may raise, but hardly by so much for 200 steps."""
NOT_FALLEN = 0.97
"""The same where no detection matches either: any learning lowers the loss by more than 3 %."""
RISEN, RISEN_STEPS = 1.5, 300
"""Loss relative to its own minimum, for so many steps in a row. Noise, other augmentations and a restarted schedule
stay below 1.2."""
ZERO_AP50 = 0.01
"""AP50 below which detections match only by chance."""
LATE = 0.5
"""Share of the run after which AP must be above zero: the falling learning rate no longer helps."""
LATE_STEPS = 500
"""Shorter runs only try out the machinery: they have too few steps to learn."""
COLLAPSED_FROM, COLLAPSED_STEPS = 0.2, 300
"""Share of the run, and steps, before which the predictions of a sound model may be the same: queries start alike."""
FEW_OBJECTS = 50
"""Of fewer, the share of right classes is chance."""
MEASURED_STEPS = 20
"""Of this process, before the number of steps is extrapolated; the first ones are slower."""
FEW_STEPS = 300
"""From random weights the first objects are found after 100 to 200 steps (curves in docs/studies/grid), and AP has just
begun to rise."""
CHEAPER_STEPS = "make steps cheaper with a smaller --data.batch_size or --data.image_size or a GPU"

Cause = Literal["learning rate", "rising loss", "collapse", "classes", "zero AP", "few steps"]


@dataclass(frozen=True)
class LearningRate:
    """The full learning rate of a run, and the default for its settings."""

    lr: float
    default: float

    @property
    def is_high(self) -> bool:
        return self.lr > 3 * self.default

    @property
    def remedy(self) -> str:
        if self.lr < self.default / 10:
            return f"raise --optim.lr from {self.lr:g}, e.g. to {self.default:g}"
        return f"lower --optim.lr from {self.lr:g}, e.g. to {min(self.lr / 10, self.default):.2g}"


class TrainingDiagnostics(Callback):
    """Reads losses and evaluations that exist anyway, and warns when they show that a run does not learn.

    One warning per cause and run, also when the run is resumed. To be called after `TrainingProgress` and after
    `MetricsFile`, at whose steps it reads the losses: at others it would have to wait for the device.

    Args:
        every_steps: as in `MetricsFile`.
    """

    def __init__(
        self, progress: TrainingProgress, val: Split, rate: LearningRate, warmup_steps: int, every_steps: int = 10
    ) -> None:
        self.progress = progress
        self.val = val
        self.rate = rate
        self.warmup_steps = warmup_steps
        self.every_steps = every_steps
        self.reported: list[Cause] = []
        self._first_loss: float | None = None
        self._recent: deque[float] = deque(maxlen=READINGS)
        self._lowest: float | None = None
        self._high_since: int | None = None
        """Step since which the loss has been far above its minimum."""
        self._best_AP50 = self._latest_AP50 = -1.0
        """-1 before the first evaluation."""
        self._start_step = self._last_step = 0
        self._detections: Mapping[int, Detections] = {}

    def state_dict(self) -> dict[str, Any]:
        return {
            "reported": list(self.reported),
            "first_loss": self._first_loss,
            "recent": list(self._recent),
            "lowest": self._lowest,
            "high_since": self._high_since,
            "AP50": [self._best_AP50, self._latest_AP50],
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.reported = list(state_dict["reported"])
        self._first_loss = state_dict["first_loss"]
        self._recent = deque(state_dict["recent"], maxlen=READINGS)
        self._lowest, self._high_since = state_dict["lowest"], state_dict["high_since"]
        self._best_AP50, self._latest_AP50 = state_dict["AP50"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start_step = self._last_step = trainer.global_step

    @rank_zero_only
    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, is_new = trainer.global_step, trainer.global_step != self._last_step
        self._last_step = step
        if is_new and (step % self.every_steps == 0 or step == 1) and "loss" in trainer.callback_metrics:
            self.read_loss(step, float(trainer.callback_metrics["loss"]))
        if is_new and step == self._start_step + MEASURED_STEPS:
            self.extrapolate_steps(step)

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Callbacks are called before the module, which discards the detections when it has evaluated them.
        self._detections = dict(getattr(pl_module, "detections", {})) if trainer.is_global_zero else {}

    @rank_zero_only
    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if "AP50" in trainer.callback_metrics:
            self.read_evaluation(trainer.global_step, float(trainer.callback_metrics["AP50"]), self._detections)
        self._detections = {}

    def read_loss(self, step: int, loss: float) -> None:
        """Add a reading, and warn of what the loss alone shows."""
        if self._first_loss is None:
            self._first_loss = loss
        self._recent.append(loss)
        if len(self._recent) < READINGS:
            return
        now = median(self._recent)
        self._lowest = now if self._lowest is None else min(self._lowest, now)
        if now <= RISEN * self._lowest:
            self._high_since = None
        elif self._high_since is None:
            self._high_since = step
        if self._latest_AP50 < ZERO_AP50:
            self._compare_with_first(step, DIVERGED)
        # While AP is about as good as ever, a higher loss is no harm.
        is_worse = self._latest_AP50 < 0.9 * self._best_AP50 or self._best_AP50 < ZERO_AP50
        if self._high_since is not None and step - self._high_since >= RISEN_STEPS and is_worse:
            is_ranked = self._best_AP50 >= 0  # else no checkpoint is known to be better than another
            remedy = "continue from the best checkpoint with --model.init_from" if is_ranked else "train anew"
            self._report(
                "rising loss",
                f"step {step:,}: the loss has been rising, from {self._lowest:.3g} to {now:.3g}; the learning rate is "
                f"probably too high by now: {self.rate.remedy}, and {remedy}",
            )

    def read_evaluation(self, step: int, AP50: float, detections: Mapping[int, Detections]) -> None:  # noqa: N803
        """Warn of what an evaluation shows.

        Args:
            AP50: negative without ground truth.
            detections: of (this rank's) validation images by their index.
        """
        self._latest_AP50, self._best_AP50 = AP50, max(self._best_AP50, AP50)
        if AP50 < 0:
            return
        is_zero, fraction = AP50 < ZERO_AP50, self.progress.fraction
        if is_zero:
            self._compare_with_first(step, NOT_FALLEN)
        if is_zero and self.progress.is_over and step < LATE_STEPS and not self.reported:
            length = "max_minutes" if self.progress.max_seconds is not None else "max_epochs"
            logger.warning(
                f"AP is close to 0 after {step:,} steps; training from random weights takes several hundred: "
                f"give more --trainer.{length}"
            )
        # A wrong learning rate shows in the predictions too: one warning is enough.
        if "learning rate" in self.reported or not detections:
            return
        if is_zero and fraction >= COLLAPSED_FROM and step >= COLLAPSED_STEPS:
            collapse = find_collapse(detections, self.val.images.sizes_wh)
            if collapse is not None:
                self._report("collapse", f"step {step:,}: {collapse}; {collapse_advice(self.rate)}")
        if "collapse" not in self.reported and fraction >= LATE and step >= LATE_STEPS:
            self._check_boxes_and_classes(step, detections, is_zero)

    def extrapolate_steps(self, step: int) -> None:
        """Warn of few steps, where the run's length is given in minutes."""
        if self.progress.max_seconds is None or not 0 < self.progress.fraction < 1:
            return
        steps, minutes = step / self.progress.fraction, self.progress.max_seconds / 60
        if steps < FEW_STEPS:
            self._report(
                "few steps",
                f"at this pace the run has about {steps:.0f} steps in {minutes:g} min, few to learn from: give more "
                f"--trainer.max_minutes, or {CHEAPER_STEPS}",
            )

    def _check_boxes_and_classes(self, step: int, detections: Mapping[int, Detections], is_zero: bool) -> None:
        classes = class_stats(detections, self.val)
        are_random = are_classes_random(classes)
        if not (is_zero or are_random) or {"classes", "zero AP"} & {*self.reported}:
            return
        # It costs two more evaluations, so only suspicious runs come here.
        boxes = detection_stats(detections, self.val).boxes_AP50
        if boxes >= BOXES_FIT and are_random:
            self._report(
                "classes",
                f"step {step:,}: the boxes fit (AP50 {boxes:.2f} regardless of class) but the classes do not: "
                f"{classes.right:,} of {classes.found:,} are right, where always predicting the most frequent one "
                f"would give {classes.most_frequent:,}; check the category ids of training and validation: objects "
                "that look alike have different ones, or ids are swapped",
            )
        elif is_zero:
            if boxes >= BOXES_FIT:
                remedy = "but the classes do not: check the category ids of training and validation"
            elif self.rate.is_high:
                remedy = f"too badly to match: {self.rate.remedy}"
            else:
                remedy = "too badly to match: train longer, and check with --overfit_check that the data can be learned"
            self._report(
                "zero AP",
                f"step {step:,}, {self.progress.fraction:.0%} of the run: AP is 0, and boxes fit with AP50 {boxes:.2f} "
                f"regardless of class, {remedy}",
            )

    def _compare_with_first(self, step: int, limit: float) -> None:
        if self._first_loss is None or len(self._recent) < READINGS or step < self.warmup_steps + SETTLED_STEPS:
            return
        now = median(self._recent)
        if now >= limit * self._first_loss:
            self._report(
                "learning rate",
                f"step {step:,}: the loss is {now:.3g}, and was {self._first_loss:.3g} in the first step: nothing is "
                f"learned at this learning rate; {self.rate.remedy}",
            )

    def _report(self, cause: Cause, text: str) -> None:
        if cause not in self.reported:
            self.reported.append(cause)
            logger.warning(text)


class EarlyStopping(callbacks.EarlyStopping):
    """Stops when `evaluations` in a row have not bettered the best value of the metric `monitor`.

    To be called after `TrainingProgress`, which decides first whether a resumed run is over.
    """

    def __init__(
        self, monitor: str, evaluations: int, progress: TrainingProgress, mode: Literal["max", "min"] = "max"
    ) -> None:
        super().__init__(monitor=monitor, mode=mode, patience=evaluations, check_on_train_epoch_end=False)
        self.progress = progress

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A stopped run stays stopped when it is resumed, unless it is given more patience.
        trainer.should_stop = trainer.should_stop or self.wait_count >= self.patience

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_validation_end(trainer, pl_module)
        if self.wait_count >= self.patience and not self.progress.is_over and trainer.is_global_zero:
            evaluations = f"{self.wait_count} evaluations in a row have" if self.wait_count > 1 else "1 evaluation has"
            best = f"{float(self.best_score):.3f} (--trainer.patience {self.patience})"
            logger.info(f"stopped early: {evaluations} not raised the best {self.monitor}, {best}")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Lightning's would restore the patience of the checkpoint; a resumed run may be given another.
        super().load_state_dict({**state_dict, "patience": self.patience})


def collapse_advice(rate: LearningRate | None) -> str:
    """Cause and remedy where all predictions are the same; None for an unknown learning rate."""
    cause = "" if rate is None else f", most often because of too high a learning rate: {rate.remedy}"
    return f"the model has collapsed{cause}; --overfit_check shows whether it can learn these images at all"


def are_classes_random(classes: ClassStats) -> bool:
    """Whether classes are no better than always predicting the most frequent one.

    The class loss does not show it: it falls in any case, as the model learns which predictions are objects at all.
    Where nearly all objects are of one class, always predicting that one is as good as any model.
    """
    return (
        classes.found >= FEW_OBJECTS
        and classes.most_frequent <= 0.8 * classes.found
        and classes.right <= classes.most_frequent + 0.05 * classes.found
    )
