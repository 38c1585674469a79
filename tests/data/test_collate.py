import pytest
import torch

from detr_lite.data.collate import collate
from detr_lite.structures import Target


def sample(height: int, width: int, objects: int) -> tuple[torch.Tensor, Target]:
    labels = torch.arange(objects)
    return torch.rand(3, height, width), Target(torch.rand(objects, 4), labels, 100 + objects, (height, width))


@pytest.mark.parametrize("objects", [0, 1, 7])
def test_batch_contains_images_and_targets_in_order(objects: int) -> None:
    samples = [sample(5, 9, objects), sample(8, 4, 0)]
    batch = collate(samples)
    assert batch.images.shape == (2, 3, 8, 9)
    for index, (image, _) in enumerate(samples):
        height, width = image.shape[1:]
        torch.testing.assert_close(batch.images[index, :, :height, :width], image, rtol=0, atol=0)
        assert not batch.is_padding[index, :height, :width].any()
        assert (~batch.is_padding[index]).sum() == height * width
    assert batch.targets == tuple(target for _, target in samples)


def test_collate_fn_of_a_data_loader() -> None:
    loader = torch.utils.data.DataLoader([sample(5, 9, 2), sample(8, 4, 1)], batch_size=2, collate_fn=collate)  # type: ignore[arg-type]
    (batch,) = loader
    assert batch.targets is not None
    assert [target.image_id for target in batch.targets] == [102, 101]
