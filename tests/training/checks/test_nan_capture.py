"""A captured batch is replayed: the same numbers, the module in which they arise, and the images."""

import math
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from detr_lite.config import Config, read_config
from detr_lite.structures import DetrLiteError, DetrOutput
from detr_lite.tensor_files import read_torch
from detr_lite.training.checks import nan_capture
from detr_lite.training.checks.nan_capture import FOLDER, NaNCapture, record_activations, replay
from detr_lite.weights.checkpoint import KEY
from tests.helpers.guarded_run import Run, answers_at, guarded_run, ids_of, spoil, with_nan

pytestmark = pytest.mark.slow

NOT_FINITE = {"inf", "-inf", "nan"}


@pytest.fixture
def make_run(tiny_config: Config, tmp_path: Path) -> Callable[..., Run]:
    def make(**options: Any) -> Run:
        return guarded_run(tiny_config, tmp_path, **options)

    return make


KINDS = ("step", "batch", "image", "loss", "activations", "weights not finite", "gradients", "images drawn in")


def replayed(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[str]]:
    """The lines that a replay prints, by what they begin with; the table of losses is under "loss"."""
    capsys.readouterr()
    replay(path)
    lines: dict[str, list[str]] = {}
    for line in capsys.readouterr().out.splitlines():
        kind = next((kind for kind in KINDS if line.startswith(f"{kind} ") or line.startswith(f"{kind}:")), "other")
        is_row = len(line.split()) == 4 and line.split()[1].isdecimal() and line.split()[0].isidentifier()
        lines.setdefault("loss" if is_row else kind, []).append(line)
    return lines


def values(table: list[str]) -> dict[str, list[tuple[str, str]]]:
    """(training, replay) of each layer of each loss."""
    parts: dict[str, list[tuple[str, str]]] = {}
    assert table[0].split() == ["loss", "layer", "training", "replay"]
    for line in table[1:]:
        name, layer, before, now = line.split()
        assert int(layer) == len(parts.setdefault(name, []))
        parts[name].append((before, now))
    return parts


def break_bias(run: Run) -> None:
    with torch.no_grad():
        for label in run.module.model.heads.label:
            label.bias[1] = math.inf


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_replay_gives_the_same_numbers(make_run, tmp_path, capsys, precision: str) -> None:
    """The seed is that of the step, so denoising queries and dropout are the same."""
    run = make_run(precision=precision)
    break_bias(run)
    ids = ids_of(run, 0, 0)
    run.stops()
    lines = replayed(tmp_path / FOLDER / "step-1.pt", capsys)
    assert lines["step"] == [f"step 1, trained in {precision} on cpu, replayed on cpu"]
    assert lines["batch"] == ["batch 0 of epoch 0, 2 images"]
    assert [line.split(":")[0] for line in lines["image"]] == [f"image {id}" for id in ids]
    parts = values(lines["loss"])
    assert {now for _, now in parts["class"]} <= NOT_FINITE
    assert all(math.isfinite(float(now)) for name in ("l1", "token_class", "token_l1") for _, now in parts[name])
    assert all(then == now for layers in parts.values() for then, now in layers)
    assert len(parts) == 11
    assert lines["activations"][0].startswith(
        "activations: heads.label.0: 20 of 60 numbers are not finite; the largest before it is "
    )
    assert lines["weights not finite"] == ["weights not finite before the step: heads.label.0.bias, heads.label.1.bias"]
    assert lines["gradients"] == ["gradients not computed: those of a loss that is not finite are not finite either"]
    assert "other" not in lines


def test_exactly_the_same(make_run, tmp_path, monkeypatch) -> None:
    """Not only the digits that are printed."""
    seen = {}
    monkeypatch.setattr(nan_capture, "_print_losses", lambda losses, trained: seen.update(now=losses.parts))
    run = make_run()
    break_bias(run)
    run.stops()
    replay(tmp_path / FOLDER / "step-1.pt")
    (kept,) = NaNCapture.read(tmp_path / FOLDER / "step-1.pt").batches
    then = {name: torch.tensor(layers) for name, layers in kept.parts.items()}
    torch.testing.assert_close(seen["now"], then, rtol=0, atol=0, equal_nan=True)


