"""The last lines of a run: what is worth looking at, whether the run was too short, and commands to go on with."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from detr_lite.config import Config
from detr_lite.data.records import Split
from detr_lite.text import command_line
from detr_lite.training.callbacks.attention_logger import ANIMATION
from detr_lite.training.checks.diagnostics import CHEAPER_STEPS, FEW_STEPS
from detr_lite.training.checks.run_length import RunLog, find_rise, read_log
from detr_lite.training.explorer_page import EXPLORER

SHOWN = ("report.html", EXPLORER, ANIMATION, "samples.png", "curves.png", "evaluation/pr_curves.png")
"""What to look at, the best first; attention.png stands in for an animation."""


LOW_SCORE = "0.1"
"""Threshold to predict with where no score is the best, as no detection was right."""


def next_steps(folder: Path, config: Config, checkpoint: Path, val: Split, has_thresholds: bool = True) -> list[str]:
    """Lines to print; every command in them can be pasted as it is.

    Args:
        has_thresholds: whether there are best scores.
    """
    names = [name if (folder / name).is_file() or name != ANIMATION else "attention.png" for name in SHOWN]
    written = [name for name in names if (folder / name).is_file()]
    model = ("--checkpoint", checkpoint)
    example, threshold = val.images[0].path, "best" if has_thresholds else LOW_SCORE
    lines = [f"the trained model is {checkpoint}"]
    if written:
        lines.append(f"look at {folder}/: {', '.join(written)}")
    longer = longer_run(folder, config)
    if longer is not None:
        lines += [f"{longer.reason}:", f"  {longer.command}"]
    example_words = ("--source", example, "--output", folder / "predictions", "--threshold", threshold)
    other_words = ("--data.root", val.root, "--output", folder / "evaluation-2")
    lines += [
        "predict, with your own pictures as --source:",
        f"  {paste_command('predict', *model, *example_words)}",
        "evaluate, with other data as --data.root:",
        f"  {paste_command('evaluate', *model, *other_words)}",
    ]
    return lines


@dataclass(frozen=True)
class LongerRun:
    """Why a run was too short, and the command that goes on."""

    reason: str
    command: str


def longer_run(folder: Path, config: Config) -> LongerRun | None:
    """None if the run was long enough."""
    log = read_log(folder / "metrics.csv")
    rise = find_rise(log.evaluated, log.AP)
    if is_short(config, log):
        reason = f"the run had {log.steps:,} steps, few to learn from; {CHEAPER_STEPS}, or train on"
    elif rise is not None:
        reason = f"AP was still rising, from {rise.start:.3f} to {rise.end:.3f} in the last third of the run; train on"
    else:
        return None
    trainer = config.trainer
    longer = ("--trainer.max_epochs", str(2 * (trainer.max_epochs or 0)))
    if trainer.max_minutes is not None:
        longer = ("--trainer.max_minutes", f"{2 * trainer.max_minutes:g}")
    command = paste_command("train", "--config", folder / "config.yaml", "--run_dir", folder, "--resume", *longer)
    return LongerRun(reason, command)


def is_short(config: Config, log: RunLog) -> bool:
    """Whether a run from random weights had too few steps to learn; trained weights need fewer."""
    is_trained = config.model.init_from is not None or config.model.source is not None
    return 0 < log.steps < FEW_STEPS and not is_trained


def paste_command(name: str, *words: object) -> str:
    """A command that can be pasted into a shell, whatever is in its words."""
    return f"{command_line(name)} {shlex.join(map(str, words))}"
