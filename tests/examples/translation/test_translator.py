"""The translator's masks, its numbers, and its commands at toy length."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from detr_lite.errors import DetrLiteError
from detr_lite.training.task import load_network
from examples.translation import train, translate
from examples.translation.data import encode, make_corpus
from examples.translation.figure import draw_alignment
from examples.translation.grammar import Sentence
from examples.translation.metrics import alignment_scores, exact
from examples.translation.model import PADDING, TASK, Size, Translator, Vocabulary, build_network

QUICK = ["--max_epochs", "1", "--num_evaluations", "1", "--sentences", "60", "--held_out", "12", "--batch_size", "30",
         "--dim", "16", "--heads", "2", "--threads", "1", "--accelerator", "cpu", "--precision", "32-true"]  # fmt: skip


def make_translator() -> Translator:
    torch.manual_seed(0)
    return Translator(Vocabulary("abcdef"), Vocabulary("uvwxyz"), Size(dim=16, heads=2, feedforward_dim=32)).eval()


def test_padding_of_the_source_and_later_words_change_nothing() -> None:
    network = make_translator()
    source, words = torch.tensor([[3, 4, 5], [6, 7, PADDING]]), torch.tensor([[1, 3, 4, 5], [1, 6, 7, 8]])
    both = network(source, words).logits
    alone = network(source[1:, :2], words[1:]).logits
    torch.testing.assert_close(both[1:], alone, atol=1e-5, rtol=1e-5)
    changed = words.clone()
    changed[:, 2:] = 3
    torch.testing.assert_close(network(source, changed).logits[:, :2], both[:, :2], atol=1e-5, rtol=1e-5)
    assert (network(source.flip(1), words).logits - both).abs().max() > 1e-3, "the order of the source must matter"


def test_numbers_of_alignment_by_hand() -> None:
    sentence = Sentence("abc", ("x", "y", "z"), (frozenset({0}), frozenset(), frozenset({1, 2})), "", False)
    weights = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.8, 0.0], [0.6, 0.3, 0.1, 0.0], [0.0, 0.0, 0.0, 1.0]])
    scores = alignment_scores([weights], [sentence])
    assert scores.hits == pytest.approx(1 / 2)
    assert scores.share == pytest.approx((0.5 + 0.4) / 2)
    assert scores.chance == pytest.approx((1 / 3 + 2 / 3) / 2)
    assert alignment_scores([], []).hits == 0
    assert exact([["x", "y", "z"], ["x"]], [sentence, sentence]) == 0.5


def test_encoded_pairs() -> None:
    corpus = make_corpus(5, 2)
    pairs = encode(corpus.train, corpus.characters(), corpus.words())
    assert pairs.words.shape == pairs.next_words.shape
    for row, sentence in enumerate(corpus.train):
        length = len(sentence.english)
        assert pairs.words[row, 1 : 1 + length].equal(pairs.next_words[row, :length])
        assert tuple(corpus.words().decode(pairs.next_words[row, :length].tolist())) == sentence.english
        assert not pairs.next_words[row, length + 1 :].any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("translation") / "run"
    train.main([*QUICK, "--run_dir", str(folder)])
    return folder


def test_a_run_has_its_numbers(trained: Path) -> None:
    metrics = json.loads((trained / "evaluation/metrics.json").read_text())
    assert set(metrics) == {"unseen", "combinations", "aligned", "on_aligned", "chance"}
    assert 0.1 < metrics["chance"] < 0.5
    assert metrics["on_aligned"] == pytest.approx(metrics["chance"], abs=0.15)
    results = json.loads((trained / "evaluation/translation.json").read_text())
    assert set(results) == {
        f"{name}{kind}" for name in ("unseen", "combinations") for kind in ("", "_beam", "_shuffled")
    }


@pytest.mark.slow
def test_translate_command(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, _ = load_network(trained / "checkpoints/best.ckpt", TASK, build_network)
    assert isinstance(network, Translator)
    some = "".join(network.characters.tokens[3:7])
    figure, page = tmp_path / "figure.png", tmp_path / "page.html"
    words = [f"{some}\u3002", "--checkpoint", str(trained), "--output", str(figure)]
    capsys.readouterr()
    translate.main(words)
    greedy = capsys.readouterr().out.splitlines()
    translate.main([*words, "--beams", "3", "--explore", str(page)])
    lines = capsys.readouterr().out.splitlines()
    assert len(greedy) == 1
    assert len(lines) == 3
    scores = [float(line.split()[0]) for line in lines]
    assert scores == sorted(scores, reverse=True)
    with Image.open(figure) as picture:
        assert picture.width > 300
    assert '"kind":"words"' in page.read_text()
    for wrong, message in (
        (["Q"], "never seen Q"),
        (["\u3002"], "nothing to translate"),
        ([some, "--beams", "0"], "--beams is 0"),
    ):
        with pytest.raises(DetrLiteError, match=message):
            translate.main([*wrong, "--checkpoint", str(trained)])


def test_figure_has_no_missing_glyphs(recwarn: pytest.WarningsRecorder) -> None:
    sentence = next(each for each in make_corpus(20, 1).train if len(each.english) > 5)
    weights = torch.rand(len(sentence.english), len(sentence.chinese)).softmax(-1)
    figure = draw_alignment(weights, sentence.chinese, sentence.english, sentence.alignment)
    figure.canvas.draw()
    assert not [each for each in recwarn if "Glyph" in str(each.message)]
    assert len(figure.axes[0].get_xticklabels()) == len(sentence.chinese)
