"""The last lines of a run: files that are there, and commands that can be pasted."""

import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from detr_lite.config import Config
from detr_lite.data.reading import read_split
from detr_lite.data.records import Split
from detr_lite.training.next_steps import next_steps
from tests.helpers.fake_runs import write_log

RISING = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)


@pytest.fixture(scope="module")
def val(tiny_data: Path) -> Split:
    return read_split(tiny_data, "val")


@pytest.fixture
def lines(tiny_config: Config, val: Split, tmp_path: Path) -> Callable[..., list[str]]:
    """Of a run in a folder whose name has a blank; `names` are the files in it."""
    folder = tmp_path / "my run"

    def make(*names: str, AP: tuple[float, ...] = (), **changes: object) -> list[str]:  # noqa: N803 (COCO's name)
        folder.mkdir()
        for name in names:
            (folder / name).write_text("")
        if AP:
            write_log(folder, AP)
        config = replace(tiny_config, trainer=replace(tiny_config.trainer, **changes))
        return next_steps(folder, config, folder / "checkpoints" / "best.ckpt", val)

    return make


def words_after(lines: list[str], start: str) -> list[str]:
    """The command in the line after the one that starts so."""
    (index,) = [number for number, line in enumerate(lines) if line.startswith(start)]
    return shlex.split(lines[index + 1])


def test_files_and_commands(lines: Callable[..., list[str]], val: Split, tmp_path: Path) -> None:
    folder = tmp_path / "my run"
    printed = lines("report.html", "explorer.html", "attention.webp", "attention.png", "curves.png")
    assert len(printed) == 6
    assert f"look at {folder}/: report.html, explorer.html, attention.webp, curves.png" in printed
    predict = words_after(printed, "predict")
    assert predict[predict.index("--checkpoint") + 1] == str(folder / "checkpoints/best.ckpt")
    assert Path(predict[predict.index("--source") + 1]).is_file()
    assert predict[-2:] == ["--threshold", "best"]
    evaluate = words_after(printed, "evaluate")
    assert evaluate[evaluate.index("--data.root") + 1] == str(val.root)


def test_a_model_without_best_scores(tiny_config: Config, val: Split, tmp_path: Path) -> None:
    printed = next_steps(tmp_path, tiny_config, tmp_path / "best.ckpt", val, has_thresholds=False)
    assert words_after(printed, "predict")[-2:] == ["--threshold", "0.1"]


def test_the_picture_where_there_is_no_animation(lines: Callable[..., list[str]]) -> None:
    assert any(line.endswith(": attention.png, samples.png") for line in lines("attention.png", "samples.png"))


def test_a_folder_without_any(lines: Callable[..., list[str]]) -> None:
    assert not any(line.startswith("look at") for line in lines())


@pytest.mark.parametrize(
    ("changes", "longer"),
    [
        ({"max_epochs": 7, "max_minutes": None}, ["--trainer.max_epochs", "14"]),
        ({"max_epochs": None, "max_minutes": 2.5}, ["--trainer.max_minutes", "5"]),
    ],
)
def test_a_run_that_was_still_rising(lines: Callable[..., list[str]], changes: dict, longer: list[str]) -> None:
    printed = lines(AP=RISING, **changes)
    words = words_after(printed, "AP was still rising, from 0.400 to 0.600 in the last third of the run")
    assert words[-3:] == ["--resume", *longer]
    assert "--run_dir" in words
    assert len(printed) <= 8


@pytest.mark.parametrize(
    "AP", [(0.1, 0.3, 0.6, 0.6, 0.6, 0.6), (0.1, 0.5, 0.7, 0.5, 0.4, 0.3), (0.5,) * 4, (0.1, 0.2, 0.4)]
)
def test_a_run_that_was_long_enough(lines: Callable[..., list[str]], AP: tuple[float, ...]) -> None:  # noqa: N803 (COCO's name)
    assert not any("--resume" in line for line in lines(AP=AP))


def test_few_steps(lines: Callable[..., list[str]]) -> None:
    printed = lines(AP=(0.1, 0.2), max_epochs=2)
    assert words_after(printed, "the run had 200 steps, few to learn from")[-1] == "4"
    assert any("--data.image_size" in line and "GPU" in line for line in printed)


def test_few_steps_from_trained_weights_are_enough(tiny_config: Config, val: Split, tmp_path: Path) -> None:
    write_log(tmp_path, (0.1, 0.2))
    started = replace(tiny_config, model=replace(tiny_config.model, init_from="best.ckpt"))
    assert not any("--resume" in line for line in next_steps(tmp_path, started, tmp_path / "best.ckpt", val))
