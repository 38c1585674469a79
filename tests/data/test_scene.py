from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from detr_lite.data.synthetic.painting import LEAST_CONTRAST, MAX_TEXTURE, paint
from detr_lite.data.synthetic.rendering import draw_image, draw_scene
from detr_lite.data.synthetic.shapes import CATEGORY_IDS, silhouette, tight_box_xywh

SPLITS = ("train", "val")


@pytest.fixture(scope="module")
def scenes():
    """The first images of the default set."""
    return {split: [draw_scene(0, split, index) for index in range(160)] for split in SPLITS}


@pytest.fixture(scope="module")
def images():
    return [draw_image(0, "train", index) for index in range(60)]


def objects_of(scenes):
    """(object, scene) of everything but crowds."""
    return [(shape, scene) for scene in scenes for shape in scene.objects if not shape.is_crowd]


def visible_masks(scene):
    """The painter's algorithm on entire images, as a reference."""
    top = np.full((scene.height, scene.width), -1)
    for number, stamp in enumerate([*(shape.stamp for shape in scene.objects), *scene.above]):
        mask = np.zeros(top.shape, bool)
        mask[stamp.top : stamp.top + stamp.alpha.shape[0], stamp.left : stamp.left + stamp.alpha.shape[1]] = stamp.mask
        top[mask] = number
    return [top == number for number in range(len(scene.objects))]


def box_of(mask):
    rows, columns = np.nonzero(mask)
    return [columns.min(), rows.min(), columns.max() - columns.min() + 1, rows.max() - rows.min() + 1]


def test_boxes_enclose_the_pixels_of_their_objects():
    """Without the topmost object, pixels change inside of its box, up to each of its edges."""
    compared = 0
    for index in range(12):
        scene = draw_scene(0, "train", index)
        *others, topmost = scene.objects
        with_it = paint(replace(scene, above=()), np.random.default_rng(1))
        # An invisible stamp instead of none, so that the other stamps keep their random generators.
        nothing = replace(topmost.stamp, alpha=np.zeros_like(topmost.stamp.alpha))
        without = paint(
            replace(scene, above=(), objects=(*others, replace(topmost, stamp=nothing))), np.random.default_rng(1)
        )
        if topmost.visible_share == 1:
            # Pixels on the outline are partly of the background.
            has_changed = np.abs(with_it - without).max(axis=2) > 0
            assert np.abs(np.array(box_of(has_changed)) - topmost.box_xywh).max() <= 2
            compared += 1
    assert compared >= 6


@pytest.mark.slow
def test_objects_have_contrast_with_their_surroundings():
    distances = []
    for scene in filter(lambda scene: scene.objects, (draw_scene(0, "val", index) for index in range(30))):
        canvas = paint(replace(scene, above=()), np.random.default_rng(0))
        stamp = scene.objects[-1].stamp
        is_outside = np.zeros(canvas.shape[:2], bool)
        rows, columns = stamp.region
        is_outside[max(rows.start - 4, 0) : rows.stop + 4, max(columns.start - 4, 0) : columns.stop + 4] = True
        is_outside[stamp.region] = stamp.alpha == 0
        color = canvas[stamp.region][stamp.alpha == 255].mean(axis=0)
        distances.append(np.median(np.linalg.norm(canvas[is_outside] - color, axis=1)))
    assert min(distances) > 0.75 * LEAST_CONTRAST
    assert min(distances) < 1.6 * LEAST_CONTRAST, "some objects are faint"


def test_a_given_color_is_that_of_its_object_and_a_given_background_that_of_the_rest():
    """Up to textures, whose means are near zero."""
    color, background = (200.0, 40.0, 90.0), (120.0, 130.0, 110.0)
    for index in range(6):
        scene = draw_scene(0, "train", index)
        first, *others = scene.objects
        colored = replace(first, stamp=replace(first.stamp, color=color))
        scene = replace(scene, objects=(*others, colored), beneath=(), above=(), background=background)
        canvas = paint(scene, np.random.default_rng(0))
        inside = canvas[first.stamp.region][first.stamp.alpha == 255]
        np.testing.assert_allclose(np.median(inside, axis=0), color, atol=MAX_TEXTURE)
        is_outside = np.logical_and.reduce([~mask for mask in visible_masks(scene)])
        assert np.linalg.norm(canvas[is_outside].mean(axis=0) - background) < 25


def test_color_and_texture_do_not_depend_on_the_category():
    scene = next(scene for scene in (draw_scene(0, "train", i) for i in range(20)) if len(scene.objects) > 3)
    renamed = replace(scene, objects=tuple(replace(shape, category="any") for shape in scene.objects))
    np.testing.assert_array_equal(paint(scene, np.random.default_rng(0)), paint(renamed, np.random.default_rng(0)))


