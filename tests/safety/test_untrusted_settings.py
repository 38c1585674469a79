"""Settings files from others: none runs code, and none ends in a traceback."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

TAGS = [
    "!!python/object/apply:os.mkdir ['MADE']",
    "!!python/object/new:os.mkdir ['MADE']",
    "!!python/object/apply:os.makedirs {kwds: {name: MADE}}",
]


@pytest.mark.parametrize("tag", TAGS)
def test_the_tags_work_where_they_are_allowed(tag: str, made: Path) -> None:
    yaml.unsafe_load(tag.replace("MADE", str(made)))
    assert made.exists()


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize(
    "layout",
    [
        "TAG",
        "data:\n  root: TAG\n",
        "model:\n  strides: [TAG]\n",
        "seed: &x TAG\n",
        "? TAG\n: 1\n",
        "data: {<<: TAG}\n",
    ],
)
def test_tags_in_settings_run_nothing(
    refusal: Callable[..., str], tmp_path: Path, made: Path, tag: str, layout: str
) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(layout.replace("TAG", tag.replace("MADE", str(made))))
    assert refusal("train", "--config", path).startswith(str(path))
    assert not made.exists()


@pytest.mark.stress
@pytest.mark.parametrize(
    "value", [*TAGS, "{class_path: os.mkdir, init_args: {path: MADE}}", "{'_instantiator': 'os.mkdir'}"]
)
@pytest.mark.parametrize("name", ["model.init_from", "model.strides", "data.num_workers", "trainer.devices", "seed"])
def test_settings_that_are_text_are_not_read_as_code(
    refusal: Callable[..., str], tiny_file: Path, tmp_path: Path, made: Path, name: str, value: str
) -> None:
    """In a file, in quotes, and on the command line: both are parsed as a value."""
    value = value.replace("MADE", str(made))
    path = tmp_path / "settings.yaml"
    path.write_text(f"{tiny_file.read_text()}\n{name}: {json.dumps(value)}\n".replace("seed: 0\n", ""))
    refusal("train", "--config", path, "--run_dir", tmp_path / "run")
    refusal("train", "--config", tiny_file, f"--{name}={value}", "--run_dir", tmp_path / "run")
    assert not made.exists()


@pytest.mark.parametrize("text", ["[" * 20_000, "a: 2001-99-99", "a: !!int x", "a: !!bool x", "a: " + 5000 * "9"])
@pytest.mark.slow
def test_settings_that_yaml_cannot_parse_are_one_line(refusal: Callable[..., str], tmp_path: Path, text: str) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    assert refusal("train", "--config", path).startswith(f"{path}: not plain YAML: ")
