"""The words of `tools/benchmark.py`: what can be measured, and how. Nothing slow is loaded until they are read."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detr_lite.structures import DetrLiteError

if TYPE_CHECKING:
    from benchmarks.study import Request

CONVERGE = """Trains detectors of transformers beside our `lite`: all from random weights on the same backbone, the same
data, augmentation, image size, batch size, precision and schedule, for the same minutes, each in a process of its own.
Prints a markdown table and draws AP over the minutes; --output has both, and a log of each run. What is finished is
kept: the same command goes on where it was stopped, and runs only what has changed. The machine should do nothing else
meanwhile. Needs transformers (pip install -e '.[dev]'); no weights are fetched."""

ABLATE = """Trains the default and, beside it, the default with one change each, and prints what each change makes of
AP, as a markdown table; draws AP over the run. What is finished is kept: the same command goes on where it was
stopped, and runs only what has changed. The changes stand in benchmarks/ablate.py."""

GRID = """Tries what is chosen from the data (sizes, rate) on drawn data sets from 100 images to 10,000, from one class
to 80, from one object in an image to 150, from 96 pixels to 640: one run on each, from random weights. Prints a
markdown table with what was chosen and what it learned; draws AP over the run. What is finished is kept: the same
command goes on where it was stopped. The data sets stand in benchmarks/grid.py; --output gets them, too."""

STEP = """Times loading, forward, matching and losses, backward and optimiser of training steps on the data set of the
settings, and an image in evaluation, as a markdown table. The machine should do nothing else meanwhile."""

ATTENTION = """Times torch's attention and ours, forward and back with a bias that learns, in 32 bits and in bfloat16 on
the processor, at the sizes of small runs, as a markdown table: the reason why ours is written out there."""

PEERS = "rtdetr_v2,d_fine,deformable_detr,conditional_detr,detr"


def add_converge(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "AP over minutes of training, beside detectors of transformers"
    converge = kinds.add_parser("converge", help=summary, description=CONVERGE, allow_abbrev=False)
    converge.add_argument("--against", default=PEERS, help=f"which, by comma (default: {PEERS})")
    _add_common(converge, output="runs/converge", minutes=10.0)
    rates = "learning rates of rtdetr_v2 and d_fine, of which the better is shown; the others have the last of them"
    converge.add_argument("--rates", default="1e-3,5e-4", help=f"{rates} (default: 1e-3,5e-4)")
    optimizer = "of the others; ours is in the settings (default: adamw)"
    converge.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw", help=optimizer)
    converge.set_defaults(measure=_converge, epochs=None)


def add_ablate(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "what each part of the default contributes"
    ablate = kinds.add_parser("ablate", help=summary, description=ABLATE, allow_abbrev=False)
    ablate.add_argument("--rows", help="names of changes, by comma (default: all)")
    _add_common(ablate, output="runs/ablate", minutes=None)
    epochs = "in place of minutes: for a machine that does other work meanwhile"
    ablate.add_argument("--epochs", type=int, help=epochs)
    ablate.set_defaults(measure=_ablate)


def add_grid(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "what the defaults learn from data of many sizes"
    grid = kinds.add_parser("grid", help=summary, description=GRID, allow_abbrev=False)
    grid.add_argument("--config", default="finetune_small.yaml", help="settings (default: finetune_small.yaml)")
    grid.add_argument("--rows", help="names of data sets, by comma (default: all)")
    grid.add_argument("--steps", type=int, default=500, help="of each run, up to whole epochs (default: 500)")
    _add_runs(grid, output="runs/grid")
    grid.set_defaults(measure=_grid, root=None, minutes=None, epochs=1)


def add_speed(kinds: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    summary = "where the time of a training step goes"
    step = kinds.add_parser("step", help=summary, description=STEP, allow_abbrev=False)
    step.add_argument("--config", default="coco_small.yaml", help="settings (default: coco_small.yaml)")
    step.add_argument("--root", metavar="DIR", help="the data set, in place of that of the settings")
    step.add_argument("--steps", type=int, default=20, help="steps that are measured (default: 20)")
    step.set_defaults(measure=_step)
    summary = "attention on the processor, torch's and written out"
    attention = kinds.add_parser("attention", help=summary, description=ATTENTION, allow_abbrev=False)
    attention.set_defaults(measure=_attention)


def _add_common(command: argparse.ArgumentParser, output: str, minutes: float | None) -> None:
    command.add_argument("--config", default="coco_small.yaml", help="settings (default: coco_small.yaml)")
    command.add_argument("--root", metavar="DIR", help="the data set, in place of that of the settings")
    how_long = f"of training for each run, evaluations aside (default: {minutes or 3:g})"
    command.add_argument("--minutes", type=float, default=minutes, help=how_long)
    _add_runs(command, output)


def _add_runs(command: argparse.ArgumentParser, output: str) -> None:
    command.add_argument("--seeds", type=int, default=1, help="runs of each, with different seeds (default: 1)")
    command.add_argument("--output", type=Path, default=Path(output), metavar="FOLDER", help=f"(default: {output})")
    command.add_argument("--list", action="store_true", help="only say what would be run, and how long it would take")


def _converge(arguments: argparse.Namespace) -> None:
    from benchmarks.converge import converge

    try:
        rates = [float(rate) for rate in _listed(arguments.rates)]
    except ValueError as error:
        raise DetrLiteError(f"--rates: {arguments.rates} is no list of numbers such as 1e-3,5e-4") from error
    converge(_request(arguments), _listed(arguments.against), rates, arguments.optimizer)


def _ablate(arguments: argparse.Namespace) -> None:
    from benchmarks.ablate import ablate

    if arguments.minutes is None and arguments.epochs is None:
        arguments.minutes = 3.0
    ablate(_request(arguments), None if arguments.rows is None else _listed(arguments.rows))


def _grid(arguments: argparse.Namespace) -> None:
    from benchmarks.grid import grid

    if arguments.steps < 1:
        raise DetrLiteError(f"--steps is {arguments.steps}; it must be at least 1")
    grid(_request(arguments), arguments.steps, None if arguments.rows is None else _listed(arguments.rows))


def _step(arguments: argparse.Namespace) -> None:
    from benchmarks.step import step_table
    from detr_lite.config import read_config

    if arguments.steps < 1:
        raise DetrLiteError(f"--steps is {arguments.steps}; it must be at least 1")
    words = ["--config", arguments.config, *([] if arguments.root is None else ["--data.root", arguments.root])]
    print(step_table(read_config(words).config, arguments.steps))


def _attention(arguments: argparse.Namespace) -> None:
    from benchmarks.step import attention_table

    print(attention_table())


def _request(arguments: argparse.Namespace) -> "Request":
    from benchmarks.study import Request

    return Request(
        config=arguments.config,
        root=arguments.root,
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        seeds=arguments.seeds,
        output=arguments.output,
        only_list=arguments.list,
    )


def _listed(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
