import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.data import synthetic
from detr_lite.data.painting import LEAST_CONTRAST, paint
from detr_lite.data.shapes import CATEGORY_IDS, silhouette, tight_box_xywh
from detr_lite.data.synthetic import draw_image, draw_scene, image_id, make_coco_small
from detr_lite.structures import DetrLiteError

SEED = 3
COUNTS = {"train": 40, "val": 22}
SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("datasets") / "coco_small"
    make_coco_small(root, seed=SEED, train_images=COUNTS["train"], val_images=COUNTS["val"], workers=1)
    return root


@pytest.fixture(scope="module")
def scenes():
    """The first images of the default set; every validation image."""
    return {split: [draw_scene(0, split, index) for index in range(300)] for split in SPLITS}


def read_instances(root, split):
    return json.loads((root / "annotations" / f"instances_{split}.json").read_text())


def all_bytes(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def objects_of(scenes):
    """(object, scene) of everything that is no crowd."""
    return [(shape, scene) for scene in scenes for shape in scene.objects if not shape.is_crowd]


def visible_masks(scene):
    """Painter's algorithm over whole images, to check the bookkeeping in cut-outs against."""
    top = np.full((scene.height, scene.width), -1)
    for number, stamp in enumerate([*(shape.stamp for shape in scene.objects), *scene.above]):
        whole = np.zeros(top.shape, bool)
        whole[stamp.top : stamp.top + stamp.alpha.shape[0], stamp.left : stamp.left + stamp.alpha.shape[1]] = stamp.mask
        top[whole] = number
    return [top == number for number in range(len(scene.objects))]


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1]


@pytest.mark.parametrize("split", SPLITS)
def test_annotations_are_those_of_the_redrawn_scenes(root, split):
    instances = read_instances(root, split)
    assert len(instances["images"]) == COUNTS[split]
    for index, image in enumerate(instances["images"]):
        scene = draw_scene(SEED, split, index)
        assert image["id"] == image_id(split, index)
        assert (image["width"], image["height"]) == (scene.width, scene.height)
        on_file = [
            (annotation["category_id"], annotation["iscrowd"], annotation["bbox"], annotation["area"])
            for annotation in instances["annotations"]
            if annotation["image_id"] == image["id"]
        ]
        redrawn = [
            (CATEGORY_IDS[shape.category], int(shape.is_crowd), box_of(mask), box_of(mask)[2] * box_of(mask)[3])
            for shape, mask in zip(scene.objects, visible_masks(scene), strict=True)
        ]
        assert on_file == redrawn


def test_files_are_the_redrawn_images(root):
    for index, image in enumerate(read_instances(root, "train")["images"]):
        drawn = draw_image(SEED, "train", index)
        encoded = BytesIO()
        Image.fromarray(drawn.pixels).save(encoded, "JPEG", quality=drawn.jpeg_quality)
        assert (root / "train" / image["file_name"]).read_bytes() == encoded.getvalue()


def test_boxes_are_where_the_pixels_change():
    """Leave the topmost object out: the pixels that change are in its annotated box, and reach each of its sides."""
    compared = 0
    for index in range(12):
        scene = draw_scene(0, "train", index)
        *others, topmost = scene.objects
        with_it = paint(replace(scene, above=()), np.random.default_rng(1))
        # The same random numbers go to each stamp, because a crowd of invisible pixels takes the object's turn.
        nothing = replace(topmost.stamp, alpha=np.zeros_like(topmost.stamp.alpha))
        without = paint(
            replace(scene, above=(), objects=(*others, replace(topmost, stamp=nothing))), np.random.default_rng(1)
        )
        if topmost.visible_share == 1:
            # A pixel at the rim is shared between the object and what is around it.
            has_changed = np.abs(with_it - without).max(axis=2) > 0
            assert np.abs(np.array(box_of(has_changed)) - topmost.box_xywh).max() <= 2
            compared += 1
    assert compared >= 6


def test_objects_stand_out():
    for index in range(10):
        scene = draw_scene(0, "val", index)
        canvas = paint(replace(scene, above=()), np.random.default_rng(0))
        stamp = scene.objects[-1].stamp
        rows, columns = stamp.region
        inside = canvas[stamp.region][stamp.alpha == 255].mean(axis=0)
        around = canvas[max(rows.start - 3, 0) : rows.stop + 3, max(columns.start - 3, 0) : columns.stop + 3]
        distance = np.linalg.norm(around.reshape(-1, 3) - inside, axis=1)
        assert (distance > 0.6 * LEAST_CONTRAST).mean() > 0.1


def test_color_and_texture_do_not_know_the_category():
    scene = next(scene for scene in (draw_scene(0, "train", i) for i in range(20)) if len(scene.objects) > 3)
    renamed = replace(scene, objects=tuple(replace(shape, category="any") for shape in scene.objects))
    np.testing.assert_array_equal(paint(scene, np.random.default_rng(0)), paint(renamed, np.random.default_rng(0)))


