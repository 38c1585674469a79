"""`detr-lite train`: train a detector, or compute a saved batch again."""

from collections.abc import Sequence

from detr_lite.cli.command import configure_logging
from detr_lite.config import read_config


def main(words: Sequence[str]) -> None:
    invocation = read_config(words)  # before the slow imports, so that mistakes are reported at once
    configure_logging(rank_0_only=True)
    from detr_lite.training.run import train

    train(invocation)
