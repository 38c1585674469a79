"""Which checkpoint is meant by a name: a run folder, a URL, a folder without a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detr_lite.detector import Detector
from detr_lite.structures import DetrLiteError
from detr_lite.weights.checkpoint_path import find_checkpoint


def run_with(folder: Path, *names: str) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    for name in names:
        (folder / "checkpoints" / name).touch()
    return folder


def test_a_run_folder_means_its_best_checkpoint(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", "best.ckpt", "last.ckpt")
    assert find_checkpoint(run) == find_checkpoint(str(run / "checkpoints")) == run / "checkpoints" / "best.ckpt"
    assert find_checkpoint(run / "checkpoints" / "last.ckpt") == run / "checkpoints" / "last.ckpt"
    assert find_checkpoint("hf:some/name") == Path("hf:some/name")


def test_a_run_that_was_not_evaluated_yet_names_its_last_checkpoint(tmp_path: Path) -> None:
    run = run_with(tmp_path / "run", "last.ckpt")
    with pytest.raises(DetrLiteError, match=r"has no best\.ckpt yet.*checkpoints/last\.ckpt"):
        find_checkpoint(run)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none.ckpt", "none.ckpt: no such checkpoint"),
        ("https://a.org/x.ckpt", "https://a.org/x.ckpt: is a URL; download the file first and give its path"),
        (Path("https://a.org/x.ckpt"), "https://a.org/x.ckpt: is a URL; download the file first and give its path"),
        ("s3://bucket/x.ckpt", "s3://bucket/x.ckpt: is a URL; download the file first and give its path"),
        (
            "https://huggingface.co/ustc-community/dfine-small-coco",
            "https://huggingface.co/ustc-community/dfine-small-coco: is a URL; download the file first and give its "
            "path, or hf:ustc-community/dfine-small-coco for a detector of transformers",
        ),
    ],
)
def test_what_is_missing_says_what_it_is(given: str | Path, message: str) -> None:
    with pytest.raises(DetrLiteError) as caught:
        find_checkpoint(given)
    assert str(caught.value) == message


def test_a_folder_without_a_run_is_called_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DetrLiteError, match="no such checkpoint in this folder; it is no run folder"):
        find_checkpoint(tmp_path)


@pytest.mark.slow
def test_all_commands_take_a_run_folder(
    run_tool: Callable[..., Any], finished_run: Path, tiny_data: Path, tmp_path: Path
) -> None:
    image = tiny_data / "val" / "000.png"
    for name, words in {
        "predict": ("--source", image, "--threshold", "best", "--output", tmp_path / "predicted"),
        "visualize": ("--source", image, "--output", tmp_path / "attention"),
        "evaluate": ("--data.root", tiny_data, "--num_workers", 0, "--output", tmp_path / "evaluation"),
        "export": ("--output", tmp_path / "exported"),
    }.items():
        ended = run_tool(name, "--checkpoint", finished_run, *words)
        assert ended.code == 0, ended
    whole = Detector.from_checkpoint(finished_run, "cpu")(image)
    best = Detector.from_checkpoint(finished_run / "checkpoints" / "best.ckpt", "cpu")(image)
    assert whole.scores.tolist() == best.scores.tolist()


def test_a_source_that_is_a_url_says_so(refusal: Callable[..., str], finished_run: Path, tmp_path: Path) -> None:
    words = ("--checkpoint", finished_run, "--source", "https://a.org/x.jpg?size=2", "--output", tmp_path / "out")
    message = "--source https://a.org/x.jpg?size=2: is a URL; download the images first and give their folder"
    assert refusal("predict", *words) == message


def test_images_that_are_missing_or_urls_say_so(finished_run: Path, tmp_path: Path) -> None:
    detector = Detector.from_checkpoint(finished_run, "cpu")
    for given, message in {
        "none.jpg": "none.jpg: no such file",
        "https://a.org/x.jpg": "https://a.org/x.jpg: is a URL; download the image first and give its path",
        tmp_path: f"{tmp_path}: is a folder; give the images in it",
    }.items():
        with pytest.raises(DetrLiteError) as caught:
            detector(given)
        assert str(caught.value) == message
    with pytest.raises(DetrLiteError, match=r"^images\[1\]: none\.jpg: no such file$"):
        detector([Image.new("RGB", (40, 40)), "none.jpg"])
