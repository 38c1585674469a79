"""Documentation: what it names exists, its links resolve, and its site needs no network."""

import importlib
import re
import shlex
import subprocess
import sys
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest

from detr_lite.config.schema import SECTIONS
from tests.helpers.waiting import PATIENCE

PROJECT = Path(__file__).resolve().parents[1]
TESTS = {
    name
    for file in (PROJECT / "tests").rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
}
PAGES = [
    PROJECT / "README.md",
    PROJECT / "CONTRIBUTING.md",
    PROJECT / "datasets/README.md",
    *sorted((PROJECT / "docs").rglob("*.md")),
    *sorted((PROJECT / "examples").rglob("README*.md")),
]
TEXT = {page: page.read_text(encoding="utf-8") for page in PAGES}
TOOL_OF_COMMAND = {"import": "import_checkpoint", "prepare-data": "prepare_data"}


def page_id(page: Path) -> str:
    return page.relative_to(PROJECT).as_posix()


def command_lines(text: str) -> list[list[str]]:
    """The words of each command in a page's shell blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def tool_and_options(words: list[str]) -> tuple[str, list[str]] | None:
    """The tool (with its subcommand, if it has several) that a command line runs, and the options that it gets."""
    for place, word in enumerate(words):
        rest = words[place + 1 :]
        if word == "detr-lite":
            tool, rest = TOOL_OF_COMMAND.get(rest[0], rest[0]), rest[1:]
        elif word == "tools/slurm.sh":
            tool = "train"
        elif found := re.fullmatch(r"tools/(\w+)\.py", word):
            tool = found[1]
        else:
            continue
        if tool in ("benchmark", "prepare_data"):
            tool, rest = f"{tool} {rest[0]}", rest[1:]
        return tool, [option.split("=")[0] for option in rest if option.startswith("--")]
    return None


@cache
def options_of(tool: str) -> frozenset[str]:
    name, *subcommand = tool.split()
    command = [sys.executable, PROJECT / "tools" / f"{name}.py", *subcommand, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert shown.returncode == 0, shown.stderr
    return frozenset(re.findall(r"--[\w.]+", shown.stdout))


def test_every_test_that_the_page_on_reliability_names_exists() -> None:
    named = re.findall(r"`(test_\w+)`", (PROJECT / "docs/reliability.md").read_text())
    assert len(named) > 50
    assert sorted({*named} - TESTS) == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_resolve(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#\s]+)", TEXT[page])
    local = [target for target in targets if not target.startswith(("http://", "https://"))]
    assert [target for target in local if not (page.parent / target).exists()] == []


def test_every_page_is_in_the_index() -> None:
    index = (PROJECT / "docs/README.md").read_text()
    assert [page.name for page in sorted((PROJECT / "docs").glob("*.md")) if page.name not in index] == []


@pytest.mark.stress
def test_commands_and_their_options_exist() -> None:
    commands = [found for text in TEXT.values() for words in command_lines(text) if (found := tool_and_options(words))]
    assert len(commands) > 30
    unknown = {(tool, option) for tool, given in commands for option in {*given} - options_of(tool)}
    assert sorted(unknown) == []


def test_an_option_that_does_not_exist_is_found() -> None:
    ((tool, options),) = filter(
        None, map(tool_and_options, command_lines("```sh\npython tools/train.py --seeed 1\n```\n"))
    )
    assert tool == "train"
    assert options == ["--seeed"]
    assert "--seed" in options_of("train")
    assert "--seeed" not in options_of("train")


def test_settings_exist() -> None:
    settings = {f"{section}.{field.name}" for section, kind in SECTIONS.items() for field in fields(kind)}
    pattern = re.compile(rf"(?<![\w./-])(?:--)?((?:{'|'.join(SECTIONS)})\.[a-z]\w*)(?![\w(/])")
    named = {
        name
        for text in TEXT.values()
        for code in re.findall(r"`([^`\n]+)`", text)
        for name in pattern.findall(code)
        if not name.endswith((".py", ".md", ".yaml", ".json", ".onnx"))
    }
    assert len(named) > 30
    assert sorted(named - settings) == []


def test_files_and_objects_exist() -> None:
    code = [name for text in TEXT.values() for name in re.findall(r"`([^`\s]+)`", text)]
    files = {
        name
        for name in code
        if re.fullmatch(r"(?:detr_lite|benchmarks|examples|tools|tests|configs|docs)/[\w./]+\.\w+", name)
    }
    objects = {name for name in code if re.fullmatch(r"detr_lite(?:\.\w+)+", name)}
    assert len(files) > 80
    assert sorted(name for name in files if not (PROJECT / name).is_file()) == []
    assert sorted(name for name in objects if not resolves(name)) == []


def resolves(name: str) -> bool:
    """Whether a dotted name is a module or an attribute of one."""
    parent, _, last = name.rpartition(".")
    try:
        importlib.import_module(name)
    except ModuleNotFoundError:
        return hasattr(importlib.import_module(parent), last)
    return True


def test_contributing_lists_every_module_once() -> None:
    listed = re.findall(r"^- `([\w/]+\.py)`: \S", TEXT[PROJECT / "CONTRIBUTING.md"], re.MULTILINE)
    modules = [
        path.relative_to(PROJECT).as_posix()
        for folder in ("detr_lite", "benchmarks", "examples")
        for path in (PROJECT / folder).rglob("*.py")
        if path.name != "__init__.py"
    ]
    assert sorted(listed) == sorted(modules)


@pytest.mark.stress
def test_the_site_builds_strictly_and_loads_nothing_from_the_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path]
    built = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, timeout=PATIENCE)
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {path.relative_to(tmp_path).as_posix(): path.read_text() for path in tmp_path.rglob("*.html")}
    assert {"index.html", "using.html", "contributing.html", "api/detector.html"} <= pages.keys()
    assert 'id="detr_lite.detector.Detector.attend"' in pages["api/detector.html"]
    loaded = re.compile(r"""<(?:script|img|link|iframe|source)\b[^>]*?(?:src|href)=["']?((?:https?:)?//[^"'> ]+)""")
    canonical = re.compile(r'<link rel="canonical"[^>]*>')
    assert [(name, found) for name, page in pages.items() for found in loaded.findall(canonical.sub("", page))] == []