def test_a_step_later_in_the_run_too(make_run, tmp_path, capsys, monkeypatch) -> None:
    run = make_run(is_late=True)
    ids = ids_of(run, 0, 2)
    spoil(monkeypatch, ids[1])
    run.stops()
    lines = replayed(tmp_path / FOLDER / "step-3.pt", capsys)
    of_image = dict(line.split(": ") for line in lines["image"])
    assert "pixels not finite" in of_image[f"image {ids[1]}"]
    assert "pixels not finite" not in of_image[f"image {ids[0]}"]
    assert "weights not finite" not in lines
    summary = r"activations: backbone\.\S+: \d+ of \d+ numbers are not finite, in the first of all modules"
    assert re.fullmatch(summary, lines["activations"][0])


def test_sizes_are_those_of_the_models_input(make_run, tmp_path, capsys, tiny_data) -> None:
    run = make_run()
    break_bias(run)
    run.stops()
    lines = replayed(tmp_path / FOLDER / "step-1.pt", capsys)
    batch = run.data.training_batch(0, 0, 0, 1)
    for place, line in enumerate(lines["image"]):
        target = batch.targets[place]
        is_image = ~batch.is_padding[place]
        assert f": {int(is_image[0].sum())} x {int(is_image[:, 0].sum())} pixels, " in line
        count = len(target.labels)
        assert (
            "no objects" if not count else "1 object of" if count == 1 else f"{count} objects, the smallest of"
        ) in line


def test_the_images_are_drawn(make_run, tmp_path, capsys) -> None:
    run = make_run()
    break_bias(run)
    run.stops()
    lines = replayed(tmp_path / FOLDER / "step-1.pt", capsys)
    file = tmp_path / FOLDER / "step-1.png"
    assert lines["images drawn in"] == [f"images drawn in {file}"]
    with Image.open(file) as picture:
        assert picture.width > 4 * 200
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 20


def test_a_replay_says_when_everything_is_finite(make_run, tmp_path, capsys) -> None:
    run = make_run()
    answers_at(run.module, 2, with_nan)
    run.stops()
    lines = replayed(tmp_path / FOLDER / "step-2.pt", capsys)
    assert lines["other"] == [
        "everything is finite in this replay: the fault may depend on the device or on its random numbers"
    ]
    assert lines["activations"][0].startswith("activations: all are finite; the largest is ")
    parts = values(lines["loss"])
    assert {then for then, _ in parts["class"]} == {"nan"}
    assert all(math.isfinite(float(now)) for layers in parts.values() for _, now in layers)
    groups = [line.removeprefix("gradients of ").split(":")[0] for line in lines["gradients"]]
    assert groups == ["backbone", "backbone (no decay)", "transformer", "transformer (no decay)"]
    assert not any("not finite" in line for line in lines["gradients"])


def test_gradients_alone_are_listed_by_group(make_run, tmp_path, capsys, monkeypatch) -> None:
    """With several batches in a step, all are replayed, each with its picture."""

    def explode(output: DetrOutput) -> DetrOutput:
        output.logits.register_hook(lambda gradient: gradient * math.inf)
        return output

    run = make_run(accumulate=2)
    answers_at(run.module, 1, explode)
    run.stops()
    lines = replayed(tmp_path / FOLDER / "step-1.pt", capsys)
    assert len(lines["batch"]) == len(lines["images drawn in"]) == 2
    assert len(lines["gradients"]) == 8
    assert sorted(path.name for path in (tmp_path / FOLDER).glob("*.png")) == ["step-1-1.png", "step-1-2.png"]

    class Fails(nn.Module):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def forward(self, batch: Any) -> DetrOutput:
            return explode(self.model(batch))

    load = nan_capture.load_model
    monkeypatch.setattr(nan_capture, "load_model", lambda path: (Fails(load(path)[0]), load(path)[1]))
    lines = replayed(tmp_path / FOLDER / "step-1.pt", capsys)
    assert any(re.search(r"norm (nan|inf), not finite in \d+ of \d+: model\.", line) for line in lines["gradients"])
    assert "other" not in lines


