"""What a command imports before it can refuse: torch takes seconds, and nothing waits for it in vain."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

PROJECT = Path(__file__).resolve().parents[1]
SLOW = ("torch", "torchvision", "lightning", "timm", "torchmetrics", "transformers", "matplotlib", "hotcoco")

RUN = """
import contextlib, io, json, sys
from detr_lite.cli.main import main

ends = []
for words in json.loads(sys.argv[1]):
    sys.argv[1:] = words
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main()
        except SystemExit as end:
            ends.append((end.code, err.getvalue(), [name for name in json.loads(%r) if name in sys.modules]))
print(json.dumps(ends))
"""
COMMANDS = ("train", "evaluate", "predict", "visualize", "report", "export", "doctor", "prepare-data", "import")


def run(*calls: list[str], cwd: Path) -> list[tuple[int | None, str, list[str]]]:
    """Exit code and error of each call, and which slow packages have been imported by then; all in one process."""
    program = RUN % json.dumps(SLOW)
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    ended = subprocess.run(
        [sys.executable, "-c", program, json.dumps(calls)], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    return [tuple(each) for each in json.loads(ended.stdout)]


def test_help_imports_nothing_slow(tmp_path: Path) -> None:
    calls = [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)]
    for call, (code, error, slow) in zip(calls, run(*calls, cwd=tmp_path), strict=True):
        assert (code or 0, error, slow) == (0, "", []), call


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a run, an image and an empty folder."""
    (tmp_path / "run/checkpoints").mkdir(parents=True)
    for name in ("run/config.yaml", "run/checkpoints/last.ckpt"):
        (tmp_path / name).write_text("seed: 1\n")
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photo.png")
    return tmp_path


@pytest.mark.slow
def test_what_needs_no_model_is_refused_before_slow_imports(place: Path) -> None:
    train = ["train", "--config", "coco_small.yaml"]
    predict = ["predict", "--checkpoint", "run/checkpoints/last.ckpt", "--source"]
    visualize = ["visualize", "--checkpoint", "none.ckpt", "--source", "photo.png"]
    refusals = {
        "not a command": ["trian"],
        "no such file": ["train", "--config", "missing.yaml"],
        "did you mean optim.lr": [*train, "--optim.lrr", "1"],
        "holds a run": [*train, "--run_dir", "run"],
        "does not exist; name the run": [*train, "--run_dir", "none", "--resume"],
        "is a folder; name a checkpoint": [*train, "--resume", "run"],
        "no such data folder": [*train, "--data.root", "none"],
        "the data folder is empty": [*train, "--data.root", "empty"],
        "is unknown; valid are auto": [*train, "--trainer.accelerator", "tpu"],
        "ends in .png": [*train, "--draw_augmented", "sheet.jpg"],
        "none.pt: no such checkpoint": ["train", "--replay", "none.pt"],
        "a.ckpt: no such checkpoint": ["evaluate", "--checkpoint", "a.ckpt"],
        "b.ckpt: no such checkpoint": ["evaluate", "--checkpoint", "run/checkpoints/last.ckpt", "b.ckpt"],
        "c.ckpt: no such checkpoint": ["predict", "--checkpoint", "c.ckpt", "--source", "photo.png", "--output", "new"],
        "none.jpg": [*predict, "none.jpg", "--output", "new"],
        "--output": [*predict, "photo.png", "--output", "run"],
        "--threshold is 3.0": [*predict, "photo.png", "--output", "new", "--threshold", "3"],
        "--figure is 'tables'": [*visualize, "--output", "new", "--figure", "tables"],
        "none.ckpt: no such checkpoint": [*visualize, "--output", "new"],
        "--budget is 0": [*visualize, "--explore", "page.html", "--budget", "0"],
        "d.ckpt: no such checkpoint": ["export", "--checkpoint", "d.ckpt", "--output", "d.safetensors"],
        "e.pth: no such checkpoint": ["import", "e.pth", "e.ckpt"],
        "nowhere: no such data folder": ["doctor", "nowhere"],
        "empty: the data folder is empty": ["doctor", "empty"],
        "--max_images is 0": ["doctor", "empty", "--max_images", "0"],
        "--samples is 1": ["report", "run", "--samples", "1"],
        "nothing: no such file or folder": ["prepare-data", "stats", "nothing"],
    }
    for (words, call), (code, error, slow) in zip(refusals.items(), run(*refusals.values(), cwd=place), strict=True):
        assert code == 2, (call, error)
        assert words in error, call
        assert slow == [], (call, error)


LIBRARIES = {
    "detr_lite": SLOW,
    "detr_lite.config": SLOW,
    "detr_lite.data.reading": ("torch", "lightning", "transformers", "matplotlib"),
    "detr_lite.cli.predict": SLOW,
    "detr_lite.detector": ("lightning", "torchmetrics", "matplotlib"),
}


@pytest.mark.parametrize(
    "module",
    [pytest.param(each, marks=pytest.mark.stress) if each == "detr_lite.detector" else each for each in LIBRARIES],
)
def test_a_module_imports_only_what_it_needs(module: str) -> None:
    program = f"import sys, {module}; print(*(name for name in {LIBRARIES[module]} if name in sys.modules))"
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    found = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
