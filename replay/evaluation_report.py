"""An evaluation as one HTML page that needs nothing else: tables, plots, the best and the worst sets."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any, Final

from ..errors import RecordingError, unwritable
from . import evaluation_plots as plots
from .drawing import BACKGROUND, GOOD, LINE, MUTED, PANEL, TEXT, WARNING
from .evaluate import Evaluation, flat
from .extremes import Extremes, ExtremeSet

PAGE_NAME: Final = "index.html"
FIGURES_NAME: Final = "report.json"

_COLUMNS: Final = {
    "iou_visible": "IoU visible",
    "iou_visible_20m": "within 20 m",
    "iou_remembered": "remembered",
    "iou": "all cells",
    "iou_best_visible": "best",
    "threshold_best": "at threshold",
    "f1_tolerant": "F1, 1 cell",
}

_NOTES: Final = (
    "IoU is pooled over all sets, at threshold 0.5 if nothing else is said. <b>Visible</b>: cells that a camera sees"
    " unobstructed. <b>Remembered</b>: hidden in the set, visible in an earlier one. <b>F1, 1 cell</b>: a cell of"
    " tolerance in precision and in recall. <b>ECE</b>: expected calibration error in visible cells, 20 bins."
)

_PAGE: Final = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: dark }
* { box-sizing: border-box }
body { margin: 0; background: $background; color: $text; font: 15px/1.55 system-ui, "Segoe UI", Roboto, sans-serif }
main { max-width: 1180px; margin: 0 auto; padding: 40px 28px 72px }
h1 { font-size: 27px; font-weight: 650; margin: 0 0 4px; letter-spacing: -0.01em }
h2 { font-size: 17px; font-weight: 600; margin: 44px 0 14px }
p { margin: 0 0 10px; max-width: 80ch }
.muted, figcaption, footer { color: $muted; font-size: 13.5px }
.tags { display: flex; flex-wrap: wrap; gap: 8px; margin: 14px 0 0; padding: 0; list-style: none }
.tags li { border: 1px solid $line; border-radius: 999px; padding: 2px 11px; font-size: 13px; color: $muted }
.tags li.fault { border-color: $warning; color: $warning }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px }
.card { background: $panel; border: 1px solid $line; border-top: 3px solid var(--colour, $good); border-radius: 8px;
  padding: 12px 14px 14px }
.card b { display: block; font-size: 29px; font-weight: 600; line-height: 1.15; font-variant-numeric: tabular-nums }
.card span { color: $muted; font-size: 13px }
.scroll { overflow-x: auto; background: $panel; border: 1px solid $line; border-radius: 8px }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
th, td { padding: 8px 14px; text-align: right; border-bottom: 1px solid $line; white-space: nowrap }
th { color: $muted; font-weight: 500; font-size: 13px }
tr:last-child td { border-bottom: 0 }
th:first-child, td:first-child { text-align: left }
.swatch { display: inline-block; width: 11px; height: 11px; margin-right: 9px;
  border-radius: 3px; vertical-align: -1px }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(420px, 1fr)); gap: 14px }
.plot { background: $panel; border: 1px solid $line; border-radius: 8px; padding: 10px }
.plot img { display: block; width: 100%; height: auto }
figure { margin: 0 0 22px }
figure img { display: block; width: 100%; border: 1px solid $line; border-radius: 8px }
figcaption { margin-top: 7px }
footer { margin-top: 48px; padding-top: 16px; border-top: 1px solid $line; overflow-wrap: anywhere }
</style>
</head>
<body>
<main>
<h1>$title</h1>
<p class="muted">$subtitle</p>
<ul class="tags">$tags</ul>
$body
<footer>$footer</footer>
</main>
</body>
</html>
""")


class ReportWriter:
    """Writes an evaluation into a directory: `index.html` and, beside it, `report.json`.

    Parameters
    ----------
    directory : made when missing; an earlier report in it is overwritten

    Raises
    ------
    MissingDependency
        matplotlib is not installed.
    RecordingError
        The directory cannot be made.
    """

    def __init__(self, directory: str | Path) -> None:
        plots.load_matplotlib()
        self.directory = Path(directory)
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RecordingError(unwritable(directory, error, folder=True)) from error

    def write(self, evaluation: Evaluation, settings: Mapping[str, Any], extremes: Extremes) -> Path:
        """Write both files; returns the path of the page.

        Parameters
        ----------
        settings : what was evaluated and how, see docs/evaluation.md
        extremes : the sets to be shown

        Raises
        ------
        RecordingError
            A file cannot be written.
        """
        report = {**evaluation.report(), "settings": dict(settings)}
        page = self.directory / PAGE_NAME
        for path, text in (
            (self.directory / FIGURES_NAME, json.dumps(report, indent=2) + "\n"),
            (page, render_page(evaluation, report, extremes)),
        ):
            try:
                path.write_text(text, encoding="utf-8")
            except OSError as error:
                raise RecordingError(unwritable(path, error)) from error
        return page


def render_page(evaluation: Evaluation, report: Mapping[str, Any], extremes: Extremes) -> str:
    """Give the HTML of a report; everything that comes from outside is escaped."""
    settings = report["settings"]
    classes = flat(report)
    parts: list[str] = []
    if classes:
        parts += [
            _cards(classes),
            _classes_table(classes, report["calibration_error"]),
            *_class_plots(evaluation, classes),
        ]
    parts += [_things_table(report), *_sets("Best sets", extremes.best), *_sets("Worst sets", extremes.worst)]
    drives = ", ".join(settings["drives"])
    colours = {
        "background": BACKGROUND,
        "panel": PANEL,
        "line": LINE,
        "text": TEXT,
        "muted": MUTED,
        "good": GOOD,
        "warning": WARNING,
    }
    return _PAGE.substitute(
        {name: plots.css(colour) for name, colour in colours.items()},
        title=escape(f"Evaluation of {settings['bundle']}"),
        subtitle=escape(f"{report['frames']} sets of {drives}"),
        tags="".join(f'<li class="{kind}">{escape(text)}</li>' for kind, text in _tags(report)),
        body="\n".join(parts),
        footer=f"{_NOTES}<br>Bundle {escape(settings['bundle_sha256'])}. All figures: {FIGURES_NAME}.",
    )


