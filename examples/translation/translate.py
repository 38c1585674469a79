"""Translate sentences and draw where each word looked: python examples/translation/translate.py "我喜欢我的狗" """

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # this checkout, installed or not

from detr_lite.cli.command import CommandParser, run_command
from detr_lite.cli.figures import save_figure
from detr_lite.io import atomic_write
from detr_lite.model.generation import LENGTH_PENALTY, Hypothesis, beam_search
from detr_lite.structures import AttentionMaps, DetrLiteError
from detr_lite.training.task import load_network
from detr_lite.viz.explorer.other_tasks import pack_words
from detr_lite.viz.explorer.page import explorer_page
from detr_lite.weights.checkpoint_path import find_checkpoint
from examples.translation.figure import draw_alignment
from examples.translation.model import END, MAX_WORDS, START, TASK, Translator, build_network, pad

IGNORED = str.maketrans("", "", " .?!,\u3002\uff1f\uff01\uff0c")
"""Punctuation, Chinese too, which the grammar has not."""

DESCRIPTION = """Translates Chinese sentences of the words in lexicon.py. A figure shows which characters each word of
the first translation came from."""


@torch.inference_mode()
def translate(network: Translator, chinese: str, beams: int = 1) -> list[Hypothesis]:
    """At most `beams` translations, the best first; one is the greedy one.

    Errors: characters that the model has never seen, or none.
    """
    if not chinese:
        raise DetrLiteError("there is nothing to translate; give a sentence of Chinese characters")
    memory = network.encode(pad([network.characters.encode(chinese)]))
    penalty = LENGTH_PENALTY if beams > 1 else 0.0
    start = torch.tensor([[START]])
    return beam_search(network.decoder, start, END, MAX_WORDS, memory, width=beams, length_penalty=penalty)[0]


@torch.inference_mode()
def look(network: Translator, chinese: str, tokens: Sequence[int]) -> AttentionMaps:
    """All attention of the decoder; query i chose word i, and the last one the end."""
    source = pad([network.characters.encode(chinese)])
    output = network(source, torch.tensor([[START, *tokens]]), need_weights=True)
    count = len(chinese)
    return AttentionMaps(
        cross=output.cross_attention,
        queries=output.self_attention,
        encoder=torch.zeros(0, 1, 1, count, count),
        grids=((1, count),),
        encoder_grids=((1, count),),
        is_padding=torch.zeros(1, count, dtype=torch.bool),
        spans=torch.tensor([[[float(count), 1.0]]]),
    )


def main(words: Sequence[str]) -> None:
    parser = CommandParser(description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("sentences", nargs="+", metavar="SENTENCE", help="in Chinese; punctuation is ignored")
    add("--checkpoint", type=Path, default=Path("runs", TASK), help="run folder or checkpoint (default: %(default)s)")
    add("--beams", type=int, default=1, help="of the beam search, whose translations are all shown; 1 is greedy")
    add("--output", type=Path, default=Path("alignment.png"), help="figure of the first one (default: %(default)s)")
    add("--explore", type=Path, metavar="PAGE", help="also write an explorer of all layers and heads, one HTML file")
    given = parser.parse_args(words)
    if given.beams < 1:
        raise DetrLiteError(f"--beams is {given.beams}; it must be at least 1")
    network = cast(Translator, load_network(find_checkpoint(given.checkpoint), TASK, build_network)[0])
    packed = []
    for number, sentence in enumerate(given.sentences):
        chinese = sentence.translate(IGNORED)
        found = translate(network, chinese, given.beams)
        for hypothesis in found:
            score = f"{hypothesis.score:7.2f}  " if given.beams > 1 else ""
            print(score + " ".join(network.words.decode(hypothesis.tokens)))
        best = network.words.decode(found[0].tokens)
        maps = look(network, chinese, found[0].tokens)
        if number == 0:
            save_figure(draw_alignment(maps.mean_rows(-1)[0], chinese, best), given.output)
        if given.explore is not None:
            name, inputs = f"{number + 1:02} {chinese}", ("<start>", *best)
            packed.append(pack_words(name, (*best, "<end>"), maps, source_words=list(chinese), inputs=inputs))
    if given.explore is not None:
        page = explorer_page(packed, ())
        atomic_write(given.explore, lambda file: file.write(page.encode()))


if __name__ == "__main__":
    run_command(lambda: main(sys.argv[1:]))
