"""Text of any encoding, and the parts of a file by which its format is recognized."""

import codecs
from pathlib import Path

import pytest

from detr_lite.data.formats.annotation_text import HEAD, BadFileError, decode, read_head, read_text, read_xml

MARKS = {"utf-16-le": codecs.BOM_UTF16_LE, "utf-16-be": codecs.BOM_UTF16_BE, "utf-32-le": codecs.BOM_UTF32_LE}


@pytest.mark.parametrize("text", ['{"name": "Löffel 🥄"}', "<a>Löffel</a>", "class,x\nLöffel,1\n"])
def test_encodings(tmp_path: Path, text: str) -> None:
    path = tmp_path / "a.txt"
    for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"):
        for mark in (b"", MARKS.get(encoding, b"")):
            path.write_bytes(mark + text.encode(encoding))
            assert read_text(path) == read_head(path) == text, encoding


def test_what_is_not_utf_8_is_windows_1252_whatever_it_is() -> None:
    assert decode("Löffel €".encode("cp1252")) == "Löffel €"
    assert decode(b"\xff\x81") == "ÿ\ufffd"
    assert decode(b"") == ""
    assert decode(codecs.BOM_UTF8 + b"L\xf6ffel") == "L\ufffdffel"
    assert decode("<a>".encode("utf-16")[:-1]).startswith("<a")


def test_the_head_has_the_first_and_the_last_part(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for length in (0, 1, HEAD - 1, HEAD, HEAD + 1, 2 * HEAD, 2 * HEAD + 1, 5 * HEAD):
        text = "".join(chr(ord("a") + place // 1000 % 26) for place in range(length))
        path.write_text(text)
        expected = text if length <= 2 * HEAD else text[:HEAD] + text[-HEAD:]
        assert read_head(path) == expected, length


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path, tmp_path / "a\0.json"):
        assert read_head(path) == ""
        with pytest.raises(BadFileError, match="cannot be read"):
            read_text(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_the_encoding_that_xml_declares_holds_unless_its_bytes_say_another(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.xml"
    path.write_bytes('<?xml version="1.0" encoding="cp1250"?><a>ž</a>'.encode("cp1250"))
    assert read_xml(path).text == "ž"
    path.write_bytes('<?xml version="1.0" encoding="cp1250"?><a>ž</a>'.encode(encoding))
    assert read_xml(path).text == "ž"
