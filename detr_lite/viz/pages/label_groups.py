"""Labels that are likely wrong, as groups of pictures."""

from collections.abc import Callable, Sequence

from detr_lite.data.records import Split
from detr_lite.evaluation.label_errors import Kind, LabelError
from detr_lite.viz.pages.gallery import PICTURES, Example, Group, Link
from detr_lite.viz.pages.pictures import Mark
from detr_lite.viz.pages.split_views import class_names, context_marks, image_name, true_box, view_of

LABELS: dict[Kind, tuple[str, str]] = {
    "wrong_class": (
        "Likely wrong classes",
        "The model sees an object of another class in the place of the annotated one (solid: annotated, dashed: "
        "detected). The most confident first.",
    ),
    "missing_label": (
        "Likely missing labels",
        "The model sees an object where none is annotated (dashed; thin: annotated objects). The most confident first.",
    ),
    "unfound": (
        "Objects that the model does not see",
        "No detection is near these boxes, of any class. Among hard examples there may be boxes without an object. The "
        "largest first.",
    ),
}


def label_groups(
    split: Split,
    errors: Sequence[LabelError],
    links_of: Callable[[LabelError, str], tuple[Link, ...]] = lambda *_: (),
) -> list[Group]:
    """A group for each kind of mistake.

    Args:
        links_of: where there is more to see of a mistake, which the text describes.
    """
    names = class_names(split)
    groups = []
    for kind, (title, text) in LABELS.items():
        some = [error for error in errors if error.kind == kind]
        if some:
            entries = tuple(f"{image_name(split, error.image)}: {_label_text(split, error, names)}" for error in some)
            examples = tuple(_label_example(split, error, names, links_of) for error in some[:PICTURES])
            groups.append(Group(kind, "look", title, split.name, text, len(some), entries, examples))
    return groups


def _label_example(
    split: Split,
    error: LabelError,
    names: Sequence[str],
    links_of: Callable[[LabelError, str], tuple[Link, ...]],
) -> Example:
    if error.kind == "missing_label":
        marks = (*context_marks(split, error.image), Mark(error.box_xyxy, "other", names[error.label]))
    elif error.kind == "unfound" or error.object is None:
        marks = (Mark(error.box_xyxy, "annotated", names[error.label]),)
    else:
        true = names[split.ground_truth.labels[error.object]]
        marks = (Mark(true_box(split, error.object), "annotated", true), Mark(error.box_xyxy, "other"))
    text = _label_text(split, error, names)
    return Example((view_of(split, error.image, marks),), text, image_name(split, error.image), links_of(error, text))


def _label_text(split: Split, error: LabelError, names: Sequence[str]) -> str:
    if error.kind == "missing_label":
        return f"{names[error.label]}? ({error.score:.2f})"
    if error.kind == "unfound" or error.object is None:
        return f"{names[error.label]} of {error.box_xyxy[2] - error.box_xyxy[0]:.0f} x " + (
            f"{error.box_xyxy[3] - error.box_xyxy[1]:.0f} pixels"
        )
    return f"{names[split.ground_truth.labels[error.object]]}, rather {names[error.label]}? ({error.score:.2f})"
