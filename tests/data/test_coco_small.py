import json
import os
import subprocess
import sys
from collections import Counter
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.data.synthetic import coco_small
from detr_lite.data.synthetic.coco_small import draw_image, draw_scene, image_id, make_coco_small
from detr_lite.data.synthetic.shapes import CATEGORY_IDS
from detr_lite.structures import DetrLiteError

SEED = 3
COUNTS = {"train": 40, "val": 22}
SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets") / "coco_small"
    make_coco_small(root, seed=SEED, train_images=COUNTS["train"], val_images=COUNTS["val"], num_workers=1)
    return root


def read_instances(root, split):
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def all_bytes(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_equal_those_of_the_scenes(root, split):
    instances = read_instances(root, split)
    assert len(instances["images"]) == COUNTS[split]
    for index, image in enumerate(instances["images"]):
        scene = draw_scene(SEED, split, index)
        assert image["id"] == image_id(split, index)
        assert (image["width"], image["height"]) == (scene.width, scene.height)
        annotated = [
            (annotation["category_id"], annotation["iscrowd"], annotation["bbox"], annotation["area"])
            for annotation in instances["annotations"]
            if annotation["image_id"] == image["id"]
        ]
        expected = [
            (
                CATEGORY_IDS[shape.category],
                int(shape.is_crowd),
                list(shape.box_xywh),
                shape.box_xywh[2] * shape.box_xywh[3],
            )
            for shape in scene.objects
        ]
        assert annotated == expected


@pytest.mark.slow
def test_files_equal_the_images(root):
    for index, image in enumerate(read_instances(root, "train")["images"]):
        drawn = draw_image(SEED, "train", index)
        encoded = BytesIO()
        Image.fromarray(drawn.pixels).save(encoded, "JPEG", quality=drawn.jpeg_quality)
        assert (root / "train" / image["file_name"]).read_bytes() == encoded.getvalue()


@pytest.mark.stress
def test_each_object_size_is_a_tenth_of_both_splits_or_more():
    for split, count in (("train", 400), ("val", 300)):  # the first of 2,000, and all
        scenes = [draw_scene(0, split, index) for index in range(count)]
        objects = [[shape.box_xywh for shape in scene.objects if not shape.is_crowd] for scene in scenes]
        per_image = [len(boxes) for boxes in objects if boxes]
        assert len(per_image) == count * 0.95
        assert set(per_image) == set(range(1, 13))
        sides = [min(scene.width, scene.height) for scene in scenes]
        check_boxes([(*box[2:], side) for boxes, side in zip(objects, sides, strict=True) for box in boxes])


def check_boxes(widths_heights_short_sides):
    width, height, short = np.array(widths_heights_short_sides).T
    longer, area = np.maximum(width, height), width * height
    assert longer.min() >= 10
    assert (longer <= 0.6 * short).all()
    shares = [(area < 32**2).mean(), ((area >= 32**2) & (area <= 96**2)).mean(), (area > 96**2).mean()]
    assert min(shares) >= 0.1


@pytest.mark.parametrize("split", SPLITS)
def test_pycocotools_reads_it_and_gives_its_annotations_an_ap_of_1(root, split):
    truth = COCO(root / "annotations" / f"instances_{split}.json")
    detections = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for annotation in truth.anns.values()
        if not annotation["iscrowd"]
    ]
    evaluation = COCOeval(truth, truth.loadRes(detections), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_annotation_files_have_every_field_of_coco(root):
    ids = Counter()
    for split in SPLITS:
        instances = read_instances(root, split)
        assert {"info", "licenses", "images", "annotations", "categories"} <= set(instances)
        assert [category["id"] for category in instances["categories"]] == list(CATEGORY_IDS.values())
        assert all({"id", "name", "supercategory"} <= set(category) for category in instances["categories"])
        annotation_ids = [annotation["id"] for annotation in instances["annotations"]]
        assert annotation_ids == list(range(1, len(annotation_ids) + 1))
        ids.update(image["id"] for image in instances["images"])
        assert {image["file_name"] for image in instances["images"]} == {p.name for p in (root / split).iterdir()}
    assert set(ids.values()) == {1}
    provenance = json.loads((root / "provenance.json").read_text())
    assert provenance["seed"] == SEED
    assert "public domain" in provenance["license"]
    assert {split: provenance["splits"][split]["images"] for split in SPLITS} == COUNTS
    assert provenance["splits"]["val"]["images_without_objects"] == 1


@pytest.mark.slow
def test_same_seed_gives_the_same_bytes_with_any_number_of_processes(root, tmp_path):
    make_coco_small(
        tmp_path / "again", seed=SEED, train_images=COUNTS["train"], val_images=COUNTS["val"], num_workers=3
    )
    assert all_bytes(tmp_path / "again") == all_bytes(root)


def test_another_seed_gives_other_images(root, tmp_path):
    make_coco_small(tmp_path / "other", seed=SEED + 1, train_images=3, val_images=1, num_workers=1)
    for path, content in all_bytes(tmp_path / "other").items():
        assert content != (root / path).read_bytes()


def test_an_empty_folder_is_filled_and_another_refused(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    make_coco_small(root, train_images=1, val_images=1)
    before = all_bytes(root)
    with pytest.raises(DetrLiteError, match=f"{root} exists and is not an empty folder"):
        make_coco_small(root, train_images=1, val_images=1)
    assert all_bytes(root) == before


def test_a_file_is_refused(tmp_path):
    (tmp_path / "set").write_text("a file")
    with pytest.raises(DetrLiteError, match="not an empty folder"):
        make_coco_small(tmp_path / "set", train_images=1, val_images=1)
    with pytest.raises(DetrLiteError, match="cannot be written"):
        make_coco_small(tmp_path / "set" / "inside", train_images=1, val_images=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interruption_leaves_no_files(tmp_path, monkeypatch, workers):
    def interrupt_after_the_first(records, total, root):
        yield next(records)
        raise KeyboardInterrupt

    monkeypatch.setattr(coco_small, "_with_progress", interrupt_after_the_first)
    with pytest.raises(KeyboardInterrupt):
        make_coco_small(tmp_path / "set", train_images=200, val_images=1, num_workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_process_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_small.sys, "executable", "false")
    with pytest.raises(DetrLiteError, match="a drawing process ended with code 1"):
        make_coco_small(tmp_path / "set", train_images=2, val_images=1, num_workers=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other_is_complete", [True, False])
def test_the_faster_of_two_processes_wins(tmp_path, monkeypatch, other_is_complete):
    root = tmp_path / "set"

    def provenance_while_another_finishes(records, seed):
        root.mkdir()
        (root / ("provenance.json" if other_is_complete else "photo.jpg")).write_text("another's")
        return {}

    monkeypatch.setattr(coco_small, "_provenance", provenance_while_another_finishes)
    if other_is_complete:
        make_coco_small(root, train_images=1, val_images=1)
    else:
        with pytest.raises(DetrLiteError, match="cannot be written"):
            make_coco_small(root, train_images=1, val_images=1)
    assert [path.read_text() for path in root.iterdir()] == ["another's"]
    assert list(tmp_path.iterdir()) == [root]


def test_progress_is_logged_without_a_terminal(tmp_path, capsys):
    make_coco_small(tmp_path / "set", train_images=6, val_images=2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"generating 8 images in {tmp_path / 'set'} (only once)"
    assert lines[1:] == [f"generated {done} of 8 images" for done in (2, 4, 6, 8)]


def test_rendering_processes_do_not_import_torch():
    check = "import sys, detr_lite.data.synthetic.rendering; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.slow
def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from detr_lite.data.synthetic.coco_small import make_coco_small\n"
        "print('once')\n"
        "make_coco_small(Path('set'), train_images=4, val_images=2, num_workers=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(coco_small.__file__).parents[3])}
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "once\n", "logging is not configured"
    assert len(list((tmp_path / "set" / "train").iterdir())) == 4
