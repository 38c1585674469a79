"""Find objects in images: python tools/predict.py --checkpoint best.ckpt --source photos --output found"""

from pathlib import Path

from detr_lite.cli.command import ToolParser, run_command

DESCRIPTION = """Finds objects in images and writes, into the output folder, every image with its boxes drawn (below
that folder as it lies in its source; .jpg and .png keep their names, others become .png; small images are enlarged) and
detections.json: {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id", "category_id",
"category_name", "bbox", "score", "area", "iscrowd"}], "categories": [{"id", "name"}]}. "bbox" is [x, y, width, height]
in pixels of the image as a viewer shows it, "file_name" relative to the source folder: it is a COCO annotation file
with scores. What cannot be read as an image is named and skipped; the exit code is then 2."""


def main() -> None:
    parser = ToolParser(description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help="a checkpoint, such as RUN/checkpoints/best.ckpt")
    add("--source", nargs="+", required=True, metavar="PATH", help="images, folders with all below, patterns ('*.jpg')")
    add("--output", type=Path, required=True, metavar="DIR", help="folder for the results, new or empty")
    add("--threshold", type=float, default=0.5, help="least score, from 0 to 1 (default: 0.5)")
    add("--batch_size", type=int, default=8, help="images at a time (default: 8)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto, a GPU if there is one)")
    add("--overwrite", action="store_true", help="replace files of the same names in the output folder; others stay")
    arguments = parser.parse_args()
    from detr_lite.cli.predict import predict  # slow to import, and --help should not wait

    predict(**vars(arguments))


if __name__ == "__main__":
    run_command(main)
