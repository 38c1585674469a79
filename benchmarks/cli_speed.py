"""`step`, `attention`, `backbones`, `threads`, `peers`, `latency` and `memory`: time and memory."""

import argparse

from benchmarks.subcommand import Subcommands, check_steps, split, subcommand
from detr_lite.cli.command import CommandParser


def add_step(subcommands: "Subcommands[CommandParser]") -> None:
    step = subcommand(subcommands, "step", "time of each part of a training step")
    step.add_argument("--config", default="coco_small.yaml", help="settings (default: coco_small.yaml)")
    step.add_argument("--root", metavar="DIR", help="dataset, instead of that of the settings")
    step.add_argument("--steps", type=int, default=20, help="number of timed steps (default: 20)")
    step.set_defaults(run=_run_step)


def add_threads(subcommands: "Subcommands[CommandParser]") -> None:
    threads = subcommand(subcommands, "threads", "steps a minute by number of threads, also while a core is taken")
    minutes = "of each number of threads, on the machine as it is and with a core taken (default: 3)"
    threads.add_argument("--minutes", type=float, default=3.0, help=minutes)
    window = "seconds after which the next number has its turn (default: 20)"
    threads.add_argument("--window", type=float, default=20.0, metavar="SECONDS", help=window)
    threads.add_argument("--size", type=int, default=256, help="of the images, in pixels (default: 256)")
    threads.set_defaults(run=_run_threads)


def add_attention(subcommands: "Subcommands[CommandParser]") -> None:
    attention = subcommand(subcommands, "attention", "time of attention on the CPU: torch's and detr_lite's")
    attention.set_defaults(run=_run_attention)


def add_backbones(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "time of backbones on the CPU, as in the original and as in detr_lite"
    backbones = subcommand(subcommands, "backbones", summary)
    backbones.set_defaults(run=_run_backbones)


def add_memory(subcommands: "Subcommands[CommandParser]") -> None:
    memory = subcommand(subcommands, "memory", "peak memory of a step")
    memory.add_argument("--config", default="coco_lite_r50.yaml", help="settings (default: coco_lite_r50.yaml)")
    memory.add_argument("--size", type=int, nargs=2, default=[640, 640], metavar="N", help="(default: 640 640)")
    cards = "instead, the peaks of 1 to 16 images with 300 and 900 queries, and what fits into 8 to 80 GB"
    memory.add_argument("--table", action="store_true", help=cards)
    memory.set_defaults(run=_run_memory)


def add_peers(subcommands: "Subcommands[CommandParser]") -> None:
    peers = subcommand(subcommands, "peers", "time of detr and lite beside detectors of transformers, on equal work")
    models = "detr (beside DETR), lite (beside RT-DETRv2 and D-FINE), comma-separated (default: detr,lite)"
    peers.add_argument("--models", default="detr,lite", help=models)
    peers.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="(default: 1 2)")
    peers.add_argument("--repeats", type=int, default=7, help="of which the fastest counts (default: 7)")
    peers.add_argument(
        "--backbone", default="resnet50", help="of all models, one of timm's ResNets (default: resnet50)"
    )
    size = "height and width of detr's images (default: 480 640)"
    peers.add_argument("--size", type=int, nargs=2, default=[480, 640], metavar="N", help=size)
    peers.add_argument("--side", type=int, default=640, help="of lite's images, a multiple of 32 (default: 640)")
    profiled = "also print where the time of each goes, with one thread"
    peers.add_argument("--profile", action="store_true", help=profiled)
    peers.set_defaults(run=_run_peers)


def add_latency(subcommands: "Subcommands[CommandParser]") -> None:
    summary = "latency of lite, RT-DETRv2 and D-FINE by torch, ONNX and ONNX in int8"
    latency = subcommand(subcommands, "latency", summary)
    latency.add_argument("--backbone", default="resnet18", help="of all models (default: resnet18)")
    latency.add_argument("--side", type=int, default=640, help="of the images, a multiple of 32 (default: 640)")
    latency.add_argument("--threads", type=int, nargs="+", default=[1, 2], metavar="N", help="(default: 1 2)")
    latency.add_argument("--repeats", type=int, default=7, help="of which the fastest counts (default: 7)")
    latency.set_defaults(run=_run_latency)


def _run_step(arguments: argparse.Namespace) -> None:
    from benchmarks.step import step_table
    from detr_lite.config import read_config

    check_steps(arguments.steps)
    root = [] if arguments.root is None else ["--data.root", arguments.root]
    print(step_table(read_config(["--config", arguments.config, *root]).config, arguments.steps))


def _run_threads(arguments: argparse.Namespace) -> None:
    from benchmarks.threads import threads_table

    print(threads_table(arguments.minutes, arguments.window, arguments.size))


def _run_attention(arguments: argparse.Namespace) -> None:
    from benchmarks.step import attention_table

    print(attention_table())


def _run_backbones(arguments: argparse.Namespace) -> None:
    from benchmarks.backbones import backbones_table

    print(backbones_table())


def _run_memory(arguments: argparse.Namespace) -> None:
    from benchmarks.memory import cards_table, memory_table
    from detr_lite.config import read_config

    config = read_config(["--config", arguments.config]).config
    print(cards_table(config) if arguments.table else memory_table(config, *arguments.size))


def _run_peers(arguments: argparse.Namespace) -> None:
    from benchmarks.peers import peers_table, races

    chosen = races(split(arguments.models), arguments.backbone, tuple(arguments.size), arguments.side)
    print(peers_table(chosen, arguments.threads, arguments.repeats, arguments.profile))


def _run_latency(arguments: argparse.Namespace) -> None:
    from benchmarks.latency import latency_table
    from benchmarks.peers import lite_settings

    settings = lite_settings(arguments.backbone)
    print(latency_table(settings, arguments.side, arguments.threads, arguments.repeats))
