"""Reading Pascal VOC's format, as VOC and as today's tools write it."""

import re
from math import pi
from pathlib import Path

import hotcoco
import numpy as np
import pytest

from detr_lite.data.reading import Reading, read_dataset
from detr_lite.structures import DetrLiteError
from tests.helpers.format_files import draw, read, write

BOX = "<bndbox><xmin>40</xmin><ymin>15</ymin><xmax>60</xmax><ymax>35</ymax></bndbox>"
IN_PIXELS = [40.0, 15.0, 20.0, 20.0]
CAT = f"<object><name>cat</name>{BOX}</object>"
SIZE = "<size><width>100</width><height>50</height><depth>3</depth></size>"


def xml(*objects: str, head: str = SIZE) -> str:
    return f"<annotation>{head}{''.join(objects)}</annotation>"


def write_one(root: Path, text: str, encoding: str = "utf-8") -> Path:
    draw(root / "JPEGImages/a.jpg")
    write(root / "Annotations/a.xml", text, encoding)
    return root


def objects_of(root: Path) -> list[tuple[str, list[float]]]:
    return read(root).objects["JPEGImages/a.jpg"]


@pytest.mark.parametrize("database", ["The VOC2007 Database", "The VOC2012 Database", "Unknown"])
def test_boxes_are_those_of_hotcoco(tmp_path: Path, database: str) -> None:
    """hotcoco takes all pixels as counted from 1, we do so for VOC's own files only."""
    shift = 0 if database == "Unknown" else 1
    generator = np.random.default_rng(0)
    for place in range(6):
        draw(tmp_path / f"JPEGImages/{place}.jpg", 200, 100)
        objects = []
        for number in range(place):
            left, top, w, h = generator.integers(1, 49, 4)
            objects.append(
                f"<object><name>{('dog', 'cat')[number % 2]}</name><bndbox><xmin>{left}</xmin><ymin>{top}</ymin>"
                f"<xmax>{left + w}</xmax><ymax>{top + h}</ymax></bndbox></object>"
            )
        size = "<size><width>200</width><height>100</height><depth>3</depth></size>"
        head = f"<filename>{place}.jpg</filename><source><database>{database}</database></source>{size}"
        write(tmp_path / f"Annotations/{place}.xml", xml(*objects, head=head))
    expected = hotcoco.COCO.from_voc(str(tmp_path)).dataset
    found = read(tmp_path).raw
    assert [category.name for category in found.categories] == [each["name"] for each in expected["categories"]]
    assert [category.id for category in found.categories] == [each["id"] for each in expected["categories"]]
    stem_of = {image["id"]: Path(image["file_name"]).stem for image in expected["images"]}
    own = np.array([1.0, 1.0, -1.0, -1.0]) * (1 - shift)
    rows = sorted((stem_of[e["image_id"]], e["category_id"], *(e["bbox"] + own)) for e in expected["annotations"])
    ids = [found.categories[label].id for label in found.labels]
    stems = [Path(found.paths[place]).stem for place in found.image_index]
    assert sorted((s, id, *b) for s, id, b in zip(stems, ids, found.boxes_xywh.tolist(), strict=True)) == rows
    assert len(rows) == 15


@pytest.mark.parametrize(
    ("image", "annotation"),
    [
        ("{}/JPEGImages/a.jpg", "{}/Annotations/a.xml"),
        ("JPEGImages/{}/a.jpg", "Annotations/{}/a.xml"),
        ("{}/a.jpg", "{}/a.xml"),
        ("images/{}/a.jpg", "annotations/{}/a.xml"),
        ("pets.v1/{}/images/a.PNG", "pets.v1/{}/annotations/xmls/a.xml"),
    ],
)
@pytest.mark.parametrize("folder", ["val", "valid", "validation", "val2017"])
def test_layouts(tmp_path: Path, image: str, annotation: str, folder: str) -> None:
    for split in ("train", folder):
        draw(tmp_path / image.format(split))
        write(tmp_path / annotation.format(split), xml(CAT))
    for split, place in (("train", "train"), ("val", folder)):
        found = read(tmp_path, split)
        assert found.objects == {image.format(place): [("cat", IN_PIXELS)]}
        assert not found.report.findings


