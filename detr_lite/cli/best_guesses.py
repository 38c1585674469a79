"""What `detr-lite predict` says and draws where no image has a detection: the best score, and the best guesses."""

from collections.abc import Mapping
from pathlib import Path, PurePath

from detr_lite.cli.detections_file import save_image
from detr_lite.cli.score_threshold import ScoreThreshold
from detr_lite.data.image_sources import ImageFile, read_batches
from detr_lite.data.images.files import Orientation
from detr_lite.drawing.boxes import display_name
from detr_lite.structures import Detections
from detr_lite.text import printable
from detr_lite.viz.guesses import GUESSES, draw_guesses


class BestGuesses:
    """Collects the best predictions of images without detections, until an image has one."""

    def __init__(self, threshold: ScoreThreshold) -> None:
        self.threshold = threshold
        self._of: dict[ImageFile, Detections] = {}
        self._has_detections = False

    def add(self, file: ImageFile, predictions: Detections) -> None:
        """The predictions of an image, of any score."""
        if len(predictions.above(self.threshold.scores)):
            self._has_detections = True
        if self._has_detections:
            self._of.clear()
        else:
            self._of[file] = predictions[:GUESSES]

    def best_score(self) -> str:
        """Such as "the best score was 0.31 (car, street.jpg)"; "" if there are detections, or no predictions."""
        guesses = [(float(each.scores[0]), file, each) for file, each in self._of.items() if len(each)]
        if not guesses:
            return ""
        score, file, best = max(guesses, key=lambda guess: guess[0])
        label = int(best.labels[0])
        name = display_name(best.class_names[label]) if best.class_names else f"class {label}"
        return f"the best score was {score:.2g} ({name}, {printable(file.name)})"

    def draw(self, name_of: Mapping[ImageFile, PurePath], output: Path, orientation: Orientation) -> None:
        """Draw the images again, each with its best guesses and a caption that calls them so; those without stay."""
        files = [file for file, each in self._of.items() if len(each)]
        for ((file, image),) in read_batches(files, 1, [], "drawing the best guesses", orientation):
            save_image(draw_guesses(image, self._of[file], self.threshold.overall), output / name_of[file])
