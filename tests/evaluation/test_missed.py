"""The planted cases of outcomes that are known: each explained rightly."""

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detr_lite.evaluation.error_kinds import find_errors
from detr_lite.evaluation.missed import QueryPredictions, explain_objects
from detr_lite.evaluation.postprocess import Postprocess
from tests.helpers.fake_attention import NAMES, maps
from tests.helpers.planted import ELSEWHERE, HEIGHT, WIDTH, explain_planted, planted_output, true_objects
from tests.helpers.simulated_model import simulated_detections, simulated_truth

CUP, PLATE, SPOON = range(3)
NOTHING = (0.01, 0.01, 0.01)
FRONT, BEHIND = (20, 20, 80, 100), (40, 24, 90, 96)  # IoU 0.51

both = pytest.mark.parametrize("activation", ["sigmoid", "softmax"])


@both
def test_a_found_object(activation: str):
    outcome = explain_planted(
        [(ELSEWHERE, NOTHING), (FRONT, (0.9, 0.02, 0.01))], true_objects((FRONT, CUP)), activation
    )
    (cup,) = outcome.objects
    assert cup.query == 1
    assert cup.at(0.5).reason == "found"
    assert cup.at(0.5).sentence == "Found by query 1 (cup 0.90), IoU 1.00."
    assert cup.at(0.95).reason == "threshold"
    assert cup.at(0.95).sentence == (
        "Below the minimum score: query 1 would find it (IoU 1.00), but gives cup only 0.90."
    )


@both
def test_an_occluded_object_is_taken_for_background(activation: str):
    """A cup in front of a plate, most of which is hidden: the nearest query sees nothing."""
    hidden = (90, 30, 150, 60)
    queries = [(FRONT, (0.9, 0.02, 0.01)), ((88, 28, 150, 62), NOTHING), (ELSEWHERE, NOTHING)]
    outcome = explain_planted(queries, true_objects((FRONT, CUP), (hidden, PLATE)), activation)
    plate = outcome.objects[1]
    assert plate.query == 1
    verdict = plate.at(0.5)
    assert (verdict.reason, verdict.query) == ("unseen", 1)
    inside = round(100 * plate.layers[-1].inside)
    assert verdict.sentence == (
        "Taken for background: the nearest query, 1, has its box there (IoU 0.85) and gives plate 0.01; "
        f"{inside} % of its attention was on the object."
    )


@both
def test_a_swapped_class(activation: str):
    queries = [(ELSEWHERE, NOTHING), (FRONT, (0.05, 0.84, 0.01))]
    outcome = explain_planted(queries, true_objects((FRONT, CUP)), activation)
    verdict = outcome.objects[0].at(0.5)
    assert (verdict.reason, verdict.query) == ("classification", 1)
    assert verdict.sentence == (
        "Another class: the box of query 1 fits (IoU 1.00), but it says plate (0.84) and gives cup 0.05."
    )
    kinds = dict(zip(outcome.kinds, outcome.objects_of, strict=False))
    assert kinds["classification"] == 0


@both
@pytest.mark.parametrize(("label", "words"), [(CUP, "another cup"), (SPOON, "another object, a cup")])
def test_two_objects_under_one_box(activation: str, label: int, words: str):
    """One query answers for two objects, and finds one of them."""
    one = (28, 22, 85, 98)
    queries = [(ELSEWHERE, NOTHING), (one, (0.93, 0.01, 0.03)), (ELSEWHERE, NOTHING)]
    outcome = explain_planted(queries, true_objects((FRONT, CUP), (BEHIND, label)), activation)
    found = [each.at(0.5).reason for each in outcome.objects]
    assert sorted(found) == ["found", "taken"]
    verdict = outcome.objects[found.index("taken")].at(0.5)
    assert verdict.query == 1
    assert verdict.sentence.startswith("Its place is taken: query 1 (cup 0.93, IoU 0.")
    assert f"is the detection of {words}, and no second query answered for this one." in verdict.sentence


