"""Which videos `--source` arguments refer to."""

from collections.abc import Sequence
from pathlib import Path

from detr_lite.data.image_sources import find_images
from detr_lite.errors import DetrLiteError
from detr_lite.text import printable, shorten_list
from detr_lite.video.reader import SUFFIXES, is_video


def find_videos(sources: Sequence[str], output: Path) -> list[str]:
    """The videos, cameras and streams of all sources; none if they are pictures.

    A folder counts as one of videos if it has no pictures.

    Errors: pictures and videos together, and a folder that has neither.
    """
    videos = [source for source in sources if is_video(source) and not Path(source).is_dir()]
    if videos and len(videos) < len(sources):
        others = printable(shorten_list([source for source in sources if source not in videos], 3))
        raise DetrLiteError(f"--source: videos and pictures need calls of their own; {others} is no video")
    if videos or not all(Path(source).is_dir() for source in sources):
        return videos
    below = [path for source in sources for path in _videos_below(Path(source), output)]
    try:
        find_images(sources, output)
    except DetrLiteError as error:
        if not below and "no images in it" in str(error):
            raise DetrLiteError(f"{error}; nor has it videos, such as a.mp4, a.mov or a.mkv") from error
        if not below:
            raise
        return [str(path) for path in below]
    return []


def _videos_below(folder: Path, output: Path) -> list[Path]:
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES
        and path.is_file()
        and not path.name.startswith(".")
        and not path.resolve().is_relative_to(output.resolve())
    )
