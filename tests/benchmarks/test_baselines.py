"""The baselines from transformers: initialization, inputs, losses, predictions and training."""

import copy
import csv
from dataclasses import replace

import pytest
import torch
from torch import nn

from benchmarks import baseline_run
from benchmarks.baseline_run import baseline_sizes, train_baseline
from benchmarks.baselines import BASELINES, BaselineSizes, build_network, find_baseline
from benchmarks.hf_reference import random_batch
from detr_lite.build import build_criterion
from detr_lite.config import Config, Invocation
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.families.network import FamilyDetr
from detr_lite.loss.criterion import Losses
from detr_lite.structures import Batch, DetrLiteError, DetrOutput
from detr_lite.training.optim import make_optimizer, parameter_groups
from detr_lite.training.results import find_results

pytestmark = pytest.mark.slow

CLASSES = 9
TINY = BaselineSizes(
    backbone="resnet10t",
    stride=16,
    classes=CLASSES,
    queries=6,
    dim=32,
    heads=2,
    encoder_layers=1,
    decoder_layers=2,
    feedforward_dim=32,
    dropout=0.0,
)
every_baseline = pytest.mark.parametrize("name", BASELINES)


def make(name: str) -> FamilyDetr:
    torch.manual_seed(0)
    return FamilyDetr(build_network(BASELINES[name], TINY))


def losses_of(model: FamilyDetr, batch: Batch) -> Losses:
    criterion = build_criterion(Config(), CLASSES, model.network.config.to_dict())
    return criterion(model.train()(batch), batch.targets)


def batch_of(objects: list[int]) -> Batch:
    sides = [(64, 64), (48, 60), (64, 40)][: len(objects)]
    return random_batch(sides, objects, CLASSES, torch.Generator().manual_seed(1))


