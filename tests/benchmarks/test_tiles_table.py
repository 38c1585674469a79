"""The comparison of whole pictures and tiles at a toy size, from drawing to the table."""

from pathlib import Path

import pytest

from benchmarks.large_pictures import PictureSpec
from benchmarks.tiles import tiles_table
from detr_lite.structures import DetrLiteError


@pytest.mark.stress
def test_tiles_from_drawing_to_the_table(tmp_path: Path) -> None:
    large = PictureSpec(200, 150, small=(2, 4), large=(0, 1), large_extent=(40, 60), may_cut=False)
    arguments = {"side": 64, "pictures": 2, "large_pictures": large, "training_images": 16}
    table = tiles_table(tmp_path / "out", minutes=0.02, **arguments).splitlines()
    assert table[2].startswith("| whole picture | 0.")
    assert table[3].startswith("| and tiles of 64 pixels | 0.")
    best = tmp_path / "out" / "run" / "checkpoints" / "best.ckpt"
    trained_at = best.stat().st_mtime_ns
    assert len(tiles_table(tmp_path / "out", minutes=0.02, **arguments).splitlines()) == 4
    assert best.stat().st_mtime_ns == trained_at
    with pytest.raises(DetrLiteError, match="other arguments"):
        tiles_table(tmp_path / "out", minutes=1.0, **arguments)
