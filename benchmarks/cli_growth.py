"""The subcommands `growth`, `million` and `gpu` of `tools/benchmark.py`."""

import argparse
from collections.abc import Callable
from pathlib import Path

from detr_lite.cli.command import CommandParser
from detr_lite.structures import DetrLiteError

Subcommand = Callable[[str, str], CommandParser]
"""(name, summary) -> its parser."""


def add_growth_commands(subcommand: Subcommand) -> None:
    _add_growth(subcommand)
    _add_million(subcommand)
    _add_gpu(subcommand)


def _add_growth(subcommand: Subcommand) -> None:
    growth = subcommand("growth", "exponents of time and memory in images, objects, queries, classes, pixels and ranks")
    growth.add_argument("--axes", help="what grows, comma-separated (default: all)")
    shrink = "leave out the N - 1 largest sizes, which take the most time (default: 1, all sizes)"
    growth.add_argument("--shrink", type=int, default=1, metavar="N", help=shrink)
    growth.add_argument("--plot", type=Path, metavar="FILE", help="also draw the times as a PNG file")
    output = "keep what is measured in this JSON file, and continue from it"
    growth.add_argument("--output", type=Path, metavar="FILE", help=output)
    growth.set_defaults(run=_run_growth)


def _add_million(subcommand: Subcommand) -> None:
    million = subcommand("million", "opening a million images from the cache, and memory of loading processes")
    million.add_argument("--images", type=int, default=1_000_000, help="(default: 1000000)")
    million.add_argument("--objects", type=int, default=7_300_000, help="(default: 7300000, as many each as in COCO)")
    million.set_defaults(run=_run_million)


def _add_gpu(subcommand: Subcommand) -> None:
    gpu = subcommand("gpu", "all that is claimed for GPUs, in eight minutes")
    gpu.add_argument("--minutes", type=float, default=8.0, help="of all parts together (default: 8)")
    output = Path("gpu.json")
    gpu.add_argument("--output", type=Path, default=output, metavar="FILE", help=f"of the numbers (default: {output})")
    gpu.add_argument("--parts", help="comma-separated (default: all)")
    gpu.add_argument("--device", choices=["auto", "cuda", "cpu"], default="auto", help="(default: auto)")
    gpu.add_argument("--toy", action="store_true", help="a tiny model, to test the measurements themselves")
    gpu.set_defaults(run=_run_gpu)


def _run_growth(arguments: argparse.Namespace) -> None:
    from benchmarks.growth import AXES, growth_table

    if arguments.shrink < 1:
        raise DetrLiteError(f"--shrink is {arguments.shrink}; it must be at least 1")
    axes = AXES if arguments.axes is None else _names(arguments.axes)
    print(growth_table(axes, arguments.shrink, arguments.plot, arguments.output))


def _run_million(arguments: argparse.Namespace) -> None:
    from benchmarks.million import million_table

    if arguments.images < 8:
        raise DetrLiteError(f"--images is {arguments.images}; it must be at least 8")
    print(million_table(arguments.images, arguments.objects))


def _run_gpu(arguments: argparse.Namespace) -> None:
    from benchmarks.gpu import SECONDS, GpuSettings, gpu_report

    parts = tuple(SECONDS) if arguments.parts is None else _names(arguments.parts)
    settings = GpuSettings(device=arguments.device, toy=arguments.toy)
    print(gpu_report(settings, arguments.minutes, arguments.output, parts))
    print(f"\nwrote {arguments.output}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
