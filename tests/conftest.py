"""What many tests start from: a data set of a few drawn images, settings for a model of a moment, and the tools."""

import gc
import json
import os
import runpy
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Before anything of detr_lite: under its checks of shapes an import has another cache of compiled code, also for what
# it imports in turn, and where no such cache is kept all of Lightning and torch would be compiled for each process.
import lightning  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import pytest
import scipy.optimize  # noqa: F401
import timm  # noqa: F401
import torchvision  # noqa: F401
import transformers  # noqa: F401
from filelock import FileLock
from PIL import Image, ImageDraw

from detr_lite.cli.command import configure_logging
from detr_lite.config import Config, DataConfig, ModelConfig, OptimConfig, TrainerConfig, write_config

pytest.register_assert_rewrite("tests.helpers")
from tests.helpers import seeds  # noqa: E402 (after the line above, which must know of it first)

_CACHE = tempfile.TemporaryDirectory(prefix="detr_lite_cache_")  # removed when the process ends
os.environ["DETR_LITE_CACHE"] = _CACHE.name
configure_logging()  # as every command does, so that tests see on stdout what users see

PROJECT = Path(__file__).resolve().parents[1]
CATEGORIES = {7: ("red thing", (220, 40, 40)), 3: ("blue thing", (40, 60, 230)), 90: ("green thing", (30, 190, 60))}
SIZES = ((64, 48), (48, 64), (64, 64), (90, 60), (40, 56))
"""(width, height) of images, in turn; one is larger than the image_size of `tiny_config`."""


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[object]:
    """What is imported and collected stays until the end; to search it for garbage takes seconds of each process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    seeds.seed_by(item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
    if fixturedef.scope == "function":
        return (yield)
    with seeds.apart(f"{fixturedef.baseid}::{fixturedef.argname}"):
        return (yield)


def _write_split(root: Path, split: str, images: int, first_id: int) -> None:
    """One or two rectangles in each image; the second image has no object, the third also a crowd region."""
    (root / split).mkdir(parents=True)
    (root / "annotations").mkdir(exist_ok=True)
    content: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": id, "name": name} for id, (name, _) in CATEGORIES.items()],
    }
    ids = list(CATEGORIES)
    for index in range(images):
        width, height = SIZES[index % len(SIZES)]
        image = Image.new("RGB", (width, height), (190, 190, 190))
        draw = ImageDraw.Draw(image)
        for number in range(0 if index == 1 else 1 + index % 2):
            category = ids[(index + number) % len(ids)]
            x, y, w, h = (4, 4, width // 3, height // 3) if number == 0 else (width // 2, height // 2, 18, 15)
            draw.rectangle((x, y, x + w - 1, y + h - 1), fill=CATEGORIES[category][1])
            content["annotations"].append(
                {"id": 0, "image_id": first_id + index, "category_id": category, "bbox": [x, y, w, h], "iscrowd": 0}
            )
        if index == 2:
            crowd = {"id": 0, "image_id": first_id + index, "category_id": 3, "bbox": [30, 2, 20, 12], "iscrowd": 1}
            content["annotations"].append(crowd)
        name = f"{index:03}.png"
        image.save(root / split / name)
        content["images"].append({"id": first_id + index, "file_name": name, "width": width, "height": height})
    for number, annotation in enumerate(content["annotations"], start=1):
        annotation["id"] = number
        annotation["area"] = annotation["bbox"][2] * annotation["bbox"][3]
    (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """What several test processes share; the first one that needs it makes it, and the others wait."""
    base = factory.getbasetemp()
    path = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    made = path.with_name(f"{path.name}.made")
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f"{path.name}.lock")):
        if not made.exists():
            make(path)
            made.touch()
    return path


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A COCO data set of 8 + 5 drawn images, to be read only."""

    def make(root: Path) -> None:
        _write_split(root, "train", images=8, first_id=100)
        _write_split(root, "val", images=5, first_id=10)

    return _made_once(tmp_path_factory, "data/tiny", make)


@pytest.fixture
def own_data(tiny_data: Path, tmp_path: Path) -> Path:
    """A copy of the data set that a test may spoil."""
    return shutil.copytree(tiny_data, tmp_path / "own_data")


@pytest.fixture
def edit_annotations(own_data: Path) -> Callable[[str, Callable[[dict[str, Any]], object]], Path]:
    """Change one annotation file of `own_data` in place."""

    def edit(split: str, change: Callable[[dict[str, Any]], object]) -> Path:
        file = own_data / "annotations" / f"instances_{split}.json"
        content = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
        return own_data

    return edit


@pytest.fixture(scope="session")
def tiny_config(tiny_data: Path) -> Config:
    """Two epochs of two steps on `tiny_data`, on the processor in 32 bits."""
    return Config(
        data=DataConfig(
            root=str(tiny_data), batch_size=4, image_size=64, resize="longest", augmentation="none", num_workers=0
        ),
        model=ModelConfig(
            backbone="resnet10t",
            pretrained=False,
            dim=32,
            heads=2,
            encoder_layers=1,
            decoder_layers=2,
            feedforward_dim=32,
            num_queries=6,
            denoising_queries=4,
        ),
        optim=OptimConfig(lr=1.5e-3, warmup_steps=2),
        trainer=TrainerConfig(
            max_epochs=2,
            num_evaluations=2,
            attention_every_n_epochs=None,
            accelerator="cpu",
            devices=1,
            precision="32-true",
        ),
    )


@pytest.fixture(scope="session")
def tiny_file(tiny_config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The settings of `tiny_config` as the file tiny.yaml."""
    return _made_once(tmp_path_factory, "settings/tiny.yaml", lambda path: write_config(tiny_config, path))


@dataclass(frozen=True)
class Ended:
    """How a tool ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_tool(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run a tool in this process just as `python tools/NAME.py WORDS` does."""

    def run(name: str, *words: object) -> Ended:
        path = str(PROJECT / "tools" / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, words)])
        capfd.readouterr()
        code: Any = 0
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as ending:
            code = ending.code
        return Ended(code, *capfd.readouterr())

    return run


@pytest.fixture
def refusal(run_tool: Callable[..., Ended]) -> Callable[..., str]:
    """Run a tool on something that is wrong; gives its one line on stderr, having seen that it is one, and code 2."""

    def run(name: str, *words: object) -> str:
        ended = run_tool(name, *words)
        assert ended.code == 2, ended
        lines = ended.err.splitlines()
        assert len(lines) == 1, ended.err
        assert lines[0].startswith("error: ")
        assert "Traceback" not in ended.out
        return lines[0].removeprefix("error: ")

    return run


@pytest.fixture(scope="session")
def finished_run(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a complete run that learned something, to be read only."""
    from detr_lite.config import read_config
    from detr_lite.training.run import train

    longer = ["--trainer.max_epochs", "60", "--optim.lr", "4e-3", "--trainer.num_evaluations", "3"]

    def make(folder: Path) -> None:
        train(read_config(["--config", str(tiny_file), "--run_dir", str(folder), *longer]))

    return _made_once(tmp_path_factory, "runs/finished", make)
