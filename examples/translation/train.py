"""Train the translator: python examples/translation/train.py"""

import functools
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from detr_lite.cli.command import run_command
from detr_lite.config import OptimConfig
from detr_lite.io import atomic_write
from detr_lite.model.generation import beam_search, greedy
from detr_lite.training.callbacks.metrics import LoggedMetrics
from detr_lite.training.task import TaskSpec
from examples.command import check_folder, train, training_parser
from examples.translation.data import Corpus, Pairs, encode, exchange_sources, make_corpus, shuffle_characters
from examples.translation.grammar import Sentence
from examples.translation.metrics import alignment_scores, exact
from examples.translation.model import END, MAX_WORDS, PADDING, START, TASK, Size, Translator, build_network


def losses(network: Translator, batch: Pairs) -> dict[str, Tensor]:
    logits = network(batch.source, batch.words).logits
    return {"word": F.cross_entropy(logits.flatten(0, 1), batch.next_words.flatten(), ignore_index=PADDING)}


@torch.inference_mode()
def translate(network: Translator, source: Tensor, beams: int = 1) -> list[list[str]]:
    """The most probable word again and again, or the best text that a beam search finds."""
    arguments = (network.decoder, torch.full((len(source), 1), START, device=source.device), END, MAX_WORDS)
    memory = network.encode(source)
    if beams == 1:
        return [network.words.decode(words) for words in greedy(*arguments, memory)]
    return [network.words.decode(found[0].tokens) for found in beam_search(*arguments, memory, width=beams)]


Prediction = tuple[list[str], Tensor]


def predict(network: Translator, batch: Pairs) -> list[Prediction]:
    """The translation, and what it attended to if it writes the right one."""
    return list(zip(translate(network, batch.source), network.attention(batch.source, batch.words).cpu(), strict=True))


def score(corpus: Corpus, predictions: Sequence[Prediction]) -> dict[str, float]:
    translations, attention = zip(*predictions, strict=True)
    count = len(corpus.unseen)
    alignment = alignment_scores(attention[:count], corpus.unseen)
    return {
        "unseen": exact(translations[:count], corpus.unseen),
        "combinations": exact(translations[count:], corpus.combinations),
        "aligned": alignment.hits,
        "on_aligned": alignment.share,
        "chance": alignment.chance,
    }


def measure(corpus: Corpus, network: Translator, folder: Path) -> None:
    """After training: greedy and beam search, and the control, in `translation.json`."""
    characters, words = corpus.characters(), corpus.words()
    device = network.embed.weight.device

    def share(sources: Sequence[Sentence], truth: Sequence[Sentence], beams: int = 1) -> float:
        written: list[list[str]] = []
        for start in range(0, len(sources), 250):
            source = encode(sources[start : start + 250], characters, words).source.to(device)
            written += translate(network, source, beams)
        return exact(written, truth)

    results: dict[str, float] = {}
    for name, sentences in (("unseen", corpus.unseen), ("combinations", corpus.combinations)):
        results[name] = share(sentences, sentences)
        results[f"{name}_beam"] = share(sentences, sentences, beams=4)
        results[f"{name}_shuffled"] = share(shuffle_characters(sentences), sentences)
    atomic_write(
        folder / "evaluation" / "translation.json", lambda file: file.write(json.dumps(results, indent=2).encode())
    )
    print("exact translations: " + ", ".join(f"{name} {value:.1%}" for name, value in results.items()))


def make_task(corpus: Corpus, size: Size, exchanged: bool) -> TaskSpec:
    characters, words = corpus.characters(), corpus.words()
    settings = {
        **asdict(size),
        "sentences": len(corpus.train),
        "exchanged": exchanged,
        "characters": characters.text(""),
        "words": words.text(" "),
    }
    return TaskSpec(
        name=TASK,
        settings=settings,
        build_network=cast(Any, build_network),
        train=exchange_sources(corpus.train) if exchanged else corpus.train,
        val=[*corpus.unseen, *corpus.combinations],
        collate=functools.partial(encode, characters=characters, words=words),
        losses=losses,
        predict=predict,
        score=functools.partial(score, corpus),
        metrics=LoggedMetrics(
            ("unseen", "combinations", "aligned", "on_aligned", "chance"), shown=("combinations", "unseen", "aligned")
        ),
        optim=OptimConfig(optimizer="muon", lr=5e-3, max_grad_norm=1.0),
        batch_size=128,
        finish=functools.partial(measure, corpus),
    )


def main(given_words: Sequence[str]) -> None:
    parser = training_parser("Trains a translator from Chinese to English on sentences of a grammar.", minutes=3.0)
    parser.add_argument("--sentences", type=int, default=8000, help="to learn from (default: %(default)s)")
    parser.add_argument("--held_out", type=int, default=1000, help="of each kind, to evaluate on (default: 1000)")
    parser.add_argument("--exchange_sources", action="store_true", help="a control, which must learn nothing")
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help="(default: %(default)s)")
    given = parser.parse_args(given_words)
    check_folder(TASK, given)
    size = Size(**{name: getattr(given, name) for name in asdict(Size())})
    corpus = make_corpus(given.sentences, given.held_out)
    train(make_task(corpus, size, given.exchange_sources), given, given_words)


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
