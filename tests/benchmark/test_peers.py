"""transformers' detectors as our training sees them: how they start, what they are given, what is read of them."""

import copy

import pytest
import torch
from benchmarks import baseline_run
from benchmarks.baseline_model import BaselineModel, BaselineOutput, baseline_criterion
from benchmarks.baseline_run import baseline_sizes, spare_class_layers, train_baseline
from benchmarks.baselines import PEERS, BaselineSizes, build_network, find_baseline
from benchmarks.hf_reference import random_batch
from torch import nn

from detr_lite.config import Invocation
from detr_lite.evaluation.postprocess import Postprocess
from detr_lite.structures import Batch, DetrLiteError, Target
from detr_lite.training.optim import make_optimizer, parameter_groups

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
every_peer = pytest.mark.parametrize("name", PEERS)


def make(name: str) -> BaselineModel:
    torch.manual_seed(0)
    return BaselineModel(PEERS[name], TINY)


def batch_of(objects: list[int]) -> Batch:
    sides = [(64, 64), (48, 60), (64, 40)][: len(objects)]
    return random_batch(sides, objects, CLASSES, torch.Generator().manual_seed(1))


@every_peer
def test_everything_learns_and_no_branch_is_closed(name):
    model = make(name)
    assert not [module for module in model.modules() if "Frozen" in type(module).__name__]
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) > 10
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
    still = [name.split(".")[-1] for name, parameter in model.named_parameters() if not parameter.requires_grad]
    assert still == (["reg_scale", "up"] if name == "d_fine" else [])  # the shape of a curve, not weights


@every_peer
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_step_moves_all_weights(name, optimizer):
    model = make(name)
    model.train()
    groups = parameter_groups(model, 1e-3, 1.0, 0.0, decay_all=False, optimizer=optimizer)
    descent = make_optimizer(spare_class_layers(groups, model.class_weights), fused=False, name=optimizer)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for _ in range(2):  # what lies before a layer that starts at zero moves in the second
        batch = batch_of([2, 0, 3])
        losses = baseline_criterion(model(batch), batch.targets)
        assert losses.total.isfinite()
        assert list(losses.parts) == ["class", "l1", "giou"]
        descent.zero_grad()
        losses.total.backward()
        descent.step()
    stuck = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    # The first DETRs' queries have no content before the first layer: there is nothing yet to attend to.
    stuck = {name for name in stuck if "decoder.layers.0.self_attn" not in name}
    assert {name.split(".")[-1] for name in stuck} <= {"reg_scale", "up", "bias"}, stuck


@every_peer
def test_images_without_objects_give_a_finite_loss(name):
    model = make(name)
    losses = model.train()(batch_of([0, 0])).losses
    assert losses.total.isfinite()
    losses.total.backward()


@every_peer
def test_classes_and_boxes_are_computed_in_single_precision(name):
    model, batch = make(name), batch_of([1, 2])
    with torch.autocast("cpu", torch.bfloat16):
        losses = model.train()(batch).losses
        output = model.eval()(batch)
    assert output.losses is None
    assert output.logits.shape == (1, 2, TINY.queries, CLASSES + (name == "detr"))
    for tensor in (output.logits, output.boxes_cxcywh, losses.total, *losses.parts.values()):
        assert tensor.dtype == torch.float32


@every_peer
def test_it_starts_as_published(name):
    network = build_network(PEERS[name], TINY)
    if name == "detr":
        assert network.model.query_position_embeddings.weight.std() > 0.8  # transformers: 0.02, all queries alike
        return
    heads = network.class_embed if hasattr(network, "class_embed") else [network.class_labels_classifier]
    for head in heads:  # one query in a hundred sees something
        torch.testing.assert_close(head.bias.sigmoid(), torch.full((CLASSES,), 0.01))
    if name in ("rtdetr_v2", "d_fine"):
        assert not network.model.enc_bbox_head.layers[-1].weight.any()
        torch.testing.assert_close(network.model.enc_score_head.bias.sigmoid(), torch.full((CLASSES,), 0.01))
    if name != "conditional_detr":
        attention = network.model.decoder.layers[0].encoder_attn
        assert not attention.sampling_offsets.weight.any()
        assert attention.sampling_offsets.bias.any()


def test_boxes_of_deformable_detr_start_with_an_eighth_of_the_image_at_their_points():
    model = make("deformable_detr").eval()
    output = model(batch_of([1, 1]))
    torch.testing.assert_close(
        output.boxes_cxcywh[..., 2:], torch.full((1, 2, TINY.queries, 2), 0.1192), atol=1e-3, rtol=0
    )


@every_peer
def test_no_class_layer_is_for_muon(name):
    model = make(name)
    groups = parameter_groups(model, 1e-3, 1.0, 0.1, decay_all=False, optimizer="muon")
    spared = spare_class_layers(groups, model.class_weights)
    muons = {id(parameter) for group in spared if group["use_muon"] for parameter in group["params"]}
    assert muons
    # By shape, as names are theirs; no other matrix here has as many rows.
    rows = {CLASSES, CLASSES + 1}
    of_classes = [parameter for parameter in model.parameters() if parameter.ndim == 2 and len(parameter) in rows]
    assert of_classes
    assert not any(id(parameter) in muons for parameter in of_classes)
    both = [[id(parameter) for group in one for parameter in group["params"]] for one in (groups, spared)]
    assert sorted(both[0]) == sorted(both[1])


@every_peer
def test_a_copy_shares_nothing(name):
    """As the moving average makes one."""
    model, batch = make(name).eval(), batch_of([1, 1])
    before, copied = model(batch), copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.zero_()
    assert not model(batch).logits.any()
    torch.testing.assert_close(copied(batch).logits, before.logits)
    torch.testing.assert_close(copied(batch).boxes_cxcywh, before.boxes_cxcywh)


