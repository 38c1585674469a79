"""Reading CVAT's XML, for images and for videos."""

from pathlib import Path

import hotcoco
import numpy as np
import pytest

from detr_lite.structures import DetrLiteError
from tests.helpers.format_files import draw, read, write

BOX = '<box label="cat" xtl="40.0" ytl="15.0" xbr="60.0" ybr="35.0" occluded="0" z_order="0"/>'
IN_PIXELS = [40.0, 15.0, 20.0, 20.0]
LABELS = "<labels><label><name>dog</name></label><label><name>cat</name><color>#fff</color></label></labels>"
META = f"<version>1.1</version><meta><task>{LABELS}</task></meta>"


def xml(*elements: str, meta: str = META) -> str:
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations>{meta}{"".join(elements)}</annotations>'


def image(name: str, *shapes: str, more: str = "") -> str:
    return f'<image id="0" name="{name}" width="100" height="50" {more}>{"".join(shapes)}</image>'


def write_one(root: Path, *shapes: str) -> Path:
    draw(root / "images/a.jpg")
    write(root / "annotations.xml", xml(image("a.jpg", *shapes)))
    return root


def test_boxes_are_those_of_hotcoco(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    images = []
    for place in range(6):
        draw(tmp_path / f"images/{place}.jpg", 100, 50)
        shapes = []
        for number in range(place):
            left, top, w, h = generator.uniform(1, 24, 4).round(2)
            label = ("dog", "cat")[number % 2]
            points = f"{left},{top};{left + w},{top + h / 2};{left + w / 3},{top + h}"
            shapes.append(
                f'<box label="{label}" xtl="{left}" ytl="{top}" xbr="{left + w}" ybr="{top + h}"/>'
                f'<polygon label="{label}" points="{points}"/>'
            )
        images.append(image(f"{place}.jpg", *shapes))
    file = write(tmp_path / "annotations.xml", xml(*images))
    expected = hotcoco.COCO.from_cvat(str(file)).dataset
    found = read(tmp_path)
    name_of = {category["id"]: category["name"] for category in expected["categories"]}
    image_of = {each["id"]: each["file_name"] for each in expected["images"]}
    rows = sorted(
        (image_of[each["image_id"]], name_of[each["category_id"]], *each["bbox"]) for each in expected["annotations"]
    )
    own = sorted((Path(path).name, name, *box) for path, objects in found.objects.items() for name, box in objects)
    assert [row[:2] for row in own] == [row[:2] for row in rows]
    np.testing.assert_allclose([row[2:] for row in own], [row[2:] for row in rows], atol=1e-6)
    assert len(own) == 30
    assert found.names == ["cat", "dog"]


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        (BOX, None),
        (BOX.replace("/>", '><attribute name="age">3</attribute></box>'), None),
        ('<polygon label="cat" points="40,15;60,20;50,35"/>', "polygon"),
        ('<polyline label="cat" points="40.0,15.0; 60.0,35.0"/>', "polygon"),
        ('<ellipse label="cat" cx="50" cy="25" rx="10" ry="10"/>', "polygon"),
        ('<mask label="cat" rle="0, 400" left="40" top="15" width="20" height="20"/>', "polygon"),
        ('<box label="cat" xtl="40" ytl="15" xbr="60" ybr="35" rotation="90.0"/>', "rotated"),
    ],
)
def test_shapes(tmp_path: Path, shape: str, kind: str | None) -> None:
    found = read(write_one(tmp_path, shape, '<tag label="night"/>'))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
    assert list(found.findings) == ([] if kind is None else [kind])


@pytest.mark.parametrize("tag", ["points", "cuboid", "skeleton"])
def test_shapes_without_a_box_are_left_out(tmp_path: Path, tag: str) -> None:
    found = read(write_one(tmp_path, BOX, f'<{tag} label="cat" points="1,2"/>'))
    assert len(found.raw.labels) == 1
    assert found.findings["other_shape"].entries == ("a.jpg shape 2",)


