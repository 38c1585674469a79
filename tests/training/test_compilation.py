"""Compiled training: the same losses and gradients; where it fails or is no faster, the run goes on without."""

import functools
import os
import subprocess
import sys
from dataclasses import replace

import pytest

from detr_lite.training import compilation, detection
from detr_lite.training.compilation import CompileTrial
from detr_lite.training.module import DetectionModule
from detr_lite.training.run import train
from tests.conftest import PROJECT
from tests.helpers.run_files import rows_of

LOSSES = ("step", "loss", "loss_class", "loss_l1")


@pytest.fixture
def run(invocation, tiny_config, tmp_path, no_finish, caplog):
    """Train two epochs; gives the rows of the log, and what was said."""

    def start(name, compile=True, **trainer):
        caplog.clear()
        caplog.set_level("INFO", logger="detr_lite")
        config = replace(tiny_config, trainer=replace(tiny_config.trainer, compile=compile, **trainer))
        train(invocation(config=config, run_dir=tmp_path / name))
        rows = [[row[key] for key in LOSSES] for row in rows_of(tmp_path / name) if row["loss"]]
        return rows, caplog.text

    return start


def use_clock(monkeypatch, factor):
    """Each time that is measured is so much longer than the one before."""
    now, tick = 0.0, 1.0

    def clock():
        nonlocal now, tick
        now, tick = now + tick, tick * factor
        return now

    monkeypatch.setattr(detection, "CompileTrial", functools.partial(CompileTrial, clock=clock))


@pytest.mark.stress
def test_a_compiler_that_fails_changes_nothing(run, monkeypatch):
    def fail(*_):
        raise RuntimeError("no C++ compiler was found")

    monkeypatch.setattr(compilation, "compile_parts", fail)
    plain, text = run("plain", compile=False)
    assert "torch.compile" not in text
    rows, text = run("failed")
    assert "torch.compile: it failed (no C++ compiler was found); the run goes on without" in text
    assert rows == plain


@pytest.mark.slow
def test_gradient_checkpointing_goes_on_without(run):
    rows, text = run("both", gradient_checkpointing=True)
    assert "torch.compile: not together with gradient checkpointing; the run goes on without" in text
    assert rows


@pytest.mark.stress
def test_what_is_no_faster_is_left_out(run, monkeypatch):
    monkeypatch.setattr(compilation, "compile_parts", lambda *_: None)
    use_clock(monkeypatch, 1.01)
    plain, _ = run("plain", compile=False)
    rows, text = run("slower")
    assert "of the time without; the run goes on without" in text
    assert rows == plain


@pytest.mark.stress
def test_what_is_faster_gets_padded_training_images_and_plain_evaluations(run, monkeypatch):
    monkeypatch.setattr(compilation, "compile_parts", lambda *_: None)
    use_clock(monkeypatch, 0.99)
    stances, shapes = [], {"training_step": [], "validation_step": []}
    monkeypatch.setattr("torch.compiler.set_stance", stances.append)
    for name, seen in shapes.items():
        original = getattr(DetectionModule, name)

        def record(self, batch, index, original=original, seen=seen):
            seen.append(tuple(batch.images.shape[2:]))
            return original(self, batch, index)

        monkeypatch.setattr(DetectionModule, name, record)
    _, text = run("faster")
    assert "images are padded to multiples of 32 pixels" in text
    assert shapes["training_step"]
    assert all(side % 32 == 0 for shape in shapes["training_step"] for side in shape)
    assert any(side % 32 for shape in shapes["validation_step"] for side in shape)
    assert stances[:2] == ["force_eager", "default"]
    assert stances[-1] == "default"


@pytest.mark.stress
@pytest.mark.parametrize(
    ("name", "backend"),
    [("lite", "eager"), ("detr", "eager"), pytest.param("lite", "inductor", marks=pytest.mark.stress)],
)
def test_losses_gradients_and_names_are_those_without(name, backend):
    words = [sys.executable, "-m", "tests.helpers.compiled", name, backend]
    ended = subprocess.run(
        words, cwd=PROJECT, env={**os.environ, "PYTHONPATH": str(PROJECT)}, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.split() == ["equal"]