def test_half_precision_is_replayed_in_it(make_run, tmp_path, capsys) -> None:
    """A network that overflows in 16 bits alone."""
    run = make_run()
    answers_at(run.module, 1, with_nan)
    run.stops()
    file = tmp_path / FOLDER / "step-1.pt"
    content = read_torch(file)
    content[FOLDER].update(precision="16-mixed", device="cuda", world_size=2)
    content["state_dict"]["model.decoder.layers.0.feedforward.0.bias"].fill_(4e4)
    content["state_dict"]["model.decoder.layers.0.feedforward.3.weight"].fill_(1.0)
    torch.save(content, file)
    lines = replayed(file, capsys)
    assert lines["step"] == ["step 1 of rank 0 of 2, trained in 16-mixed on cuda, replayed on cpu"]
    assert len(lines["other"]) == 2
    first, before = lines["activations"][0].split("; ")
    assert first.startswith("activations: decoder.layers.0.feedforward.3: ")
    assert re.fullmatch(r"the largest before it is [45]\.?\d*e\+04, in decoder.layers.0.feedforward.\d", before)


def test_the_first_module_is_the_innermost() -> None:
    class Doubles(nn.Module):
        def forward(self, values: torch.Tensor) -> dict[str, tuple[torch.Tensor, ...]]:
            return {"values": (2 * values,)}

    class Takes(nn.Module):
        def forward(self, values: dict[str, tuple[torch.Tensor, ...]]) -> torch.Tensor:
            return (-values["values"][0]).sqrt()

    model = nn.Sequential(nn.Sequential(nn.Identity(), Doubles()), Takes())
    with record_activations(model) as activations:
        model(torch.tensor([1.0, 8.0]))
    assert activations.summary() == "1: 2 of 2 numbers are not finite; the largest before it is 16, in 0.1"
    with record_activations(model) as activations:
        model(torch.tensor([1.0, math.inf]))
    assert activations.summary() == "0.0: 1 of 2 numbers are not finite, in the first of all modules"
    assert not model[0]._forward_hooks


def test_what_is_no_such_file_is_refused(make_run, tmp_path, refusal) -> None:
    missing = refusal("train", "--replay", tmp_path / "step-1.pt")
    assert missing == f"{tmp_path / 'step-1.pt'}: no such checkpoint"
    (tmp_path / "text.pt").write_text("text")
    assert "not a checkpoint" in refusal("train", "--replay", tmp_path / "text.pt")
    run = make_run()
    break_bias(run)
    run.stops()
    content = read_torch(tmp_path / FOLDER / "step-1.pt")
    torch.save({name: content[name] for name in (KEY, "state_dict")}, tmp_path / "best.ckpt")
    line = refusal("train", "--replay", tmp_path / "best.ckpt")
    assert line.endswith("best.ckpt is a checkpoint, not a captured batch of a run; those are in RUN/nonfinite")
    del content[FOLDER]["batches"][0]["seed"]
    torch.save(content, tmp_path / "damaged.pt")
    line = refusal("train", "--replay", tmp_path / "damaged.pt")
    assert re.search(r"damaged.pt: the step in it is not complete \(.*'seed'\)$", line)


def test_the_tool_needs_no_settings_and_takes_none(make_run, tmp_path, run_tool) -> None:
    run = make_run()
    break_bias(run)
    run.stops()
    ended = run_tool("train", "--replay", tmp_path / FOLDER / "step-1.pt")
    assert ended.code == 0, ended.err
    assert "heads.label.0" in ended.out
    assert read_config([f"--replay={tmp_path}/x.pt"]).replay == tmp_path / "x.pt"
    with pytest.raises(
        DetrLiteError, match=r"^--replay takes all settings from its file; leave out --config, --resume$"
    ):
        read_config(["--replay", "x.pt", "--resume", "--config=coco_small.yaml"])


def test_settings_of_another_model_are_rebuilt(tiny_config, tmp_path, capsys) -> None:
    config = replace(tiny_config, model=replace(tiny_config.model, name="detr", decoder_layers=2))
    run = guarded_run(config, tmp_path)
    with torch.no_grad():
        run.module.model.heads.label.bias[1] = math.nan
    run.stops()
    parts = values(replayed(tmp_path / FOLDER / "step-1.pt", capsys)["loss"])
    assert parts.keys() == {"ce", "l1", "giou"}
    assert all(then == now and len(layers) == 2 for layers in parts.values() for then, now in layers)
