"""Describe pictures, and show where each word looked: python examples/captions/caption.py PICTURE..."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

import torch
from PIL import Image

from detr_lite.cli.command import CommandParser, run_command
from detr_lite.data.image_sources import find_images
from detr_lite.data.images.load import load_image
from detr_lite.data.transforms import ResizeRule, evaluation_transform
from detr_lite.errors import DetrLiteError
from detr_lite.io import atomic_write, check_output
from detr_lite.structures import AttentionMaps
from detr_lite.text import printable
from detr_lite.training.task import load_network
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.weights.checkpoint_path import find_checkpoint
from examples.captions.explore import pack_caption
from examples.captions.figure import draw_caption
from examples.captions.model import Captioner, build_captioner, started
from examples.captions.results import DPI
from examples.captions.scenes import SIDE, Captioned, Scenes
from examples.captions.task import NAME
from examples.captions.wording import text_of, text_of_tokens

DESCRIPTION = """Describes drawn scenes and writes, for each, NAME.png with a panel for each word: the picture under the
attention of the query that chose the word. Pictures are scaled to 128 pixels; the model knows shapes of one color."""


@dataclass(frozen=True)
class Source:
    """A picture to describe."""

    name: str
    picture: Image.Image
    scene: Captioned | None = None
    """What was drawn, if it was drawn here."""


def main(words: Sequence[str]) -> None:
    parser = CommandParser(description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("pictures", nargs="*", metavar="PICTURE", help="image files, folders or patterns")
    add("--draw", type=int, default=0, metavar="N", help="also N scenes of the test split, with their true captions")
    add(
        "--checkpoint", type=Path, default=Path("runs/captions"), help="run folder or checkpoint (default: %(default)s)"
    )
    add("--output", type=Path, default=Path("captions"), metavar="DIR", help="folder (default: %(default)s)")
    add("--layer", type=int, help="decoder layer of the attention (default: the last)")
    add("--explore", type=Path, metavar="PAGE", help="also write an explorer of all layers and heads, one HTML file")
    add("--overwrite", action="store_true", help="replace files of the same names in the output folder")
    given = parser.parse_args(words)
    if not given.pictures and given.draw < 1:
        raise DetrLiteError("give pictures to describe, or --draw N for scenes that are drawn")
    if given.explore is not None and given.explore.exists() and not given.overwrite:
        raise DetrLiteError(f"--explore {given.explore} exists; name another file, or give --overwrite")
    check_output(given.output, given.overwrite)
    captioner, _ = load_network(find_checkpoint(given.checkpoint), NAME, build_captioner)
    assert isinstance(captioner, Captioner)
    packed = []
    for source in _sources(given.pictures, given.draw, given.output):
        tokens, maps = describe(captioner, source.picture)
        caption = text_of_tokens(tokens)
        print(f"{printable(source.name)}: {caption}{_correction(caption, source.scene)}")
        path = given.output / f"{source.name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        draw_caption(source.picture, caption.split(), maps, given.layer).savefig(path, dpi=DPI)
        if given.explore is not None:
            packed.append(pack_caption(source.name, source.picture, caption.split(), maps, source.scene))
    if given.explore is not None:
        page = explorer_page(packed, (), layer=given.layer)
        atomic_write(given.explore, lambda file: file.write(page.encode()))


def describe(captioner: Captioner, picture: Image.Image) -> tuple[list[int], AttentionMaps]:
    """The caption's tokens, and the attention with which they and the end were chosen."""
    pixels = evaluation_transform(ResizeRule("fit", SIDE))(picture)
    images = torch.as_tensor(pixels)[None]
    tokens = captioner.write(images)
    return tokens[0], captioner.look(images, started(tokens))


def _sources(paths: Sequence[str], count: int, output: Path) -> Iterator[Source]:
    for file in find_images(paths, output) if paths else ():
        yield Source(file.name.with_suffix("").as_posix(), load_image(file.path))
    scenes = Scenes("test", count)
    for index in range(count):
        scene = scenes[index]
        yield Source(f"scene_{index:03}", Image.fromarray(scene.pixels), scene)


def _correction(caption: str, scene: Captioned | None) -> str:
    if scene is None or caption == text_of(scene.words):
        return ""
    return f"   (true: {text_of(scene.words)})"


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
