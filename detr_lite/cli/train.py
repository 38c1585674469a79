"""`detr-lite train`: train a detector, or compute a saved batch again."""

from collections.abc import Sequence

from detr_lite.config import read_config


def main(words: Sequence[str]) -> None:
    invocation = read_config(words)  # before the slow imports, so that mistakes are reported at once
    if invocation.replay is not None:
        from detr_lite.training.checks.replay import replay

        replay(invocation.replay)
        return
    from detr_lite.training.run import train

    train(invocation)
