"""Random splits in arrays, and what stands in one as a multiset, for tests of properties."""

from collections import Counter

import numpy as np

from detr_lite.data.records import RawSplit
from detr_lite.structures import Category

NAMES = ("ant", "bee", "cat", "dog", "eel")


def random_split(
    seed: int, images: int = 40, classes: tuple[str, ...] = NAMES, folder: str = "/data", crowds: bool = True
) -> RawSplit:
    """Some images are empty; the first class is the most frequent; category ids are not in order."""
    generator = np.random.default_rng(seed)
    objects = 2 * images
    weights = 1 / np.arange(1, len(classes) + 1)
    sizes = generator.integers(20, 60, (images, 2)).astype(np.float64)
    image_index = np.sort(generator.integers(0, images, objects))
    wh = generator.uniform(2, 9, (objects, 2))
    xy = generator.uniform(0, 1, (objects, 2)) * (sizes[image_index] - wh)
    return RawSplit(
        tuple(Category(90 - 7 * place, name) for place, name in enumerate(classes)),
        [100 + place for place in range(images)],
        [f"ride{place // 5}/frame_{place:03}.png" for place in range(images)],
        [f"{folder}/ride{place // 5}/frame_{place:03}.png" for place in range(images)],
        sizes,
        image_index,
        generator.choice(len(classes), objects, p=weights / weights.sum()),
        np.concatenate([xy, wh], axis=1),
        wh.prod(axis=1) * 0.8,
        generator.random(objects) < (0.1 if crowds else 0),
        np.arange(objects),
        str,
    )


def objects_in(split: RawSplit) -> Counter[tuple[object, ...]]:
    """Every object by its image file, class name, box, area and whether it is a crowd region."""
    return Counter(
        (split.paths[image], split.categories[label].name, tuple(box), area, crowd)
        for image, label, box, area, crowd in zip(
            split.image_index.tolist(), split.labels.tolist(), split.boxes_xywh.tolist(), split.areas.tolist(),
            split.is_crowd.tolist(), strict=True,
        )
    )  # fmt: skip


def check_arrays(split: RawSplit) -> None:
    """All columns fit together."""
    images, objects = len(split.paths), len(split.labels)
    assert len(split.image_ids) == len(split.names) == len(split.sizes_wh) == images
    for column in (split.image_index, split.boxes_xywh, split.areas, split.is_crowd, split.origin):
        assert len(column) == objects
    assert ((split.image_index >= 0) & (split.image_index < images)).all()
    assert ((split.labels >= 0) & (split.labels < len(split.categories))).all()
    assert len({category.name for category in split.categories}) == len(split.categories)
    assert len({category.id for category in split.categories}) == len(split.categories)
