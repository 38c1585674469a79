import pytest
import torch

from detr_lite.model.encoder import Encoder, TopDownNeck
from detr_lite.model.position import CenterSinePosition


@pytest.mark.parametrize(("height", "width"), [(16, 24), (9, 15), (1, 1), (17, 2)])
def test_each_token_receives_the_coarser_token_that_contains_it(height, width):
    """A token of the coarsest level changes the tokens that it covers and, by the convolution, their neighbours."""
    torch.manual_seed(0)
    neck = TopDownNeck(32, (8, 16))
    coarse = torch.zeros(1, 32, -(-height // 2), -(-width // 2))
    fine = torch.randn(1, 32, height, width)
    row, column = coarse.shape[2] - 1, coarse.shape[3] // 2
    with torch.no_grad():
        changed_coarse = coarse.clone()
        changed_coarse[:, :, row, column] = 5.0
        neck.smooth[0][1] = torch.nn.Identity()
        before, after = neck([fine, coarse])[0], neck([fine, changed_coarse])[0]
    changed = (after != before).any(dim=1)[0].nonzero()
    reach = torch.tensor([[2 * row - 1, 2 * column - 1], [2 * row + 2, 2 * column + 2]])
    assert len(changed)
    assert (changed >= reach[0]).all()
    assert (changed <= reach[1]).all()
    covered = torch.tensor([2 * row, 2 * column])
    assert (changed == covered).all(dim=1).any()


def test_the_coarsest_level_is_not_changed():
    neck = TopDownNeck(32, (8, 16, 32))
    maps = [torch.randn(2, 32, 9, 11), torch.randn(2, 32, 5, 6), torch.randn(2, 32, 3, 3)]
    merged = neck(maps)
    assert [level.shape for level in merged] == [level.shape for level in maps]
    assert merged[-1] is maps[-1]


@pytest.mark.parametrize(("height", "image", "stride"), [(250, 240, 16), (613, 576, 32), (47, 32, 16)])
def test_a_token_that_covers_only_padding_is_padding(height, image, stride):
    """DETR resizes the mask instead, by which one more token counts as image."""
    rows = -(-height // stride)
    is_padding = torch.zeros(1, height, stride, dtype=torch.bool)
    is_padding[:, image:] = True
    for is_lite in (True, False):
        encoder = Encoder((4,), (stride,), 32, 0, 4, 32, 0.0, CenterSinePosition(32), normalize_projection=is_lite)
        real = (~encoder([torch.randn(1, 4, rows, 1)], is_padding).is_padding).sum().item()
        assert real == (image // stride if is_lite else image // stride + 1)


def test_tokens_of_all_levels_share_the_coordinates_of_the_image():
    encoder = Encoder((4, 8), (8, 16), 32, 1, 4, 32, 0.0, CenterSinePosition(32), normalize_projection=True)
    is_padding = torch.zeros(2, 48, 64, dtype=torch.bool)
    is_padding[1, 32:], is_padding[1, :, 48:] = True, True
    encoded = encoder([torch.randn(2, 4, 6, 8), torch.randn(2, 8, 3, 4)], is_padding)
    assert encoded.grids == ((6, 8), (3, 4))
    fine, coarse = encoded.centers.split([48, 12], dim=1)
    for image, (height, width) in enumerate([(48, 64), (32, 48)]):
        pixels = torch.tensor([width, height])
        torch.testing.assert_close(fine[image, 0] * pixels, torch.tensor([4.0, 4.0]))
        torch.testing.assert_close(coarse[image, 0] * pixels, torch.tensor([8.0, 8.0]))
        torch.testing.assert_close(encoded.sizes[image, 0] * pixels, torch.tensor([8.0, 8.0]))
        torch.testing.assert_close(encoded.sizes[image, -1] * pixels, torch.tensor([16.0, 16.0]))
    assert (~encoded.is_padding).sum(1).tolist() == [60, 4 * 6 + 2 * 3]
    torch.testing.assert_close(encoded.spans, torch.tensor([[[8.0, 6.0], [4.0, 3.0]], [[6.0, 4.0], [3.0, 2.0]]]))
