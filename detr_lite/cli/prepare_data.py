"""`detr-lite prepare-data`: convert, split, subset, merge, rename, count and download datasets."""

import argparse
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detr_lite.cli.command import CommandParser
from detr_lite.text import command_line

Subcommands = argparse._SubParsersAction  # argparse has no public name for it

DESCRIPTION = """Reads a dataset in any format that training reads, and writes a new one beside it. The source is never
changed. An output is complete or not there at all."""

CONVERT = """Writes the dataset in COCO format (annotations/instances_SPLIT.json, images in SPLIT/) or in YOLO format
(data.yaml, images/SPLIT, labels/SPLIT). Boxes and classes are kept; outlines, keypoints and captions are not. YOLO
cannot hold crowd regions and what lies outside of an image: they are left out and counted."""

SPLIT = """Divides the images of all splits of the source anew. Each class comes into every part if enough images or
groups have it, in about the same share. Frames of one video, or photographs of one thing, should stay together: a
detector tested on what it was trained on looks better than it is. --by prefix groups names that differ in their last
number alone (ride3_0007.jpg and ride3_0008.jpg), --by folder those of one folder, --group those with the same match of
a regular expression: --group '^(ride[0-9]+)'."""

SUBSET = """Writes some of the images: a number of the training split, chosen at random, or with --balanced so that
the classes appear about equally often; or those with objects of some classes, of all splits."""

MERGE = """Joins datasets, split by split and with classes by name; rename classes first where the names differ.
Images whose names are taken get their dataset's name before their own. Where one dataset has not labeled a class of
another, its objects there would teach the detector that they are background: that is said."""

RENAME = """Gives classes new names. Several with the same new name become one class; the objects of dropped classes are
left out, and their images stay."""

STATS = """Counts images, objects and classes of each split, with the sizes of boxes and images, and says what is wrong
with the data, which are only read."""

DOWNLOAD = """Downloads COCO's images and boxes and unpacks them, ready for training with --data.root DIR. The sizes are
told and compared with the free disk space before it starts. After an interruption the same command continues. COCO
publishes no checksums: archives are compared with the size that the server announces, and each file in them with the
checksum in the archive."""


def main(words: Sequence[str]) -> None:
    program = command_line("prepare-data")
    parser = CommandParser(prog=program, description=DESCRIPTION, allow_abbrev=False)
    subcommands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_convert, _add_split, _add_subset, _add_merge, _add_rename, _add_stats, _add_download):
        add(subcommands)
    given = vars(parser.parse_args(words))
    command = given.pop("command")
    from detr_lite.cli import prepare_commands, prepared_data  # import torch, as --help does not

    if "overwrite" in given:
        names = ("to", "files", "overwrite", "on_fault", "orientation")
        options = {name: given.pop(name) for name in names}
        given["options"] = prepared_data.Options(**options, call=f"{program} {shlex.join(words)}")
    getattr(prepare_commands, command)(**given)


def _add_convert(subcommands: "Subcommands[CommandParser]") -> None:
    convert = _add(subcommands, "to COCO or YOLO format", CONVERT, "convert photos photos_yolo --to yolo")
    _add_source_and_output(convert)
    _add_writing(convert, is_to_required=True)


def _add_split(subcommands: "Subcommands[CommandParser]") -> None:
    split = _add(
        subcommands,
        "divide into training, validation and test images",
        SPLIT,
        "split photos photos_split --val 0.2 --test 0.1 --by prefix",
    )
    _add_source_and_output(split)
    split.add_argument("--val", type=float, default=0.2, metavar="SHARE", help="of the images (default: 0.2)")
    split.add_argument(
        "--test", type=float, default=0.0, metavar="SHARE", help="of the images (default: 0, no such split)"
    )
    by = "what stays together (default: image, each alone)"
    split.add_argument("--by", choices=["image", "folder", "prefix"], default="image", help=by)
    group = "what stays together: names with the same match of its first parentheses"
    split.add_argument("--group", metavar="REGEX", help=group)
    _add_seed(split)
    _add_writing(split)


def _add_subset(subcommands: "Subcommands[CommandParser]") -> None:
    subset = _add(
        subcommands, "some of the images or classes", SUBSET, "subset photos photos_100 --images 100 --balanced"
    )
    _add_source_and_output(subset)
    subset.add_argument("--images", type=int, metavar="N", help="number of training images (default: all)")
    subset.add_argument("--other_images", type=int, metavar="N", help="of each other split (default: all)")
    subset.add_argument("--classes", nargs="+", metavar="NAME", help="only these; images without any are left out")
    subset.add_argument("--keep_empty", action="store_true", help="with --classes: keep images without any of them")
    subset.add_argument("--balanced", action="store_true", help="classes about equally often, as far as they go")
    _add_seed(subset)
    _add_writing(subset)


