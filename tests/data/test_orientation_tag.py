"""Images whose boxes do not follow their EXIF orientation: written data sets of every format are read right."""

import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from detr_lite.data.editing.edits import editable, join_splits
from detr_lite.data.formats.write_coco import write_coco
from detr_lite.data.formats.write_yolo import write_yolo
from detr_lite.data.images.load import load_image
from detr_lite.data.images.orientation_tag import copy_without_orientation, ignored_orientations
from detr_lite.data.reading import Reading, read_stored
from detr_lite.structures import DetrLiteError


def draw(path: Path, orientation: int, size: tuple[int, int] = (40, 30), **options: object) -> None:
    """A white rectangle from (4, 6) to (14, 22) of the pixels as stored, on black."""
    image = Image.new("RGB", size)
    image.paste((255, 255, 255), (4, 6, 14, 22))
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "a camera"
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif, **options)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_only_the_orientation_goes(tmp_path: Path, suffix: str, orientation: int) -> None:
    source, target = tmp_path / f"a.{suffix}", tmp_path / f"b.{suffix}"
    draw(source, orientation, **({"lossless": True} if suffix == "webp" else {}))
    copy_without_orientation(str(source), target)
    with Image.open(source) as before, Image.open(target) as after:
        assert after.getexif().get(ExifTags.Base.Orientation, 1) == 1
        assert after.format == before.format
        if suffix == "jpg":
            assert after.getexif()[ExifTags.Base.Make] == "a camera"
            assert len(source.read_bytes()) == len(target.read_bytes())
    assert np.array_equal(np.asarray(load_image(target)), np.asarray(load_image(source, orientation="stored")))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", [3, 4])
def test_both_byte_orders_and_sizes_of_the_tag(tmp_path: Path, order: str, kind: int) -> None:
    number = struct.pack(f"{order}{'HH' if kind == 3 else 'I'}", *((6, 0) if kind == 3 else (6,)))
    tiff = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIHHHI", 42, 8, 1, 0x0112, kind, 1) + number
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + tiff + bytes(4))
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif()[0x0112] == 6
    copy_without_orientation(str(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[0x0112] == 1


def test_an_orientation_in_xmp(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg", xmp=xmp)
    with Image.open(tmp_path / "a.jpg") as image:
        assert image.getexif()[0x0112] == 6
    copy_without_orientation(str(tmp_path / "a.jpg"), tmp_path / "b.jpg")
    with Image.open(tmp_path / "b.jpg") as image:
        assert image.getexif()[0x0112] == 1


def write_source(root: Path, sizes: Callable[[int, int], tuple[int, int] | None]) -> Path:
    """A turned photograph, one upside down and one without a tag, all with a box on the white rectangle as stored.

    `sizes` gives the annotated (width, height) of the turned one.
    """
    (root / "train").mkdir(parents=True)
    (root / "annotations").mkdir()
    images = []
    for id, (name, orientation) in enumerate({"turned": 6, "flipped": 3, "plain": 1}.items(), start=1):
        draw(root / "train" / f"{name}.jpg", orientation, quality=95)
        width, height = (40, 30) if orientation != 6 else (sizes(40, 30) or (40, 30))
        images.append({"id": id, "file_name": f"{name}.jpg", "width": width, "height": height})
    annotations = [
        {"id": id, "image_id": id, "category_id": 1, "bbox": [4, 6, 10, 16], "area": 160, "iscrowd": 0}
        for id in (1, 2, 3)
    ]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "card"}]}
    (root / "annotations/instances_train.json").write_text(json.dumps(content))
    return root


@pytest.mark.parametrize("write", [write_coco, write_yolo])
@pytest.mark.parametrize("kept", [["turned"], ["flipped"], ["plain", "flipped", "turned"]])
def test_boxes_stay_on_their_objects(tmp_path: Path, write: Callable[..., object], kept: list[str]) -> None:
    """Also where the image that settled it for the others is no longer there."""
    root = write_source(tmp_path / "source", lambda width, height: (width, height))
    split = editable(read_stored(root, Reading())["train"])
    assert ignored_orientations(split).tolist() == [True, True, False]
    split = split.keep_images(np.array([Path(name).stem in kept for name in split.names]))
    write({"train": split}, tmp_path / "out")
    again = read_stored(tmp_path / "out", Reading())["train"]
    assert len(again.images) == len(kept)
    for record in again.images:
        image = load_image(record.path, (record.height, record.width), again.orientation.default)
        (box,) = record.boxes_xyxy.round().astype(int).tolist()
        assert np.asarray(image.convert("L").crop(box)).min() > 200
        assert np.asarray(image.convert("L")).sum() < 1.1 * np.asarray(image.convert("L").crop(box)).sum()


def test_upright_images_are_left_alone(tmp_path: Path) -> None:
    root = write_source(tmp_path / "source", lambda width, height: (height, width))
    split = editable(read_stored(root, Reading())["train"])
    assert not ignored_orientations(split).any()
    write_coco({"train": split}, tmp_path / "out")
    for name in ("turned", "flipped", "plain"):
        assert (tmp_path / f"out/train/{name}.jpg").samefile(root / f"train/{name}.jpg")


def test_datasets_that_differ_where_nothing_settles_it_are_not_joined(tmp_path: Path) -> None:
    first = write_source(tmp_path / "a", lambda width, height: (width, height))
    second = write_source(tmp_path / "b", lambda width, height: (height, width))
    splits = {root.name: editable(read_stored(root, Reading())["train"]) for root in (first, second)}
    with pytest.raises(DetrLiteError, match="convert each of them first"):
        join_splits(splits)
    for name, split in splits.items():
        write_coco({"train": split}, tmp_path / f"{name} converted")
        splits[name] = editable(read_stored(tmp_path / f"{name} converted", Reading())["train"])
    assert len(join_splits(splits).names) == 6
