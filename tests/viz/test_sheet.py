import numpy as np
import pytest
import torch
from PIL import Image
from test_draw import GRAY, WHITE, detections, is_color

from detr_lite.drawing.boxes import class_color
from detr_lite.viz import sheet as module
from detr_lite.viz.sheet import samples_sheet, side_by_side


@pytest.mark.parametrize("count", [0, 1, 7])
def test_a_grid_of_images_of_different_sizes(count):
    colors = [class_color(index) for index in range(count)]
    pairs = [
        (Image.new("RGB", (100 + 10 * index, 80), color), Image.new("RGB", (100 + 10 * index, 80), color))
        for index, color in enumerate(colors)
    ]
    pixels = np.asarray(side_by_side(pairs, columns=3))
    for (image, _), color in zip(pairs, colors, strict=True):
        assert is_color(pixels, color).sum() == 2 * image.width * image.height, "nothing covered, nothing cut"
    assert is_color(pixels[0], WHITE).all()
    assert (pixels < 100).any(), "titles are written"


def test_samples_show_ground_truth_left_and_predictions_above_the_threshold_right():
    image = Image.new("RGB", (100, 50), GRAY)
    truth = detections([[10, 20, 40, 45]], [0])
    prediction = detections([[10, 20, 40, 45], [50, 20, 90, 45]], [1, 2], [0.9, 0.2])
    pixels = np.asarray(samples_sheet([(image, truth, prediction)], threshold=0.5, panel=300))
    middle = pixels.shape[1] // 2
    assert is_color(pixels[:, :middle], class_color(0)).any()
    assert is_color(pixels[:, middle:], class_color(1)).any()
    assert not is_color(pixels[:, :middle], class_color(1)).any()
    assert not is_color(pixels, class_color(2)).any()
    assert samples_sheet([], threshold=0.5).width > 0


@pytest.fixture
def captions(monkeypatch):
    found, add_caption = [], module.add_caption

    def remember(picture, caption, size):
        found.append(caption)
        return add_caption(picture, caption, size)

    monkeypatch.setattr(module, "add_caption", remember)
    return found


TRUTH, NOTHING = detections([[10, 20, 40, 45]], [0]), detections([], [])
WEAK = detections([[10, 20, 40, 45]] * 7, [1] * 7, [0.4, 0.3, 0.2, 0.1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("truth", "prediction", "caption"),
    [
        (TRUTH, WEAK, "best guesses, below the threshold 0.50"),
        (TRUTH, NOTHING, "no score reaches 0.50"),
        (NOTHING, WEAK, "no score reaches 0.50"),
        (NOTHING, NOTHING, "no score reaches 0.50"),
        (TRUTH, detections([[10, 20, 40, 45]], [1], [0.5]), None),
    ],
)
def test_below_the_threshold_guesses_are_drawn_and_called_so_where_there_are_objects(
    captions, truth, prediction, caption
):
    pixels = np.asarray(samples_sheet([(Image.new("RGB", (100, 50), GRAY), truth, prediction)], 0.5, panel=300))
    assert captions == ([] if caption is None else [caption])
    is_drawn = is_color(pixels[:, pixels.shape[1] // 2 :], class_color(1)).any()
    assert is_drawn == (len(prediction) > 0 and len(truth) > 0)


def test_at_most_five_guesses(monkeypatch, captions):
    drawn, draw_boxes = [], module.draw_boxes
    monkeypatch.setattr(module, "draw_boxes", lambda *words: drawn.append(words) or draw_boxes(*words))
    samples_sheet([(Image.new("RGB", (100, 50)), TRUTH, WEAK)], 0.5)
    guess = next(words for words in drawn if words[-1] is True)
    torch.testing.assert_close(guess[4], torch.tensor([0.4, 0.3, 0.2, 0.1, 0.1]))
