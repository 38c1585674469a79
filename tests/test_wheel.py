"""The wheel: all that is needed is in it, and it works from any folder without the checkout."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from detr_lite.cli.main import COMMANDS
from detr_lite.config import Config, write_config
from tests.helpers.waiting import PATIENCE

pytest.importorskip("setuptools")
pytestmark = pytest.mark.slow
PROJECT = Path(__file__).resolve().parents[1]
PIP = (sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check")


def run(*words: object, **options: object) -> str:
    done = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, timeout=PATIENCE, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def files_in(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves files beside what it builds
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    for name in ("detr_lite", "configs", "benchmarks"):
        shutil.copytree(PROJECT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    old = source / "build" / "lib" / "detr_lite" / "left_behind.py"  # by a build before a module was renamed
    old.parent.mkdir(parents=True)
    old.touch()
    run(*PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", folder, source)
    (wheel,) = folder.glob("*.whl")
    assert not [name for name in zipfile.ZipFile(wheel).namelist() if "left_behind" in name]
    return wheel


@pytest.fixture(scope="module")
def target(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed wheel, to be read only."""
    folder = tmp_path_factory.mktemp("target")
    run(*PIP, "install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


@pytest.fixture
def installed(target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Run a command line in another folder where only the wheel is on the path, and see that it stays as it was."""
    monkeypatch.setenv("PYTHONPATH", str(target))
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("DETR_LITE_DATA", raising=False)
    here = tmp_path / "here"
    here.mkdir()

    def call(*words: object) -> str:
        before = files_in(target)
        out = run(*words, cwd=here)
        assert files_in(target) == before
        return out

    return call


def test_the_wheel_has_all_modules_presets_and_files_of_the_page_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    package = {path.relative_to(PROJECT).as_posix() for path in (PROJECT / "detr_lite").rglob("*") if path.is_file()}
    presets = {f"detr_lite/configs/{path.name}" for path in (PROJECT / "configs").iterdir()}
    assert "detr_lite/viz/explorer/static/index.html" in names
    assert "detr_lite/configs/coco_small.yaml" in names
    assert names == {name for name in package if "__pycache__" not in name} | presets


@pytest.mark.stress
def test_an_import_is_of_the_wheel_and_changes_no_environment_variable(installed: Callable[..., str]) -> None:
    code = (
        "import os; before = dict(os.environ); import detr_lite; is_unchanged = dict(os.environ) == before; "
        "from detr_lite import Detector; print(detr_lite.__file__, Detector.__name__, is_unchanged)"
    )
    place, name, is_unchanged = installed(sys.executable, "-c", code).split()
    assert place == str(Path(os.environ["PYTHONPATH"]) / "detr_lite" / "__init__.py")
    assert (name, is_unchanged) == ("Detector", "True")


def test_the_console_command_lists_the_commands_and_the_presets(installed: Callable[..., str], target: Path) -> None:
    program = (sys.executable, target / "bin" / "detr-lite")
    text = installed(*program, "--help")
    for name in COMMANDS:
        assert f"\n  {name} " in text
    assert "coco_small.yaml" in installed(*program, "train", "--help")


@pytest.mark.stress
def test_training_evaluation_and_prediction_in_another_folder(
    installed: Callable[..., str], tiny_config: Config, tiny_data: Path, tmp_path: Path
) -> None:
    """On the default dataset, which lies in the current folder's `datasets`."""
    here, default = tmp_path / "here", Config().data.root
    shutil.copytree(tiny_data, here / default)
    write_config(tiny_config, here / "tiny.yaml")
    program = (sys.executable, "-m", "detr_lite")
    out = installed(
        *program, "train", "--config", "tiny.yaml", "--data.root", default, "--trainer.max_epochs", 1,
        "--trainer.num_evaluations", 1,
    )  # fmt: skip
    assert "datasets/coco_small" in (here / "runs/tiny/config.yaml").read_text()
    assert "step 2" in out
    checkpoint = "runs/tiny/checkpoints/best.ckpt"

    out = installed(*program, "evaluate", "--checkpoint", checkpoint, "--output", "measured", "--num_workers", 0)
    assert "AP50" in out
    assert len(json.loads((here / "measured/metrics.json").read_text())) == 12

    image = f"{default}/val/000.png"
    installed(*program, "predict", "--checkpoint", checkpoint, "--source", image, "--output", "found")
    assert [entry["file_name"] for entry in json.loads((here / "found/detections.json").read_text())["images"]] == [
        "000.png"
    ]
    assert sorted(path.name for path in here.iterdir()) == ["datasets", "found", "measured", "runs", "tiny.yaml"]
