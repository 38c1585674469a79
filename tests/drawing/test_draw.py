import itertools
import time

import numpy as np
import pytest
import torch
from PIL import Image

from detr_lite.drawing.boxes import class_color, draw_boxes, fit
from detr_lite.structures import Detections
from detr_lite.viz.guesses import draw_guesses

NAMES = ("cup", "plate", "a class with a rather long name")
GRAY, WHITE = (128, 128, 128), (255, 255, 255)


def detections(boxes_xyxy, labels, scores=None):
    count = len(labels)
    return Detections(
        torch.tensor(boxes_xyxy, dtype=torch.float32).reshape(count, 4),
        torch.ones(count) if scores is None else torch.tensor(scores),
        torch.tensor(labels, dtype=torch.long),
        torch.arange(count),
        NAMES,
    )


def drawn(size, boxes_xyxy, labels, scores=None):
    found = detections(boxes_xyxy, labels, scores)
    picture = draw_boxes(
        Image.new("RGB", size, GRAY), found.boxes_xyxy, found.labels, NAMES, None if scores is None else found.scores
    )
    return np.asarray(picture)


def is_color(pixels, color):
    return (pixels == np.array(color)).all(axis=-1)


def test_colors_differ():
    colors = [np.array(class_color(label)) for label in range(20)]
    assert min(np.abs(a - b).sum() for a, b in itertools.combinations(colors, 2)) > 50
    assert class_color(23) == class_color(3)


def test_the_edge_of_a_box_has_the_color_of_its_class_and_the_inside_is_the_image():
    pixels = drawn((300, 200), [[50, 60, 150, 160]], [1])
    edges = pixels[60, 55:145], pixels[160, 55:145], pixels[65:155, 50], pixels[65:155, 150]
    assert all(is_color(edge, class_color(1)).all() for edge in edges)
    assert is_color(pixels[65:155, 55:145], GRAY).all()
    assert is_color(pixels[165:, :], GRAY).all()


