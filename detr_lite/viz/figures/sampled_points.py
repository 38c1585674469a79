"""The points that a query samples in deformable attention, as dots over a panel."""

from matplotlib.axes import Axes

from detr_lite.structures import AttentionMaps

DOTS_LABEL = "dots: the points that the head samples, the larger the more weight"
"""A line below the color bar."""

_COLOR = "#00e5ff"  # not one of the heatmap's colors
_AREA = 14.0  # square points, of a point that has all of the weight
_FAINTEST = 0.02  # of the head's weight, below which a dot would be too small to see


def draw_sampled_points(
    axes: Axes, image_size: tuple[int, int], maps: AttentionMaps, index: int, layer: int, query: int, head: int
) -> None:
    """A dot for each point inside the image, its area in proportion to the weight. Dense attention has none.

    Args:
        axes: with the image or a part of it, whose pixels are their units.
        image_size: (width, height) of the whole image.
        index: of the image in the batch.
    """
    if maps.sampled is None:
        return
    points, weights = (
        each[layer, index, head, query].float().cpu() for each in (maps.sampled.points, maps.sampled.weights)
    )
    is_shown = ((points >= 0) & (points <= 1)).all(-1) & (weights >= _FAINTEST)
    limits = {"xlim": axes.get_xlim(), "ylim": axes.get_ylim()}
    x, y = points[is_shown].unbind(-1)
    axes.scatter(
        x * image_size[0],
        y * image_size[1],
        s=_AREA * weights[is_shown],
        c=_COLOR,
        edgecolors="black",
        linewidths=0.25,
        zorder=3,
    )
    axes.set(**limits)