def _add_merge(subcommands: "Subcommands[CommandParser]") -> None:
    merge = _add(subcommands, "several datasets into one", MERGE, "merge photos more_photos all_photos")
    merge.add_argument("sources", nargs="+", type=Path, metavar="SOURCE", help="dataset folders, two or more")
    merge.add_argument("output", type=Path, metavar="OUTPUT", help="new folder")
    _add_writing(merge)


def _add_rename(subcommands: "Subcommands[CommandParser]") -> None:
    rename = _add(
        subcommands,
        "rename, join or drop classes",
        RENAME,
        "rename photos photos_renamed --classes lorry=truck van=truck --drop person",
    )
    _add_source_and_output(rename)
    rename.add_argument("--classes", nargs="+", default=[], metavar="OLD=NEW", help="new names, such as lorry=truck")
    rename.add_argument("--drop", nargs="+", default=[], metavar="NAME", help="classes to leave out")
    _add_writing(rename)


def _add_stats(subcommands: "Subcommands[CommandParser]") -> None:
    stats = _add(subcommands, "counts, sizes and faults", STATS, "stats photos --json stats.json")
    stats.add_argument("source", type=Path, metavar="SOURCE", help="dataset folder")
    stats.add_argument("--json", type=Path, metavar="FILE", help="also write the counts and all faults to this file")
    _add_reading(stats)


def _add_download(subcommands: "Subcommands[CommandParser]") -> None:
    download = _add(subcommands, "COCO from its server", DOWNLOAD, "download coco data/coco --splits val")
    download.add_argument("dataset", choices=["coco"], metavar="coco", help="the dataset")
    download.add_argument("folder", type=Path, metavar="DIR", help="where it goes")
    splits = "train (19 GB, and as much for its archive) and val (1 GB); default: both"
    download.add_argument("--splits", nargs="+", choices=["train", "val"], default=["train", "val"], help=splits)
    download.add_argument("--year", type=int, choices=[2017, 2014], default=2017, help="the release (default: 2017)")
    download.add_argument("--server", metavar="URL", help="a mirror with the same paths (default: COCO's own)")
    download.add_argument("--remove_archives", action="store_true", help="remove each archive once it is unpacked")


def _add(subcommands: "Subcommands[CommandParser]", summary: str, description: str, example: str) -> CommandParser:
    """A command under the first word of its example.

    The usage has the folders first: an option of several words would take them for its own.
    """
    program, name = command_line("prepare-data"), example.split()[0]
    places = {"merge": "SOURCE SOURCE ... OUTPUT", "stats": "SOURCE", "download": "coco DIR"}
    return subcommands.add_parser(
        name,
        usage=f"{program} {name} {places.get(name, 'SOURCE OUTPUT')} [options]",
        help=summary,
        description=description,
        epilog=f"example: {program} {example}",
        allow_abbrev=False,
    )


def _add_source_and_output(parser: CommandParser) -> None:
    parser.add_argument("source", type=Path, metavar="SOURCE", help="dataset folder, in any known format")
    parser.add_argument("output", type=Path, metavar="OUTPUT", help="new folder")


def _add_seed(parser: CommandParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of the random choice (default: 0)")


def _add_writing(parser: CommandParser, is_to_required: bool = False) -> None:
    to: dict[str, Any] = {"required": True} if is_to_required else {"default": "coco"}
    note = "" if is_to_required else " (default: coco)"
    parser.add_argument("--to", choices=["coco", "yolo"], **to, help=f"format of the output{note}")
    files = "hard links to the source's images, or copies where there can be none; or copies (default: link)"
    parser.add_argument("--files", choices=["link", "copy"], default="link", help=files)
    overwrite = "replace an output that an earlier call has written"
    parser.add_argument("--overwrite", action="store_true", help=overwrite)
    _add_reading(parser)


def _add_reading(parser: CommandParser) -> None:
    """Under the names that training has for them too, because messages about faults name those."""
    fault = "what to do about faults in the source, as in training (default: repair)"
    choices = ["repair", "skip", "refuse"]
    parser.add_argument("--data.on_fault", "--on_fault", dest="on_fault", choices=choices, default="repair", help=fault)
    turned = "of images whose EXIF orientation the annotations do not settle, as in training"
    parser.add_argument(
        "--data.orientation", "--orientation", dest="orientation", choices=["upright", "stored"],
        help=turned,
    )  # fmt: skip
