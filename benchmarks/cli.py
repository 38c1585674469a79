"""The command line of `tools/benchmark.py`. Slow imports wait until a measurement starts, so that --help is fast."""

import argparse
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.cli_growth import add_growth_commands
from benchmarks.cli_processes import add_balance, add_start
from benchmarks.cli_speed import add_attention, add_backbones, add_latency, add_memory, add_peers, add_step, add_threads
from benchmarks.cli_waits import add_film, add_frames, add_long_run, add_waits
from benchmarks.subcommand import Subcommands, check_steps, split
from benchmarks.subcommand import subcommand as _subcommand
from detr_lite.cli.command import CommandParser
from detr_lite.structures import DetrLiteError

if TYPE_CHECKING:
    from benchmarks.study import Request

BASELINE_NAMES = "rtdetr_v2,d_fine,deformable_detr,conditional_detr,detr"


def main() -> None:
    parser = CommandParser(description="Measurements for docs/, printed as markdown tables.", allow_abbrev=False)
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adders = (
        *(_add_parity, _add_converge, _add_ablate, _add_grid, add_step, add_attention),
        *(_add_reading, _add_images, _add_formats, _add_evaluation, _add_imagenet_weights),
        *(
            add_backbones,
            add_memory,
            _add_families,
            _add_tiles,
            add_threads,
            add_peers,
            add_latency,
            add_waits,
            add_film,
            add_frames,
            add_long_run,
        ),
        *(add_balance, add_start),
    )
    for add in adders:
        add(subcommands)
    add_growth_commands(partial(_subcommand, subcommands))
    arguments = parser.parse_args()
    arguments.run(arguments)


def _add_parity(subcommands: "Subcommands[CommandParser]") -> None:
    parity = _subcommand(subcommands, "parity", "differences between detr and transformers' DETR")
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
    converge = _subcommand(subcommands, "converge", "AP over training time, beside detectors of transformers")
    against = f"baselines, comma-separated (default: {BASELINE_NAMES})"
    converge.add_argument("--against", default=BASELINE_NAMES, help=against)
    _add_config_and_length(converge, output="runs/converge", minutes=10.0)
    rates = "learning rates with AdamW of the multi-scale models, of which the best is shown; others use the last one"
    converge.add_argument("--rates", default="1e-3,5e-4", help=f"{rates} (default: 1e-3,5e-4)")
    muon_rates = "learning rates of these with Muon, in rows of their own; '' for no such rows"
    converge.add_argument("--muon_rates", default="2.8e-3,1.4e-3", help=f"{muon_rates} (default: 2.8e-3,1.4e-3)")
    steps = "also compare after as many steps, such as 300 1000 3000, rounded up to whole epochs, in runs of their own"
    converge.add_argument("--steps", type=int, nargs="+", default=[], metavar="N", help=steps)
    converge.set_defaults(run=_run_converge, epochs=None)


def _add_ablate(subcommands: "Subcommands[CommandParser]") -> None:
    ablate = _subcommand(subcommands, "ablate", "contribution of each part of the default settings")
    ablate.add_argument("--rows", help="names of changes, comma-separated (default: all)")
    _add_config_and_length(ablate, output="runs/ablate", minutes=None)
    epochs = "instead of --minutes, for a machine that does other work at the same time"
    ablate.add_argument("--epochs", type=int, help=epochs)
    ablate.set_defaults(run=_run_ablate)


def _add_grid(subcommands: "Subcommands[CommandParser]") -> None:
    grid = _subcommand(subcommands, "grid", "AP of the default settings on datasets of many sizes")
    grid.add_argument("--config", default="finetune_small.yaml", help="settings (default: finetune_small.yaml)")
    grid.add_argument("--rows", help="names of datasets, comma-separated (default: all)")
    steps = "of each run, rounded up to whole epochs (default: 500)"
    grid.add_argument("--steps", type=int, default=500, help=steps)
    _add_seeds_and_output(grid, output="runs/grid")
    grid.set_defaults(run=_run_grid, root=None, minutes=None, epochs=1)


def _add_reading(subcommands: "Subcommands[CommandParser]") -> None:
    reading = _subcommand(subcommands, "reading", "time and memory of opening a dataset of COCO's size")
    reading.add_argument("--images", type=int, default=118_000, help="(default: 118000, as in COCO's training split)")
    reading.add_argument("--annotations", type=int, default=860_000, help="(default: 860000)")
    reading.set_defaults(run=_run_reading)