def test_the_tag_is_above_the_box_and_legible():
    pixels = drawn((300, 200), [[50, 60, 150, 160]], [1], [0.5])
    above = pixels[:60]
    tag = ~is_color(above, GRAY)
    rows, columns = np.flatnonzero(tag.any(axis=1)), np.flatnonzero(tag.any(axis=0))
    assert columns[0] == 50
    assert rows[-1] == 59
    assert 8 < np.ptp(rows) < 30
    text = above[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    luma = text @ np.array([0.299, 0.587, 0.114])
    assert np.ptp(luma) > 100, "text and tag contrast"
    assert is_color(text, class_color(1)).mean() > 0.4, "text does not fill the tag"


def test_the_score_is_drawn():
    without, with_score = (drawn((300, 200), [[50, 60, 150, 160]], [0], scores) for scores in (None, [0.87]))
    assert is_color(with_score, class_color(0)).sum() > is_color(without, class_color(0)).sum() + 100


@pytest.mark.parametrize("corner", [(0, 0), (295, 0), (0, 195), (295, 195), (295, 100), (150, 195)])
def test_a_tag_at_the_edge_stays_in_the_image(corner):
    x, y = corner
    at_the_edge, in_the_middle = (drawn((300, 200), [[x, y, x + 4, y + 4]], [1]) for x, y in ((x, y), (150, 100)))
    painted = [(~is_color(pixels, GRAY)).sum() for pixels in (at_the_edge, in_the_middle)]
    assert painted[0] >= painted[1] - 5 * 5, "at most the small box is under its tag"


def test_tags_of_equal_boxes_do_not_hide_each_other():
    box_xyxy = [100, 80, 200, 160]
    together = drawn((300, 200), [box_xyxy] * 3, [0, 1, 2])
    for label in range(3):
        tag = is_color(drawn((300, 200), [box_xyxy], [label]), class_color(label)).sum() - 2 * (100 + 80)
        assert is_color(together, class_color(label)).sum() >= 0.9 * tag


def test_the_best_box_is_on_top():
    pixels = drawn((300, 200), [[50, 60, 150, 160]] * 2, [1, 0])
    assert is_color(pixels[160, 50:150], class_color(1)).all()


def test_lines_and_text_grow_with_the_image():
    small = drawn((200, 200), [[50, 50, 150, 150]], [0])
    large = drawn((2000, 2000), [[500, 500, 1500, 1500]], [0])
    assert is_color(small[100], class_color(0)).sum() <= 2
    assert is_color(large[1000], class_color(0)).sum() >= 8


@pytest.mark.parametrize("objects", [0, 1, 7])
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_copy_is_drawn_on_whatever_the_mode(objects, mode):
    image = Image.new(mode, (60, 40))
    before = image.tobytes()
    found = detections([[5.0, 5.0, 30.0, 30.0]] * objects, [0] * objects)
    picture = draw_boxes(image, found.boxes_xyxy, found.labels, NAMES)
    assert (picture.mode, picture.width) == ("RGB", 60)
    assert (picture.height == 40) == (objects < 7), "a legend below many"
    assert image.tobytes() == before
    assert (np.asarray(picture).any()) == (objects > 0)


def test_boxes_without_names_without_area_and_out_of_the_image():
    boxes_xyxy = torch.tensor([[-50.0, -50.0, 500.0, 500.0], [20.0, 20.0, 20.0, 20.0], [900.0, 5.0, 990.0, 9.0]])
    picture = draw_boxes(Image.new("RGB", (64, 48), GRAY), boxes_xyxy, torch.tensor([0, 1, 2]), class_names=())
    pixels = np.asarray(picture)
    assert is_color(pixels[40:, 0], class_color(0)).any()
    assert draw_boxes(Image.new("RGB", (3, 2)), boxes_xyxy, torch.tensor([0, 1, 2]), NAMES).size == (3, 2)


def test_fit_scales_image_and_boxes_together():
    image = Image.new("RGB", (40, 20))
    image.paste(WHITE, (10, 5, 20, 15))
    enlarged, boxes_xyxy = fit(image, torch.tensor([[10.0, 5.0, 20.0, 15.0]]), 400)
    assert enlarged.size == (400, 200)
    assert boxes_xyxy.tolist() == [[100, 50, 200, 150]]
    bright = np.asarray(enlarged.convert("L")) > 127
    assert bright[52:148, 102:198].all()  # Lanczos rounds the corners
    assert not bright[:50].any()
    assert not bright[:, :100].any()
    assert bright.sum() == pytest.approx(100 * 100, rel=0.01)
    reduced, no_boxes = fit(image, torch.zeros(0, 4), 4)
    assert reduced.size == (4, 2)
    assert no_boxes.shape == (0, 4)


def test_a_box_is_visible_on_an_image_of_its_own_color():
    own = class_color(0)
    picture = draw_boxes(Image.new("RGB", (300, 200), own), torch.tensor([[50.0, 60, 150, 160]]), torch.tensor([0]), ())
    pixels = np.asarray(picture).astype(int)
    seen = np.abs(pixels - np.array(own)).sum(axis=-1) > 150
    assert seen[110, 50:55].any(), "left"
    assert seen[110, 146:151].any(), "right"
    assert seen[156:161, 100].any(), "bottom"
    assert not seen[65:155, 55:145].any()


@pytest.mark.parametrize("label", range(20))
def test_the_text_of_a_tag_is_legible_on_every_color(label):
    picture = draw_boxes(
        Image.new("RGB", (300, 200)), torch.tensor([[50.0, 60, 150, 160]]), torch.tensor([label]), ["HHH"] * 20
    )
    pixels = np.asarray(picture)[48:60, 50:80] / 255
    linear = np.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    tag = ((np.array(class_color(label)) / 255 + 0.055) / 1.055) ** 2.4 @ np.array([0.2126, 0.7152, 0.0722])
    contrast = max((luminance.max() + 0.05) / (tag + 0.05), (tag + 0.05) / (luminance.min() + 0.05))
    assert contrast >= 3, "WCAG's minimum for large text"


@pytest.mark.parametrize(
    ("size", "drawn_size"),
    [((64, 48), (512, 384)), ((1, 1), (480, 480)), ((479, 100), (958, 200)), ((480, 9), (480, 9)), ((900, 700),) * 2],
)
def test_small_images_are_enlarged_for_labels(size, drawn_size):
    width, height = size
    found = detections([[0.25 * width, 0.5 * height, 0.75 * width, height]], [0], [0.9])
    picture = found.draw(Image.new("RGB", size, GRAY))
    assert picture.size == drawn_size
    below = is_color(np.asarray(picture)[-(drawn_size[1] // 4 + 1) :], class_color(0))
    columns = np.flatnonzero(below.any(axis=0))
    assert columns[0] == pytest.approx(0.25 * drawn_size[0], abs=2)
    assert columns[-1] == pytest.approx(0.75 * drawn_size[0], abs=2)


def test_labels_leave_most_of_a_small_image_visible():
    found = detections([[6, 9, 25, 28], [32, 14, 60, 43], [3, 33, 19, 47], [38, 2, 48, 9]], [0, 1, 0, 1], [0.9] * 4)
    picture = found.draw(Image.new("RGB", (64, 48), GRAY))
    assert is_color(np.asarray(picture), GRAY).mean() > 0.85


def crowd(count, classes=3):
    """Objects that nearly touch, in an image of 400 x 300 pixels."""
    columns = 10
    boxes = [[(i % columns) * 40, (i // columns) * 40 + 20, (i % columns) * 40 + 36, (i // columns) * 40 + 56]
             for i in range(count)]  # fmt: skip
    return detections(boxes, [i % classes for i in range(count)], [0.9 - 0.01 * i for i in range(count)])


def test_a_crowd_has_short_labels_and_a_legend_below_the_image():
    found = crowd(40)
    image = Image.new("RGB", (400, 300), GRAY)
    few = draw_boxes(image, *list_of(found[:5]))
    many = draw_boxes(image, *list_of(found))
    assert few.size == (400, 300)
    assert many.width == 400
    assert 300 < many.height < 400
    pixels = np.asarray(many)
    assert is_color(pixels[:300], GRAY).mean() > 0.4, "most of the image is visible"
    legend = pixels[300:]
    assert is_color(legend, WHITE).mean() > 0.5
    assert all(is_color(legend, class_color(label)).sum() > 50 for label in range(3))


def test_a_crowd_of_one_class_has_no_labels_at_all():
    pixels = np.asarray(draw_boxes(Image.new("RGB", (400, 300), GRAY), *list_of(crowd(40, classes=1))))
    inside = [pixels[row * 40 + 24 : row * 40 + 52, column * 40 + 4 : column * 40 + 32] for row in range(4)
              for column in range(10)]  # fmt: skip
    assert all(is_color(part, GRAY).all() for part in inside)
    assert is_color(pixels[300:], class_color(0)).any()


def list_of(found):
    return found.boxes_xyxy, found.labels, NAMES, found.scores


def test_a_hundred_boxes_are_drawn_within_a_fraction_of_a_second():
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(100, 2, generator=generator) * torch.tensor([560.0, 400.0])
    boxes_xyxy = torch.cat([corners, corners + 10 + 50 * torch.rand(100, 2, generator=generator)], dim=1)
    image, labels = Image.new("RGB", (640, 480)), torch.arange(100) % 3
    draw_boxes(image, boxes_xyxy, labels, NAMES, torch.ones(100))
    start = time.process_time()
    first = draw_boxes(image, boxes_xyxy, labels, NAMES, torch.ones(100))
    assert time.process_time() - start < 0.5
    assert draw_boxes(image, boxes_xyxy, labels, NAMES, torch.ones(100)).tobytes() == first.tobytes()


def test_guesses_are_dashed_with_hollow_labels_and_a_caption():
    found = detections([[50, 60, 450, 260]], [1], [0.31])
    image = Image.new("RGB", (600, 400), GRAY)
    solid, guess = np.asarray(found.draw(image)), np.asarray(draw_guesses(image, found, 0.5))
    assert solid.shape == (400, 600, 3)
    assert guess.shape[0] > 415, "a caption below the image"
    assert not is_color(guess[402:, 300:302], GRAY).any()
    for row in (60, 260):
        assert is_color(solid[row, 52:448], class_color(1)).all()
        share = is_color(guess[row, 52:448], class_color(1)).mean()
        assert 0.3 < share < 0.7
    assert is_color(guess[:60], WHITE).sum() > 300 > is_color(solid[:60], WHITE).sum()
