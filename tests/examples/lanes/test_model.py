"""Lanes as numbers against cases by hand and shapely, the bias towards a line, and denoising that tells nothing."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from shapely.geometry import box
from shapely.ops import unary_union
from torch import Tensor

from examples.lanes.data import INPUT, POINTS, RoadBatch, RoadSample, collate, point_rows
from examples.lanes.lines import RADIUS, Lines, at_height, line_iou, lines_of
from examples.lanes.model import LaneBias, LaneNet, build_network, fan
from examples.lanes.train import add_noise, losses, match, token_losses

SETTINGS = {"backbone": "test_resnet", "dim": 32, "heads": 4, "layers": 2, "queries": 6}


@pytest.fixture(scope="module")
def network() -> LaneNet:
    torch.manual_seed(0)
    return build_network(SETTINGS)


def batch_of(*lanes: int) -> RoadBatch:
    """Pictures with so many lanes each."""
    random = np.random.default_rng(1)
    samples = []
    for count in lanes:
        image = random.integers(0, 256, (INPUT[1], INPUT[0], 3), dtype=np.uint8)
        bottom = random.uniform(0.1, 0.9, (count, 1))
        xs = bottom + random.uniform(-0.5, 0.5, (count, 1)) * (1 - point_rows()) + 0.1 * (1 - point_rows()) ** 2
        samples.append(RoadSample(image, xs.astype(np.float32), np.tile(point_rows() > 0.3, (count, 1))))
    return collate(samples)


def test_a_straight_lane_by_hand() -> None:
    """From the middle of the lowest row up at 45 degrees (in pixels) to the right, to half the height."""
    rows = torch.from_numpy(point_rows()).float()
    xs = 0.5 + (rows[-1] - rows) * INPUT[1] / INPUT[0]
    lines = lines_of(xs, rows > 0.5)
    first = rows[rows > 0.5][0]
    assert lines.shape.tolist() == pytest.approx([0.5, rows[-1].item(), 0.25, (rows[-1] - first).item()], abs=1e-5)
    assert lines.offsets.abs().max() < 1e-5


def test_lines_give_back_their_points() -> None:
    batch = batch_of(3, 5)
    lines = lines_of(batch.xs, batch.is_seen)
    assert torch.allclose(lines.xs, batch.xs, atol=1e-6)
    real = batch.is_seen.any(-1)
    assert torch.equal(lines.is_seen[real], batch.is_seen[real])
    assert lines_of(batch_of(0).xs, batch_of(0).is_seen).xs.isfinite().all()


def test_at_height_is_linear_interpolation() -> None:
    xs = torch.rand(2, 3, POINTS)
    y = torch.tensor([0.0, 0.21, 0.5, 0.77, 1.0])
    expected = np.apply_along_axis(lambda lane: np.interp(y.numpy(), point_rows(), lane), -1, xs.numpy())
    assert at_height(xs, y).numpy() == pytest.approx(expected, abs=1e-5)


def widened(xs: np.ndarray, seen: np.ndarray) -> object:
    height = 1 / POINTS
    return unary_union(
        [
            box(x - RADIUS, y - height / 2, x + RADIUS, y + height / 2)
            for x, y, is_seen in zip(xs, point_rows(), seen, strict=True)
            if is_seen
        ]
    )


@pytest.mark.parametrize("apart", [0.0, 0.003, 0.01, 0.02, 0.039])
def test_line_iou_is_that_of_shapely(apart: float) -> None:
    """Of lines that overlap in every row."""
    random = np.random.default_rng(0)
    true = 0.5 + 0.2 * point_rows()
    found = true + apart * random.choice([-1, 1], POINTS)
    seen = point_rows() > 0.4
    one, other = widened(found, seen), widened(true, seen)
    expected = one.intersection(other).area / one.union(other).area
    result = line_iou(torch.from_numpy(found), torch.from_numpy(true), torch.from_numpy(seen))
    assert result.item() == pytest.approx(expected, abs=1e-4)


def test_line_iou_of_lines_apart_is_negative_and_nothing_is_seen_is_finite() -> None:
    xs, seen = torch.full((POINTS,), 0.5), torch.ones(POINTS, dtype=torch.bool)
    assert line_iou(xs + 0.5, xs, seen).item() == pytest.approx((0.04 - 0.5) / (0.04 + 0.5))
    assert line_iou(xs, xs, ~seen).item() == 0


def test_the_first_lines_fan_out_from_left_to_right() -> None:
    shape = fan(20)
    lines = Lines(shape, torch.zeros(20, POINTS))
    assert (lines.xs[:, -1].diff() > 0).all()
    assert ((shape[:, :2] >= 0) & (shape[:, :2] <= 1)).all()
    assert (lines.xs[:, 0] - 0.5).abs().max() < 0.05, "all come from one point"


def test_the_bias_is_largest_on_the_line(network: LaneNet) -> None:
    batch = batch_of(2)
    lines = lines_of(batch.xs, batch.is_seen)
    encoded = network.encoder(network.backbone(batch.images.images), batch.images.is_padding)
    bias = LaneBias(4)
    with torch.no_grad():
        bias.beside.zero_()
        scores = bias(lines, encoded)
    height, width = encoded.grids[0]
    for lane in range(2):
        for head in range(4):
            fine = scores[0, head, lane, : height * width].view(height, width)
            row = int(fine.amax(1).argmax())
            x = at_height(lines.xs[0, lane], torch.tensor([(row + 0.5) / height])).item() * width
            if 1 <= x <= width - 1:
                assert abs(int(fine[row].argmax()) + 0.5 - x) <= 0.51
            along = (lines.shape[0, lane, 1] - (row + 0.5) / height) / lines.shape[0, lane, 3]
            assert along.item() == pytest.approx(bias.section[head].item(), abs=0.6 / height / 0.6)


def test_denoising_queries_tell_nobody_the_answer(network: LaneNet) -> None:
    """What one of them is changes no other query's answer, nor that of another one."""
    batch = batch_of(2, 3)
    network.eval()
    noised = lines_of(batch.xs, batch.is_seen)
    moved = Lines(noised.shape.clone(), noised.offsets.clone())
    moved.shape[:, 0] += 0.2
    with torch.no_grad():
        plain, one, other = network(batch), network(batch, noised), network(batch, moved)
    network.train()
    extra = noised.shape.shape[1]
    assert torch.allclose(one.logits[:, :, extra:], plain.logits, atol=1e-5)
    assert torch.allclose(one.logits[:, :, 1:], other.logits[:, :, 1:], atol=1e-5)
    assert not torch.allclose(one.logits[:, :, 0], other.logits[:, :, 0], atol=1e-5)


