"""What the commands say about data that can be read but not, or hardly, learned from; each in a moment."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detr_lite.config import Config, read_config, write_config
from detr_lite.data.dataset import DetectionDataset
from detr_lite.structures import DetrLiteError
from detr_lite.training.run import train
from tests.data.cases.test_case_wholes import (
    NOTHING,
    boxes_between_0_and_1,
    everything_is_a_crowd,
    nothing_is_annotated,
)
from tests.helpers.case_data import CaseData
from tests.helpers.run_files import rows_of
from tests.helpers.waiting import PATIENCE

pytestmark = pytest.mark.slow

Tool = Callable[..., Any]

BRIEF = {"max_epochs": 1, "num_evaluations": 1}
"""Trainer settings."""


@pytest.fixture
def settings(tiny_config: Config, tmp_path: Path) -> Callable[..., Path]:
    """A settings file for a model of a moment on a dataset, with some settings changed."""

    def write(root: Path, **sections: dict[str, Any]) -> Path:
        config = replace(tiny_config, data=replace(tiny_config.data, root=str(root)))
        for section, changes in sections.items():
            config = replace(config, **{section: replace(getattr(config, section), **changes)})
        write_config(config, tmp_path / "settings.yaml")
        return tmp_path / "settings.yaml"

    return write


@pytest.fixture(scope="module")
def trained(tiny_file: Path, sound_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run of one epoch on the sound dataset."""
    folder = tmp_path_factory.mktemp("runs") / "sound"
    words = ["--config", str(tiny_file), "--data.root", str(sound_data), "--run_dir", str(folder)]
    train(read_config([*words, "--trainer.max_epochs", "1", "--trainer.num_evaluations", "1"]))
    return folder / "checkpoints" / "best.ckpt"


@pytest.mark.parametrize("words", [[], ["--overfit_check"]], ids=["train", "overfit check"])
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (nothing_is_annotated, NOTHING),
        (everything_is_a_crowd, NOTHING),
        (boxes_between_0_and_1, "between 0 and 1"),
    ],
)
def test_what_cannot_be_learned_is_refused_before_the_first_step(
    refusal: Callable[..., str],
    spoil: Callable[..., Path],
    settings: Callable[..., Path],
    larger_data: Path,
    tmp_path: Path,
    fault: Callable[[CaseData], None],
    reason: str,
    words: list[str],
) -> None:
    root = spoil(fault, larger_data)
    message = refusal("train", "--config", settings(root), "--run_dir", tmp_path / "run", *words)
    assert reason in message
    assert not (tmp_path / "run").exists()


