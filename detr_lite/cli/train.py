"""`detr-lite train`: train a detector, or compute a saved batch again."""

from collections.abc import Sequence

from detr_lite.cli.command import configure_logging
from detr_lite.config import read_config


def main(words: Sequence[str]) -> None:
    invocation = read_config(words)
    configure_logging(rank_0_only=True)
    from detr_lite.training.before_torch import check_before_torch  # before the slow imports, for mistakes

    check_before_torch(invocation)
    from detr_lite.training.run import train

    train(invocation)
