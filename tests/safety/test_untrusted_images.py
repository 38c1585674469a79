"""Images from others: none runs code or exhausts the memory."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import EpsImagePlugin, Image

from detr_lite.data.images.convert import as_image
from detr_lite.structures import DetrLiteError

Tool = Callable[..., Any]


@pytest.fixture
def postscript(tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An EPS program named .png, and a Ghostscript that makes a folder."""
    interpreter = tmp_path / "bin" / "gs"
    interpreter.parent.mkdir()
    interpreter.write_text(f"#!/bin/sh\nmkdir -p {made}\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", f"{interpreter.parent}:{os.environ['PATH']}")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / "photos" / "photo.png"
    path.parent.mkdir()
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n%%EndComments\nshowpage\n")
    return path


def test_the_postscript_works_where_it_is_allowed(postscript: Path, made: Path) -> None:
    with Image.open(postscript) as image, pytest.raises(OSError):  # noqa: PT011 (the interpreter draws nothing)
        image.load()
    assert made.exists()


@pytest.mark.slow
def test_postscript_is_not_run(
    run_tool: Tool, refusal: Callable[..., str], words: Tool, checkpoint: Path, postscript: Path, own_data: Path,
    made: Path, tmp_path: Path
) -> None:  # fmt: skip
    for tool in ("predict", "visualize"):
        out = tmp_path / f"out of {tool}"
        ended = run_tool(tool, "--checkpoint", checkpoint, "--source", postscript.parent, "--output", out)
        assert ended.code == 2
        assert f"{postscript}: not readable as an image (EPS is a program" in ended.out
    shutil.copy(postscript, own_data / "val" / "000.png")
    assert "programs (EPS, WMF) and are not executed are left out: 1 (000.png)" in refusal(
        *words("evaluate", checkpoint), "--data.root", own_data, "--num_workers", 0
    )
    with Image.open(postscript) as image, pytest.raises(DetrLiteError, match="EPS is a program"):
        as_image(image)
    assert not made.exists()


def test_images_of_too_many_pixels_are_not_decoded(
    run_tool: Tool, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (3000, 2000)).save(tmp_path / "photos" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2_000_000)
    out = tmp_path / "out"
    ended = run_tool("predict", "--checkpoint", checkpoint, "--source", tmp_path / "photos", "--output", out)
    assert ended.code == 2
    assert "bomb.png: more pixels than are safe to read (Image size (6000000 pixels) exceeds limit" in ended.out