@both
def test_a_badly_placed_box(activation: str):
    half = (20, 20, 50, 80)
    outcome = explain_planted([(half, (0.7, 0.1, 0.1)), (ELSEWHERE, NOTHING)], true_objects((FRONT, CUP)), activation)
    verdict = outcome.objects[0].at(0.5)
    assert verdict.reason == "localization"
    assert verdict.sentence == (
        "Badly placed: query 0 (cup 0.70) has the right class, but its box has an IoU of only 0.38."
    )
    assert outcome.kinds[0] == "localization"


@both
def test_a_low_score_goes_before_a_box_that_is_taken(activation: str):
    """A second query does answer for the second object: what is wrong is its score."""
    queries = [(FRONT, (0.9, 0.02, 0.01)), (BEHIND, (0.3, 0.02, 0.01))]
    outcome = explain_planted(queries, true_objects((FRONT, CUP), (BEHIND, CUP)), activation)
    verdict = outcome.objects[1].at(0.5)
    assert (verdict.reason, verdict.query) == ("threshold", 1)
    assert outcome.objects[1].at(0.3).reason == "found"


@both
def test_neither_class_nor_place(activation: str):
    half = (20, 20, 50, 80)
    outcome = explain_planted([(half, (0.02, 0.7, 0.01)), (ELSEWHERE, NOTHING)], true_objects((FRONT, CUP)), activation)
    verdict = outcome.objects[0].at(0.5)
    assert verdict.reason == "both"
    assert (
        verdict.sentence
        == "Nothing fits: query 0 (plate 0.70) came near, with neither the class nor the place (IoU 0.38)."
    )


@both
def test_a_duplicate_is_one(activation: str):
    queries = [(FRONT, (0.9, 0.02, 0.01)), ((22, 20, 80, 100), (0.8, 0.02, 0.01))]
    outcome = explain_planted(queries, true_objects((FRONT, CUP)), activation)
    assert outcome.kinds[:2] == (None, "duplicate")
    assert outcome.objects_of[:2] == (0, 0)


@both
def test_a_class_that_the_model_does_not_have(activation: str):
    queries = [(ELSEWHERE, NOTHING), (FRONT, (0.9, 0.02, 0.01))]
    (outcome,) = explain_planted(queries, true_objects((FRONT, CUP)), activation, labels=[None]).objects
    assert outcome.query == 1
    assert outcome.layers[-1].score is None
    assert outcome.at(0.5).sentence == (
        "The model has no class cup; the nearest detection is that of query 1 (cup 0.90), IoU 1.00."
    )
    assert outcome.at(0.95).sentence.startswith(
        "The model has no class cup; taken for background: the nearest query, 1"
    )