@every_baseline
def test_all_weights_are_trainable_and_no_residual_branch_is_zero(name):
    model = make(name)
    assert not [module for module in model.modules() if "Frozen" in type(module).__name__]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 10
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
    frozen = [name.split(".")[-1] for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert frozen == (["reg_scale", "up"] if name == "d_fine" else [])  # constants of its box distributions


@every_baseline
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_training_updates_all_weights(name, optimizer):
    model = make(name)
    model.train()
    groups = parameter_groups(model, 1e-3, 1.0, 0.0, decay_all=False, optimizer=optimizer)
    stepper = make_optimizer(groups, fused=False, name=optimizer)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(2):  # weights before a zero-initialized layer change in the second step
        batch = batch_of([2, 0, 3])
        losses = losses_of(model, batch)
        assert losses.total.isfinite()
        assert list(losses.parts)[:3] == ["class", "l1", "giou"]
        stepper.zero_grad()
        losses.total.backward()
        stepper.step()
    unchanged = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    # In DETR and Conditional DETR all queries have the same content before the first layer.
    unchanged = {name for name in unchanged if "decoder.layers.0.self_attn" not in name}
    assert {name.split(".")[-1] for name in unchanged} <= {"reg_scale", "up", "bias"}, unchanged


@every_baseline
def test_images_without_objects_give_a_finite_loss(name):
    model = make(name)
    losses = losses_of(model, batch_of([0, 0]))
    assert losses.total.isfinite()
    losses.total.backward()


@every_baseline
def test_heads_and_losses_run_in_float32(name):
    model, batch = make(name), batch_of([1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        losses = losses_of(model, batch)
        output = model.eval()(batch)
    assert output.loss_call is None
    assert output.logits.shape[1:] == (2, TINY.queries, CLASSES + (name == "detr"))
    for tensor in (output.logits, output.boxes_cxcywh, losses.total, *losses.parts.values()):
        assert tensor.dtype == torch.float32


def test_queries_of_detr_are_initialized_as_published():
    # With transformers' standard deviation of 0.02 all queries would be nearly alike.
    assert build_network(BASELINES["detr"], TINY).model.query_position_embeddings.weight.std() > 0.8


@pytest.mark.parametrize("name", ["rtdetr_v2", "d_fine", "deformable_detr", "conditional_detr"])
def test_class_probabilities_are_initialized_to_the_prior(name):
    network = build_network(BASELINES[name], TINY)
    heads = network.class_embed if hasattr(network, "class_embed") else [network.class_labels_classifier]
    if name in ("rtdetr_v2", "d_fine"):
        heads = [*heads, network.model.enc_score_head]
    assert len(heads) >= 1
    for head in heads:
        torch.testing.assert_close(head.bias.sigmoid(), torch.full((CLASSES,), 0.01))


@pytest.mark.parametrize("name", ["rtdetr_v2", "d_fine"])
def test_encoder_boxes_are_initialized_to_their_anchors(name):
    assert not build_network(BASELINES[name], TINY).model.enc_bbox_head.layers[-1].weight.any()


@pytest.mark.parametrize("name", ["rtdetr_v2", "d_fine", "deformable_detr"])
def test_sampling_offsets_are_initialized_as_published(name):
    attention = build_network(BASELINES[name], TINY).model.decoder.layers[0].encoder_attn
    assert not attention.sampling_offsets.weight.any()
    assert attention.sampling_offsets.bias.any()


def test_boxes_of_deformable_detr_start_with_an_eighth_of_the_image():
    model = make("deformable_detr").eval()
    output = model(batch_of([1, 1]))
    torch.testing.assert_close(
        output.boxes_cxcywh[0, ..., 2:], torch.full((2, TINY.queries, 2), 0.1192), atol=1e-3, rtol=0
    )


@every_baseline
def test_muon_does_not_update_classification_layers(name):
    model = make(name)
    groups = parameter_groups(model, 1e-3, 1.0, 0.1, decay_all=False, optimizer="muon")
    muon_ids = {id(parameter) for group in groups if group["use_muon"] for parameter in group["params"]}
    assert muon_ids
    # Found by shape, independently of names: no other matrix here has as many rows.
    rows = {CLASSES, CLASSES + 1}
    class_weights = [parameter for parameter in model.parameters() if parameter.ndim == 2 and len(parameter) in rows]
    assert class_weights
    assert not any(id(parameter) in muon_ids for parameter in class_weights)


@every_baseline
def test_a_deep_copy_shares_no_weights(name):
    """EMA makes such a copy."""
    model, batch = make(name).eval(), batch_of([1, 1])
    before, copied = model(batch), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    assert not model(batch).logits.any()
    torch.testing.assert_close(copied(batch).logits, before.logits)
    torch.testing.assert_close(copied(batch).boxes_cxcywh, before.boxes_cxcywh)


@every_baseline
def test_detections_are_those_of_transformers(name):
    """The same outputs, postprocessed by the image processor of each model."""
    import transformers

    processor = {
        "rtdetr_v2": transformers.RTDetrImageProcessor,
        "d_fine": transformers.RTDetrImageProcessor,
        "deformable_detr": transformers.DeformableDetrImageProcessor,
        "conditional_detr": transformers.ConditionalDetrImageProcessor,
        "detr": transformers.DetrImageProcessor,
    }[name]()
    generator = torch.Generator().manual_seed(3)
    baseline = BASELINES[name]
    output = DetrOutput(
        logits=torch.randn(1, 2, 20, CLASSES + (name == "detr"), generator=generator),
        boxes_cxcywh=0.3 + 0.2 * torch.rand(1, 2, 20, 4, generator=generator),
    )
    sizes = [(50, 80), (120, 60)]

    class Outputs:
        logits, pred_boxes = output.logits[0], output.boxes_cxcywh[0]

    expected = processor.post_process_object_detection(Outputs(), threshold=0.0, target_sizes=torch.tensor(sizes))
    found = Postprocess(baseline.activation, [str(label) for label in range(CLASSES)])(output, sizes)
    for reference, detections in zip(expected, found, strict=True):
        order = reference["scores"].argsort(descending=True)  # transformers' DETR does not sort
        count = len(order)
        assert count in (20, 100)
        torch.testing.assert_close(detections.scores[:count], reference["scores"][order])
        assert torch.equal(detections.labels[:count], reference["labels"][order])
        torch.testing.assert_close(detections.boxes_xyxy[:count], reference["boxes"][order], atol=1e-3, rtol=0)


def test_a_run_leaves_its_log(tiny_config, tiny_data, tmp_path):
    config = replace(tiny_config, optim=replace(tiny_config.optim, optimizer="muon", lr=1e-3, ema_decay=0.9))
    invocation = Invocation(config, "tiny", tmp_path / "run", resume=None, overwrite=False)
    train_baseline(BASELINES["conditional_detr"], invocation, tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"config.yaml", "metrics.csv", "curves.png", "model.json", "evaluation"}
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("step,epoch,minutes,lr,loss,")
    assert sum(row.split(",")[-1] != "" for row in rows[1:]) == 2  # evaluations
    logged = next(csv.DictReader(rows[:1] + rows[-1:]))
    assert find_results(tmp_path / "run").metrics["AP"] == pytest.approx(float(logged["AP"]), abs=1e-6)


def test_sizes_are_those_of_the_settings(tiny_config):
    sizes = baseline_sizes(tiny_config, 3)
    assert (sizes.dim, sizes.queries, sizes.stride, sizes.classes) == (32, 6, 16, 3)


def test_an_unknown_baseline_is_refused():
    with pytest.raises(DetrLiteError, match=r"'yolo' is not one of rtdetr_v2, d_fine"):
        find_baseline("yolo")


def test_a_missing_run_dir_is_refused(monkeypatch, tiny_file):
    monkeypatch.setattr("sys.argv", ["baseline_run", "detr", "--config", str(tiny_file)])
    with pytest.raises(DetrLiteError, match="--run_dir is missing"):
        baseline_run.main()
