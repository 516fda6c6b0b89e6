"""Plots of an evaluation, as SVG, in the colours of the pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from ..errors import MissingDependency
from .drawing import LINE, MUTED, PANEL, TEXT, Colour, class_colour
from .scores import THRESHOLD, ClassCounts, band_labels

_MASKS: Final = {"iou": "all cells", "iou_visible": "visible", "iou_remembered": "remembered"}
_MASK_STRENGTHS: Final = (0.35, 1.0, 0.6)


def load_matplotlib() -> Any:
    """Import matplotlib.

    Raises
    ------
    MissingDependency
        It is not installed.
    """
    try:
        import matplotlib
        import matplotlib.figure
        import matplotlib.patches
    except ImportError as error:
        remedy = "pip install 'octobev[report]'"
        raise MissingDependency(
            f"a report needs matplotlib, which cannot be loaded ({error}); remedy: {remedy}"
        ) from error
    return matplotlib


def css(colour: Colour) -> str:
    """Write a colour as CSS does."""
    blue, green, red = colour
    return f"#{red:02x}{green:02x}{blue:02x}"


def colour_of(name: str) -> str:
    """Return the colour of a class, as in the pictures."""
    return css(class_colour(name) or MUTED)


def label_of(name: str) -> str:
    """Return the name of a class for people."""
    return name.replace("_", " ")


def plot_masks(classes: Mapping[str, Mapping[str, Any]]) -> str:
    """Bars of the IoU of each class in all, visible and remembered cells.

    Parameters
    ----------
    classes : class -> its figures, as in the report
    """
    with _figure(9.0, 3.4) as (figure, svg):
        axes = figure.add_subplot()
        for offset, (key, strength) in enumerate(zip(_MASKS, _MASK_STRENGTHS, strict=True)):
            for place, (name, figures) in enumerate(classes.items()):
                value, left = figures[key], place + 0.27 * (offset - 1)
                axes.bar(left, value or 0.0, 0.24, color=_mixed(class_colour(name) or MUTED, strength))
                text = "-" if value is None else f"{value:.2f}"
                axes.text(left, (value or 0.0) + 0.015, text, ha="center", fontsize=7.5, color=css(MUTED))
        axes.set_xticks(range(len(classes)), [label_of(name) for name in classes])
        axes.tick_params(axis="x", length=0, labelcolor=css(TEXT))
        axes.set(ylim=(0, 1.08), ylabel=f"IoU at {THRESHOLD}")
        axes.grid(visible=False, axis="x")
        patch = load_matplotlib().patches.Patch
        shades = zip(_MASKS.values(), _MASK_STRENGTHS, strict=True)
        _legend(axes, [patch(color=_mixed(TEXT, strength), label=label) for label, strength in shades])
    return svg[0]


def plot_ranges(classes: Mapping[str, Mapping[str, Any]]) -> str:
    """Lines of the IoU in visible cells over the distance."""
    with _figure(5.2, 3.7) as (figure, svg):
        axes = figure.add_subplot()
        for name, figures in classes.items():
            values = [np.nan if value is None else value for value in figures["by_range_m"].values()]
            axes.plot(values, color=colour_of(name), marker="o", markersize=4, label=label_of(name), clip_on=False)
        axes.set_xticks(range(len(band_labels())), band_labels())
        axes.set(ylim=(0, 1), xlabel="distance, m", ylabel="IoU, visible cells")
        _legend(axes)
    return svg[0]


def plot_precision_recall(classes: Mapping[str, ClassCounts]) -> str:
    """Precision over recall in visible cells, the point at the threshold marked; thin lines of equal F1."""
    with _figure(5.2, 3.7) as (figure, svg):
        axes = figure.add_subplot()
        for f1 in (0.2, 0.4, 0.6, 0.8):
            recall = np.linspace(f1 / (2 - f1) + 1e-6, 1, 60)
            axes.plot(recall, f1 * recall / (2 * recall - f1), color=css(LINE), linewidth=0.8, zorder=1)
            axes.text(1.01, f1 / (2 - f1), f"F1 {f1}", fontsize=6.5, color=css(MUTED), va="center")
        for name, counts in classes.items():
            precision, recall = counts.precision_recall()
            colour = colour_of(name)
            axes.plot(recall, precision, color=colour, label=label_of(name))
            middle = round(THRESHOLD * len(recall))
            axes.plot(recall[middle], precision[middle], "o", color=colour, markersize=6, markeredgecolor=css(PANEL))
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
        axes.grid(visible=False)
        _legend(axes)
    return svg[0]


def plot_reliability(classes: Mapping[str, ClassCounts]) -> str:
    """One reliability diagram per class (DeGroot and Fienberg 1983): how often what is said is so."""
    columns = max(min(len(classes), 3), 1)
    rows = max(-(-len(classes) // columns), 1)
    with _figure(9.0, 2.9 * rows) as (figure, svg):
        for place, (name, counts) in enumerate(classes.items()):
            axes = figure.add_subplot(rows, columns, place + 1)
            _draw_reliability(axes, name, counts)
    return svg[0]


def _draw_reliability(axes: Any, name: str, counts: ClassCounts) -> None:
    confidence, frequency, cells = counts.reliability()
    known = cells > 0
    share = cells / max(cells.sum(), 1)
    edges = np.arange(len(cells)) / len(cells)
    axes.bar(edges, share / max(share.max(), 1e-9) * 0.3, 1 / len(cells), align="edge", color=css(LINE), zorder=1)
    axes.plot([0, 1], [0, 1], color=css(MUTED), linewidth=0.8, linestyle=(0, (4, 3)))
    axes.plot(confidence[known], frequency[known], color=colour_of(name), marker="o", markersize=3)
    error = counts.calibration_error()
    axes.set_title(f"{label_of(name)}   ECE {'-' if error is None else f'{error:.3f}'}", fontsize=9.5, color=css(TEXT))
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="predicted probability", ylabel="share of cells")
    axes.set_xticks([0, 0.5, 1])
    axes.set_yticks([0, 0.5, 1])


def _legend(axes: Any, handles: list[Any] | None = None) -> None:
    """Put the legend above the axes, where no curve is."""
    entries = {} if handles is None else {"handles": handles}
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=3, columnspacing=1.4, **entries)


def _mixed(colour: Colour, strength: float) -> str:
    """Mix a colour into the panel's."""
    blue, green, red = (
        round(strength * ink + (1 - strength) * paper) for ink, paper in zip(colour, PANEL, strict=True)
    )
    return css((blue, green, red))


@contextmanager
def _figure(width_in: float, height_in: float) -> Iterator[tuple[Any, list[str]]]:
    """Give a figure in the house's style; its SVG is in the list afterwards."""
    matplotlib = load_matplotlib()
    ink, muted, line = css(TEXT), css(MUTED), css(LINE)
    style: dict[str, Any] = {
        "figure.facecolor": css(PANEL),
        "axes.facecolor": css(PANEL),
        "axes.edgecolor": line,
        "axes.labelcolor": muted,
        "axes.grid": True,
        "axes.axisbelow": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "grid.color": line,
        "grid.linewidth": 0.6,
        "text.color": ink,
        "xtick.color": muted,
        "ytick.color": muted,
        "font.size": 8.5,
        "legend.frameon": False,
        "legend.fontsize": 8,
        "legend.labelcolor": muted,
        "lines.linewidth": 1.8,
        "svg.hashsalt": "octobev",
    }
    svg: list[str] = []
    with matplotlib.rc_context(style):
        figure = matplotlib.figure.Figure(figsize=(width_in, height_in), layout="constrained")
        yield figure, svg
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
        svg.append(buffer.getvalue())
