"""Settings files: names with their lines, and nothing but data."""

from pathlib import Path

import pytest

from detr_lite.config.parsing import Setting, read_settings_file
from detr_lite.structures import DetrLiteError


def read(tmp_path: Path, text: str) -> dict[str, Setting]:
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    return read_settings_file(path)


def refused(tmp_path: Path, text: str) -> str:
    with pytest.raises(DetrLiteError) as caught:
        read(tmp_path, text)
    message = str(caught.value)
    assert message.startswith(str(tmp_path / "settings.yaml"))
    assert "\n" not in message
    return message


def test_names_values_and_lines(tmp_path: Path) -> None:
    text = "# first\ndata:\n  root: some folder\n  num_workers:\nseed: 3\nmodel: {name: 'detr'}\n"
    assert read(tmp_path, text) == {
        "data.root": Setting("some folder", 3),
        "data.num_workers": Setting("null", 4),
        "seed": Setting("3", 5),
        "model.name": Setting("detr", 6),
    }


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_no_settings(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text) == {}


@pytest.mark.parametrize("nothing", ["", "null", "~"])
def test_nothing_is_written_in_one_way(tmp_path: Path, nothing: str) -> None:
    assert read(tmp_path, f"data:\n  num_workers: {nothing}\n")["data.num_workers"].text == "null"


@pytest.mark.parametrize("written", ["[8, 16]", "\n    - 8\n    - 16"])
def test_a_list_is_written_in_one_way(tmp_path: Path, written: str) -> None:
    assert read(tmp_path, f"model:\n  strides: {written}\n")["model.strides"].text == "[8, 16]"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("data:\n  root: [a\n", "line 3: not plain YAML"),
        ("a: 1\n\tb: 2\n", "line 2: not plain YAML"),
        ("a: 1\na: 2\n", "line 2: a is given twice, first on line 1"),
        ("data:\n  root: x\ndata.root: y\n", "line 3: data.root is given twice, first on line 2"),
        ("just words\n", "line 1: expected settings such as"),
        ("- a\n- b\n", "line 1: expected settings such as"),
        ("data:\n  root: [a, [b]]\n", "line 2: expected a plain list such as"),
        ("a: {b: {c: 1}}\n", "line 1: expected settings such as"),
        ("a: 1\n---\nb: 2\n", "line 2: not plain YAML"),
        ("data: &x\n  root: *x\n", "line 1: expected settings such as"),
        ("a: *nowhere\n", "line 1: not plain YAML"),
        ("a: \0\n", "not plain YAML"),
    ],
)
def test_an_invalid_settings_file_is_refused_with_its_line(tmp_path: Path, text: str, part: str) -> None:
    assert part in refused(tmp_path, text)


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(DetrLiteError, match="not a readable text file"):
        read_settings_file(path)


@pytest.mark.parametrize(
    "tag",
    [
        '!!python/object/apply:os.system ["touch {file}"]',
        "!!python/object/apply:pathlib.Path.touch [!!python/object/apply:pathlib.PosixPath ['{file}']]",
        '!!python/object/new:subprocess.Popen [["touch", "{file}"]]',
        "!!python/name:os.system",
        "!mine x",
    ],
)
def test_a_tag_that_asks_for_code_is_refused_and_nothing_runs(tmp_path: Path, tag: str) -> None:
    file = tmp_path / "made_by_payload"
    message = refused(tmp_path, "seed: 1\ndata:\n  root: " + tag.replace("{file}", str(file)))
    assert "line 3: not plain YAML" in message
    assert not file.exists()
