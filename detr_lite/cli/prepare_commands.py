"""What `detr-lite prepare-data` does with the datasets that its command line names."""

import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

from detr_lite.cli.prepared_data import Options, check_classes, check_source, class_names, read_source, write_output
from detr_lite.data.analysis.near_duplicates import same_files
from detr_lite.data.editing.edits import join_splits, keep_classes, objects_per_class, rename_classes
from detr_lite.data.editing.partition import GroupBy, divide, group_images, join_groups
from detr_lite.data.editing.subset import choose_images
from detr_lite.data.formats.new_dataset import check_new
from detr_lite.data.images.files import Orientation
from detr_lite.data.reading import Reading, read_stored
from detr_lite.data.records import RawSplit
from detr_lite.data.report import OnFault
from detr_lite.errors import DetrLiteError
from detr_lite.io import atomic_write
from detr_lite.text import command_line, shorten_list

logger = logging.getLogger(__name__)


def convert(source: Path, output: Path, options: Options) -> None:
    check_new(output, [source], options.overwrite)
    write_output(read_source(source, options), output, [source], options)


def split(
    source: Path, output: Path, val: float, test: float, by: GroupBy, group: str | None, seed: int, options: Options
) -> None:
    """Errors: shares that are not between 0 and 1, or leave no training images."""
    shares = {name: share for name, share in {"train": 1 - val - test, "val": val, "test": test}.items() if share != 0}
    for option, share in (("val", val), ("test", test)):
        if not 0 <= share < 1:
            raise DetrLiteError(f"--{option} is {share:g}; give a share of the images, from 0 to below 1, such as 0.2")
    if len(shares) < 2 or shares["train"] < 1e-9:
        raise DetrLiteError(f"--val {val:g} --test {test:g} leave no two splits; together they must be between 0 and 1")
    check_new(output, [source], options.overwrite)
    stored = _labeled(read_source(source, options))
    whole = join_splits(stored)
    if by == "image" and group is None:
        groups = group_images(whole.names)
        _advise_groups(stored)
    else:  # by the names in each split: frames of one video may stand in several
        groups = [each for part in stored.values() for each in group_images(part.names, by, group)]
    copies = same_files(whole.paths)
    if copies:
        names = [whole.names[place] for places in copies for place in places]
        logger.info(f"copies of the same file stay together: {len(names):,} ({shorten_list(names, 3)})")
    groups = join_groups(groups, copies)
    part = divide(whole, groups, list(shares.values()), seed)
    divided = {name: whole.keep_images(part == place) for place, name in enumerate(shares)}
    if by != "image" or group is not None:
        for place, name in enumerate(shares):
            mine = {each for each, there in zip(groups, part.tolist(), strict=True) if there == place}
            shown = [each.removeprefix("./") for each in sorted(mine)]
            logger.info(f"{name}: {len(mine):,} of {len({*groups}):,} groups ({shorten_list(shown, 3)})")
    write_output(divided, output, [source], options)


def subset(
    source: Path, output: Path, images: int | None, other_images: int | None, classes: Sequence[str] | None,
    keep_empty: bool, balanced: bool, seed: int, options: Options
) -> None:  # fmt: skip
    """Errors: nothing to choose by, a number that a split does not have, unknown classes."""
    if images is None and other_images is None and classes is None:
        raise DetrLiteError("a subset of what? give --images N, --classes NAME ..., or both")
    if keep_empty and classes is None:
        raise DetrLiteError("--keep_empty needs --classes")
    if balanced and images is None and other_images is None:
        raise DetrLiteError("--balanced needs a number of images; give --images N")
    check_new(output, [source], options.overwrite)
    splits = read_source(source, options)
    if classes is not None:
        check_classes(classes, splits)
        splits = {name: keep_classes(each, classes, keep_empty) for name, each in splits.items()}
    for name, each in splits.items():
        count, option = (images, "images") if name == "train" else (other_images, "other_images")
        if count is not None:
            if not 1 <= count <= len(each.names):
                raise DetrLiteError(
                    f"--{option} is {count}; {source} has {len(each.names):,} such images in {name}; "
                    "give a number from 1 to that"
                )
            splits[name] = each.keep_images(choose_images(each, count, seed, balanced))
    write_output(splits, output, [source], options)


def merge(sources: Sequence[Path], output: Path, options: Options) -> None:
    """Errors: a single source, or one that is named twice."""
    if len(sources) < 2 or len({source.resolve() for source in sources}) < len(sources):
        raise DetrLiteError("give two or more different datasets, and then the output")
    check_new(output, sources, options.overwrite)
    read = {key: read_source(source, options) for key, source in zip(_short_names(sources), sources, strict=True)}
    for line in unlabeled_classes(read):
        logger.warning(line)
    names = dict.fromkeys(name for splits in read.values() for name in splits)
    joined = {
        name: join_splits({key: splits[name] for key, splits in read.items() if name in splits}) for name in names
    }
    for key, splits in read.items():
        missing = [name for name in names if name not in splits]
        if missing:
            logger.info(f"{key}: has no images for {shorten_list(missing)}")
    _warn_of_copies(joined)
    write_output(joined, output, sources, options)


