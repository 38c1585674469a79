"""Reading tables of boxes."""

from pathlib import Path

import numpy as np
import pytest

from tests.helpers.format_files import draw, read, write

IN_PIXELS = [40.0, 15.0, 20.0, 20.0]


def write_one(root: Path, *lines: str, name: str = "labels.csv", encoding: str = "utf-8") -> Path:
    draw(root / "images/a.jpg")
    write(root / name, "".join(f"{line}\n" for line in lines), encoding)
    return root


@pytest.mark.parametrize(
    "lines",
    [
        ("filename,width,height,class,xmin,ymin,xmax,ymax", "a.jpg,100,50,cat,40,15,60,35"),
        ("class,ymax,xmax,ymin,xmin,filename,height,width", "cat,35,60,15,40,a.jpg,50,100"),
        ("FileName;Width;Height;Class;XMin;YMin;XMax;YMax", "a.jpg;100;50;cat;40;15,0;60;35"),
        ("filename\twidth\theight\tclass\txmin\tymin\txmax\tymax", "a.jpg\t100\t50\tcat\t40\t15\t60\t35"),
        ("\ufefffilename,label,x1,y1,x2,y2", '"a.jpg","cat","40","15","60","35"', "", ",,,,,"),
        ("image_path,xmin,ymin,xmax,ymax,label", "images/a.jpg,40,15,60,35,cat"),
        ("images/a.jpg,40,15,60,35,cat",),
        ("/home/x/images/a.jpg,40,15,60,35,cat",),
        ("image_id,width,height,bbox,class", 'a,100,50,"[40.0, 15.0, 20.0, 20.0]",cat'),
        ("image,x,y,w,h,label", "a.jpg,40,15,20,20,cat"),
        ("image,x,y,width,height,label", "a.jpg,40,15,20,20,cat"),
        ("label_name,bbox_x,bbox_y,bbox_width,bbox_height,image_name,image_width,image_height",
         "cat,40,15,20,20,a.jpg,100,50"),
    ],
)  # fmt: skip
def test_columns(tmp_path: Path, lines: tuple[str, ...]) -> None:
    found = read(write_one(tmp_path, *lines))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
    assert np.isnan(found.raw.sizes_wh).all() or found.raw.sizes_wh.tolist() == [[100, 50]]
    assert not {finding.action for finding in found.report.findings} & {"skipped", "refused"}


@pytest.mark.parametrize(("column", "has_splits"), [("set", True), ("Split", True), ("source", False)])
def test_a_column_of_splits(tmp_path: Path, column: str, has_splits: bool) -> None:
    draw(tmp_path / "images/b.jpg")
    rows = ["TRAIN,a.jpg,cat,40,15,60,35", "VALIDATE,b.jpg,dog,40,15,60,35"]
    root = write_one(tmp_path, f"{column},filename,class,xmin,ymin,xmax,ymax", *rows)
    train = read(root)
    assert list(train.source.splits) == (["train", "val"] if has_splits else ["train"])
    if has_splits:
        assert train.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}
        assert read(root, "val").objects == {"images/b.jpg": [("dog", IN_PIXELS)]}


def test_a_column_of_anything_else_is_no_split(tmp_path: Path) -> None:
    root = write_one(
        tmp_path, "set,filename,class,xmin,ymin,xmax,ymax", "train,a.jpg,cat,40,15,60,35", "farm,a.jpg,,,,,"
    )
    assert list(read(root).source.splits) == ["train"]
    assert read(root).objects == {"images/a.jpg": [("cat", IN_PIXELS)]}