@pytest.mark.parametrize("prefix", ["", "VOCdevkit/VOC2007/"])
def test_the_lists_of_image_sets_decide(tmp_path: Path, prefix: str) -> None:
    for name in ("a", "b 1", "c", "d"):
        draw(tmp_path / prefix / f"JPEGImages/{name}.jpg")
        write(tmp_path / prefix / f"Annotations/{name}.xml", xml(CAT))
    lists = tmp_path / prefix / "ImageSets/Main"
    write(lists / "train.txt", "a\n")
    write(lists / "val.txt", "b 1\r\n")
    write(lists / "trainval.txt", "a\nb 1\n")
    write(lists / "test.txt", "c -1\ngone\n\n")
    write(lists / "cat_train.txt", "d 1\n")
    found = {split: list(read(tmp_path, split).objects) for split in ("train", "val", "test")}
    names = {"train": "a", "val": "b 1", "test": "c"}
    assert found == {split: [f"{prefix}JPEGImages/{name}.jpg"] for split, name in names.items()}
    (lists / "train.txt").unlink()
    assert list(read(tmp_path).objects) == [f"{prefix}JPEGImages/{name}.jpg" for name in ("a", "b 1")]


def test_classes_are_those_of_all_splits_in_alphabetical_order(tmp_path: Path) -> None:
    for split, name in (("train", "dog"), ("val", "cat")):
        draw(tmp_path / split / "a.jpg")
        write(tmp_path / split / "a.xml", xml(CAT.replace("cat", name)))
    for split in ("train", "val"):
        categories = read(tmp_path, split).raw.categories
        assert [(category.id, category.name) for category in categories] == [(1, "cat"), (2, "dog")]
    assert read(tmp_path, "val").findings["untrained_class"].entries == ("cat",)


@pytest.mark.parametrize(
    "text",
    [
        xml(CAT),
        "<?xml version='1.0'?>\n<!-- by hand -->" + xml(CAT),
        '<annotation xmlns="urn:voc">' + SIZE + CAT + "</annotation>",
        xml(CAT.replace(">40<", ">\n 40.0 <")),
        xml(CAT.replace("<bndbox>", "<part><name>head</name><bndbox><xmin>1</xmin></bndbox></part><bndbox>")),
        xml(CAT, head=SIZE + "<filename>old.jpg</filename><folder>C:\\old</folder><path>/home/x/old.jpg</path>"),
    ],
)
def test_files_that_mean_the_same(tmp_path: Path, text: str) -> None:
    found = read(write_one(tmp_path, text))
    assert found.objects == {"JPEGImages/a.jpg": [("cat", IN_PIXELS)]}
    assert found.raw.sizes_wh.tolist() == [[100, 50]]
    assert not found.report.findings


@pytest.mark.parametrize(
    ("encoding", "declared"),
    [
        ("utf-8", "UTF-8"),
        ("utf-8-sig", None),
        ("cp1252", "windows-1252"),
        ("cp1252", None),
        ("cp1252", "UTF-8"),
        ("utf-16", "UTF-16"),
        ("utf-16-le", None),
        ("utf-8", "no-such-encoding"),
        ("utf-8", "rot13"),
    ],
)
def test_encodings(tmp_path: Path, encoding: str, declared: str | None) -> None:
    head = f'<?xml version="1.0" encoding="{declared}"?>' if declared else ""
    root = write_one(tmp_path, head + xml(CAT.replace("cat", "Käse")), encoding)
    assert objects_of(root) == [("Käse", IN_PIXELS)]


def test_sizes_may_be_missing_or_zero(tmp_path: Path) -> None:
    for head in ("", "<size/>", SIZE.replace("100", "0").replace("50", "none")):
        found = read(write_one(tmp_path, xml(CAT, head=head)))
        assert np.isnan(found.raw.sizes_wh).all()
        assert found.objects["JPEGImages/a.jpg"] == [("cat", IN_PIXELS)]


def test_difficult_objects_are_neither_right_nor_wrong(tmp_path: Path) -> None:
    difficult = CAT.replace("<bndbox>", "<difficult>1</difficult><bndbox>")
    easy = CAT.replace("<bndbox>", "<difficult>0</difficult><truncated>1</truncated><bndbox>")
    found = read(write_one(tmp_path, xml(difficult, easy)))
    assert found.raw.is_crowd.tolist() == [True, False]
    finding = found.findings["difficult"]
    assert (finding.action, finding.entries) == ("noted", ("Annotations/a.xml object 1",))


@pytest.mark.parametrize(
    ("shape", "kind", "box"),
    [
        (f"<robndbox><cx>50</cx><cy>25</cy><w>20</w><h>10</h><angle>{pi / 2}</angle></robndbox>", "rotated",
         [45, 15, 10, 20]),
        ("<polygon><x1>40</x1><y1>15</y1><x2>60</x2><y2>20</y2><x3>50</x3><y3>35</y3></polygon>", "polygon", IN_PIXELS),
        ("<polygon><pt><x>40</x><y>15</y></pt><pt><x>60</x><y>35</y></pt></polygon>", "polygon", IN_PIXELS),
    ],
)  # fmt: skip
def test_other_shapes(tmp_path: Path, shape: str, kind: str, box: list[float]) -> None:
    found = read(write_one(tmp_path, xml(f"<object><name>cat</name>{shape}</object>")))
    assert found.objects["JPEGImages/a.jpg"] == [("cat", box)]
    assert list(found.findings) == [kind]


