"""Training at toy length and describing pictures, through the commands."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from detr_lite.errors import DetrLiteError
from detr_lite.training.task import load_network
from detr_lite.weights.checkpoint import load_model
from examples.captions import caption, train
from examples.captions.model import build_captioner
from examples.captions.scenes import draw
from examples.captions.task import NAME

QUICK = ["--max_epochs", "1", "--num_evaluations", "1", "--batch_size", "2", "--train_scenes", "4", "--val_scenes", "3",
         "--test_scenes", "5", "--threads", "1", "--accelerator", "cpu", "--precision", "32-true"]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("captions") / "run"
    train.main([*QUICK, "--run_dir", str(folder)])
    return folder


@pytest.fixture
def describe(trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., list[str]]:
    """Lines of the command with these words; figures are in tmp_path / "out"."""

    def run(*words: object) -> list[str]:
        caption.main([*map(str, words), "--checkpoint", str(trained), "--output", str(tmp_path / "out")])
        return capsys.readouterr().out.splitlines()

    return run


def test_a_run_has_numbers_of_unseen_scenes(trained: Path) -> None:
    results = json.loads((trained / "evaluation/test.json").read_text())
    assert sum(results["by_objects"]["scenes"]) == 5
    assert 0 <= results["exact"] <= 1
    assert {"article", "size", "color", "shape"} <= set(results["attention"])
    for kind in results["attention"].values():
        assert len(kind["inside"]) == 3
        assert all(0 <= share <= 1 for share in kind["inside"])
    assert (trained / "evaluation/attention.png").stat().st_size > 10_000
    assert set(json.loads((trained / "evaluation/metrics.json").read_text())) == {
        "exact",
        "exact_1",
        "exact_2",
        "exact_3",
    }


@pytest.mark.stress
def test_pictures_get_a_line_and_a_figure_each(describe: Callable[..., list[str]], tmp_path: Path) -> None:
    Image.fromarray(draw(3, "test", 0).pixels).save(tmp_path / "mine.png")
    Image.new("RGB", (300, 200), "gray").save(tmp_path / "wide.jpg")
    page = tmp_path / "page.html"
    lines = describe(tmp_path / "mine.png", tmp_path / "wide.jpg", "--draw", 1, "--explore", page)
    assert [line.split(":")[0] for line in lines] == ["mine", "wide", "scene_000"]
    assert "(true: a" in lines[2]  # after two steps of training no caption is right
    for name in ("mine", "wide", "scene_000"):
        with Image.open(tmp_path / "out" / f"{name}.png") as figure:
            assert figure.width > 600
    text = page.read_text()
    assert text.count('"kind":"words"') == 3
    assert '"<start>"' in text.replace("\\u003c", "<").replace("\\u003e", ">")
    with pytest.raises(DetrLiteError, match="exists; name another file"):
        describe("--draw", 1, "--explore", page)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give pictures to describe, or --draw N"),
        (["--draw", "1", "--layer", "3"], "there is no decoder layer 3"),
        (["nowhere.png"], "nowhere.png"),
    ],
)
def test_mistakes_are_one_line(describe: Callable[..., list[str]], words: list[str], message: str) -> None:
    with pytest.raises(DetrLiteError, match=message) as error:
        describe(*words)
    assert "\n" not in str(error.value)


def test_numbers_of_scenes_are_at_least_1(tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match="must be at least 1"):
        train.main([*QUICK, "--test_scenes", "0", "--run_dir", str(tmp_path / "run")])
    assert not (tmp_path / "run").exists()


def test_a_detector_is_no_captioner(detector: Path, tmp_path: Path) -> None:
    with pytest.raises(DetrLiteError, match="not a checkpoint of detr_lite"):
        caption.main(["--draw", "1", "--checkpoint", str(detector), "--output", str(tmp_path / "out")])


@pytest.mark.stress
def test_training_starts_from_a_detector(detector: Path, tmp_path: Path) -> None:
    """With a learning rate of almost nothing, it also ends there."""
    train.main([*QUICK, "--detector", str(detector), "--run_dir", str(tmp_path / "run"), "--lr", "1e-12"])
    captioner, settings = load_network(tmp_path / "run/checkpoints/best.ckpt", NAME, build_captioner)
    assert settings["model"]["dim"] == 32
    trained, _ = load_model(detector)
    for name, value in trained.encoder.state_dict().items():
        torch.testing.assert_close(captioner.encoder.state_dict()[name], value)
    caption.main(["--draw", "1", "--checkpoint", str(tmp_path / "run"), "--output", str(tmp_path / "out")])
    assert (tmp_path / "out/scene_000.png").is_file()