def test_mean_colors_do_not_differ_between_categories(images):
    colors = {name: [] for name in CATEGORY_IDS}
    for image in images:
        for shape, mask in zip(image.scene.objects, visible_masks(image.scene), strict=True):
            colors[shape.category].append(image.pixels[mask].mean(axis=0))
    everything = np.concatenate(list(colors.values()))
    within = sum(((np.array(group) - np.mean(group, axis=0)) ** 2).sum(axis=0) for group in colors.values())
    between = ((everything - everything.mean(axis=0)) ** 2).sum(axis=0) - within
    # One-way analysis of variance; F exceeds 3.5 by chance with a probability of 0.0002.
    f_ratio = (between / 9) / (within / (len(everything) - 10))
    assert f_ratio.max() < 3.5


@pytest.mark.slow
def test_rotation_is_uniform(scenes):
    """A square rotated by t fills 1 / (1 + |sin 2t|) of its box; for uniform t the median is 0.586."""
    squares = [shape for shape, _ in objects_of(scenes["train"] + scenes["val"]) if shape.category == "square"]
    boxes = [tight_box_xywh(shape.stamp.mask) for shape in squares]
    fill = [shape.stamp.mask.sum() / (box[2] * box[3]) for shape, box in zip(squares, boxes, strict=True)]
    np.testing.assert_allclose(np.quantile(fill, [0.1, 0.5, 0.9]), [0.503, 0.586, 0.865], atol=0.06)


@pytest.mark.parametrize("split", SPLITS)
def test_image_sizes_and_numbers_of_objects(scenes, split):
    sizes = [(scene.width, scene.height) for scene in scenes[split]]
    assert min(map(min, sizes)) >= 128
    assert max(map(max, sizes)) == 256
    assert min(map(min, sizes)) < 140
    assert all(width != height for width, height in sizes)
    aspects = np.log2([width / height for width, height in sizes])
    assert np.abs(aspects).max() <= 1
    assert min((aspects > 0.3).mean(), (aspects < -0.3).mean()) > 0.07
    counts = Counter(sum(not shape.is_crowd for shape in scene.objects) for scene in scenes[split])
    assert set(counts) == set(range(13))
    assert counts[0] == len(sizes) * 0.05
    assert all(not scene.objects for scene in scenes[split][19::20])


@pytest.mark.parametrize("split", SPLITS)
def test_extents_are_log_uniform_up_to_60_percent_of_the_shorter_side(scenes, split):
    objects = objects_of(scenes[split])
    longest = np.array([0.6 * min(scene.width, scene.height) for _, scene in objects])
    extents = np.array([max(tight_box_xywh(shape.stamp.mask)[2:]) for shape, _ in objects])
    assert extents.min() == 10
    assert (extents <= longest).all()
    quantiles = np.quantile(np.log(extents / 10) / np.log(longest / 10), np.linspace(0, 1, 11))
    np.testing.assert_allclose(quantiles, np.linspace(0, 1, 11), atol=0.03)
    sides = np.array([shape.box_xywh[2:] for shape, _ in objects])
    assert sides.max(axis=1).min() >= 10
    assert (sides.max(axis=1) <= longest).all()
    area = sides.prod(axis=1)
    assert min((area < 32**2).mean(), (area > 96**2).mean()) >= 0.1


def test_boxes_enclose_the_visible_part_which_is_at_least_half(scenes):
    shares = []
    for scene in scenes["val"]:
        for shape, visible in zip(scene.objects, visible_masks(scene), strict=True):
            assert list(shape.box_xywh) == box_of(visible)
            shares.append(visible.sum() / shape.stamp.mask.sum())
            assert shape.visible_share == pytest.approx(shares[-1])
    assert min(shares) >= 0.5
    assert 0.08 < np.mean(np.array(shares) < 0.98) < 0.4


def test_there_are_as_many_visible_distractors_as_objects(scenes):
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


def test_jpeg_quality_spans_60_to_95(images):
    qualities = [image.jpeg_quality for image in images]
    assert min(qualities) >= 60
    assert max(qualities) <= 95
    assert max(qualities) - min(qualities) > 25


@pytest.mark.parametrize("category", CATEGORY_IDS)
@pytest.mark.parametrize("extent", [10, 37, 150])
def test_silhouette_has_the_given_extent(category, extent):
    for rotation in np.linspace(0, 2 * np.pi, 7):
        alpha = silhouette(category, extent, float(rotation), (0.2, -0.3))
        assert max(tight_box_xywh(alpha >= 128)[2:]) == extent


def test_unknown_category_is_refused():
    with pytest.raises(ValueError, match="blimp"):
        silhouette("blimp", 20, 0.0)


def test_tight_box_of_an_empty_mask_is_zero():
    assert tight_box_xywh(np.zeros((4, 5), bool)) == (0, 0, 0, 0)
