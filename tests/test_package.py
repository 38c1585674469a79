"""The package as a whole: its layers, and what an import costs and changes."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.helpers.waiting import PATIENCE

PROJECT = Path(__file__).resolve().parents[1]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE, check=False)


def test_imports_only_go_down() -> None:
    done = run(str(Path(sys.executable).with_name("lint-imports")), "--no-cache")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_a_layer() -> None:
    settings = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    layers = settings["tool"]["importlinter"]["contracts"][0]["layers"]
    named = {name.strip() for layer in layers for name in layer.split("|")} - {"benchmarks", "examples"}
    modules = {
        f"detr_lite.{path.stem}"
        for path in (PROJECT / "detr_lite").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    assert modules - {"detr_lite.__init__"} == named


@pytest.mark.parametrize("module", ["detr_lite", "detr_lite.config", "detr_lite.cli.main"])
def test_imports_no_torch(module: str) -> None:
    """Mistakes on a command line are reported before anything slow is imported."""
    code = f"import sys, {module}; print([name for name in ('torch', 'timm', 'lightning') if name in sys.modules])"
    assert run(sys.executable, "-c", code).stdout == "[]\n"


@pytest.mark.stress
@pytest.mark.parametrize("module", ["detr_lite.detector", "detr_lite.training.run"])
def test_imports_change_no_environment_variable(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for those that torch and Lightning set."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    code = f"import os, torch, lightning; before = dict(os.environ); import {module}; print(dict(os.environ) == before)"
    assert run(sys.executable, "-c", code).stdout == "True\n"


@pytest.mark.parametrize(("running", "spins"), [(1, "None"), (50, "1000")])
def test_commands_limit_the_spinning_of_threads_where_cores_are_shared(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, running: int, spins: str
) -> None:
    load = tmp_path / "loadavg"
    load.write_text(f"0.1 0.2 0.3 {running}/80 123\n")
    code = (
        "import os, pathlib; from detr_lite import cores; from detr_lite.cli.command import run_command\n"
        f"cores.LOAD = pathlib.Path({str(load)!r})\n"
        "run_command(lambda: print(os.environ.get('GOMP_SPINCOUNT')))"
    )
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    assert run(sys.executable, "-c", code).stdout == f"{spins}\n"
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    assert run(sys.executable, "-c", code).stdout == "7\n"
