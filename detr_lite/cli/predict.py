"""`detr-lite predict`: detections in images, as files of several formats and as annotated images."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from detr_lite.cli.command import (
    CHECKPOINT_HELP,
    FORMATS,
    NMS_HELP,
    OVERLAP_HELP,
    THRESHOLD_HELP,
    TILE_HELP,
    CommandParser,
    check_threshold,
    parse_threshold,
)
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line, printable
from detr_lite.weights.checkpoint_path import find_checkpoint

DESCRIPTION = """Detects objects in images and writes, into the output folder, every image with its boxes drawn (under
its path in the source folder; .jpg and .png keep their names, others become .png; small images are enlarged) and
detections.json: {"images": [{"id", "file_name", "width", "height"}], "annotations": [{"id", "image_id", "category_id",
"category_name", "bbox", "score", "area", "iscrowd"}], "categories": [{"id", "name"}], "info": {"threshold"}}. "bbox"
is [x, y, width, height] in pixels of the image as a viewer shows it (or not turned, if the model was trained with
--data.orientation stored), "file_name" is relative to the source folder: a COCO annotation file with scores. Where many
boxes are close together, labels are short and a legend is added below the image. If no image at all has a detection,
the best score is printed and every image is drawn with its best guesses, dashed and called so; detections.json stays
empty. --format csv writes detections.csv with a row for each detection instead, yolo a label file with scores for each
image and classes.txt, json a JSON file for each image. Of a video (or a camera such as 0, or a stream such as rtsp://...)
it writes NAME.mp4 with the boxes drawn and the sound kept, and NAME.jsonl with a line for each frame. After Ctrl-C,
what was found so far is written, and the exit code is 130. Files that cannot be read as images are named and skipped;
the exit code is then 2."""

SOURCE_HELP = (
    "images, folders (recursive), patterns ('*.jpg'); or videos, a camera such as 0, a stream such as rtsp://..."
)


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("predict"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("--checkpoint", type=Path, required=True, help=CHECKPOINT_HELP)
    add("--source", nargs="+", required=True, metavar="PATH", help=SOURCE_HELP)
    add("--output", type=Path, required=True, metavar="DIR", help="folder for the results, new or empty")
    add("--threshold", type=parse_threshold, default=0.5, metavar="SCORE", help=f"{THRESHOLD_HELP} (default: 0.5)")
    add("--format", default="coco", help="coco, csv, yolo or json (default: coco)")
    add("--every", type=int, default=1, metavar="N", help="of videos, detect in every Nth frame only (default: 1)")
    add("--track", action="store_true", help="of videos, give each object an id that it keeps from frame to frame")
    add("--tile", type=int, metavar="PIXELS", help=TILE_HELP)
    add("--overlap", type=float, default=0.2, metavar="SHARE", help=OVERLAP_HELP)
    add("--nms", type=float, metavar="IOU", help=NMS_HELP)
    add("--batch_size", type=int, default=8, help="images per batch (default: 8)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto, a GPU if there is one)")
    add("--overwrite", action="store_true", help="replace files of the same names in the output folder; others stay")
    predict(**vars(parser.parse_args(words)))


def predict(
    checkpoint: Path,
    source: Sequence[str],
    output: Path,
    threshold: float | Literal["best"] = 0.5,
    nms: float | None = None,
    batch_size: int = 8,
    device: str = "auto",
    overwrite: bool = False,
    format: str = "coco",
    tile: int | None = None,
    overlap: float = 0.2,
    every: int = 1,
    track: bool = False,
) -> None:
    """Write the detections and every image with its detections drawn, and print a summary.

    Args:
        source: files, folders and patterns, as in `find_images`; or videos, as in `find_videos`.
        output: folder; the annotated images have the same relative paths as in their source.
        threshold: detections of a lower score are left out of both; "best" is the best score of each class.
        nms: IoU above which of two detections of a class the lower-scoring is left out.
        format: "coco" for detections.json, "csv" for detections.csv; "yolo" or "json" for a file of each image.
        tile, overlap: as in `Detector.from_checkpoint`.
        every, track: as in `VideoOptions`.

    After Ctrl-C, what was found so far is written before `KeyboardInterrupt` is raised again.

    Errors: a wrong argument, before anything is written; images that cannot be read, after all others are done.
    """
    from detr_lite.data.image_sources import ImageFile, find_images, read_batches, refuse_unreadable
    from detr_lite.io import check_output, drawing_names, refuse_links_out
    from detr_lite.video.find import find_videos

    check_threshold(threshold)
    if batch_size < 1:
        raise DetrLiteError(f"--batch_size is {batch_size}; it must be at least 1")
    if format not in FORMATS:
        raise DetrLiteError(f"--format is {format!r}; it must be one of {', '.join(FORMATS)}")
    if videos := find_videos(source, output):
        if format != "coco":
            raise DetrLiteError(f"--format {format} is for images; of a video a line of JSON for each frame is written")
        from detr_lite.cli.predict_video import VideoOptions, predict_videos  # import torch
        from detr_lite.cli.score_threshold import find_threshold
        from detr_lite.detector import Detector

        options = VideoOptions(every, track)
        options.check()
        check_output(output, overwrite)
        detector = Detector.from_checkpoint(checkpoint, device, nms, tile, overlap)
        predict_videos(detector, videos, output, find_threshold(threshold, detector, checkpoint), options)
        return
    if every != 1 or track:
        raise DetrLiteError("--every and --track are for videos; name one with --source, such as clip.mp4")
    images = find_images(source, output)
    check_output(output, overwrite)
    names = drawing_names([file.name for file in images], keep=(".jpg", ".jpeg", ".png"))
    refuse_links_out(output, {(output / name).parent for name in names})
    find_checkpoint(checkpoint)

    from detr_lite.cli.best_guesses import BestGuesses  # import torch, as nothing above does
    from detr_lite.cli.detections_file import Found, make_writer, save_image
    from detr_lite.cli.score_threshold import find_threshold
    from detr_lite.detector import Detector

    detector = Detector.from_checkpoint(checkpoint, device, nms, tile, overlap)
    least = find_threshold(threshold, detector, checkpoint)

    name_of = dict(zip(images, names, strict=True))
    unreadable: list[ImageFile] = []
    info = dict(least.info)
    written = make_writer(format, output, [file.name for file in images], detector.categories, info)
    found, guesses, is_stopped, start = Found(), BestGuesses(least), False, time.perf_counter()
    try:
        for batch in read_batches(images, batch_size, unreadable, "predicting", detector.orientation):
            detections = detector([image for _, image in batch], batch_size)
            for (file, image), each in zip(batch, detections, strict=True):
                kept = each.above(least.scores)
                save_image(kept.draw(image), output / name_of[file])
                written.add(file.name, image, kept)
                found.add(kept)
                guesses.add(file, each)
    except KeyboardInterrupt:  # what was found so far is worth keeping
        is_stopped = True
        info["stopped_after"] = {"images": found.images, "of": len(images)}
    speed = found.images / (time.perf_counter() - start)
    if found.images:
        written.save()
        print(f"found {printable(found.summary())} ({least.summary})")
        if not is_stopped and (best_score := guesses.best_score()):
            guesses.draw(name_of, output, detector.orientation)
            print(f"{best_score}; the images show the best guesses, dashed")
        count = f"{found.images:,} annotated image{'s' if found.images != 1 else ''}"
        print(f"wrote {written.files} and {count}, {speed:.2g} images a second with reading and drawing")
    if is_stopped:
        print(f"stopped after {found.images:,} of {len(images):,} images", flush=True)
        raise KeyboardInterrupt
    refuse_unreadable(unreadable, len(images), output)
