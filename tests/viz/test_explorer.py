"""The text of the explorer's page: exact weights, its size, escaped names, and no external resources."""

import base64
import json
import re
import shutil
import subprocess
import sys
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detr_lite.build import build_model
from detr_lite.config import ModelConfig
from detr_lite.structures import Batch, Detections
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.viz.explorer.quantize import quantize_rows
from detr_lite.viz.explorer.scene import pack_scene
from tests.helpers.fake_attention import NAMES, found, maps, picture, truth

PROJECT = Path(__file__).resolve().parents[2]


def rows_in(text, length):
    """Weights (row, column) as the page decodes them."""
    data = zlib.decompress(base64.b64decode(text))
    count = len(data) // (length + 4)
    peaks = np.frombuffer(data[: 4 * count], "<f4")
    codes = np.frombuffer(data[4 * count :], np.uint8).reshape(count, length)
    return codes / 255 * peaks[:, None].astype(np.float64)


def assert_exact(rows, weights):
    """To 1/255 of each row's maximum (to half of it, in fact)."""
    weights = weights.reshape(rows.shape).numpy().astype(np.float64)
    assert (np.abs(rows - weights) <= weights.max(axis=1, keepdims=True) * (0.5 / 255 + 1e-6)).all()


def pack(attention=None, detections=None, image=None, **options):
    detections = found() if detections is None else detections  # empty detections are falsy
    return pack_scene("a.jpg", image or picture(), detections, attention or maps(), **options)


def metadata_in(page):
    return json.loads(re.search(r'id="metadata">(.*?)</script>', page, re.DOTALL)[1])


@pytest.mark.parametrize("spread", [1, 20, 200])
def test_rows_are_exact_to_a_255th_of_their_peak(spread):
    weights = (spread * torch.randn(2, 5, 300, generator=torch.Generator().manual_seed(1))).softmax(-1)
    quantized = quantize_rows(weights)
    assert_exact(quantized.dequantize(), weights)
    assert_exact(rows_in(quantized.to_base64(), 300), weights)
    np.testing.assert_array_equal(quantized.peaks, weights.amax(-1).flatten())
    rows = weights.view(-1, 300).numpy()
    np.testing.assert_array_equal(quantized.codes, np.rint(255 * (rows / rows.max(1, keepdims=True))))


def test_rows_of_nothing_and_of_one_column():
    assert quantize_rows(torch.zeros(2, 3)).dequantize().tolist() == [[0, 0, 0], [0, 0, 0]]
    assert quantize_rows(torch.ones(2, 1)).dequantize().tolist() == [[1], [1]]
    assert quantize_rows(torch.full((1, 4), 0.25).bfloat16()).dequantize().tolist() == [[0.25] * 4]
    assert quantize_rows(torch.zeros(0, 4)).dequantize().shape == (0, 4)


def test_rows_that_exceed_the_limit():
    quantized = quantize_rows(torch.rand(300, 4000))
    text = quantized.to_base64()
    assert quantized.to_base64(float(len(text))) == text
    assert quantized.to_base64(len(text) - 1.0) is None
    assert quantized.to_base64(100.0) is None


def test_a_scene_holds_every_weight():
    attention = maps()
    scene = pack(attention)
    assert scene.left_out == ()
    assert sorted(scene.metadata["includedQueries"]) == list(range(6))
    assert scene.metadata["includedQueries"][:3] == [3, 1, 5], "queries with detections come first"
    cross = attention.cross[:, 0].permute(2, 0, 1, 3)[scene.metadata["includedQueries"]]  # query, layer, head, token
    assert_exact(rows_in(scene.blobs["cross-attention"], 100), cross)
    assert_exact(rows_in(scene.blobs["self-attention"], 6), attention.queries[:, 0])
    for layer in range(2):
        assert_exact(rows_in(scene.blobs[f"encoder-{layer}"], 20), attention.encoder[layer, 0].mean(0))


def test_padding_is_left_out():
    grid = torch.zeros(8, 10, dtype=torch.bool)
    grid[:, 7:], grid[6:] = True, True
    coarse = torch.zeros(4, 5, dtype=torch.bool)
    coarse[:, 4:], coarse[3:] = True, True
    is_padding = torch.cat([grid.flatten(), coarse.flatten()])
    attention = maps(spans=((7.0, 5.5), (3.5, 2.75)))
    attention = replace(attention, is_padding=is_padding[None], cross=attention.cross.masked_fill(is_padding, 0))
    scene = pack(attention)
    sizes = [tuple(level.values()) for level in scene.metadata["levels"]]
    assert sizes == [(7, 6, 7, 5.5), (4, 3, 3.5, 2.75)]
    assert [level["width"] for level in scene.metadata["encoderLevels"]] == [4]
    by_query = attention.cross[:, 0, :, :, ~is_padding].permute(2, 0, 1, 3)[scene.metadata["includedQueries"]]
    assert_exact(rows_in(scene.blobs["cross-attention"], 42 + 12), by_query)
    is_image = ~coarse.flatten()
    first = attention.encoder[0, 0].mean(0)[is_image][:, is_image]
    assert_exact(rows_in(scene.blobs["encoder-0"], 12), first)