def _add_formats(subcommands: "Subcommands[CommandParser]") -> None:
    formats = _subcommand(subcommands, "formats", "train, evaluate and doctor on one dataset in every format")
    kept = "keep datasets, runs and the doctor's pages here (default: they are removed)"
    formats.add_argument("--output", type=Path, metavar="FOLDER", help=kept)
    formats.set_defaults(run=_run_formats)


def _add_evaluation(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "time of COCO's metrics with hotcoco, faster-coco-eval and pycocotools"
    evaluation = _subcommand(subcommands, "evaluation", summary)
    images = "numbers of images (default: 1000 5000 20000)"
    evaluation.add_argument("--images", type=int, nargs="+", default=[1000, 5000, 20000], metavar="N", help=images)
    evaluation.set_defaults(run=_run_evaluation)


def _add_images(subcommands: "Subcommands[CommandParser]") -> None:
    images = _subcommand(subcommands, "images", "time of the check of images before training")
    images.add_argument("--images", type=int, default=5000, help="number of photographs (default: 5000)")
    images.set_defaults(run=_run_images)


def _add_imagenet_weights(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "pretrained weights of a backbone as a file, without timm's hub"
    weights = _subcommand(subcommands, "imagenet_weights", summary)
    default = Path("datasets/weights/tf_efficientnet_lite0.safetensors")
    weights.add_argument("--output", type=Path, default=default, metavar="FILE", help=f"(default: {default})")
    weights.add_argument("--overwrite", action="store_true", help="replace the file")
    weights.set_defaults(run=_run_imagenet_weights)


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

    table = parity_table(split(arguments.bodies), arguments.seeds, arguments.attention)
    print(table)
    if arguments.output is not None:
        arguments.output.write_text(table + "\n")


def _run_converge(arguments: argparse.Namespace) -> None:
    from benchmarks.converge import converge

    for steps in arguments.steps:
        check_steps(steps)
    rates, muon_rates = _numbers("--rates", arguments.rates), _numbers("--muon_rates", arguments.muon_rates)
    converge(_request(arguments), split(arguments.against), rates, muon_rates, arguments.steps)


def _run_ablate(arguments: argparse.Namespace) -> None:
    from benchmarks.ablate import ablate

    if arguments.minutes is None and arguments.epochs is None:
        arguments.minutes = 3.0
    ablate(_request(arguments), None if arguments.rows is None else split(arguments.rows))


def _run_grid(arguments: argparse.Namespace) -> None:
    from benchmarks.grid import grid

    check_steps(arguments.steps)
    grid(_request(arguments), arguments.steps, None if arguments.rows is None else split(arguments.rows))


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


def _run_imagenet_weights(arguments: argparse.Namespace) -> None:
    from benchmarks.imagenet_weights import write_imagenet_weights

    write_imagenet_weights(arguments.output, arguments.overwrite)


def _add_families(subcommands: "Subcommands[CommandParser]") -> None:
    families = _subcommand(subcommands, "families", "what each DETR family of transformers can do here")
    families.set_defaults(run=_run_families)


def _run_families(arguments: argparse.Namespace) -> None:
    from benchmarks.families import families_table

    print(families_table())


def _add_tiles(subcommands: "Subcommands[CommandParser]") -> None:
    tiles = _subcommand(subcommands, "tiles", "AP on large pictures with and without tiles")
    side = "pixels of a tile and of the training pictures (default: 128)"
    tiles.add_argument("--tile", type=int, default=128, metavar="PIXELS", help=side)
    tiles.add_argument("--pictures", type=int, default=4, metavar="N", help="large pictures (default: 4)")
    tiles.add_argument("--minutes", type=float, default=10.0, help="of training (default: 10)")
    tiles.add_argument("--output", type=Path, default=Path("runs/tiles"), help="(default: runs/tiles)")
    tiles.set_defaults(run=_run_tiles)


def _run_tiles(arguments: argparse.Namespace) -> None:
    from benchmarks.tiles import tiles_table
    from detr_lite.evaluation.tile_grid import check_tiles

    check_tiles(arguments.tile, 0.2)
    if arguments.pictures < 1:
        raise DetrLiteError(f"--pictures is {arguments.pictures}; it must be at least 1")
    print(tiles_table(arguments.output, arguments.tile, arguments.pictures, arguments.minutes))


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in split(text)]
    except ValueError as error:
        raise DetrLiteError(f"{option}: {text} is not a list of numbers such as 1e-3,5e-4") from error


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
