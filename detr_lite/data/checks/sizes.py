"""Settles width, height and EXIF orientation of every image from its file, its annotated size and its boxes."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64

from detr_lite.data.images.facts import ImageFacts
from detr_lite.data.images.files import Orientation
from detr_lite.data.records import OrientationCount, RawSplit, common_orientation
from detr_lite.data.report import SplitReport

ROUNDING = 2
"""Pixels by which an annotated size may differ from the file's, as rounding when images are resized makes it."""

OVERHANG = 0.02
"""Share of an image's side by which boxes may go beyond it and still be taken to lie in it."""

MIN_VOTES = 0.05
"""Share of images whose boxes must speak for one meaning of a size, so that single faulty boxes decide nothing."""

Mask = Bool[np.ndarray, " image"]
Sizes = Float64[np.ndarray, "image 2"]


@dataclass(frozen=True, eq=False)
class SettledSizes:
    """What the boxes of each image refer to."""

    sizes_wh: Sizes
    """Of the image as `load_image` returns it."""
    box_scale: Sizes
    """What boxes are to be multiplied by, horizontally and vertically."""
    keep: Mask
    """Images whose size has a meaning."""
    orientation: OrientationCount


def settle_sizes(
    raw: RawSplit, facts: ImageFacts, report: SplitReport, orientation: Orientation | None
) -> SettledSizes:
    """Compare annotated sizes with the files', all of which must be readable.

    Args:
        orientation: of images for which neither size nor boxes settle it; None for "stored" if sizes say so for all
            images that they settle, and else "upright".
    """
    corners = _farthest_corners(raw)
    file_wh, count = _orient(raw, facts, corners, report, orientation)
    faults = _SizeFaults(raw, file_wh, corners, report)
    faults.report_near()
    kept_swapped = faults.settle_swapped()
    kept_resized, is_scaled = faults.settle_resized()
    faults.skip_others()
    scale = np.ones_like(file_wh)
    scale[is_scaled] = file_wh[is_scaled] / raw.sizes_wh[is_scaled]
    keep = ~faults.has_size | faults.is_near | kept_swapped | kept_resized
    return SettledSizes(file_wh, scale, keep, count)


class _SizeFaults:
    """Sizes that are not the file's: what each kind means, reported."""

    def __init__(self, raw: RawSplit, file_wh: Sizes, corners: Sizes, report: SplitReport) -> None:
        declared = raw.sizes_wh
        self.names, self.declared, self.file_wh, self.report = raw.names, declared, file_wh, report
        self.has_size = _is_size(declared)
        self.is_near = self.has_size & _is_near(declared, file_wh)
        is_far = self.has_size & ~self.is_near
        self.is_swapped = is_far & _is_near(declared[:, ::-1], file_wh)
        self.is_resized = is_far & ~self.is_swapped & _has_aspect(declared, file_wh)
        self.is_other = is_far & ~self.is_swapped & ~self.is_resized
        fits_file, fits_declared = _contains(file_wh, corners), _contains(declared, corners)
        self.fits_file_only, self.fits_declared_only = fits_file & ~fits_declared, fits_declared & ~fits_file

    def report_near(self) -> None:
        if not self.has_size.all():
            names = [self.names[index] for index in np.flatnonzero(~self.has_size)]
            self.report.note("no_size", "images without width and height get them from the file", names)
        is_off = self.is_near & (self.declared != self.file_wh).any(axis=1)
        if is_off.any():
            text = f"sizes that differ from the file's by at most {ROUNDING} pixels are replaced by the file's"
            self.report.note("rounded_size", text, self._entries(is_off))

    def settle_swapped(self) -> Mask:
        """Images whose width and height are exchanged, and whose boxes do not contradict the file; returns these."""
        is_file, is_turned = self._vote(self.is_swapped)
        if not is_turned.any():
            is_file = self.is_swapped
        is_unclear = self.is_swapped & ~is_file
        if is_unclear.any():
            what = "images that were turned after they were annotated, as exchanged sizes and boxes beyond them show,"
            self.report.skip("turned_image", what, self._entries(is_unclear), "image")
        what = "width and height that are exchanged"
        return self._repair("swapped_size", what, "are exchanged back; the boxes fit the file", is_file)

    def settle_resized(self) -> tuple[Mask, Mask]:
        """Images of the annotated shape and another size. Returns those to keep, and those whose boxes to scale."""
        is_file, is_scaled = self._vote(self.is_resized)
        is_unclear = self.is_resized & ~is_file & ~is_scaled
        if is_unclear.any():
            what = "images of another size than annotated, where the boxes do not show to which of the two they belong,"
            self.report.skip("unsettled_size", what, self._entries(is_unclear), "image")
        what = "images that were resized after they were annotated"
        is_scaled = self._repair("resized_image", what, "get boxes of their own scale", is_scaled)
        what = "sizes that are not those of the files, to which the boxes belong,"
        return self._repair("wrong_size", what, "are replaced by the files'", is_file) | is_scaled, is_scaled

    def skip_others(self) -> None:
        if self.is_other.any():
            what = "images of another size and shape than annotated"
            self.report.skip("other_size", what, self._entries(self.is_other), "image")

    def _vote(self, mask: Mask) -> tuple[Mask, Mask]:
        """Of these images, those whose boxes belong to the file's size, and those whose belong to the annotated one.

        Where all boxes that show it agree, the images whose boxes do not show it follow them.
        """
        is_file, is_declared = mask & self.fits_file_only, mask & self.fits_declared_only
        fewest = MIN_VOTES * mask.sum()
        has_file, has_declared = is_file.sum() > fewest, is_declared.sum() > fewest
        if has_file and has_declared:
            return is_file, is_declared
        return mask & has_file, mask & has_declared

    def _repair(self, kind: str, what: str, remedy: str, mask: Mask) -> Mask:
        """The images that are repaired."""
        if mask.any() and not self.report.repair(kind, what, remedy, self._entries(mask), unit="image"):
            return np.zeros_like(mask)
        return mask

    def _entries(self, mask: Mask) -> list[str]:
        """Names with both sizes."""
        return [
            f"{self.names[index]} ({self.declared[index, 0]:g} x {self.declared[index, 1]:g}, "
            f"the file {self.file_wh[index, 0]:.0f} x {self.file_wh[index, 1]:.0f})"
            for index in np.flatnonzero(mask)
        ]