def noise_photograph(width, height):
    """A photograph with a sensor's noise: which compresses badly."""
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((width, height), 3)
    return Image.fromarray(
        (np.asarray(smooth) + generator.normal(0, 12, (height, width, 3))).clip(0, 255).astype(np.uint8)
    )


@pytest.mark.slow
def test_a_page_of_the_originals_size_is_under_8_megabytes(capsys):
    """6 + 6 layers, 8 heads, 100 queries, an 800 x 600 image at stride 32; random weights compress badly."""
    torch.manual_seed(0)
    config = ModelConfig(
        name="detr",
        pretrained=False,
        strides=(32,),
        dim=256,
        heads=8,
        feedforward_dim=64,
        num_queries=100,
        encoder_layers=6,
        decoder_layers=6,
    )
    model = build_model(config, classes=90).eval()
    photograph = noise_photograph(800, 600)
    pixels = torch.from_numpy(np.array(photograph)).permute(2, 0, 1) / 64 - 2
    with torch.no_grad():
        attention = model(Batch.from_images([pixels]), need_attention=True).attention
    assert attention.cross.shape == (6, 1, 8, 100, 25 * 19)
    boxes = torch.rand(100, 4).sort(dim=1).values * 600
    detections = Detections(boxes, torch.linspace(0.9, 0, 100), torch.arange(100) % 90, torch.arange(100))
    scene = pack_scene("a.jpg", photograph, detections, attention)
    page = explorer_page([scene], [f"class {number}" for number in range(90)])
    assert scene.left_out == ()
    assert scene.metadata["selfAttentionHeads"] == 8
    with capsys.disabled():
        print(f" {len(page) / 1e6:.2f} MB", end="")
    assert len(page) < 8_000_000

    # The worst case: uniformly distributed codes do not compress.
    worst = replace(attention, cross=torch.rand_like(attention.cross), encoder=torch.rand_like(attention.encoder))
    scene = pack_scene("a.jpg", photograph, detections, worst)
    assert scene.left_out == ()
    assert len(explorer_page([scene], [])) < 8_000_000


@pytest.mark.parametrize("budget", [259_000, 279_000, 314_000, 354_000])
def test_what_exceeds_the_budget_is_left_out(budget):
    """Two levels, 24 x 32 and 12 x 16 tokens: 960 in a row."""
    attention = maps(2, 2, 40, 3, grids=((24, 32), (12, 16)), spans=((32.0, 24.0), (16.0, 12.0)))
    detections = found((0.9, 0.8, 0.6, 0.2))
    scene = pack(attention, detections, budget=budget)
    page = explorer_page([scene], NAMES)
    assert len(page) < budget
    included = scene.metadata["includedQueries"]
    assert 0 < len(included) < 40
    assert included[:4] == [3, 1, 5, 0][: len(included)], "queries with detections first, by score"
    assert scene.metadata["leftOut"] == list(scene.left_out)
    assert f"cross-attention of {40 - len(included)} of 40 queries" in scene.left_out[-1]
    encoder = [key for key in scene.blobs if key.startswith("encoder")]
    assert encoder == [f"encoder-{layer}" for layer in range(scene.metadata["firstEncoderLayer"], 3)]
    assert ("3 of 3 encoder layers" in str(scene.left_out)) == (not encoder)
    assert_exact(rows_in(scene.blobs["cross-attention"], 960), attention.cross[:, 0].permute(2, 0, 1, 3)[included])


def test_no_budget_at_all():
    scene = pack(budget=1)
    assert scene.metadata["includedQueries"] == []
    assert scene.metadata["selfAttentionHeads"] == 0
    assert len(scene.left_out) == 3
    explorer_page([scene], NAMES)


def test_a_larger_budget_includes_more():
    attention = maps(2, 2, 40, 1, grids=((24, 32),), spans=((32.0, 24.0),))
    included = [
        len(pack(attention, budget=budget).metadata["includedQueries"])
        for budget in (249_000, 269_000, 329_000, 6_000_000)
    ]
    assert included == sorted(included)
    assert included[0] < included[-1] == 40


NASTY = "</script><script>alert(1)</script><!-- & \" ' ` ${x} \u2028 <img src=x onerror=alert(2)>"


def test_names_cannot_inject_markup():
    names = (NASTY, "plate", "spoon")
    true = replace(truth(), class_names=(NASTY, "<b>"))
    scene = pack_scene(NASTY, picture(), found(names=names), maps(), true)
    page = explorer_page([scene], names)
    plain = explorer_page([pack()], NAMES)
    for mark in ("<script", "</script", "<!--", "<img", "<b>"):
        assert page.count(mark) == plain.count(mark), mark
    metadata = metadata_in(page)
    assert metadata["classes"][0]["name"].startswith("</script><script>alert(1)")
    assert metadata["scenes"][0]["name"].startswith("</script>")
    assert "\u2028" not in page


def test_no_script_makes_elements_of_text():
    for file in (PROJECT / "detr_lite/viz/explorer/static").glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b", file.read_text()), file


