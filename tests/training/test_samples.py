"""The sample pictures of a run."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from detr_lite.build import build_model, build_postprocess
from detr_lite.config import Config
from detr_lite.data.dataset import DetectionDataset
from detr_lite.data.reading import read_split
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.training import samples
from detr_lite.viz.guesses import GUESSES


@pytest.fixture
def parts(tiny_config: Config, tiny_data: Path):
    torch.manual_seed(0)
    split = read_split(tiny_data, "val")
    images = DetectionDataset(split, evaluation_transform(ResizeRule("longest", 64)))
    names = [category.name for category in split.categories]
    return build_model(tiny_config.model, len(names)), build_postprocess(tiny_config.model, names), images


@pytest.mark.parametrize("threshold", [0.0, 0.999])
@pytest.mark.slow
def test_both_pictures_are_drawn_also_when_nothing_is_found(parts, tmp_path: Path, threshold: float) -> None:
    samples.draw_pictures(*parts, tmp_path, threshold)
    sizes = {path.name: Image.open(path).size for path in tmp_path.iterdir()}
    assert sorted(sizes) == ["attention.png", "samples.png"]
    assert min(side for size in sizes.values() for side in size) > 200


def drawn(parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threshold: float, **options: int):
    """The arguments of the two drawing functions."""
    sheet, figures = [], []
    samples_sheet, attention_figure = samples.samples_sheet, samples.attention_figure
    monkeypatch.setattr(samples, "samples_sheet", lambda *words: sheet.extend(words[0]) or samples_sheet(*words))

    def record(*words, **named):
        figures.append((*words, named))
        return attention_figure(*words, **named)

    monkeypatch.setattr(samples, "attention_figure", record)
    samples.draw_pictures(*parts, tmp_path, threshold, **options)
    return sheet, figures


@pytest.mark.slow
def test_images_are_evenly_spaced_in_the_split_with_their_true_boxes(parts, tmp_path, monkeypatch) -> None:
    sheet, _ = drawn(parts, tmp_path, monkeypatch, 0.5, count=2)
    assert [picture.size for picture, _, _ in sheet] == [(64, 48), (64, 64)]  # the first and the third of five
    records = parts[2].images
    for record, (_, truth, found) in zip((records[0], records[2]), sheet, strict=True):
        torch.testing.assert_close(truth.boxes_xyxy, torch.tensor(record.boxes_xyxy), atol=1e-3, rtol=0)
        assert truth.labels.tolist() == record.labels.tolist()
        assert truth.class_names == found.class_names == ("blue thing", "red thing", "green thing")


@pytest.mark.slow
def test_attention_is_drawn_for_the_first_image_with_detections(parts, tmp_path, monkeypatch) -> None:
    model, postprocess, images = parts

    class Sees(nn.Module):
        """Finds an object in the third image only."""

        def forward(self, batch, need_attention):
            output = model.eval()(batch, need_attention=need_attention)
            if batch.targets[0].image_id == 2:
                output.logits[..., 0, 1] = 9.0
            return output

    _, figures = drawn((Sees(), postprocess, images), tmp_path, monkeypatch, 0.9)
    picture, found, _, options = figures[-1]
    assert options == {"below": None}
    assert picture.size == (images.images[2].width, images.images[2].height)
    assert len(found) == 1


@pytest.mark.slow
def test_without_detections_the_attention_of_the_best_guesses_is_drawn(parts, tmp_path, monkeypatch) -> None:
    _, figures = drawn(parts, tmp_path, monkeypatch, 0.999)
    ((_, found, _, options),) = figures
    assert options == {"below": 0.999}
    assert len(found) == GUESSES
    assert found.scores.max() < 0.999