def _orient(
    raw: RawSplit, facts: ImageFacts, corners: Sizes, report: SplitReport, orientation: Orientation | None
) -> tuple[Sizes, OrientationCount]:
    """The size of each file in the orientation that its annotated size, or else its boxes, or else `orientation` say.

    An orientation that mirrors or turns upside down, or that of a square image, cannot be told from sizes.
    """
    stored_wh = facts.sizes_wh.astype(np.float64)
    upright_wh = np.where(facts.orientations[:, None] >= 5, stored_wh[:, ::-1], stored_wh)
    stored_match, upright_match = (_match(raw.sizes_wh, corners, size_wh) for size_wh in (stored_wh, upright_wh))
    says_stored, says_upright = stored_match > upright_match, upright_match > stored_match
    count = OrientationCount(stored=int(says_stored.sum()), upright=int(says_upright.sum()))
    default = orientation or common_orientation([count])
    is_open = (facts.orientations > 1) & ~says_stored & ~says_upright
    if is_open.any():
        other, how = ("stored", "upright, as viewers show them")
        if default == "stored":
            other, how = ("upright", "as they are stored, not turned")
        text = f"images whose EXIF orientation the annotations do not settle are read {how}"
        names = [raw.names[index] for index in np.flatnonzero(is_open)]
        report.note(
            "unsettled_orientation", f"{text} (if boxes are not on their objects: --data.orientation {other})", names
        )
    is_stored = says_stored if default == "upright" else ~says_upright
    count = replace(count, default=default, unsettled=int(is_open.sum()))
    return np.where(is_stored[:, None], stored_wh, upright_wh), count


def _match(declared: Sizes, corners: Sizes, size_wh: Sizes) -> np.ndarray:
    """How well annotations match a size: 3 exactly, 2 nearly, 1 in shape, or where there is no size by the boxes."""
    has_size = _is_size(declared)
    levels = [_both(declared == size_wh), _is_near(declared, size_wh), _has_aspect(declared, size_wh)]
    by_size = np.select(levels, [3, 2, 1], default=0)
    return np.where(has_size, by_size, _contains(size_wh, corners))


def _farthest_corners(raw: RawSplit) -> Sizes:
    """The largest x and y of each image's boxes; 0 where there are none."""
    low = raw.boxes_xywh[:, :2]
    with np.errstate(invalid="ignore", over="ignore"):  # infinity less infinity, and numbers of 308 digits
        high = np.maximum(low, low + raw.boxes_xywh[:, 2:])
    is_finite = np.isfinite(high).all(axis=1)
    corners = np.zeros((len(raw.paths), 2))
    np.maximum.at(corners, raw.image_index[is_finite], high[is_finite])
    return corners


def _is_size(sizes_wh: Sizes) -> Mask:
    return _both(np.isfinite(sizes_wh) & (sizes_wh > 0))


def _is_near(sizes_wh: Sizes, others_wh: Sizes) -> Mask:
    return _both(np.abs(sizes_wh - others_wh) <= ROUNDING)


def _has_aspect(sizes_wh: Sizes, others_wh: Sizes) -> Mask:
    """Whether one is the other scaled and rounded to whole pixels."""
    with np.errstate(divide="ignore", invalid="ignore"):
        larger, smaller = others_wh / sizes_wh, sizes_wh / others_wh
        is_larger: Mask = np.abs(larger[:, 0] - larger[:, 1]) <= (1 / sizes_wh).sum(axis=1)
        is_smaller: Mask = np.abs(smaller[:, 0] - smaller[:, 1]) <= (1 / others_wh).sum(axis=1)
    has_aspect: Mask = is_larger | is_smaller
    return has_aspect


def _contains(sizes_wh: Sizes, corners: Sizes) -> Mask:
    return _both(corners <= sizes_wh + np.maximum(ROUNDING, OVERHANG * sizes_wh))


def _both(values: Bool[np.ndarray, "image 2"]) -> Mask:
    both: Mask = values[:, 0] & values[:, 1]
    return both