@pytest.mark.parametrize(
    ("broken", "kind"),
    [
        ("<object><name>cat</name></object>", "no_box"),
        (f"<object>{BOX}</object>", "no_class"),
        (f"<object><name> </name>{BOX}</object>", "no_class"),
    ],
)
def test_objects_without_class_or_box_are_left_out(tmp_path: Path, broken: str, kind: str) -> None:
    found = read(write_one(tmp_path, xml(*[CAT] * 10, broken)))
    assert found.objects["JPEGImages/a.jpg"] == [("cat", IN_PIXELS)] * 10
    assert found.findings[kind].entries == ("Annotations/a.xml object 11",)
    assert found.report.totals["annotation"] == 11


def test_numbers_that_are_none_are_left_to_the_checks(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, xml(CAT.replace(">40<", ">left<"), CAT.replace("<ymax>35</ymax>", ""))))
    assert np.isnan(found.raw.boxes_xywh[0, 0])
    assert np.isnan(found.raw.boxes_xywh[1, 3])


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("<annotation><object>", "not valid XML: .*line 1"),
        ("", "not valid XML"),
        ('<!DOCTYPE a [<!ENTITY b "cc">]><annotation>&b;</annotation>', "declares XML entities"),
        ("<annotation>" + "<a>" * 100_000, "not valid XML"),
    ],
)
def test_damaged_files_are_left_out_with_the_cause(tmp_path: Path, text: str, cause: str) -> None:
    write_one(tmp_path, xml(CAT))
    draw(tmp_path / "JPEGImages/b.jpg")
    write(tmp_path / "Annotations/b.xml", text)
    found = read(tmp_path)
    assert found.objects == {"JPEGImages/a.jpg": [("cat", IN_PIXELS)]}
    finding = found.findings["bad_file"]
    assert finding.action == "skipped"
    assert len(finding.entries) == 1
    assert re.match(f"Annotations/b.xml: {cause}", finding.entries[0])


def test_an_entity_bomb_in_another_encoding_is_not_expanded(tmp_path: Path) -> None:
    levels = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    text = f'<!DOCTYPE a [<!ENTITY e0 "boom">{levels}]>{xml(CAT.replace("cat", "&e11;"))}'
    found = read(write_one(tmp_path, text, "utf-16"))
    assert "declares XML entities" in found.findings["bad_file"].entries[0]


def test_images_without_an_annotation_file_are_left_out(tmp_path: Path) -> None:
    root = write_one(tmp_path, xml(CAT))
    draw(root / "JPEGImages/b.jpg")
    draw(root / "docs/photo.jpg")
    found = read(root)
    assert list(found.objects) == ["JPEGImages/a.jpg"]
    assert found.findings["unlabeled_image"].entries == ("JPEGImages/b.jpg",)


def test_an_annotation_without_objects_is_an_image_without_objects(tmp_path: Path) -> None:
    assert read(write_one(tmp_path, xml())).objects == {"JPEGImages/a.jpg": []}


def test_the_file_name_is_used_where_no_image_has_the_name_of_the_xml(tmp_path: Path) -> None:
    draw(tmp_path / "JPEGImages/photo 1.jpg")
    draw(tmp_path / "JPEGImages/b.jpg")
    write(tmp_path / "Annotations/b.xml", xml(CAT))
    write(tmp_path / "Annotations/0001.xml", xml(CAT, head=SIZE + "<filename>photo 1.jpg</filename>"))
    assert sorted(read(tmp_path).objects) == ["JPEGImages/b.jpg", "JPEGImages/photo 1.jpg"]


def test_a_split_whose_images_are_all_left_out_is_refused(tmp_path: Path) -> None:
    for name in ("a", "b"):
        draw(tmp_path / f"train/{name}.jpg")
        write(tmp_path / f"train/{name}.xml", xml(CAT))
        draw(tmp_path / f"val/{name}.jpg")
        write(tmp_path / f"val/{name}.xml", "<annotation>")
    with pytest.raises(DetrLiteError, match=r"^val: has no image that can be used"):
        read_dataset(tmp_path, reading=Reading("skip"))


def test_infinite_corners_are_left_out_without_a_warning(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    infinite = CAT.replace(">40<", ">-inf<").replace(">60<", ">inf<")
    for split in ("train", "val"):
        draw(tmp_path / split / "a.jpg")
        write(tmp_path / split / "a.xml", xml(*[CAT] * 20, infinite))
    assert read_dataset(tmp_path)["val"].ground_truth.boxes_xywh.tolist() == [IN_PIXELS]
    assert not capfd.readouterr().err
