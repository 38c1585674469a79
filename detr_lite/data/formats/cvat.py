"""Datasets in CVAT's XML format 1.1: one file for all images, or with the tracks of a video."""

import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from math import isfinite, nan, radians

from tqdm import tqdm

from detr_lite.data.formats.annotation_text import (
    BadFileError,
    read_head,
    read_text,
    stream_xml,
    to_size,
    unusable,
)
from detr_lite.data.formats.box_shapes import around, around_ellipse, around_rotated, from_corners
from detr_lite.data.formats.folder_tree import (
    FolderTree,
    common_folder,
    folder_of,
    group_by_split,
    stem_of,
)
from detr_lite.data.formats.source import Source
from detr_lite.data.formats.split_builder import SplitBuilder, Xywh, reader_of
from detr_lite.data.formats.values import number_of
from detr_lite.data.split_names import SPLIT_WORDS

_ROOT = re.compile(r"<annotations[\s>]")
_SUBSET = re.compile(r'<image\b[^>]*\bsubset="([^"]*)"')
_SHAPES = ("box", "polygon", "polyline", "ellipse", "mask")
_OTHER_SHAPES = ("points", "cuboid", "skeleton")
_MAX_FRAME = 100_000_000


def find_cvat(tree: FolderTree) -> Source | None:
    paths = [path for path in sorted(tree.files(".xml")) if _ROOT.search(read_head(tree.root / path)[:4000])]
    if not paths:
        return None
    groups = group_by_split(paths, with_file_name=True)
    subsets = _subsets(tree, paths) if list(groups) == ["train"] else {}
    splits = dict.fromkeys(subsets, paths) if subsets else groups

    def parse(split: str) -> SplitBuilder:
        builder = SplitBuilder(tree.root, "shape", tree.image_folders(split))
        for path in splits[split]:
            try:
                _FileReader(tree, builder, path, subsets.get(split)).read()
            except BadFileError as error:
                raise unusable(tree.root / path, tree.root, error) from error
        return builder

    sources = {split: common_folder(tree.root, files) for split, files in splits.items()}
    files = [tree.root / path for path in paths]
    return Source(tree.root, "CVAT", sources, reader_of(splits, parse), lambda split: files)


def _subsets(tree: FolderTree, paths: list[str]) -> dict[str, set[str]]:
    """CVAT's names of a project's subsets, such as "Train", by split; empty if there are none of that kind."""
    try:
        names = {name for path in paths for name in _SUBSET.findall(read_text(tree.root / path))}
    except BadFileError:  # said when it is read
        return {}
    subsets: dict[str, set[str]] = defaultdict(set)
    for name in names:
        subsets[SPLIT_WORDS.get(name.lower(), "train")].add(name)
    return dict(subsets) if "train" in subsets and len(subsets) > 1 else {}


