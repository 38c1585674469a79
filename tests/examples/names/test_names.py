"""Names: the list, the count models by hand, and the commands at toy length."""

import itertools
import json
import math
from pathlib import Path

import pytest
import torch

from detr_lite.errors import DetrLiteError
from examples.names import sample, train
from examples.names.counts import CountModel, best_count_model
from examples.names.model import END, FILE, IGNORED, LETTERS, build_network, collate, decode, encode, read_names


def test_the_list() -> None:
    names = read_names(FILE)
    parts = [set(part) for part in names]
    assert sum(map(len, parts)) == len(set().union(*parts)) >= 2000
    assert len(parts[1]) == len(parts[2]) >= 200
    lines = FILE.read_text().splitlines()
    assert lines == sorted(set(lines))
    assert {"alice", "mohammed", "yuki"} <= set(lines)


def test_wrong_lists(tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    for text, message in (("a1\n", "not a name"), ("anna\n", "too few"), (None, "cannot be read")):
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
        with pytest.raises(DetrLiteError, match=message):
            read_names(path)


def test_a_batch() -> None:
    batch = collate(["ab", "c"])
    assert batch.read.tolist() == [[END, 1, 2], [END, 3, END]]
    assert batch.following.tolist() == [[1, 2, END], [3, END, IGNORED]]
    assert decode(encode("zoe")) == "zoe"


def test_counts_by_hand() -> None:
    """Of ["aa", "ab"] with strength 1: after the start a 2 of 2, after a: a 1, b 1, end 1 of 3."""
    model = CountModel(["aa", "ab"], order=1, strength=1.0)
    alone = {1: (3 + 1 / 27) / 7, 2: (1 + 1 / 27) / 7, END: (2 + 1 / 27) / 7}
    assert model.probability((END,), 1) == pytest.approx((2 + alone[1]) / 3)
    assert model.probability((1,), 2) == pytest.approx((1 + alone[2]) / 4)
    assert model.probability((2,), END) == pytest.approx((1 + alone[END]) / 2)
    expected = math.log((2 + alone[1]) / 3) + math.log((1 + alone[2]) / 4) + math.log((1 + alone[END]) / 2)
    assert model.loss(["ab"]) == pytest.approx(-expected / 3)


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.slow
def test_counts_are_probabilities_and_longer_contexts_are_better(order: int) -> None:
    names = read_names(FILE)
    model = best_count_model(names.train, names.val, order)
    for context in itertools.islice(itertools.product(range(27), repeat=order), 60):
        assert sum(model.probability(context, letter) for letter in range(27)) == pytest.approx(1)
    if order:
        assert model.loss(names.test) < best_count_model(names.train, names.val, order - 1).loss(names.test) - 0.1


def test_the_loss_of_the_network_is_that_of_its_probabilities() -> None:
    torch.manual_seed(0)
    network = build_network({"dim": 16, "layers": 1, "heads": 2, "dropout": 0.0}).eval()
    found = train.predict(network, collate(["ab", "longer", "c"]))
    for (loss, count), name in zip(found, ["ab", "longer", "c"], strict=True):
        letters = [END, *encode(name), END]
        scores = network(torch.tensor([letters[:-1]])).logits[0].log_softmax(-1)
        assert loss == pytest.approx(-sum(scores[i, letter].item() for i, letter in enumerate(letters[1:])), abs=1e-4)
        assert count == len(name) + 1


@pytest.mark.slow
def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    few = tmp_path / "few.txt"
    few.write_text("\n".join(f"a{letter}{other}" for letter in LETTERS[:6] for other in LETTERS[:6]))
    train.main(
        [
            "--run_dir",
            str(folder),
            "--names",
            str(few),
            "--max_epochs",
            "1",
            "--num_evaluations",
            "1",
            "--dim",
            "16",
            "--heads",
            "2",
            "--threads",
            "1",
            "--accelerator",
            "cpu",
            "--precision",
            "32-true",
        ]
    )
    results = json.loads((folder / "evaluation/names.json").read_text())
    assert set(results) == {"transformer", "trigram", "bigram"}
    capsys.readouterr()
    words = ["--checkpoint", str(folder), "--names", str(few), "--count", "5", "--start", "Al"]
    sample.main(words)
    names = capsys.readouterr().out.splitlines()
    assert len(names) == 5
    assert all(name.startswith("al") for name in names)
    sample.main(words)
    assert capsys.readouterr().out.splitlines() == names
    with pytest.raises(DetrLiteError, match="--start is 3"):
        sample.main([*words[:-1], "3"])
