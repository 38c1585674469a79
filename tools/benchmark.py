"""Measure detr_lite: python tools/benchmark.py parity, converge, step and others; --help lists them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks/ is not installed

from benchmarks.cli import main
from detr_lite.cli.command import run_command

if __name__ == "__main__":
    run_command(main)
