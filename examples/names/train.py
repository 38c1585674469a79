"""Train a model that writes names, letter by letter: python examples/names/train.py"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from detr_lite.cli.command import run_command
from detr_lite.config import OptimConfig
from detr_lite.io import atomic_write
from detr_lite.model.autoregressive import CausalDecoder
from detr_lite.training.callbacks.metrics import LoggedMetrics
from detr_lite.training.task import TaskSpec
from examples.command import check_folder, train, training_parser
from examples.names.counts import best_count_model
from examples.names.model import FILE, IGNORED, TASK, Letters, Names, build_network, collate, read_names

Loss = tuple[float, int]
"""Of a name: the sum over its letters, and their number."""


def losses(network: CausalDecoder, batch: Letters) -> dict[str, Tensor]:
    logits = network(batch.read).logits
    return {"letter": F.cross_entropy(logits.flatten(0, 1), batch.following.flatten(), ignore_index=IGNORED)}


def predict(network: CausalDecoder, batch: Letters) -> list[Loss]:
    """In nats, the end of a name included."""
    logits = network(batch.read).logits
    loss = F.cross_entropy(logits.transpose(1, 2), batch.following, ignore_index=IGNORED, reduction="none").sum(1)
    return list(zip(loss.tolist(), (batch.following != IGNORED).sum(1).tolist(), strict=True))


def score(predictions: Sequence[Loss]) -> dict[str, float]:
    return {"nats": sum(loss for loss, _ in predictions) / sum(count for _, count in predictions)}


def compare(network: CausalDecoder, names: Names) -> dict[str, float]:
    """Nats for each letter of the test names."""
    with torch.inference_mode():
        batch = Letters(*(each.to(network.embed.weight.device) for each in collate(names.test)))
        result = {"transformer": score(predict(network, batch))["nats"]}
    for name, order in (("trigram", 2), ("bigram", 1)):
        result[name] = best_count_model(names.train, names.val, order).loss(names.test)
    return result


def make_task(names: Names, sizes: dict[str, int | float]) -> TaskSpec:
    def finish(network: CausalDecoder, folder: Path) -> None:
        results = compare(network, names)
        text = json.dumps(results, indent=2) + "\n"
        atomic_write(folder / "evaluation" / "names.json", lambda file: file.write(text.encode()))
        values = ", ".join(f"{name} {value:.3f}" for name, value in results.items())
        print(f"nats for each letter of {len(names.test)} names that nothing was chosen by: {values}")

    return TaskSpec(
        name=TASK,
        settings=sizes,
        build_network=build_network,
        train=names.train,
        val=names.val,
        collate=collate,
        losses=losses,
        predict=predict,
        score=score,
        metrics=LoggedMetrics(("nats",), shown=("nats",), mode="min"),
        optim=OptimConfig(optimizer="muon", lr=2e-3, weight_decay=0.01, lr_hold=0.3),
        batch_size=64,
        finish=finish,
    )


def main(words: Sequence[str]) -> None:
    parser = training_parser("Trains a model that writes names, and compares it with counts of letters.", minutes=1.0)
    parser.add_argument("--names", type=Path, default=FILE, help="one name a line (default: %(default)s)")
    sizes: dict[str, int | float] = {"dim": 64, "layers": 3, "heads": 4, "dropout": 0.2}
    for name, value in sizes.items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help="(default: %(default)s)")
    given = parser.parse_args(words)
    check_folder(TASK, given)
    train(make_task(read_names(given.names), {name: getattr(given, name) for name in sizes}), given, words)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