class Recorder(nn.Module):
    """In place of a network: notes what it is given and answers with one box."""

    def __init__(self) -> None:
        super().__init__()
        self.config = object()

    def forward(self, pixel_values, pixel_mask, labels):
        self.images, self.mask, self.labels = pixel_values, pixel_mask, labels

        class HeadOutput:
            logits = torch.zeros(len(pixel_values), 1, CLASSES)
            pred_boxes = torch.tensor([0.25, 0.25, 0.25, 0.5]).expand(len(pixel_values), 1, 4)
            loss = torch.tensor(1.0)
            loss_dict = {"loss_bbox": torch.tensor(2.0)}  # noqa: RUF012 - stands for an answer of one call

        return HeadOutput()


def padded_batch() -> Batch:
    target = Target(torch.tensor([[0.5, 0.5, 0.5, 0.5]]), torch.tensor([3]), 7, (96, 50))
    return Batch.from_images([torch.ones(3, 48, 25), torch.ones(3, 20, 50)], [target, target])


def test_what_counts_padding_gets_whole_patches_and_boxes_of_the_padded_image():
    model = make("rtdetr_v2")
    model.network = Recorder()
    output = model.train()(padded_batch())
    assert model.network.images.shape == (2, 3, 64, 64)
    assert model.network.mask.sum((1, 2)).tolist() == [48 * 25, 20 * 50]
    shares = [[25 / 64, 48 / 64], [50 / 64, 20 / 64]]  # width, height
    for (width, height), label, boxes in zip(shares, model.network.labels, output.boxes_cxcywh[0], strict=True):
        assert label["class_labels"].tolist() == [3]
        torch.testing.assert_close(label["boxes"], 0.5 * torch.tensor([[width, height, width, height]]))
        there = torch.tensor([[0.25 / width, 0.25 / height, 0.25 / width, 0.5 / height]])
        torch.testing.assert_close(boxes, there)
    assert output.losses.total == 1.0
    assert output.losses.parts["l1"].tolist() == [2.0]


def test_what_knows_of_padding_gets_the_batch_as_it_is():
    model = make("detr")
    model.network = Recorder()
    output = model.train()(padded_batch())
    assert model.network.images.shape == (2, 3, 48, 50)
    assert model.network.labels[1]["boxes"].tolist() == [[0.5, 0.5, 0.5, 0.5]]
    assert output.boxes_cxcywh[0, 0, 0].tolist() == [0.25, 0.25, 0.25, 0.5]
    model.eval()(padded_batch())
    assert model.network.labels is None


@every_peer
def test_detections_are_those_of_transformers(name):
    """Its own reading of the same outputs, image processor by image processor."""
    import transformers

    processor = {
        "rtdetr_v2": transformers.RTDetrImageProcessor,
        "d_fine": transformers.RTDetrImageProcessor,
        "deformable_detr": transformers.DeformableDetrImageProcessor,
        "conditional_detr": transformers.ConditionalDetrImageProcessor,
        "detr": transformers.DetrImageProcessor,
    }[name]()
    generator = torch.Generator().manual_seed(3)
    peer = PEERS[name]
    output = BaselineOutput(
        logits=torch.randn(1, 2, 20, CLASSES + (name == "detr"), generator=generator),
        boxes_cxcywh=0.3 + 0.2 * torch.rand(1, 2, 20, 4, generator=generator),
    )
    sizes = [(50, 80), (120, 60)]

    class Theirs:
        logits, pred_boxes = output.logits[0], output.boxes_cxcywh[0]

    expected = processor.post_process_object_detection(Theirs(), threshold=0.0, target_sizes=torch.tensor(sizes))
    found = Postprocess(peer.activation, [str(label) for label in range(CLASSES)])(output, sizes)
    for theirs, ours in zip(expected, found, strict=True):
        order = theirs["scores"].argsort(descending=True)  # which transformers' DETR leaves to the reader
        count = len(order)
        assert count in (20, 100)
        torch.testing.assert_close(ours.scores[:count], theirs["scores"][order])
        assert torch.equal(ours.labels[:count], theirs["labels"][order])
        torch.testing.assert_close(ours.boxes_xyxy[:count], theirs["boxes"][order], atol=1e-3, rtol=0)


def test_a_run_leaves_its_log(tiny_config, tiny_data, tmp_path):
    from dataclasses import replace

    config = replace(tiny_config, optim=replace(tiny_config.optim, optimizer="muon", lr=1e-3, ema_decay=0.9))
    invocation = Invocation(config, "tiny", tmp_path / "run", resume=None, overwrite=False)
    train_baseline(PEERS["conditional_detr"], invocation, tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").iterdir()}
    assert files == {"config.yaml", "metrics.csv", "curves.png", "model.json"}
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    assert rows[0].startswith("step,epoch,minutes,lr,loss,")
    assert sum(row.split(",")[-1] != "" for row in rows[1:]) == 2  # evaluations


def test_sizes_are_ours(tiny_config):
    sizes = baseline_sizes(tiny_config, 3)
    assert (sizes.dim, sizes.queries, sizes.stride, sizes.classes) == (32, 6, 16, 3)


def test_who_is_not_known_is_told():
    with pytest.raises(DetrLiteError, match=r"'yolo' is none of rtdetr_v2, d_fine"):
        find_baseline("yolo")


def test_without_a_folder_there_is_no_run(monkeypatch, tiny_file):
    monkeypatch.setattr("sys.argv", ["peer_run", "detr", "--config", str(tiny_file)])
    with pytest.raises(DetrLiteError, match="--run_dir is missing"):
        baseline_run.main()