def rename(source: Path, output: Path, classes: Sequence[str], drop: Sequence[str], options: Options) -> None:
    """Errors: nothing to rename, unknown classes, no class left."""
    if not classes and not drop:
        raise DetrLiteError("give --classes OLD=NEW ..., --drop NAME ..., or both")
    check_new(output, [source], options.overwrite)
    splits = read_source(source, options)
    known = class_names(splits)
    renamed = dict(_parse_renaming(text, known) for text in classes)
    check_classes([*renamed, *drop], splits)
    both = [name for name in drop if name in renamed]
    if both:
        raise DetrLiteError(f"{shorten_list(both)}: both renamed and dropped; do one of them")
    if not {*known} - {*drop}:
        raise DetrLiteError("--drop names every class; leave one")
    result = {name: rename_classes(each, renamed, drop) for name, each in splits.items()}
    for name, each in result.items():
        lost = int(objects_per_class(splits[name]).sum() - objects_per_class(each).sum())
        if lost:
            logger.info(f"{name}: {lost:,} objects of dropped classes are left out; from now on they are background")
    write_output(result, output, [source], options)


def stats(source: Path, json: Path | None, on_fault: OnFault, orientation: Orientation | None) -> None:
    """Print the statistics of each split, with its faults; with `json` write them too."""
    from json import dumps

    from detr_lite.data.analysis.statistics import split_statistics

    check_source(source)
    splits = read_stored(source, Reading(on_fault, orientation))
    content = {}
    for name, each in splits.items():
        statistics = split_statistics(each)
        content[name] = {"statistics": statistics.to_dict(), "report": each.report.to_dict()}
        for line in [*statistics.table(), ""]:
            logger.info(line)
    for each in splits.values():
        for line in each.report.lines():
            logger.info(line)
        for line in each.report.refusals():
            logger.warning(f"{each.report.source}: training refuses it: {line}")
    if not any(each.report.findings for each in splits.values()):
        logger.info("no faults were found")
    if json is not None:
        atomic_write(json, lambda file: file.write(f"{dumps(content, indent=2)}\n".encode()), durable=False)
        logger.info(f"wrote {json}")


def download(
    dataset: str, folder: Path, splits: Sequence[str], year: int, server: str | None, remove_archives: bool
) -> None:
    """COCO is the only dataset so far."""
    from detr_lite.data.download.coco import SERVER, download_coco

    splits = list(dict.fromkeys(splits))
    download_coco(folder, splits, year, (server or SERVER).rstrip("/"), keep=not remove_archives)
    logger.info(f"{folder} is ready: {command_line('train')} --data.root {shlex.quote(str(folder))}")


def unlabeled_classes(sources: Mapping[str, Mapping[str, RawSplit]]) -> list[str]:
    """One line for each dataset without objects of a class that another one has."""
    labeled = {
        key: {
            category.name
            for each in splits.values()
            for category, count in zip(each.categories, objects_per_class(each).tolist(), strict=True)
            if count
        }
        for key, splits in sources.items()
    }
    known = sorted(set().union(*labeled.values()))
    lines = []
    for key, splits in sources.items():
        missing = [name for name in known if name not in labeled[key]]
        if missing:
            images = sum(len(each.names) for each in splits.values())
            lines.append(
                f"{key}: none of its {images:,} images has an object of {shorten_list(missing)}. Where such objects "
                "are to be seen in them, the detector learns that they are background: label them, or leave out these "
                "classes"
            )
    return lines


def _warn_of_copies(splits: Mapping[str, RawSplit]) -> None:
    """Of images that stand in two splits, as where one dataset has for validation what another one has for training."""
    places = [(name, each.names[image]) for name, each in splits.items() for image in range(len(each.names))]
    copies = same_files([path for each in splits.values() for path in each.paths])
    shared = [[places[place] for place in each] for each in copies if len({places[place][0] for place in each}) > 1]
    if shared:
        examples = [" = ".join(f"{split}/{name}" for split, name in each) for each in shared]
        logger.warning(
            f"files that stand in two splits: {len(shared):,} ({shorten_list(examples, 3)}). Results on them look "
            "better than they are: divide the merged dataset anew with the command split"
        )


def _labeled(splits: dict[str, RawSplit]) -> dict[str, RawSplit]:
    """Without splits that have no objects, such as a test split whose annotations are kept secret."""
    labeled = {name: each for name, each in splits.items() if len(each.labels)}
    for name in splits:
        if name not in labeled:
            logger.warning(f"{name}: has no objects, so that its images are left out: they are probably not labeled")
    if not labeled:
        raise DetrLiteError("there is no object in any split; label some images first")
    return labeled


def _advise_groups(splits: Mapping[str, RawSplit]) -> None:
    """Say so if the names look like frames of a few videos."""
    videos = [video.removeprefix("./") for each in splits.values() for video in group_images(each.names, "prefix")]
    kinds = sorted({*videos})
    if 1 < len(kinds) <= len(videos) / 4 and all(kinds):
        shown = shorten_list(kinds, 3)
        logger.info(
            f"the names look like numbered frames of {len(kinds):,} videos ({shown}): --by prefix keeps each "
            "video together"
        )


def _parse_renaming(text: str, known: Sequence[str]) -> tuple[str, str]:
    """Old and new name of "old=new"; a known name may itself contain "="."""
    pairs = [(text[:place], text[place + 1 :]) for place, letter in enumerate(text) if letter == "="]
    old, new = next((pair for pair in pairs if pair[0] in known), pairs[0] if pairs else (text, ""))
    if not new.strip():
        raise DetrLiteError(f"--classes {text}: give OLD=NEW, such as lorry=truck")
    return old, new.strip()


def _short_names(sources: Sequence[Path]) -> list[str]:
    """The name of each dataset's folder, with a number where several have the same."""
    names: list[str] = []
    for source in sources:
        name, number = source.resolve().name or "data", 1
        while (unique := name if number == 1 else f"{name}-{number}") in names:
            number += 1
        names.append(unique)
    return names
