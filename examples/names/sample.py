"""Names that nobody has written down: python examples/names/sample.py --count 10"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from detr_lite.cli.command import CommandParser, run_command
from detr_lite.model.autoregressive import CausalDecoder
from detr_lite.model.generation import sample
from detr_lite.structures import DetrLiteError
from detr_lite.training.task import load_network
from detr_lite.weights.checkpoint_path import find_checkpoint
from examples.names.model import END, FILE, LETTERS, MAX_LETTERS, TASK, build_network, decode, encode, read_names


def main(words: Sequence[str]) -> None:
    parser = CommandParser(description="Prints names that a trained model writes.", allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, default=Path("runs", TASK), help="run folder or checkpoint (default: %(default)s)")
    add("--count", type=int, default=20, help="of names (default: %(default)s)")
    add("--start", default="", help="letters that each name begins with")
    add("--temperature", type=float, default=1.0, help="below 1 likelier names, above 1 wilder ones (default: 1)")
    add("--seed", type=int, default=0, help="(default: 0)")
    add("--names", type=Path, default=FILE, help="known names, which are marked with * (default: %(default)s)")
    given = parser.parse_args(words)
    start = given.start.lower()
    if set(start) - set(LETTERS):
        raise DetrLiteError(f"--start is {given.start}; give letters from a to z")
    if given.count < 0 or given.temperature <= 0:
        raise DetrLiteError("--count must not be negative, and --temperature must be above 0")
    network = cast(CausalDecoder, load_network(find_checkpoint(given.checkpoint), TASK, build_network)[0])
    known = {name for part in read_names(given.names) for name in part}
    prefix = torch.tensor([[END, *encode(start)]]).expand(given.count, -1)
    generator = torch.Generator().manual_seed(given.seed)
    written = sample(network, prefix, END, MAX_LETTERS, temperature=given.temperature, generator=generator)
    for letters in written:
        name = start + decode(letters)
        print(name + "*" * (name in known))


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
