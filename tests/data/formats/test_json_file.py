"""JSON files of all encodings, and the causes that are given for broken ones."""

import json
from pathlib import Path

import pytest

from detr_lite.data.formats.json_file import read_json
from detr_lite.structures import DetrLiteError

CONTENT = {"name": "Löffel 🥄", "size": [1, 2.5, None]}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "a.json").write_bytes(json.dumps(CONTENT, ensure_ascii=False).encode(encoding))
    assert read_json(tmp_path / "a.json", "a.json") == CONTENT


FAULTS: dict[bytes, str] = {
    b"": "the file is empty (0 bytes); copy or export it again",
    b" \n": "the file is empty (2 bytes); copy or export it again",
    b"\0\0\0": "the file is empty (3 bytes); copy or export it again",
    b'{"a": [1, 2,]}': "a comma after the last entry at line 1, column 12: ",
    b'{"a": 1,\n "b": [1,\n  2],\n}': "a comma after the last entry at line 3, column 5: ",
    b'{"a": [1,\n2': "the file ends in the middle, in line 2: ",
    b'{"a":\n "xyz': "the file ends in the middle, in line 2: ",
    b'{"a"': "the file ends in the middle, in line 1: ",
    b'{"a": 1}\n{"b": 2}': "a second value begins at line 2, column 1",
    b'{"a": [1 2]}': "a comma is missing at line 1, column 10",
    b"{'a': 1}": "a quote ' where JSON has \"",
    b'{"a": None}': "None or Nan where JSON has null or NaN at line 1, column 7",
    b'{"a": True}': "True where JSON has true",
    b"// made by hand\n{}": "a comment, which JSON does not have",
    b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n": "a Git LFS pointer",
    b"<!DOCTYPE html><html>404</html>": "a web page or XML: ",
    b'{"a" 1}': "expecting ':' delimiter at line 1, column 6",
    b'{"a": "x\ty"}': "invalid control character at line 1, column 9",
    b'{"a": \n"L\xf6ffel"}': "not UTF-8 text: line 2, byte 3 is 0xF6; as Windows-1252 it reads",
    b"\x89PNG\r\n\x1a\n": "not UTF-8 text: line 1, byte 1 is 0x89",
    b"[" * 100_000: "nested too deeply",
    b'{"a":' * 100_000: "nested too deeply",
    b"9" * 5000: "Exceeds the limit (4300 digits)",
    '{"a": 1}'.encode("utf-16")[:-3]: "not valid UTF-16 text at byte",
}


@pytest.mark.parametrize("data", FAULTS, ids=lambda data: data[:12].decode("latin-1").encode("unicode_escape").decode())
def test_the_cause_is_given_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(DetrLiteError) as error:
        read_json(tmp_path / "a.json", "a.json")
    message = str(error.value)
    assert message.startswith("a.json: ")
    assert FAULTS[data] in message
    assert "\n" not in message
    assert len(message) < 300


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "a\0.json"):
        with pytest.raises(DetrLiteError, match=r"^x\.json: cannot be read \(.*\); check "):
            read_json(path, "x.json")