def test_mean_colors_are_alike_in_all_categories():
    colors = {name: [] for name in CATEGORY_IDS}
    for index in range(100):
        image = draw_image(0, "train", index)
        for shape, mask in zip(image.scene.objects, visible_masks(image.scene), strict=True):
            colors[shape.category].append(image.pixels[mask].mean(axis=0))
    everything = np.concatenate(list(colors.values()))
    within = sum(((np.array(group) - np.mean(group, axis=0)) ** 2).sum(axis=0) for group in colors.values())
    between = ((everything - everything.mean(axis=0)) ** 2).sum(axis=0) - within
    # Analysis of variance; chance exceeds 3.5 in one of five thousand trials.
    f_ratio = (between / 9) / (within / (len(everything) - 10))
    assert f_ratio.max() < 3.5


def test_rotation_is_uniform(scenes):
    """A square turned by t fills 1 / (1 + |sin 2t|) of its box; for uniform t the median is 0.586."""
    squares = [shape for shape, _ in objects_of(scenes["train"] + scenes["val"]) if shape.category == "square"]
    boxes = [tight_box_xywh(shape.stamp.mask) for shape in squares]
    fill = [shape.stamp.mask.sum() / (box[2] * box[3]) for shape, box in zip(squares, boxes, strict=True)]
    np.testing.assert_allclose(np.quantile(fill, [0.1, 0.5, 0.9]), [0.503, 0.586, 0.865], atol=0.04)


@pytest.mark.parametrize("split", SPLITS)
def test_sides_counts_and_empty_images(scenes, split):
    sizes = [(scene.width, scene.height) for scene in scenes[split]]
    assert min(map(min, sizes)) >= 128
    assert max(map(max, sizes)) == 256
    assert min(map(min, sizes)) < 140
    assert all(width != height for width, height in sizes)
    aspects = np.log2([width / height for width, height in sizes])
    assert np.abs(aspects).max() <= 1
    assert min((aspects > 0.3).sum(), (aspects < -0.3).sum()) > 20
    counts = Counter(sum(not shape.is_crowd for shape in scene.objects) for scene in scenes[split])
    assert set(counts) == set(range(13))
    assert counts[0] == len(sizes) * 0.05
    assert all(not scene.objects for scene in scenes[split][19::20])


@pytest.mark.parametrize("split", SPLITS)
def test_extents_are_log_uniform_and_every_size_has_a_tenth(scenes, split):
    check_sizes(scenes[split])


@pytest.mark.slow
def test_every_size_has_a_tenth_of_the_whole_training_split():
    check_sizes([draw_scene(0, "train", index) for index in range(2000)])


def check_sizes(scenes):
    short = np.array([min(scene.width, scene.height) for _, scene in objects_of(scenes)])
    whole = np.array([max(tight_box_xywh(shape.stamp.mask)[2:]) for shape, _ in objects_of(scenes)])
    quantiles = np.quantile(np.log(whole / 10) / np.log(0.6 * short / 10), np.linspace(0, 1, 11))
    np.testing.assert_allclose(quantiles, np.linspace(0, 1, 11), atol=0.03)
    visible = np.array([shape.box_xywh[2:] for shape, _ in objects_of(scenes)])
    assert visible.max(axis=1).min() >= 10
    assert (visible.max(axis=1) <= 0.6 * short).all()
    area = visible.prod(axis=1)
    shares = [(area < 32**2).mean(), ((area >= 32**2) & (area <= 96**2)).mean(), (area > 96**2).mean()]
    assert min(shares) >= 0.1


def test_objects_are_hidden_by_half_at_most_and_some_are_hidden(scenes):
    shares = []
    for scene in scenes["val"]:
        for shape, visible in zip(scene.objects, visible_masks(scene), strict=True):
            shares.append(visible.sum() / shape.stamp.mask.sum())
            assert shape.visible_share == pytest.approx(shares[-1])
    assert min(shares) >= 0.5
    assert 0.2 < np.mean(np.array(shares) < 0.98) < 0.6


def test_distractors_are_as_many_as_objects_and_seen(scenes):
    for scene in scenes["val"]:
        assert len(scene.beneath) + len(scene.above) >= max(len(objects_of([scene])), 3 if not scene.objects else 0)
        is_object = np.any([np.zeros((scene.height, scene.width), bool), *visible_masks(scene)], axis=0)
        for stamp in scene.beneath:
            assert stamp.alpha[~is_object[stamp.region]].sum() >= 0.45 * stamp.alpha.sum(dtype=int)


def test_categories_are_equally_frequent_and_crowds_rare(scenes):
    both = scenes["train"] + scenes["val"]
    names = Counter(shape.category for shape, _ in objects_of(both))
    assert set(names) == set(CATEGORY_IDS)
    assert min(names.values()) > 0.75 * max(names.values())
    crowded = [scene for scene in both if any(shape.is_crowd for shape in scene.objects)]
    assert 0.015 < len(crowded) / len(both) < 0.06
    for scene in crowded:
        (crowd,) = [shape for shape in scene.objects if shape.is_crowd]
        x, y, width, height = crowd.box_xywh
        for shape, _ in objects_of([scene]):
            left, top, columns, rows = shape.box_xywh
            shared_width = min(x + width, left + columns) - max(x, left)
            shared_height = min(y + height, top + rows) - max(y, top)
            assert max(shared_width, 0) * max(shared_height, 0) <= 0.1 * width * height + 1e-6


