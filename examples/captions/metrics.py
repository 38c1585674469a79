"""How many captions are exact, and where the query of each word looked.

The query that chose a word is the one that read the word before it (or the start). Its attention is spread over the
patches of the tokens; the part that lies in the boxes of the objects that the word is about is compared with the part
of the picture that these boxes cover, which is what attention without a preference would have there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from detr_lite.evaluation.attention_metrics import covered_share, token_patches
from detr_lite.structures import AttentionMaps
from examples.captions.scenes import OBJECTS, SIDE
from examples.captions.wording import Box, Word

KINDS = ("article", "size", "color", "shape", "relation")


@dataclass(frozen=True)
class Exactness:
    """Captions that are right in every word, by the number of objects in the scene."""

    exact: tuple[int, ...]
    scenes: tuple[int, ...]

    @property
    def share(self) -> float:
        """NaN without scenes."""
        return sum(self.exact) / sum(self.scenes) if any(self.scenes) else float("nan")

    def table(self) -> str:
        lines = ["objects  scenes  exact"]
        for objects, (exact, scenes) in enumerate(zip(self.exact, self.scenes, strict=True)):
            lines.append(f"{objects:>7}  {scenes:>6}  {exact / scenes if scenes else float('nan'):>5.1%}")
        return "\n".join([*lines, f"    all  {sum(self.scenes):>6}  {self.share:>5.1%}"])


def exactness(written: Sequence[str], true: Sequence[str], objects: Sequence[int]) -> Exactness:
    """Of captions as text, beside the true ones and the number of objects of each scene."""
    exact, scenes = [0] * len(OBJECTS), [0] * len(OBJECTS)
    for mine, right, count in zip(written, true, objects, strict=True):
        exact[count] += mine == right
        scenes[count] += 1
    return Exactness(tuple(exact), tuple(scenes))


@dataclass(frozen=True)
class Looked:
    """Means over the words of a kind; attention averaged over heads."""

    words: int
    inside: Float[Tensor, " layer"]
    """Share of the attention in the boxes of the objects that the word is about."""
    area: float
    """Share of the picture that these boxes cover."""
    other: Float[Tensor, " layer"]
    """Share of the attention in the boxes of all other objects."""
    other_area: float


class LookMeter:
    """Accumulates `Looked` by kind of word, batch by batch."""

    def __init__(self) -> None:
        self._words = dict.fromkeys(KINDS, 0)
        self._areas = {kind: torch.zeros(2, dtype=torch.float64) for kind in KINDS}
        self._shares: dict[str, Tensor] = {}

    def update(self, maps: AttentionMaps, words: Sequence[Sequence[Word]], boxes: Sequence[Sequence[Box]]) -> None:
        """Add the scenes of a batch: query i of `maps` chose word i."""
        patches_xyxy = token_patches(maps).cpu()
        for image, (caption, corners) in enumerate(zip(words, boxes, strict=True)):
            boxes_xyxy = torch.tensor(corners, dtype=torch.float32).view(-1, 4) / SIDE
            covered = covered_share(patches_xyxy[image].expand(len(boxes_xyxy), -1, -1), boxes_xyxy)
            weights = maps.cross[:, image].float().mean(dim=1).cpu()  # layer query token
            inside = torch.einsum("lqt,bt->qbl", weights, covered).double()
            areas = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).prod(-1).double()
            for query, word in enumerate(caption):
                if word.kind not in KINDS:
                    continue
                is_about = torch.tensor([index in word.about for index in range(len(corners))])
                shares = torch.stack([inside[query, is_about].sum(0), inside[query, ~is_about].sum(0)])
                self._shares[word.kind] = self._shares.get(word.kind, 0) + shares
                self._areas[word.kind] += torch.stack([areas[is_about].sum(), areas[~is_about].sum()])
                self._words[word.kind] += 1

    def compute(self) -> dict[str, Looked]:
        """Of the kinds of which there were words."""
        return {
            kind: Looked(count, *_of(self._shares[kind] / count, self._areas[kind] / count))
            for kind, count in self._words.items()
            if count
        }


def _of(shares: Float[Tensor, "2 layer"], areas: Float[Tensor, " 2"]) -> tuple[Tensor, float, Tensor, float]:
    return shares[0].float(), float(areas[0]), shares[1].float(), float(areas[1])


def look_table(looked: dict[str, Looked]) -> str:
    """Of each kind of word: attention inside its objects by layer, beside their share of the picture."""
    layers = len(next(iter(looked.values())).inside) if looked else 0
    head = "".join(f"  layer {layer}" for layer in range(layers))
    lines = [f"word      words{head}  of the picture  others (last layer)  of the picture"]
    for kind, each in looked.items():
        inside = "".join(f"  {share:>7.1%}" for share in each.inside.tolist())
        lines.append(
            f"{kind:<8}  {each.words:>5}{inside}  {each.area:>14.1%}  {each.other[-1].item():>19.1%}"
            f"  {each.other_area:>14.1%}"
        )
    return "\n".join(lines)