def _tags(report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What was special: settings that are not as they usually are, with the kind of each."""
    settings = report["settings"]
    tags = [("plain", settings["variant"]), ("plain", f"warm-up {settings['warm_up']} sets")]
    if settings["duration_s"] is not None:
        tags.append(("plain", f"first {settings['duration_s']:g} s of each drive"))
    if settings["reset_every_frame"]:
        tags.append(("fault", "state reset every frame"))
    tags += [("fault", f"without {name}") for name in settings["without_cameras"]]
    faults = {
        "pitch_deg": "all cameras pitched by {:g}°",
        "mounting_deg": "mountings turned by {:g}°",
        "odometry_percent": "odometry off by {:g} %",
        "odometry_deg": "odometry off by {:g}° a step",
    }
    tags += [("fault", text.format(settings[key])) for key, text in faults.items() if settings[key]]
    if report["interrupted"]:
        tags.append(("fault", "interrupted"))
    if report["corrupt"]:
        tags.append(("fault", f"{report['corrupt']} frames could not be read"))
    return tags + [("fault", message) for message in report["truncated"]]


def _cards(classes: Mapping[str, Mapping[str, Any]]) -> str:
    cards = (
        f'<div class="card" style="--colour: {plots.colour_of(name)}"><b>{_number(figures["iou_visible"])}</b>'
        f"<span>{escape(plots.label_of(name))}</span></div>"
        for name, figures in classes.items()
    )
    return f'<h2>IoU in visible cells</h2><div class="cards">{"".join(cards)}</div>'


def _classes_table(classes: Mapping[str, Mapping[str, Any]], errors: Mapping[str, float | None]) -> str:
    rows = (
        [_class_name(name), *(_number(figures[key]) for key in _COLUMNS), _number(errors[name])]
        for name, figures in classes.items()
    )
    return "<h2>Classes</h2>" + _table(["", *_COLUMNS.values(), "ECE"], rows)


def _class_plots(evaluation: Evaluation, classes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    return [
        "<h2>All, visible and remembered cells</h2>",
        _plot(plots.plot_masks(classes), "IoU of each class in all, visible and remembered cells"),
        "<h2>Range and threshold</h2>",
        '<div class="pair">',
        _plot(plots.plot_ranges(classes), "IoU by distance"),
        _plot(plots.plot_precision_recall(evaluation.classes), "precision over recall"),
        "</div>",
        "<h2>Calibration</h2>",
        '<p class="muted">The share of cells in which a class is, over the probability that was predicted for it;'
        " on the diagonal the two agree. Grey: how the cells are spread over the probabilities.</p>",
        _plot(plots.plot_reliability(evaluation.classes), "reliability diagrams"),
    ]


def _things_table(report: Mapping[str, Any]) -> str:
    """Intersections, directions and polylines, as far as they were measured."""
    found, direction = report["intersections"], report["corridor_direction_deg"]
    rows = [
        ["intersections within 3 m", f"precision {_number(found['precision'])}", f"recall {_number(found['recall'])}"],
        [
            "corridor direction",
            f"median {_number(direction['median'], 1)}°",
            f"90 % within {_number(direction['p90'], 1)}°",
        ],
    ]
    for name, figures in report["polylines"].items():
        ap = figures["chamfer_ap"]
        steps = ", ".join(f"{_number(value)} at {key} m" for key, value in ap.items() if key != "mean")
        rows.append([f"polylines: {escape(plots.label_of(name))}", f"AP {_number(ap['mean'])}", steps])
    measured = [row for row in rows if any(character.isdigit() for character in row[1])]
    return (
        "<h2>Intersections, directions, polylines</h2>" + _table(["", "", ""], measured, head=False) if measured else ""
    )


def _sets(heading: str, entries: Sequence[ExtremeSet]) -> list[str]:
    if not entries:
        return []
    return [f"<h2>{heading}</h2>", *map(_set_figure, entries)]


def _set_figure(entry: ExtremeSet) -> str:
    ious = ", ".join(f"{plots.label_of(name)} {value:.2f}" for name, value in entry.iou_visible.items())
    caption = escape(f"{entry.drive}, set {entry.index}: mean IoU {entry.score:.2f} ({ious})")
    image = f'<img src="{_data("image/jpeg", entry.jpeg)}" alt="{caption}" loading="lazy">'
    return f"<figure>{image}<figcaption>{caption}</figcaption></figure>"


def _table(headings: Iterable[str], rows: Iterable[Iterable[str]], *, head: bool = True) -> str:
    top = f"<tr>{''.join(f'<th>{heading}</th>' for heading in headings)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="scroll"><table>{top}{body}</table></div>'


def _class_name(name: str) -> str:
    return f'<span class="swatch" style="background: {plots.colour_of(name)}"></span>{escape(plots.label_of(name))}'


def _plot(svg: str, what: str) -> str:
    return f'<div class="plot"><img src="{_data("image/svg+xml", svg.encode())}" alt="{escape(what)}"></div>'


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def _number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
