import csv

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from detr_lite.evaluation.coco_map import ClassResult, CocoEvaluation, evaluate_detections
from detr_lite.structures import Category
from detr_lite.viz.curves import plot_pr_curves, plot_training_curves
from tests.helpers.random_detections import categories, random_case

HEADER = ("step", "epoch", "minutes", "lr", "loss", "loss_class", "loss_l1", "AP", "AP50", "AP75")


@pytest.fixture
def figures(monkeypatch):
    """Every figure that is saved."""
    saved, save = [], Figure.savefig

    def remember(figure, *args, **kwargs):
        saved.append(figure)
        return save(figure, *args, **kwargs)

    monkeypatch.setattr(Figure, "savefig", remember)
    return saved


def write_metrics(path, rows, header=HEADER):
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, header, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return path


def training_row(step):
    return {"step": step, "epoch": step // 10, "minutes": step / 60, "lr": 1e-3} | {
        "loss": 10 / (1 + step),
        "loss_class": 6 / (1 + step),
        "loss_l1": 4 / (1 + step),
    }


def evaluation_row(step, average_precision):
    return {"step": step, "AP": average_precision, "AP50": min(1, 1.5 * average_precision)}


def has_content(path):
    with Image.open(path) as image:
        image.load()
        assert image.width >= 800
        return np.asarray(image.convert("L")).std() > 5


def lines(axes):
    return {line.get_label(): line.get_xydata() for line in axes.lines}


def panels(figure):
    return {axes.get_label(): axes for axes in figure.axes}


@pytest.mark.slow
def test_a_run(tmp_path, figures):
    rows = [training_row(step) for step in range(40)]
    rows[20:20] = [evaluation_row(19, 0.4)]
    rows += [evaluation_row(30, 0.6), evaluation_row(39, 0.5)]
    plot_training_curves(write_metrics(tmp_path / "metrics.csv", rows), tmp_path / "curves.png")
    assert has_content(tmp_path / "curves.png")
    loss, precision, rate = (panels(figures[0])[name] for name in ("loss", "AP", "lr"))

    assert {"total", "class", "l1"} <= set(lines(loss))
    np.testing.assert_allclose(loss.lines[0].get_xydata(), [(step, 10 / (1 + step)) for step in range(40)])
    texts = [text.get_text() for text in precision.get_legend().get_texts()]
    assert texts == ["AP:  last 0.500,  best 0.600 (step 30)", "AP50:  last 0.750,  best 0.900 (step 30)"]
    np.testing.assert_allclose(lines(precision)[texts[0]], [(19, 0.4), (30, 0.6), (39, 0.5)])
    assert len(lines(rate)["lr"]) == 40
    assert figures[0].get_suptitle() == "39 steps, epoch 3, 0.7 minutes"


def test_the_bold_line_is_a_mean_and_the_faint_one_the_values(tmp_path, figures):
    rng = np.random.default_rng(0)
    rows = [{"step": step, "loss": 3 + rng.normal()} for step in range(1000)]
    plot_training_curves(write_metrics(tmp_path / "metrics.csv", rows), tmp_path / "curves.png")
    faint, bold = (line.get_ydata() for line in panels(figures[0])["loss"].lines)
    assert bold.std() < 0.4 * faint.std()
    assert bold.mean() == pytest.approx(faint.mean(), abs=0.05)
    assert bold[0] == pytest.approx(faint[:11].mean())
    assert bold[500] == pytest.approx(faint[490:511].mean())


@pytest.mark.parametrize(
    "rows",
    [[], [training_row(0)], [evaluation_row(10, 0.3)], [training_row(0), evaluation_row(0, 0.0)]],
    ids=["none", "one step", "one evaluation", "one of each"],
)
def test_hardly_any_rows(rows, tmp_path, figures):
    plot_training_curves(write_metrics(tmp_path / "metrics.csv", rows), tmp_path / "curves.png")
    assert has_content(tmp_path / "curves.png")
    by_name = panels(figures[0])
    assert bool(by_name["loss"].lines) == any("loss" in row for row in rows)
    assert bool(by_name["AP"].lines) == any("AP" in row for row in rows)
    assert ("no AP logged" in [text.get_text() for text in by_name["AP"].texts]) != bool(by_name["AP"].lines)
    for line in by_name["loss"].lines[1::2]:
        assert line.get_marker() == "o", "a line of one point needs a marker to be seen"