def test_the_page_has_no_external_resources():
    page = explorer_page([pack(), pack()], NAMES)
    markup = re.sub(r'(<script type="[^"]*"[^>]*>).*?(</script>)', r"\1\2", page, flags=re.DOTALL)
    assert not re.search(r"https?:|//\w+\.\w+|@import|fetch\(|XMLHttpRequest|WebSocket|import\(", markup)
    assert re.findall(r'(?:src|href)="([^"]*)"', markup) == ["data:,"]
    assert "default-src 'none'" in markup
    assert "<!-- data -->" not in page
    for file in (PROJECT / "detr_lite/viz/explorer/static").iterdir():
        if file.name != "index.html":
            assert page.count(file.read_text()) == 1, f"{file.name} is in the page once"


def test_the_same_scenes_give_the_same_page():
    assert explorer_page([pack(truth=truth())], NAMES, 0.3) == explorer_page([pack(truth=truth())], NAMES, 0.3)


def test_metadata_of_an_image():
    image = Image.new("RGB", (1600, 1200), (9, 9, 9))
    metadata = metadata_in(explorer_page([pack(image=image, truth=truth())], NAMES, 0.25, layer=1, head=2))
    assert (metadata["threshold"], metadata["layer"], metadata["head"]) == (0.25, 1, 2)
    assert [entry["name"] for entry in metadata["classes"]] == ["cup", "plate", "spoon", "jug"], (
        "the ground truth's own is added"
    )
    (scene,) = metadata["scenes"]
    assert (scene["width"], scene["height"]) == (1600, 1200), "boxes are in pixels of the original"
    assert scene["detections"]["boxes"][0] == [20, 20, 70, 60]
    assert scene["detections"]["queries"] == [3, 1, 5, 0]
    assert scene["truth"] == {"boxes": [[22, 21, 71, 62], [1, 1, 9, 9]], "names": ["cup", "jug"]}


@pytest.mark.parametrize(
    ("size", "shown"), [((1600, 1200), (800, 600)), ((300, 1000), (240, 800)), ((50, 40), (50, 40))]
)
def test_pictures_have_at_most_800_pixels_and_are_never_enlarged(tmp_path, size, shown):
    uri = pack(image=Image.new("L", size)).blobs["picture"]
    (tmp_path / "a.jpg").write_bytes(base64.b64decode(uri.removeprefix("data:image/jpeg;base64,")))
    with Image.open(tmp_path / "a.jpg") as image:
        assert (image.size, image.mode) == (shown, "RGB")


def test_classes_without_names():
    metadata = metadata_in(explorer_page([pack(detections=found(names=()))], ()))
    assert [entry["name"] for entry in metadata["classes"]] == ["class 0", "class 1", "class 2"]


def test_every_query_has_its_own_box_and_best_class():
    own = found((0.7, 0.5, 0.1))
    own = replace(own, queries=torch.tensor([0, 2, 4]), boxes_xyxy=own.boxes_xyxy + 1)
    summaries = pack(by_query=own).metadata["querySummaries"]
    assert len(summaries) == 6
    assert summaries[4] == {"box": [101, 61, 121, 81], "label": 2, "score": 0.1}
    assert summaries[0]["score"] == pytest.approx(0.7), "rather than its detection"
    assert summaries[3] == {"box": [20, 20, 70, 60], "label": 0, "score": 0.9}, "of its detection"
    twice = replace(found(), queries=torch.tensor([3, 3, 3, 0]))
    assert pack(detections=twice).metadata["querySummaries"][3]["score"] == pytest.approx(0.9), "the best of three"
    assert pack(detections=twice).metadata["querySummaries"][1] is None


def test_an_image_without_true_objects():
    nothing = found((), ("cup",))
    metadata = metadata_in(explorer_page([pack(truth=nothing)], NAMES))
    assert metadata["scenes"][0]["truth"] == {"boxes": [], "names": []}


@pytest.mark.parametrize("count", [0, 1])
def test_without_detections_encoder_layers_or_more_than_one_of_anything(count):
    attention = maps(1, 1, 1, 0, grids=((1, 1),), spans=((1.0, 0.4),))
    detections = Detections(
        *(value[:count] for value in (torch.ones(1, 4), torch.ones(1), torch.zeros(1).long(), torch.zeros(1).long()))
    )
    scene = pack(attention, detections)
    assert scene.left_out == ()
    assert scene.metadata["includedQueries"] == [0]
    assert metadata_in(explorer_page([scene], ()))["scenes"][0]["encoderLayers"] == 0


def test_a_wheel_has_the_pages_parts(tmp_path):
    pytest.importorskip("setuptools")
    source = tmp_path / "source"  # building writes files beside the source
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, source)
    shutil.copytree(PROJECT / "detr_lite", source / "detr_lite", ignore=shutil.ignore_patterns("__pycache__"))
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, tmp_path], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for folder in ("detr_lite/viz/explorer/static", "detr_lite/viz/pages/static"):
        for file in (PROJECT / folder).iterdir():
            assert f"{folder}/{file.name}" in names