def test_the_nearest_query_layer_by_layer():
    before = [(ELSEWHERE, NOTHING), ((20, 20, 50, 80), (0.2, 0.4, 0.01))]
    now = [(ELSEWHERE, NOTHING), (FRONT, (0.9, 0.02, 0.01))]
    (outcome,) = explain_planted(now, true_objects((FRONT, CUP)), before=before).objects
    first, last = outcome.layers
    assert (round(first.score, 3), first.best_label, round(first.best_score, 3)) == (0.2, PLATE, 0.4)
    assert round(first.iou, 3) == 0.375
    assert (last.best_label, round(last.iou, 3)) == (CUP, 1)
    assert first.box_xyxy == pytest.approx((20, 20, 50, 80), abs=1e-3)
    assert outcome.area == pytest.approx(60 * 80 / (160 * 120))
    weights = maps(layers=2, queries=2).cross[:, 0, :, 1].mean(1)
    assert 0 < first.inside < 1
    assert first.inside != pytest.approx(last.inside)
    # By hand, token by token: the fine level has 16 x 16 pixels for each, the coarse one 32 x 32.
    expected = 0.0
    for size, columns, first_token, count in ((16, 10, 0, 80), (32, 5, 80, 20)):
        for token in range(count):
            x, y = size * (token % columns), size * (token // columns)
            wide = max(0, min(x + size, 80) - max(x, 20))
            high = max(0, min(y + size, 100) - max(y, 20))
            expected += float(weights[1, first_token + token]) * wide * high / (size * (min(y + size, 120) - y))
    assert last.inside == pytest.approx(expected, abs=1e-5)


@both
def test_detections_in_a_crowd_of_their_class_are_ignored(activation: str):
    """Mostly inside, by the detection's own area, as in COCO's evaluation; what finds an object is right also there."""
    low = (0.02, 0.01, 0.01)
    outcome = explain_planted(
        [
            (FRONT, (0.9, 0.02, 0.01)),
            (FRONT, (0.8, 0.02, 0.01)),
            ((100, 10, 140, 50), (0.7, 0.02, 0.01)),
            ((80, 10, 120, 50), (0.6, 0.02, 0.01)),
            ((78, 10, 118, 50), (0.5, 0.02, 0.01)),
            ((100, 60, 140, 100), (0.02, 0.75, 0.01)),
            (ELSEWHERE, low),
        ],
        true_objects((FRONT, CUP)),
        activation,
        crowds=true_objects(((0, 0, 85, 120), CUP), ((100, 0, 160, 120), CUP)),
    )
    by_query = dict(zip((0, 1, 5, 2, 3, 4), zip(outcome.kinds, outcome.regions_of, strict=True), strict=False))
    assert by_query[0] == (None, None), "found, although it lies in the first region"
    assert by_query[1] == (None, 0), "no duplicate"
    assert by_query[2] == (None, 1)
    assert by_query[3] == (None, 1), "half inside the second"
    assert by_query[4] == ("background", None), "less than half"
    assert by_query[5] == ("background", None), "of another class"
    assert outcome.objects[0].at(0.5).reason == "found"
    assert len(outcome.objects) == 1


@pytest.mark.slow
def test_ignored_detections_are_those_of_pycocotools():
    """Random boxes: neither right nor wrong here exactly where `COCOeval` ignores a detection."""
    generator = torch.Generator().manual_seed(3)
    ignored = 0
    for _ in range(20):
        corner = 100 * torch.rand(16, 2, generator=generator)
        boxes = torch.cat([corner, corner + 5 + 45 * torch.rand(16, 2, generator=generator)], dim=1)
        boxes[4:10] = boxes[10:] + 6 * torch.rand(6, 4, generator=generator)
        boxes = boxes.clamp(max=119).round()
        boxes[:4, 2:] = boxes[:4, :2] + 60
        labels = torch.randint(3, (16,), generator=generator).tolist()
        scores = 0.98 * torch.rand(6, 3, generator=generator) ** 2 + 0.01
        queries = list(zip(boxes[10:].tolist(), scores.tolist(), strict=True))
        crowds, objects = (
            true_objects(*zip(boxes[some].tolist(), labels[some], strict=True)) for some in (slice(4), slice(4, 10))
        )
        outcome = explain_planted(queries, objects, crowds=crowds)
        (detections,) = Postprocess("sigmoid", NAMES)(planted_output(queries), [(HEIGHT, WIDTH)])
        expected = ignored_by_pycocotools(objects, crowds, detections)
        assert [region is not None for region in outcome.regions_of] == expected
        assert not any(kind and is_ignored for kind, is_ignored in zip(outcome.kinds, expected, strict=True))
        ignored += sum(expected)
    assert ignored > 20


def ignored_by_pycocotools(objects, crowds, detections) -> list[bool]:
    """Of each detection, whether it is matched to a crowd region at IoU 0.5."""
    truth, found = COCO(), COCO()
    entries = [(each, 0) for each in zip(objects.boxes_xyxy.tolist(), objects.labels.tolist(), strict=True)]
    entries += [(each, 1) for each in zip(crowds.boxes_xyxy.tolist(), crowds.labels.tolist(), strict=True)]
    rows = zip(detections.boxes_xyxy.tolist(), detections.labels.tolist(), detections.scores.tolist(), strict=True)
    for coco, annotations in (
        (truth, [annotation(box, label, iscrowd=crowd) for (box, label), crowd in entries]),
        (found, [annotation(box, label, score=score, iscrowd=0) for box, label, score in rows]),
    ):
        numbered = [each | {"id": number} for number, each in enumerate(annotations, 1)]
        categories = [{"id": label, "name": name} for label, name in enumerate(NAMES)]
        coco.dataset = {"images": [{"id": 1}], "annotations": numbered, "categories": categories}
        coco.createIndex()
    evaluation = COCOeval(truth, found, "bbox")
    evaluation.params.iouThrs = np.array([0.5])
    evaluation.evaluate()
    ignored = [False] * len(detections)
    for each in evaluation.evalImgs[: 4 * len(NAMES) : 4]:  # of the first area range, which has all objects
        for number, is_ignored in zip(each["dtIds"], each["dtIgnore"][0], strict=True):
            ignored[number - 1] = bool(is_ignored)
    return ignored


def annotation(box, label, **more):
    left, top, right, bottom = box
    bbox = [left, top, right - left, bottom - top]
    return {"image_id": 1, "category_id": label, "bbox": bbox, "area": bbox[2] * bbox[3], **more}


def test_without_objects_and_without_detections():
    assert explain_planted([(ELSEWHERE, NOTHING)], true_objects()).objects == ()
    outcome = explain_planted([(ELSEWHERE, NOTHING), (FRONT, NOTHING)], true_objects((FRONT, CUP)))
    assert outcome.objects[0].at(1.0).reason == "unseen"


def test_the_size_of_the_image_must_be_known():
    nothing = true_objects()
    predictions = QueryPredictions(torch.zeros(3, 6, 3), torch.zeros(3, 6, 4))
    with pytest.raises(ValueError, match="size"):
        explain_objects(nothing, [], nothing, predictions, torch.zeros(6, 0), maps())


def test_kinds_of_detections_do_not_depend_on_the_threshold():
    """So that the page can hold one kind for each detection, whatever minimum score is chosen."""
    for seed in range(5):
        truth = simulated_truth(seed)
        detections = simulated_detections(truth, seed, jitter=0.2, confused=0.3)
        whole = find_errors(truth, detections)
        for threshold in (0.1, 0.3, 0.5, 0.7):
            some = find_errors(truth, detections, threshold)
            kept = detections.scores >= threshold
            np.testing.assert_array_equal(some.kinds[kept], whole.kinds[kept])


@pytest.mark.stress
def test_reasons_agree_with_the_kinds_of_errors():
    """Random images: an object is missed, found or nearly found exactly where `error_kinds` says so, at any score."""
    generator = torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(20):
        corner = 100 * torch.rand(12, 2, generator=generator)
        boxes = torch.cat([corner, corner + 5 + 45 * torch.rand(12, 2, generator=generator)], dim=1)
        boxes[6:] = boxes[:6] + 8 * torch.rand(6, 4, generator=generator)
        scores = 0.98 * torch.rand(12, 3, generator=generator) ** 2 + 0.01
        objects = true_objects(*[(box, int(3 * torch.rand(1, generator=generator))) for box in boxes[6:].tolist()])
        queries = list(zip(boxes.clamp(max=119).tolist(), scores.tolist(), strict=True))
        outcome = explain_planted(queries, objects)
        descending = scores.flatten().sort(descending=True).values.tolist()
        for threshold in (0.05, 0.3, 0.5, 0.8):
            for place, each in enumerate(outcome.objects):
                reason = each.at(threshold).reason
                seen.add(reason)
                shown = [
                    kind
                    for kind, of, score in zip(outcome.kinds, outcome.objects_of, descending, strict=True)
                    if of == place and score >= threshold
                ]
                assert (reason == "found") == (None in shown)
                if reason in ("localization", "classification"):
                    assert reason in shown
                if reason in ("threshold", "taken", "both", "unseen"):
                    assert not {"localization", "classification", None} & set(shown)
    assert {"found", "localization", "classification", "threshold"} <= seen
