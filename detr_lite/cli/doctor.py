"""`detr-lite doctor`: everything that is wrong or odd with a dataset, as one page with pictures."""

import sys
from collections.abc import Sequence
from pathlib import Path

from detr_lite.cli.command import CHECKPOINT_HELP, CommandParser
from detr_lite.errors import DetrLiteError
from detr_lite.text import command_line, printable
from detr_lite.weights.checkpoint_path import find_checkpoint

DESCRIPTION = """Looks through a dataset and writes one HTML page, which needs no network: all faults with pictures,
counts of classes and sizes, odd boxes, images that stand in two splits or nearly so, and the settings that training
would choose. With --checkpoint also labels that are likely wrong or missing. With --fix a mended copy. The dataset
itself is only read. The exit code is 0 if training would accept the dataset, 1 if something must be mended first, and
2 if nothing could be looked at."""


def main(words: Sequence[str]) -> None:
    parser = CommandParser(prog=command_line("doctor"), description=DESCRIPTION, allow_abbrev=False)
    add = parser.add_argument
    add("data", type=Path, metavar="DATA", help="dataset folder, in any format that training reads")
    add("--checkpoint", type=Path, help=f"compare the labels with detections: a {CHECKPOINT_HELP}")
    add("--output", type=Path, default=Path("doctor.html"), metavar="FILE", help="the page (default: doctor.html)")
    add("--fix", type=Path, metavar="DIR", help="write a mended copy in COCO format there, with changes.json")
    add("--overwrite", action="store_true", help="replace a mended copy that is there already")
    add("--max_images", type=int, default=2000, help="images of a split that the model looks at (default: 2000)")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1 ... (default: auto, a GPU if there is one)")
    if not doctor(**vars(parser.parse_args(words))):
        sys.exit(1)


def doctor(
    data: Path,
    output: Path = Path("doctor.html"),
    checkpoint: Path | None = None,
    fix: Path | None = None,
    overwrite: bool = False,
    max_images: int = 2000,
    device: str = "auto",
) -> bool:
    """Write the page, and the mended copy, and print a summary. Returns whether training would accept the dataset.

    Args:
        output: the page; one that this command wrote before is replaced.
        checkpoint: a model, which looks at `max_images` images of each split at most.
        fix: a new folder for the mended copy; `overwrite` replaces an older one.

    Errors: a wrong argument, before the dataset is read; a folder that is no dataset.
    """
    from detr_lite.data.formats.recognize import refuse_no_data  # imports numpy, as --help does not

    if max_images < 1:
        raise DetrLiteError(f"--max_images is {max_images}; it must be at least 1")
    _check_page(output, data)
    if checkpoint is not None:
        find_checkpoint(checkpoint)
    refuse_no_data(data)

    # These import torch, as nothing above does.
    from detr_lite.cli.checkup import examine_all, make_checkup
    from detr_lite.cli.mended_copy import CHANGES, check_fix, write_mended
    from detr_lite.data.reading import Reading
    from detr_lite.detector import Detector
    from detr_lite.io import atomic_write
    from detr_lite.viz.doctor.page import doctor_page
    from detr_lite.viz.pages.gallery import LEVELS

    if fix is not None:
        check_fix(fix, data, overwrite)
    detector = None if checkpoint is None else Detector.from_checkpoint(checkpoint, device)
    examined = examine_all(data, Reading())
    checkup = make_checkup(examined, detector, max_images)
    text = doctor_page(checkup).encode()
    atomic_write(output, lambda file: file.write(text))

    print(printable(checkup.verdict()))
    for level, (heading, sign) in LEVELS.items():
        for group in checkup.ordered():
            if group.level == level and level != "fine":
                where = f", {group.where}" if group.where else ""
                count = "" if group.count is None else f": {group.count:,}"
                print(printable(f"  {sign} {heading.lower()}: {group.title.lower()}{where}{count}"))
    if fix is not None:
        changed = write_mended(fix, data, examined.splits, examined.raws, overwrite)
        entries = f"{changed:,} {'entry' if changed == 1 else 'entries'}"
        print(printable(f"wrote {fix}: a mended copy; {entries} changed or left out, listed in {CHANGES}"))
    print(printable(f"wrote {output}: {len(text) / 1e6:.1f} MB"))
    return checkup.count("mend") == 0


def _check_page(output: Path, data: Path) -> None:
    """Errors: a page that would replace a file of somebody else, or lie in the dataset."""
    from detr_lite.io import is_below
    from detr_lite.viz.pages.page import DOCTOR, check_replaceable

    if is_below(output, data) and not output.is_dir():
        raise DetrLiteError(f"--output {output} lies in the dataset, which is only read; name a file elsewhere")
    check_replaceable(output, DOCTOR, "--output ")
