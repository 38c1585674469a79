"""The command line of `tools/benchmark.py`. Slow imports wait until a measurement starts, so that --help is fast."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from detr_lite.cli.command import CommandParser
from detr_lite.structures import DetrLiteError

if TYPE_CHECKING:
    from benchmarks.study import Request

Subcommands = argparse._SubParsersAction  # argparse has no public name for it

PARITY = """Compares `--model.name detr` with DetrForObjectDetection of transformers: both get the same random weights
(and batch norm statistics) and the same padded batches of random images and objects. Prints a markdown table of the
largest differences in each part of the model: logits and boxes of each decoder layer (boxes relative to the image),
and, relative to their size, loss terms and gradients of the total loss. The tests' limit is 1e-4; float32 rounding
stays below it. Needs transformers (pip install -e '.[dev]'); nothing is downloaded."""

CONVERGE = """Trains `lite` and baselines from transformers with the same data, augmentation, image size, batch size,
precision, schedule and training time, all from random weights on the same backbone, each in its own process. Prints a
markdown table and plots AP over time; both are written to --output, with a log of each run. Finished runs are kept:
the same command continues after an interruption, and repeats only what has changed. The machine should be otherwise
idle. Needs transformers (pip install -e '.[dev]'); nothing is downloaded."""

ABLATE = """Trains the default settings and, for each row, the default with one change. Prints AP as a markdown table
and plots it over the run. Finished runs are kept: the same command continues after an interruption, and repeats only
what has changed. The changes are listed in benchmarks/ablate.py."""

GRID = """Tests the sizes and the learning rate that are chosen from the data, with one run from random weights on each
of several generated datasets: 100 to 10,000 images, 1 to 80 classes, 1 to 150 objects per image, 96 to 640 pixels.
Prints a markdown table of the choices and the AP, and plots AP over the run. Finished runs are kept: the same command
continues after an interruption. The datasets are listed in benchmarks/grid.py and written to --output."""

STEP = """Times loading, forward pass, matching and losses, backward pass and optimizer of training steps on the dataset
of the settings, and the evaluation of an image, as a markdown table. The machine should be otherwise idle."""

ATTENTION = """Times torch's fused attention and the explicit attention of detr_lite, forward and backward with a
trainable bias, in float32 and bfloat16 on the CPU, at the sizes of small runs, as a markdown table."""

READING = """Writes a dataset of COCO's size with empty image files into a temporary folder (about 0.5 GB) and opens it
twice, each time in a new process: first from its JSON file, then from the cache. Prints a markdown table of the time
and memory; images are not checked. The machine should be otherwise idle."""

FORMATS = """Draws one dataset, writes it in every format that --data.root reads, and runs train (a moment), evaluate
and doctor on each. Prints a markdown table. The model of the first row is evaluated in all formats, where its AP must
be the same."""

EVALUATION = """Times COCO's metrics on random detections on one core, 100 in each image, of 80 classes: with hotcoco,
which detr_lite uses, with faster-coco-eval and, up to 5,000 images, with pycocotools. Prints a markdown table of
seconds, and of the largest difference between the twelve numbers. Needs faster-coco-eval (pip install -e '.[dev]')."""

IMAGES = """Draws photographs of 640 x 480 pixels as a COCO dataset in a temporary folder, and times reading and
checking it: the first time, when every file is opened; the second time, from the cache; and after a change of one
file."""

BASELINE_NAMES = "rtdetr_v2,d_fine,deformable_detr,conditional_detr,detr"


def main() -> None:
    parser = CommandParser(description="Measurements for docs/, printed as markdown tables.", allow_abbrev=False)
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adders = (
        *(_add_parity, _add_converge, _add_ablate, _add_grid, _add_step, _add_attention),
        *(_add_reading, _add_images, _add_formats, _add_evaluation),
    )
    for add in adders:
        add(subcommands)
    arguments = parser.parse_args()
    arguments.run(arguments)


def _add_parity(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "differences between detr and transformers' DETR"
    parity = subcommands.add_parser("parity", help=summary, description=PARITY, allow_abbrev=False)
    parity.add_argument("--seeds", type=int, default=5, help="sets of weights and batches per backbone (default: 5)")
    bodies = "timm's ResNets, comma-separated; -dc5 dilates the last stage (default: resnet18,resnet50)"
    parity.add_argument("--bodies", default="resnet18,resnet50", help=bodies)
    attention = (
        "implementation in transformers: fused as in detr_lite, or eager, which rounds differently (default: sdpa)"
    )
    parity.add_argument("--attention", choices=["sdpa", "eager"], default="sdpa", help=attention)
    parity.add_argument("--output", type=Path, metavar="FILE", help="also write the table to this file")
    parity.set_defaults(run=_run_parity)


def _add_converge(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "AP over training time, beside detectors of transformers"
    converge = subcommands.add_parser("converge", help=summary, description=CONVERGE, allow_abbrev=False)
    against = f"baselines, comma-separated (default: {BASELINE_NAMES})"
    converge.add_argument("--against", default=BASELINE_NAMES, help=against)
    _add_config_and_length(converge, output="runs/converge", minutes=10.0)
    rates = "learning rates of rtdetr_v2 and d_fine, of which the best is shown; the other baselines use the last one"
    converge.add_argument("--rates", default="1e-3,5e-4", help=f"{rates} (default: 1e-3,5e-4)")
    optimizer = "of the baselines; lite uses that of the settings (default: adamw)"
    converge.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw", help=optimizer)
    converge.set_defaults(run=_run_converge, epochs=None)


def _add_ablate(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "contribution of each part of the default settings"
    ablate = subcommands.add_parser("ablate", help=summary, description=ABLATE, allow_abbrev=False)
    ablate.add_argument("--rows", help="names of changes, comma-separated (default: all)")
    _add_config_and_length(ablate, output="runs/ablate", minutes=None)
    epochs = "instead of --minutes, for a machine that does other work at the same time"
    ablate.add_argument("--epochs", type=int, help=epochs)
    ablate.set_defaults(run=_run_ablate)


def _add_grid(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "AP of the default settings on datasets of many sizes"
    grid = subcommands.add_parser("grid", help=summary, description=GRID, allow_abbrev=False)
    grid.add_argument("--config", default="finetune_small.yaml", help="settings (default: finetune_small.yaml)")
    grid.add_argument("--rows", help="names of datasets, comma-separated (default: all)")
    steps = "of each run, rounded up to whole epochs (default: 500)"
    grid.add_argument("--steps", type=int, default=500, help=steps)
    _add_seeds_and_output(grid, output="runs/grid")
    grid.set_defaults(run=_run_grid, root=None, minutes=None, epochs=1)


def _add_step(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "time of each part of a training step"
    step = subcommands.add_parser("step", help=summary, description=STEP, allow_abbrev=False)
    step.add_argument("--config", default="coco_small.yaml", help="settings (default: coco_small.yaml)")
    step.add_argument("--root", metavar="DIR", help="dataset, instead of that of the settings")
    step.add_argument("--steps", type=int, default=20, help="number of timed steps (default: 20)")
    step.set_defaults(run=_run_step)


def _add_attention(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "time of attention on the CPU: torch's and detr_lite's"
    attention = subcommands.add_parser("attention", help=summary, description=ATTENTION, allow_abbrev=False)
    attention.set_defaults(run=_run_attention)


def _add_reading(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "time and memory of opening a dataset of COCO's size"
    reading = subcommands.add_parser("reading", help=summary, description=READING, allow_abbrev=False)
    reading.add_argument("--images", type=int, default=118_000, help="(default: 118000, as in COCO's training split)")
    reading.add_argument("--annotations", type=int, default=860_000, help="(default: 860000)")
    reading.set_defaults(run=_run_reading)


def _add_formats(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "train, evaluate and doctor on one dataset in every format"
    formats = subcommands.add_parser("formats", help=summary, description=FORMATS, allow_abbrev=False)
    kept = "keep datasets, runs and the doctor's pages here (default: they are removed)"
    formats.add_argument("--output", type=Path, metavar="FOLDER", help=kept)
    formats.set_defaults(run=_run_formats)


def _add_evaluation(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "time of COCO's metrics with hotcoco, faster-coco-eval and pycocotools"
    evaluation = subcommands.add_parser("evaluation", help=summary, description=EVALUATION, allow_abbrev=False)
    images = "numbers of images (default: 1000 5000 20000)"
    evaluation.add_argument("--images", type=int, nargs="+", default=[1000, 5000, 20000], metavar="N", help=images)
    evaluation.set_defaults(run=_run_evaluation)


def _add_images(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "time of the check of images before training"
    images = subcommands.add_parser("images", help=summary, description=IMAGES, allow_abbrev=False)
    images.add_argument("--images", type=int, default=5000, help="number of photographs (default: 5000)")
    images.set_defaults(run=_run_images)


def _add_config_and_length(command: argparse.ArgumentParser, output: str, minutes: float | None) -> None:
    command.add_argument("--config", default="coco_small.yaml", help="settings (default: coco_small.yaml)")
    command.add_argument("--root", metavar="DIR", help="dataset, instead of that of the settings")
    length = f"of training for each run, without evaluations (default: {minutes or 3:g})"
    command.add_argument("--minutes", type=float, default=minutes, help=length)
    _add_seeds_and_output(command, output)


def _add_seeds_and_output(command: argparse.ArgumentParser, output: str) -> None:
    command.add_argument("--seeds", type=int, default=1, help="runs of each row, with different seeds (default: 1)")
    command.add_argument("--output", type=Path, default=Path(output), metavar="FOLDER", help=f"(default: {output})")
    command.add_argument("--list", action="store_true", help="list the missing runs and their estimated time only")


def _run_parity(arguments: argparse.Namespace) -> None:
    from benchmarks.parity import parity_table

    table = parity_table(_split(arguments.bodies), arguments.seeds, arguments.attention)
    print(table)
    if arguments.output is not None:
        arguments.output.write_text(table + "\n")


def _run_converge(arguments: argparse.Namespace) -> None:
    from benchmarks.converge import converge

    try:
        rates = [float(rate) for rate in _split(arguments.rates)]
    except ValueError as error:
        raise DetrLiteError(f"--rates: {arguments.rates} is not a list of numbers such as 1e-3,5e-4") from error
    converge(_request(arguments), _split(arguments.against), rates, arguments.optimizer)


def _run_ablate(arguments: argparse.Namespace) -> None:
    from benchmarks.ablate import ablate

    if arguments.minutes is None and arguments.epochs is None:
        arguments.minutes = 3.0
    ablate(_request(arguments), None if arguments.rows is None else _split(arguments.rows))


def _run_grid(arguments: argparse.Namespace) -> None:
    from benchmarks.grid import grid

    _check_steps(arguments)
    grid(_request(arguments), arguments.steps, None if arguments.rows is None else _split(arguments.rows))


def _run_step(arguments: argparse.Namespace) -> None:
    from benchmarks.step import step_table
    from detr_lite.config import read_config

    _check_steps(arguments)
    root = [] if arguments.root is None else ["--data.root", arguments.root]
    print(step_table(read_config(["--config", arguments.config, *root]).config, arguments.steps))


def _run_attention(arguments: argparse.Namespace) -> None:
    from benchmarks.step import attention_table

    print(attention_table())


def _run_reading(arguments: argparse.Namespace) -> None:
    from benchmarks.reading import reading_table

    print(reading_table(arguments.images, arguments.annotations))


def _run_formats(arguments: argparse.Namespace) -> None:
    from benchmarks.formats import formats_table

    print(formats_table(arguments.output))


def _run_evaluation(arguments: argparse.Namespace) -> None:
    from benchmarks.evaluation import evaluation_table

    for images in arguments.images:
        if images < 1:
            raise DetrLiteError(f"--images is {images}; it must be at least 1")
    print(evaluation_table(arguments.images))


def _run_images(arguments: argparse.Namespace) -> None:
    from benchmarks.images import images_table

    print(images_table(arguments.images))


def _check_steps(arguments: argparse.Namespace) -> None:
    if arguments.steps < 1:
        raise DetrLiteError(f"--steps is {arguments.steps}; it must be at least 1")


def _request(arguments: argparse.Namespace) -> "Request":
    from benchmarks.study import Request

    return Request(
        config=arguments.config,
        root=arguments.root,
        minutes=arguments.minutes,
        epochs=arguments.epochs,
        seeds=arguments.seeds,
        output=arguments.output,
        list_only=arguments.list,
    )


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]