@pytest.mark.parametrize("left_out", HEADER)
def test_any_column_may_be_missing(left_out, tmp_path):
    rows = [training_row(step) for step in range(5)] + [evaluation_row(4, 0.3)]
    header = [name for name in HEADER if name != left_out]
    plot_training_curves(write_metrics(tmp_path / "metrics.csv", rows, header), tmp_path / "curves.png")
    assert has_content(tmp_path / "curves.png")


def test_values_that_are_no_numbers_are_left_out(tmp_path, figures):
    path = write_metrics(tmp_path / "metrics.csv", [training_row(0), training_row(1), evaluation_row(1, -1.0)])
    with path.open("a") as file:
        file.write("2,0,0.1,0.001,nan,inf,-inf,,,\n3,0,0.1,0.001,oops")  # a diverged step, and a line cut off
    plot_training_curves(path, tmp_path / "curves.png")
    by_name = panels(figures[0])
    assert [len(line.get_xdata()) for line in by_name["loss"].lines] == [2] * 6
    assert not by_name["AP"].lines, "pycocotools' -1 is not a value"


def test_losses_that_are_not_positive(tmp_path, figures):
    rows = [{"step": 0, "loss": 1.0, "loss_l1": 0.0}, {"step": 1, "loss": 0.5, "loss_l1": 0.0}]
    plot_training_curves(write_metrics(tmp_path / "metrics.csv", rows), tmp_path / "curves.png")
    assert panels(figures[0])["loss"].get_yscale() == "linear"


def random_evaluation(classes):
    return evaluate_detections(
        *random_case(0, images=150, classes=classes), categories(classes)
    )  # the last one has no objects


@pytest.mark.parametrize("classes", [3, 5, 30])
def test_precision_over_recall(classes, tmp_path, figures):
    evaluation = random_evaluation(classes)
    plot_pr_curves(evaluation, tmp_path / "pr_curves.png")
    assert has_content(tmp_path / "pr_curves.png")
    axes = figures[0].axes[0]
    assert len(axes.lines) == classes - 1 + 3, "a class without objects has no curve"

    for line, metric in zip(axes.lines[-3:], ("AP50", "AP75", "AP"), strict=True):
        assert line.get_ydata().mean() == pytest.approx(evaluation.metrics[metric]), "the area is the metric"
        assert f"{metric} {evaluation.metrics[metric]:.3f}" in line.get_label()
    for line, result in zip(
        axes.lines[:-3], sorted(evaluation.per_class, key=lambda result: -result.AP50), strict=False
    ):
        assert line.get_ydata().mean() == pytest.approx(result.AP50)
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    assert legend[0].startswith("all classes, IoU 0.50:")
    assert len(legend) == 3 + (classes - 1 if classes <= 12 else 1)


def test_precision_without_objects(tmp_path, figures):
    nothing = CocoEvaluation(
        {}, (ClassResult(Category(1, "cup"), 0, -1.0, -1.0, -1.0),), np.full((10, 101, 1), -1.0), np.linspace(0, 1, 101)
    )
    plot_pr_curves(nothing, tmp_path / "pr_curves.png")
    assert has_content(tmp_path / "pr_curves.png")
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["no objects in the ground truth"]


def test_no_global_state_is_touched(tmp_path):
    before = dict(matplotlib.rcParams)
    plot_training_curves(write_metrics(tmp_path / "metrics.csv", [training_row(0)]), tmp_path / "curves.png")
    plot_pr_curves(random_evaluation(2), tmp_path / "pr_curves.png")
    assert dict(matplotlib.rcParams) == before


def test_a_single_class_is_named_and_none_of_its_curves_is_hidden(tmp_path, figures):
    evaluation = random_evaluation(2)
    plot_pr_curves(evaluation, tmp_path / "pr_curves.png")
    axes = figures[0].axes[0]
    assert len(axes.lines) == 3, "no fourth curve below the first"
    legend = [text.get_text() for text in figures[0].legends[0].get_texts()]
    name = evaluation.per_class[0].category.name
    assert [text.split(",")[0] for text in legend] == [name] * 3
    assert legend[0] == f"{name}, IoU 0.50:  AP50 {evaluation.metrics['AP50']:.3f}"


def test_equal_curves_of_classes_are_seen_on_the_mean(tmp_path, figures):
    plot_pr_curves(random_evaluation(5), tmp_path / "pr_curves.png")
    lines = figures[0].axes[0].lines
    assert min(line.get_zorder() for line in lines[:-3]) > max(line.get_zorder() for line in lines[-3:])
    assert max(line.get_linewidth() for line in lines[:-3]) < min(line.get_linewidth() for line in lines[-3:])