class _FileReader:
    """Adds what one file holds to a split: all of it, or what belongs to some subsets."""

    def __init__(self, tree: FolderTree, builder: SplitBuilder, path: str, subsets: set[str] | None) -> None:
        self.tree, self.builder, self.path, self.subsets = tree, builder, path, subsets
        self.tracks: dict[int, list[tuple[str, ElementTree.Element, str]]] = defaultdict(list)
        """By frame: the class, the shape, and how messages call it."""
        self.frames = range(0)

    def read(self) -> None:
        """Raises `BadFileError`."""
        elements = stream_xml(self.tree.root / self.path, ("meta", "image", "track"))
        for element in tqdm(elements, "annotations", unit="image", leave=False, disable=None):
            if element.tag == "meta":
                self._read_meta(element)
            elif element.tag == "track":
                self._read_track(element)
            elif self.subsets is None or element.get("subset", "") in self.subsets:
                self._read_image(element)
        if self.tracks:
            self._add_frames()

    def _read_meta(self, meta: ElementTree.Element) -> None:
        for label in meta.iter("label"):
            if label.find("name") is not None:
                name = self.builder.class_name(label.findtext("name"), f"{self.path} label")
                if name is not None:
                    self.builder.declare(name)
        start, stop = (number_of(meta.findtext(f"task/{key}")) for key in ("start_frame", "stop_frame"))
        if 0 <= start <= stop < _MAX_FRAME:
            self.frames = range(int(start), int(stop) + 1)

    def _read_image(self, image: ElementTree.Element) -> None:
        name = (image.get("name") or "").strip()
        if not name:
            self.builder.skip("no_name", "images without a name", f"{self.path} image {image.get('id')}", "image")
            return
        width, height = to_size(image.get("width")), to_size(image.get("height"))
        place = self.builder.add_image(name, name, None, width, height)
        for number, shape in enumerate((child for child in image if child.tag != "tag"), 1):
            self._add_shape(place, shape.get("label"), shape, number, f"{name} shape {number}")

    def _read_track(self, track: ElementTree.Element) -> None:
        label = track.get("label") or ""
        for shape in track:
            frame = number_of(shape.get("frame"))
            entry = f"{self.path} track {track.get('id')} frame {shape.get('frame')}"
            if not 0 <= frame < _MAX_FRAME:
                self.builder.skip("no_frame", "shapes of a track without a frame's number", entry)
            elif shape.get("outside") != "1":
                copy = ElementTree.Element(shape.tag, shape.attrib)
                self.tracks[int(frame)].append((label, copy, entry))

    def _add_frames(self) -> None:
        """All frames of the video that are there as images, also those without objects, and those with objects."""
        images = self.tree.images_below(folder_of(self.path)) or self.tree.images
        numbered: dict[int, str] = {}
        for image in images:
            digits = re.search(r"(\d{1,8})$", stem_of(image))
            if digits is not None and (int(digits[1]) not in numbered or stem_of(image).startswith("frame_")):
                numbered[int(digits[1])] = image
        frames = {frame for frame in numbered if not self.frames or frame in self.frames}
        if not frames & self.tracks.keys():
            self.builder.refuse(
                "no_frames",
                "tracks of a video, but no images of its frames; save them as frame_000000.png and so on, for example "
                "with ffmpeg -i FILM -start_number 0 frame_%06d.png",
            )
        for frame in sorted(frames | self.tracks.keys()):
            known = numbered.get(frame)
            name = known or f"frame_{frame:06}.png"
            place = self.builder.add_image(name, name, None if known is None else str(self.tree.root / known))
            for number, (label, shape, entry) in enumerate(self.tracks.get(frame, ()), 1):
                self._add_shape(place, label, shape, number, entry)

    def _add_shape(self, image: int, label: str | None, shape: ElementTree.Element, number: int, entry: str) -> None:
        if shape.tag in _OTHER_SHAPES:
            self.builder.note("other_shape", "points, cuboids and skeletons have no box and are left out", entry)
            return
        name = self.builder.class_name(label, entry) if shape.tag in _SHAPES else None
        if name is not None:
            self.builder.add_object(image, name, self._box(shape, entry), number)

    def _box(self, shape: ElementTree.Element, entry: str) -> Xywh:
        """The box of a shape; NaN where its numbers are none."""
        value = {key: number_of(text) for key, text in shape.attrib.items()}
        angle = radians(value.get("rotation", 0.0))
        if shape.tag == "mask":
            return self._outline(entry, tuple(value.get(key, nan) for key in ("left", "top", "width", "height")))
        if shape.tag == "ellipse":
            x, y, rx, ry = (value.get(key, nan) for key in ("cx", "cy", "rx", "ry"))
            return self._outline(entry, around_ellipse(x, y, rx, ry, angle))
        if shape.tag != "box":
            return self._outline(entry, around(_points(shape.get("points") or "")))
        left, top, right, bottom = (value.get(key, nan) for key in ("xtl", "ytl", "xbr", "ybr"))
        if angle == 0 or not isfinite(angle):
            return from_corners(left, top, right, bottom)
        self.builder.note("rotated", "rotated boxes are read as the upright boxes around them", entry)
        return around_rotated((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, angle)

    def _outline(self, entry: str, box: tuple[float, ...]) -> Xywh:
        self.builder.note("polygon", "outlines are read as the boxes around them", entry)
        x, y, w, h = box
        return x, y, w, h


def _points(text: str) -> list[tuple[float, float]]:
    """Of "x,y;x,y"."""
    pairs = [pair.partition(",") for pair in text.split(";") if pair.strip()]
    return [(number_of(x.strip()), number_of(y.strip())) for x, _, y in pairs]
