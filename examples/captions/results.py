"""What a trained captioner is worth on unseen scenes, as numbers and figures in its run folder."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from detr_lite.io import atomic_write
from examples.captions.figure import draw_shares
from examples.captions.metrics import Exactness, Looked, LookMeter, exactness, look_table
from examples.captions.model import Captioner
from examples.captions.scenes import Scenes
from examples.captions.task import collate, predict
from examples.captions.wording import text_of

DPI = 140
BATCH = 50


@dataclass(frozen=True)
class Results:
    exactness: Exactness
    looked: dict[str, Looked]
    """By kind of word, of the true captions."""

    def table(self) -> str:
        return f"{self.exactness.table()}\n\n{look_table(self.looked)}"

    def to_json(self) -> str:
        looked = {kind: {**asdict(each), "inside": each.inside.tolist(), "other": each.other.tolist()}
                  for kind, each in self.looked.items()}  # fmt: skip
        content = {"exact": self.exactness.share, "by_objects": asdict(self.exactness), "attention": looked}
        return json.dumps(content, indent=2) + "\n"


def evaluate(captioner: Captioner, scenes: Scenes) -> Results:
    """Captions that the model writes; and where it looks while it is told the true words one by one."""
    device = next(captioner.parameters()).device
    meter, written, true, objects = LookMeter(), [], [], []
    for first in range(0, len(scenes), BATCH):
        drawn = [scenes[index] for index in range(first, min(first + BATCH, len(scenes)))]
        batch = {name: value.to(device) for name, value in collate(drawn).items()}
        written += predict(captioner, batch)
        true += [text_of(scene.words) for scene in drawn]
        objects += [len(scene.boxes) for scene in drawn]
        maps = captioner.look(batch["images"], batch["read"])
        meter.update(maps, [scene.words for scene in drawn], [scene.boxes for scene in drawn])
    return Results(exactness(written, true, objects), meter.compute())


def write_results(captioner: Captioner, folder: Path, scenes: Scenes) -> Results:
    """Numbers as evaluation/test.json, and a figure of the shares as evaluation/attention.png."""
    results = evaluate(captioner, scenes)
    output = folder / "evaluation"
    output.mkdir(exist_ok=True)
    text = results.to_json()
    atomic_write(output / "test.json", lambda file: file.write(text.encode()))
    draw_shares(results.looked, len(scenes)).savefig(output / "attention.png", dpi=DPI)
    return results
