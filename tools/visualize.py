"""Draw where queries look: python tools/visualize.py --checkpoint best.ckpt --source photos --output looked"""

from pathlib import Path

from detr_lite.cli.command import ToolParser, run_command

DESCRIPTION = """Draws, for every image, where the model looks; one PNG each, below the output folder as the image lies
in its source. --figure queries: the detections with the cross-attention of their queries, the mean of all heads and
each head. layers: one detection's, layer by layer. points: where the encoder's tokens at chosen points look.
query_boxes: one query_boxes.png, with the centers of all boxes that each query predicts on all images. Where no score
reaches the threshold, the best guesses are shown. --explore writes one HTML page instead, in which all of it can be
looked at with mouse, finger or keyboard. What cannot be read as an image is named and skipped; the exit code is then
2."""


def main() -> None:
    parser = ToolParser(description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a checkpoint, such as RUN/checkpoints/best.ckpt")
    add("--source", nargs="+", required=True, metavar="PATH", help="images, folders with all below, patterns ('*.jpg')")
    add("--output", type=Path, metavar="DIR", help="folder for the figures, new or empty")
    add("--figure", help="queries, layers, points or query_boxes (default: queries)")
    add("--layer", help="with queries or explore: last, or a decoder layer, counted from 0 (default: last)")
    add("--heads", help="all, mean or numbers such as 0,3 (default: all; points: mean; explore: mean or one number)")
    add("--detection", type=int, metavar="N", help="with layers: which detection, the best one is 0 (default: 0)")
    add("--points", nargs="+", metavar="X,Y", help="pixels of the image (default: centres of the best detections)")
    add("--explore", type=Path, nargs="?", const=True, metavar="PAGE.html", help="write a page, there or to --output")
    add("--truth", type=Path, metavar="JSON", help="with explore: COCO annotations; images are found by file name")
    add("--budget", type=float, metavar="MB", help="with explore: most megabytes for an image (default: 8)")
    add("--threshold", type=float, default=0.5, help="least score, from 0 to 1 (default: 0.5)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto, a GPU if there is one)")
    add("--overwrite", action="store_true", help="replace files of the same names in the output folder; others stay")
    words = {name: value for name, value in vars(parser.parse_args()).items() if value is not None}
    page = words.pop("explore", None)
    if page in (None, True) and "output" not in words:
        parser.error("the following arguments are required: --output")
    for name in ("truth", "budget") if page is None else ("figure", "detection", "points"):
        if name in words:
            parser.error(f"--{name} {'needs' if page is None else 'does not go with'} --explore")
    if page is None:
        from detr_lite.cli.visualize import visualize  # slow to import, and --help should not wait

        visualize(**words)
    else:
        from detr_lite.cli.explore import explore

        output = words.pop("output", None)
        explore(**words, page=output if page is True else page)


if __name__ == "__main__":
    run_command(main)
