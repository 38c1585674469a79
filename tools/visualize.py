"""Draw where queries look: python tools/visualize.py --checkpoint best.ckpt --source photos --output looked"""

from pathlib import Path

from detr_lite.command import ToolParser, run_command

DESCRIPTION = """Draws, for every image, its detections with the cross-attention of their queries: the image with box,
class and score, and heatmaps over it, the mean of all heads and each head. One PNG for each image, below the output
folder as the image lies in its source. Where no score reaches the threshold, the best guesses are shown. What cannot be
read as an image is named and skipped; the exit code is then 2."""


def main() -> None:
    parser = ToolParser(description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a checkpoint, such as RUN/checkpoints/best.ckpt")
    add("--source", nargs="+", required=True, metavar="PATH", help="images, folders with all below, patterns ('*.jpg')")
    add("--output", type=Path, required=True, metavar="DIR", help="folder for the figures, new or empty")
    add("--layer", default="last", help="of the decoder: last, or a number counted from 0 (default: last)")
    add("--heads", default="all", help="all (with their mean), mean, or numbers such as 0,3 (default: all)")
    add("--threshold", type=float, default=0.5, help="least score, from 0 to 1 (default: 0.5)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto, a GPU if there is one)")
    add("--overwrite", action="store_true", help="replace files of the same names in the output folder; others stay")
    arguments = parser.parse_args()
    from detr_lite.visualize import visualize  # slow to import, and --help should not wait

    visualize(**vars(arguments))


if __name__ == "__main__":
    run_command(main)