def test_jpeg_quality_spans_60_to_95():
    qualities = [draw_image(0, "val", index).jpeg_quality for index in range(60)]
    assert min(qualities) >= 60
    assert max(qualities) <= 95
    assert max(qualities) - min(qualities) > 25


@pytest.mark.parametrize("category", CATEGORY_IDS)
@pytest.mark.parametrize("extent", [10, 37, 150])
def test_silhouette_has_the_extent_asked_for(category, extent):
    for rotation in np.linspace(0, 2 * np.pi, 7):
        alpha = silhouette(category, extent, float(rotation), (0.2, -0.3))
        assert max(tight_box_xywh(alpha >= 128)[2:]) == extent


def test_unknown_category_is_refused():
    with pytest.raises(ValueError, match="blimp"):
        silhouette("blimp", 20, 0.0)


def test_box_of_nothing_is_zero():
    assert tight_box_xywh(np.zeros((4, 5), bool)) == (0, 0, 0, 0)


@pytest.mark.parametrize("split", SPLITS)
def test_pycocotools_reads_it_and_finds_the_truth_perfect(root, split):
    truth = COCO(root / "annotations" / f"instances_{split}.json")
    answers = [
        {key: annotation[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for annotation in truth.anns.values()
        if not annotation["iscrowd"]
    ]
    evaluation = COCOeval(truth, truth.loadRes(answers), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_files_have_every_coco_field(root):
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


def test_same_seed_gives_the_same_bytes_with_any_number_of_processes(root, tmp_path):
    make_coco_small(tmp_path / "again", seed=SEED, train_images=COUNTS["train"], val_images=COUNTS["val"], workers=3)
    assert all_bytes(tmp_path / "again") == all_bytes(root)


def test_another_seed_gives_other_images(root, tmp_path):
    make_coco_small(tmp_path / "other", seed=SEED + 1, train_images=3, val_images=1, workers=1)
    for path, content in all_bytes(tmp_path / "other").items():
        assert content != (root / path).read_bytes()


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    make_coco_small(root, train_images=1, val_images=1)
    before = all_bytes(root)
    with pytest.raises(DetrLiteError, match=f"{root} exists and is not an empty folder"):
        make_coco_small(root, train_images=1, val_images=1)
    assert all_bytes(root) == before


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "set").write_text("mine")
    with pytest.raises(DetrLiteError, match="not an empty folder"):
        make_coco_small(tmp_path / "set", train_images=1, val_images=1)
    with pytest.raises(DetrLiteError, match="cannot be written"):
        make_coco_small(tmp_path / "set" / "inside", train_images=1, val_images=1)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_interrupted_run_leaves_nothing(tmp_path, monkeypatch, workers):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(synthetic, "_write_json", interrupt)
    with pytest.raises(KeyboardInterrupt):
        make_coco_small(tmp_path / "set", train_images=2, val_images=1, workers=workers)
    assert list(tmp_path.iterdir()) == []


def test_a_drawing_process_that_fails_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(synthetic.sys, "executable", "false")
    with pytest.raises(DetrLiteError, match="a drawing process ended with code 1"):
        make_coco_small(tmp_path / "set", train_images=2, val_images=1, workers=2)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("other_is_complete", [True, False])
def test_a_second_process_that_was_faster_wins(tmp_path, monkeypatch, other_is_complete):
    root = tmp_path / "set"

    def provenance_while_another_finishes(records, seed):
        root.mkdir()
        (root / ("provenance.json" if other_is_complete else "photo.jpg")).write_text("another's")
        return {}

    monkeypatch.setattr(synthetic, "_provenance", provenance_while_another_finishes)
    if other_is_complete:
        make_coco_small(root, train_images=1, val_images=1)
    else:
        with pytest.raises(DetrLiteError, match="cannot be written"):
            make_coco_small(root, train_images=1, val_images=1)
    assert [path.read_text() for path in root.iterdir()] == ["another's"]
    assert list(tmp_path.iterdir()) == [root]


def test_progress_without_a_terminal_is_plain_lines(tmp_path, capsys):
    make_coco_small(tmp_path / "set", train_images=6, val_images=2)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"Drawing 8 images into {tmp_path / 'set'} (once)"
    assert lines[1:] == [f"  {done} of 8 images" for done in (2, 4, 6, 8)]


def test_drawing_processes_do_not_load_torch():
    check = "import sys, detr_lite.data.rendering; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.slow
def test_a_script_needs_no_main_guard(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from detr_lite.data.synthetic import make_coco_small\n"
        "print('once')\n"
        "make_coco_small(Path('set'), train_images=4, val_images=2, workers=2)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(synthetic.__file__).parents[2])}
    ran = subprocess.run(
        [sys.executable, str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "once\n"
    assert len(list((tmp_path / "set" / "train").iterdir())) == 4
