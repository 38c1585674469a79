"""Curves of attention metrics over the layers."""

from pathlib import Path

import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from detr_lite.evaluation.attention_metrics import MEASURES, AttentionMeter, AttentionMetrics
from detr_lite.viz.figures.attention_curves import plot_attention_curves


def random_metrics(layers: int, heads: int) -> AttentionMetrics:
    random = torch.Generator().manual_seed(0)
    measured = {name: torch.rand(layers, heads + 1, generator=random) for name in MEASURES}
    return AttentionMetrics(7, 0.05, 0.06, 6.5, apart=torch.ones(layers), **measured)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are saved."""
    figures: list[Figure] = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *w, **k: figures.append(figure) or save(figure, *w, **k))
    return figures


@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (3, 4), (6, 8)])
@pytest.mark.slow
def test_each_panel_has_a_line_for_each_head_their_mean_and_uniform_attention(
    drawn: list[Figure], tmp_path: Path, layers: int, heads: int
) -> None:
    metrics = random_metrics(layers, heads)
    plot_attention_curves(metrics, tmp_path / "curves.png")
    assert min(Image.open(tmp_path / "curves.png").size) > 800
    (figure,) = drawn
    uniforms = (0.05, 0.05, 1.0, 0.06)
    panels: list[Axes] = figure.axes
    for axes, name, uniform in zip(
        panels, ("inside", "pointing", "entropy_share", "near_edges"), uniforms, strict=True
    ):
        *lines, dashed = axes.lines
        assert [list(line.get_ydata()) for line in lines] == getattr(metrics, name).T.tolist()
        assert list(dashed.get_ydata()) == [uniform, uniform]
        assert axes.get_ylim()[1] >= max(uniform, getattr(metrics, name).max().item())
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [*(f"head {h}" for h in range(heads)), "mean of heads"]


def test_no_objects(drawn: list[Figure], tmp_path: Path) -> None:
    plot_attention_curves(AttentionMeter().compute(), tmp_path / "curves.png")
    assert [axes.texts[0].get_text() for axes in drawn[0].axes] == ["no objects"] * 4
