"""The command line of all examples, with a task that trains in a moment."""

import sys
from pathlib import Path

import pytest

from detr_lite.structures import DetrLiteError
from examples.command import resume_command, train, training_parser
from tests.helpers.toy_task import toy_task

QUICK = ["--threads", "1", "--accelerator", "cpu", "--precision", "32-true", "--devices", "1", "--num_evaluations", "1"]


def train_with(*words: object) -> dict[str, float]:
    given = [*QUICK, *map(str, words)]
    return train(toy_task(), training_parser("Quadrants.", minutes=1.0).parse_args(given), given)


@pytest.mark.slow
def test_a_run_goes_where_it_is_told_and_is_resumed_from_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = train_with("--run_dir", tmp_path / "a", "--max_epochs", 2)
    assert set(results) == {"accuracy", "errors"}
    with pytest.raises(DetrLiteError, match="holds a run; continue it with --resume"):
        train_with("--run_dir", tmp_path / "a", "--max_epochs", 2)
    train_with("--run_dir", tmp_path / "a", "--max_epochs", 3, "--resume")
    assert "step 15: accuracy" in capsys.readouterr().out
    train_with("--run_dir", tmp_path / "a", "--max_epochs", 1, "--overwrite")
    assert "step 5: accuracy" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--resume", "--overwrite"], "give --resume or --overwrite, not both"),
        (["--max_epochs", "1", "--max_minutes", "1"], "not allowed with argument"),
        (["--run_dri", "x"], r"did you mean --run_dir\?"),
        (["--batch_size", "0"], r"data\.batch_size is 0; it must be at least 1"),
    ],
)
def test_mistakes_are_one_line(words: list[str], message: str) -> None:
    with pytest.raises(DetrLiteError, match=message) as error:
        train_with(*words)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ([], []),
        (["--seed", "3", "--run_dir", "my runs/a"], ["--seed", "3"]),
        (["--run_dir=a", "--resume", "--seed=3"], ["--seed=3"]),
        (["--resume", "a/last.ckpt", "--level", "hard", "--overwrite"], ["--level", "hard"]),
    ],
)
def test_a_stopped_run_is_resumed_with_the_same_words(
    words: list[str], kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["examples/toy/train.py", *words])
    assert resume_command(words) == " ".join(["python", "examples/toy/train.py", *kept])