def test_open_images(tmp_path: Path) -> None:
    header = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf"
    root = write_one(tmp_path, header, "a,x,/m/01yrx,1,0.4,0.6,0.3,0.7,0,0,0", "a,x,/m/01yrx,1,0.0,1,0.0,1,0,0,1")
    write(root / "class-descriptions-boxable.csv", "/m/01yrx,Cat\n/m/0bt9lr,Dog\n")
    found = read(root)
    assert found.objects == {"images/a.jpg": [("Cat", IN_PIXELS), ("Cat", [0, 0, 100, 50])]}
    assert found.raw.is_crowd.tolist() == [False, True]
    assert found.findings["relative"].count == 0
    assert found.findings["group"].entries == ("labels.csv line 3",)


def test_empty_fields_are_an_image_without_objects(tmp_path: Path) -> None:
    draw(tmp_path / "images/b.jpg")
    found = read(write_one(tmp_path, "images/b.jpg,,,,,", "images/a.jpg,40,15,60,35,cat"))
    assert found.objects == {"images/b.jpg": [], "images/a.jpg": [("cat", IN_PIXELS)]}


def test_without_a_class_there_is_one(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, "image_id,width,height,bbox,source", 'a.jpg,100,50,"[40, 15, 20, 20]",farm'))
    assert found.names == ["object"]
    assert "one_class" in found.findings


@pytest.mark.parametrize("names", [("train_labels.csv", "val_labels.csv"), ("train/_annotations.csv",
                                   "valid/_annotations.csv")])  # fmt: skip
def test_splits(tmp_path: Path, names: tuple[str, str]) -> None:
    for name, picture in zip(names, ("a", "b"), strict=True):
        draw((tmp_path / name).parent / f"{picture}.jpg")
        write(tmp_path / name, f"filename,class,xmin,ymin,xmax,ymax\n{picture}.jpg,cat,40,15,60,35\n")
    for split, picture in (("train", "a"), ("val", "b")):
        found = read(tmp_path, split)
        assert [Path(path).name for path in found.objects] == [f"{picture}.jpg"]


def test_faults_name_the_line(tmp_path: Path) -> None:
    header = "filename,class,xmin,ymin,xmax,ymax"
    found = read(
        write_one(
            tmp_path, header, *["a.jpg,cat,40,15,60,35"] * 20, ",cat,1,2,3,4", "a.jpg,,1,2,3,4", "a.jpg,cat,1,x,3"
        )
    )
    assert found.findings["no_name"].entries == ("labels.csv line 22",)
    assert found.findings["no_class"].entries == ("labels.csv line 23",)
    assert np.isnan(found.raw.boxes_xywh[-1]).any()
    assert found.raw.name_of(20) == "labels.csv line 24"
    assert found.report.totals["annotation"] == 23


def test_windows_1252(tmp_path: Path) -> None:
    lines = ("filename;class;xmin;ymin;xmax;ymax", "a.jpg;Käse;40;15;60;35")
    assert read(write_one(tmp_path, *lines, encoding="cp1252")).names == ["Käse"]


def test_quoted_line_ends_are_counted(tmp_path: Path) -> None:
    lines = ("filename,class,xmin,ymin,xmax,ymax", '"a.jpg","fat\ncat",40,15,60,35', "a.jpg,cat,40,15,60,35")
    found = read(write_one(tmp_path, *lines))
    assert found.names == ["cat", "fat cat"]
    assert found.raw.name_of(1) == "labels.csv line 4"


def test_a_row_of_any_length(tmp_path: Path) -> None:
    found = read(write_one(tmp_path, "filename,class,xmin,ymin,xmax,ymax", "a.jpg,cat,40,15,60,35,6,7", "a.jpg"))
    assert found.objects == {"images/a.jpg": [("cat", IN_PIXELS)]}


def test_a_name_of_any_length_makes_a_short_message(tmp_path: Path) -> None:
    line = f"{'a' * 5000}.jpg,cat,40,15,60,35"
    found = read(write_one(tmp_path, "filename,class,xmin,ymin,xmax,ymax", *["a.jpg,cat,40,15,60,35"] * 20, line))
    assert len(found.findings["missing_image"].entries[0]) > 5000
    assert all(len(line) < 500 for line in found.report.lines())