@pytest.mark.stress
def test_without_objects_in_validation_best_is_last_and_nothing_stops_early(
    run_tool: Tool, spoil: Callable[..., Path], settings: Callable[..., Path], tmp_path: Path
) -> None:
    root = spoil(lambda data: data.val.update(annotations=[]))
    file = settings(root, trainer={"max_epochs": 3, "num_evaluations": 3, "patience": 1})
    ended = run_tool("train", "--config", file, "--run_dir", tmp_path / "run")
    assert ended.code == 0, ended
    before, _, _ = ended.out.partition("step 2:")
    (said,) = [line for line in before.splitlines() if "has no objects, so there is no AP" in line]
    assert "best.ckpt will be the checkpoint of the last evaluation" in said
    steps = {
        name: torch.load(tmp_path / "run" / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"]
        for name in ("best", "last")
    }
    assert steps == {"best": 6, "last": 6}
    assert "stopped early" not in ended.out


@pytest.mark.stress
def test_too_few_queries_are_said(
    run_tool: Tool, sound_data: Path, settings: Callable[..., Path], tmp_path: Path
) -> None:
    file = settings(sound_data, model={"num_queries": 1}, trainer=BRIEF)
    ended = run_tool("train", "--config", file, "--run_dir", tmp_path / "run")
    assert ended.code == 0, ended
    assert "an image holds 2 objects but there are 1 queries: not all can be found" in ended.out


@pytest.mark.stress
def test_half_precision_on_a_processor_trains_to_finite_losses(
    run_tool: Tool, sound_data: Path, settings: Callable[..., Path], tmp_path: Path
) -> None:
    file = settings(sound_data, trainer={"precision": "16-mixed", **BRIEF})
    ended = run_tool("train", "--config", file, "--run_dir", tmp_path / "run")
    assert ended.code == 0, ended
    assert all(np.isfinite(float(row["loss"])) for row in rows_of(tmp_path / "run") if row["loss"])


@pytest.mark.parametrize("has_objects", [False, True])
def test_a_class_that_the_model_does_not_know(
    run_tool: Tool, spoil: Callable[..., Path], trained: Path, tmp_path: Path, has_objects: bool
) -> None:
    """Listed without objects it costs nothing; with objects the numbers would be of another task."""

    def a_newer_release(data: CaseData) -> None:
        (data.root / "val").rename(data.root / "test")
        data.names["val"] = "annotations/instances_test.json"
        data.val["categories"] = [*data.val["categories"], {"id": 7, "name": "ring"}]
        for annotation in data.val["annotations"][:2]:
            annotation["category_id"] = 7 if has_objects else annotation["category_id"]

    words = ("--checkpoint", trained, "--split", "test", "--output", tmp_path / "out", "--num_workers", 0)
    ended = run_tool("evaluate", *words, "--data.root", spoil(a_newer_release))
    if has_objects:
        assert ended.code == 2
        assert "ring" in ended.err
    else:
        assert ended.code == 0, ended
        assert "AP" in json.loads((tmp_path / "out" / "metrics.json").read_text())


def test_predict_on_a_folder_of_odd_files(run_tool: Tool, trained: Path, sound_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    folder.mkdir()
    with Image.open(sound_data / "val" / "val_000.jpg") as image:
        image.save(folder / "CAPITAL.JPG", "JPEG")
        exif = Image.Exif()
        exif[274] = 6
        image.save(folder / "turned.jpg", exif=exif)
        Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
        image.convert("P").save(folder / "palette.gif")
    Image.new("RGB", (1, 1)).save(folder / "pixel.png")
    Image.new("RGB", (2000, 20)).save(folder / "strip.png")
    whole = (folder / "CAPITAL.JPG").read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no image")
    (folder / "video.mp4").write_bytes(b"no image")
    ended = run_tool("predict", "--checkpoint", trained, "--source", folder, "--output", tmp_path / "out")
    assert ended.code == 2, "not all could be read"
    for name in ("truncated.jpg", "zero.png"):
        assert name in ended.out + ended.err
    written = {path.stem for path in (tmp_path / "out").rglob("*") if path.suffix in (".png", ".jpg", ".JPG")}
    assert written == {"CAPITAL", "turned", "deep", "palette", "pixel", "strip"}


@pytest.mark.stress
def test_a_run_goes_on_after_an_image_was_replaced(
    run_tool: Tool,
    spoil: Callable[..., Path],
    settings: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The file becomes unreadable after all files were checked, as on a failing disk."""
    root, folder = spoil(lambda data: None), tmp_path / "run"
    words = ("--config", settings(root, trainer={"max_epochs": 2}), "--run_dir", folder)
    load, loads = DetectionDataset._load, []

    def load_or_fail(self: DetectionDataset, index: int, transform: Any) -> Any:
        loads.append(index)
        if len(loads) > 14:
            raise DetrLiteError(f"{self.images[index].path}: not readable as an image; replace the file")
        return load(self, index, transform)

    monkeypatch.setattr(DetectionDataset, "_load", load_or_fail)
    ended = run_tool("train", *words)
    assert ended.code == 2
    assert ".jpg: not readable as an image" in ended.err
    assert len(ended.err.splitlines()) == 1
    monkeypatch.setattr(DetectionDataset, "_load", load)
    with Image.open(root / "train" / "train_002.jpg") as image:
        repaired = image.copy()
    (root / "train" / "train_002.jpg").unlink()
    repaired.save(root / "train" / "train_002.jpg", quality=90)
    ended = run_tool("train", *words, "--resume")
    assert ended.code == 0, ended
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4


@pytest.mark.stress
def test_two_processes_share_one_image(
    spoil: Callable[..., Path], settings: Callable[..., Path], tmp_path: Path
) -> None:
    """In a process of their own: the process group of a run cannot be taken back."""

    def one_image(data: CaseData) -> None:
        for content in data.both:
            content["images"], content["annotations"] = content["images"][:1], content["annotations"][:2]

    file = settings(spoil(one_image), trainer={"devices": 2, **BRIEF}, data={"batch_size": 1})
    train = Path(__file__).parents[3] / "tools" / "train.py"
    words = map(str, (sys.executable, train, "--config", file, "--run_dir", tmp_path / "run"))
    ended = subprocess.run(list(words), capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 0, ended
    assert json.loads((tmp_path / "run" / "evaluation" / "metrics.json").read_text())