def test_attention_is_a_share_for_each_token(network: LaneNet) -> None:
    with torch.no_grad():
        maps = network(batch_of(1), need_attention=True).attention
    assert maps is not None
    tokens = sum(height * width for height, width in maps.grids)
    assert maps.cross.shape == (2, 1, 4, 6, tokens)
    assert maps.queries.shape == (2, 1, 4, 6, 6)
    assert torch.allclose(maps.cross.sum(-1), torch.ones(2, 1, 4, 6), atol=1e-5)


@pytest.mark.parametrize("counts", [(0,), (0, 0), (1, 0), (5, 2)])
def test_losses_are_finite_with_any_number_of_lanes(network: LaneNet, counts: tuple[int, ...]) -> None:
    network.zero_grad()
    parts = losses(network, batch_of(*counts))
    total: Tensor = torch.stack([*parts.values()]).sum()
    total.backward()
    assert total.isfinite()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in network.parameters())


def test_each_lane_gets_the_query_on_it() -> None:
    batch = batch_of(3)
    true = lines_of(batch.xs, batch.is_seen)
    order = torch.tensor([2, 0, 1])
    decoy = Lines(true.shape[:, :1] + 0.3, true.offsets[:, :1])
    shape = torch.cat([decoy.shape, true.shape[:, order]], 1)
    lines = Lines(shape[None], torch.cat([decoy.offsets, true.offsets[:, order]], 1)[None])
    matches = match(torch.zeros(1, 1, 4), lines, true, batch)
    assert dict(zip(matches.query.tolist(), matches.object.tolist(), strict=True)) == {1: 2, 2: 0, 3: 1}


def test_perfect_tokens_have_the_least_loss() -> None:
    batch = batch_of(2)
    grid = (INPUT[1] // 8, INPUT[0] // 8)
    xs = at_height(batch.xs, (torch.arange(grid[0]) + 0.5) / grid[0])[0] * grid[1]
    seen = at_height(batch.is_seen.float(), (torch.arange(grid[0]) + 0.5) / grid[0])[0] > 0.5
    tokens = torch.full((1, *grid, 2), -12.0)
    for lane in range(2):
        for row in range(grid[0]):
            column = math.floor(xs[lane, row].item())
            if seen[lane, row] and 0 <= column < grid[1]:
                tokens[0, row, column] = torch.tensor([12.0, xs[lane, row].item() - column - 0.5])
    perfect = token_losses(tokens.view(1, -1, 2), grid, batch)["token"]
    assert perfect < 1e-3
    assert token_losses(tokens.roll(1, 2).view(1, -1, 2), grid, batch)["token"] > 1


def test_noise_is_new_each_time_and_bounded() -> None:
    batch = batch_of(2)
    true = lines_of(batch.xs, batch.is_seen)
    torch.manual_seed(0)
    one, other = add_noise(true, 3), add_noise(true, 3)
    assert one.shape.shape == (1, 6, 4)
    assert not torch.equal(one.shape, other.shape)
    assert ((one.shape - true.shape.repeat(1, 3, 1)).abs().amax((0, 1)) <= torch.tensor([0.1, 0.1, 0.06, 0.15])).all()


def test_settings_of_another_size_are_not_mixed_up() -> None:
    larger = replace(batch_of(1))
    assert build_network({**SETTINGS, "queries": 9})(larger).logits.shape == (2, 1, 9)