def test_a_turned_box_is_read_as_the_box_around_it(tmp_path: Path) -> None:
    shape = '<box label="cat" xtl="30" ytl="20" xbr="70" ybr="30" rotation="90"/>'
    assert read(write_one(tmp_path, shape)).objects["images/a.jpg"] == [("cat", [45, 5, 10, 40])]


def test_listed_classes_count_and_images_without_shapes_have_no_objects(tmp_path: Path) -> None:
    found = read(write_one(tmp_path))
    assert found.names == ["cat", "dog"]
    assert found.objects == {"images/a.jpg": []}


def test_the_subsets_of_a_project_are_splits(tmp_path: Path) -> None:
    subsets = ("Train", "Validation", "Test")
    for subset in subsets:
        draw(tmp_path / "images" / subset / f"{subset}.jpg")
    images = [image(f"{subset}.jpg", BOX, more=f'subset="{subset}"') for subset in subsets]
    write(tmp_path / "annotations.xml", xml(*images))
    for split, subset in zip(("train", "val", "test"), subsets, strict=True):
        assert read(tmp_path, split).objects == {f"images/{subset}/{subset}.jpg": [("cat", IN_PIXELS)]}


@pytest.mark.parametrize("names", [("train.xml", "val.xml"), ("train/annotations.xml", "valid/annotations.xml")])
def test_a_file_for_each_split(tmp_path: Path, names: tuple[str, str]) -> None:
    for name, picture in zip(names, ("a.jpg", "b.jpg"), strict=True):
        draw(tmp_path / "images" / picture)
        write(tmp_path / name, xml(image(picture, BOX)))
    assert read(tmp_path, "train").objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
    assert read(tmp_path, "val").objects == {"images/b.jpg": [("cat", IN_PIXELS)]}


def test_the_tracks_of_a_video(tmp_path: Path) -> None:
    for frame in range(5):
        draw(tmp_path / f"images/frame_{frame:06}.PNG")
    shapes = [
        BOX.replace('label="cat"', f'frame="{frame}" outside="{int(frame == 2)}" keyframe="1"') for frame in (0, 1, 2)
    ]
    track = f'<track id="0" label="cat" source="manual">{"".join(shapes)}</track>'
    meta = f"<meta><task><size>4</size><start_frame>0</start_frame><stop_frame>3</stop_frame>{LABELS}</task></meta>"
    file = write(tmp_path / "annotations.xml", xml(track, meta=meta))
    found = read(tmp_path)
    expected = {f"images/frame_{frame:06}.PNG": [("cat", IN_PIXELS)] * (frame < 2) for frame in range(4)}
    assert found.objects == expected
    assert found.raw.name_of(1) == "images/frame_000001.PNG shape 1"
    for picture in (tmp_path / "images").iterdir():
        picture.unlink()
    assert any("no images of its frames" in line for line in read(file).report.refusals())


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (xml(image("a.jpg", BOX))[:-20], "not valid XML: .*line 2"),
        (xml().replace("<annotations>", '<!DOCTYPE a [<!ENTITY b "c">]><annotations>'), "declares XML entities"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, cause: str) -> None:
    write_one(tmp_path, BOX)
    write(tmp_path / "annotations.xml", text)
    with pytest.raises(DetrLiteError, match=rf"^annotations\.xml: {cause}"):
        read(tmp_path)


def test_entries_without_a_name_or_label_are_left_out(tmp_path: Path) -> None:
    draw(tmp_path / "a.jpg")
    write(tmp_path / "annotations.xml", xml(image("a.jpg", BOX.replace('"cat"', '""')), image("", BOX)))
    found = read(tmp_path)
    assert found.objects == {"a.jpg": []}
    assert found.findings["no_class"].entries == ("a.jpg shape 1",)
    assert found.findings["no_name"].entries == ("annotations.xml image 0",)
