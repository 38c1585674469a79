"""The captioner: words look back alone, writing with a cache, attention as it is returned, a detector's features."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detr_lite.errors import DetrLiteError
from detr_lite.training.optim import make_optimizer, parameter_groups
from detr_lite.weights.checkpoint import load_model
from examples.captions.model import (
    MODEL,
    Captioner,
    build_captioner,
    ended,
    read_detector,
    settings_of,
    started,
    take_features,
)
from examples.captions.scenes import SIDE, Scenes
from examples.captions.task import PADDING, collate, losses
from examples.captions.wording import END, MAX_WORDS, VOCABULARY

SMALL = replace(MODEL, dim=32, heads=2, decoder_layers=2, feedforward_dim=32)


@pytest.fixture(scope="module")
def captioner() -> Captioner:
    torch.manual_seed(0)
    return build_captioner(settings_of(SMALL)).eval()


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    scenes = Scenes("val", 6)
    return collate([scenes[index] for index in range(len(scenes))])


def test_a_change_in_a_later_word_changes_no_earlier_answer(
    captioner: Captioner, batch: dict[str, torch.Tensor]
) -> None:
    changed = batch["read"].clone()
    changed[:, 4] = (changed[:, 4] + 5) % len(VOCABULARY)
    with torch.no_grad():
        before, after = (captioner(batch["images"], tokens) for tokens in (batch["read"], changed))
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4], after[:, 4], atol=1e-3)


def test_answers_depend_on_the_picture(captioner: Captioner, batch: dict[str, torch.Tensor]) -> None:
    with torch.no_grad():
        before, after = (captioner(images, batch["read"]) for images in (batch["images"], batch["images"].flip(0)))
    assert not torch.allclose(before, after, atol=1e-3)


@pytest.mark.slow
def test_written_captions_are_those_of_one_word_after_the_other(
    captioner: Captioner, batch: dict[str, torch.Tensor]
) -> None:
    tokens = torch.full((len(batch["images"]), 1), END)
    with torch.no_grad():
        for _ in range(MAX_WORDS):
            best = captioner(batch["images"], tokens)[:, -1].argmax(-1, keepdim=True)
            tokens = torch.cat([tokens, best], dim=1)
    rows = tokens[:, 1:].tolist()
    expected = [row[: row.index(END)] if END in row else row for row in rows]
    assert captioner.write(batch["images"]) == expected


def test_attention_maps_are_of_each_word_and_all_tokens(captioner: Captioner, batch: dict[str, torch.Tensor]) -> None:
    maps = captioner.look(batch["images"], batch["read"])
    words = batch["read"].shape[1]
    assert maps.grids == ((SIDE // 8, SIDE // 8), (SIDE // 16, SIDE // 16))
    assert maps.cross.shape == (2, 6, 2, words, 16 * 16 + 8 * 8)
    torch.testing.assert_close(maps.cross.sum(-1), torch.ones(2, 6, 2, words))
    assert maps.queries.shape == (2, 6, 2, words, words)
    assert not maps.queries.triu(1).any()
    torch.testing.assert_close(maps.queries.sum(-1), torch.ones(2, 6, 2, words))


def test_what_is_read_and_what_is_answered_are_one_word_apart() -> None:
    captions = [[4, 5, 6], [7]]
    assert started(captions).tolist() == [[END, 4, 5, 6], [END, 7, END, END]]
    assert ended(captions, PADDING).tolist() == [[4, 5, 6, END], [7, END, PADDING, PADDING]]


def test_padding_has_no_loss(captioner: Captioner, batch: dict[str, torch.Tensor]) -> None:
    """The loss of a batch is that of its captions one by one, weighted by their words."""
    with torch.no_grad():
        whole = losses(captioner, batch)["word"]
        total, words = torch.zeros(()), 0
        for index in range(len(batch["images"])):
            count = int((batch["answer"][index] != PADDING).sum())
            alone = {"images": batch["images"][index : index + 1]}
            alone |= {name: batch[name][index : index + 1, :count] for name in ("read", "answer")}
            total += count * losses(captioner, alone)["word"]
            words += count
    torch.testing.assert_close(whole, total / words)


def test_a_detector_gives_backbone_and_encoder(detector: Path) -> None:
    trained, model = read_detector(detector)
    captioner = build_captioner(settings_of(model))
    take_features(captioner, trained)
    expected, _ = load_model(detector)
    for part in ("backbone", "encoder"):
        state = getattr(captioner, part).state_dict()
        for name, value in getattr(expected, part).state_dict().items():
            torch.testing.assert_close(state[name], value)
    assert captioner.decoder.embed.weight.shape[1] == model.dim


def test_a_detector_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match="no such checkpoint"):
        read_detector(tmp_path / "missing.ckpt")


@pytest.mark.stress
def test_a_few_scenes_are_learned_by_heart_from_their_pictures(batch: dict[str, torch.Tensor]) -> None:
    """In another order each caption follows its picture, so it is the picture that tells them apart."""
    torch.manual_seed(0)
    learner = build_captioner(settings_of(SMALL)).train()
    optimizer = make_optimizer(parameter_groups(learner, 4e-3, 1.0, 1e-4, False, "muon"), fused=False, name="muon")
    for _ in range(50):
        optimizer.zero_grad()
        losses(learner, batch)["word"].backward()
        optimizer.step()
    learner.eval()
    true = [row[: row.index(END)] for row in batch["answer"].tolist()]
    assert learner.write(batch["images"]) == true
    assert learner.write(batch["images"].flip(0)) == true[::-1]
