import base64
import json
import re
import sys
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from octobev.errors import MissingDependency, RecordingError
from octobev.replay.disturbance import Disturbance
from octobev.replay.evaluate import Counts, Evaluation
from octobev.replay.evaluation_report import ReportWriter
from octobev.replay.extremes import Extremes, ExtremeSet
from octobev.replay.scores import CellMasks, ClassCounts


@pytest.fixture
def evaluation():
    result = Evaluation(Counts(frames=12))
    probability = np.linspace(0, 1, 60, dtype=np.float32).reshape(6, 10)
    truth = (probability > 0.4).astype(np.uint8)
    visible = np.ones(truth.shape, dtype=np.bool_)
    visible[0] = False
    masks = CellMasks(visible, ~visible, np.zeros(truth.shape, dtype=np.int64))
    result.counts.road_layout = {"drivable": ClassCounts(), "intersection": ClassCounts()}
    result.counts.occupancy = ClassCounts()
    for counts in result.classes.values():
        counts.add(probability, truth, masks)
    return result


def settings(**more):
    values = {
        "bundle": "tiny",
        "bundle_sha256": "0" * 64,
        "variant": "fp32",
        "drives": ["one", "two"],
        "warm_up": 3,
        "duration_s": None,
        "reset_every_frame": False,
        **Disturbance().values(),
    }
    return values | more


class Page(HTMLParser):
    """Text, sources and open tags of a page."""

    def __init__(self, html):
        super().__init__()
        self.open, self.sources, self.text = [], [], ""
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        if tag not in {"meta", "img", "br", "link"}:
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in {"src", "href"}]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


class Kept:
    """Extremes that were found before."""

    def __init__(self):
        self.best = [ExtremeSet(0.9, "<one>", 7, 0, {"drivable": 0.9}, b"\xff\xd8best")]
        self.worst = [ExtremeSet(0.1, "two", 8, 0, {"drivable": 0.1}, b"\xff\xd8worst")]


def written(directory, evaluation, extremes=None, **more):
    pytest.importorskip("matplotlib")
    path = ReportWriter(directory).write(evaluation, settings(**more), extremes or Extremes())
    page = Page(path.read_text(encoding="utf-8"))
    assert page.open == []
    return page


def test_page_needs_nothing_else(tmp_path, evaluation):
    page = written(tmp_path, evaluation, Kept())
    assert len(page.sources) == 6
    assert all(source.startswith("data:image/") for source in page.sources)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index.html", "report.json"]


def test_plots_are_svg_with_every_class_in_them(tmp_path, evaluation):
    plots = [source for source in written(tmp_path, evaluation).sources if "svg" in source]
    assert len(plots) == 4
    for plot in plots:
        svg = base64.b64decode(plot.split(",")[1])
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        for colour in (b"#747c8a", b"#3f7fe8", b"#f03cc8"):  # drivable, intersection, occupancy
            assert colour in svg


def test_page_is_the_same_every_time(tmp_path, evaluation):
    pages = []
    for name in ("a", "b"):
        written(tmp_path / name, evaluation)
        pages.append((tmp_path / name / "index.html").read_bytes())
    assert pages[0] == pages[1]


def test_figures_of_the_table(tmp_path, evaluation):
    text = written(tmp_path, evaluation).text
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["settings"]["drives"] == ["one", "two"]
    assert f"{report['road_layout']['drivable']['iou_visible']:.3f}" in text
    assert f"{report['calibration_error']['occupancy']:.3f}" in text
    assert "12 sets of one, two" in text
    assert "state reset" not in text


def test_what_was_not_measured_is_left_out(tmp_path, evaluation):
    assert "within 3 m" not in written(tmp_path, evaluation).text
    evaluation.counts.intersections.found = 3
    evaluation.counts.intersections.missed = 1
    text = written(tmp_path, evaluation).text
    assert "intersections within 3 mprecision 1.000recall 0.750" in text
    assert "corridor direction" not in text


def test_faults_stand_at_the_top(tmp_path, evaluation):
    evaluation.interrupted = True
    faults = Disturbance(without_cameras=("rear",), pitch_deg=0.3, odometry_percent=3.0).values()
    text = written(tmp_path, evaluation, reset_every_frame=True, **faults).text
    for fault in ("state reset every frame", "without rear", "pitched by 0.3°", "off by 3 %", "interrupted"):
        assert fault in text


def test_names_are_escaped(tmp_path, evaluation):
    page = written(tmp_path, evaluation, Kept(), bundle="<script>alert(1)</script>", drives=["a<b>&c"])
    assert "<script>" in page.text
    assert "a<b>&c" in page.text
    assert "<one>, set 7: mean IoU 0.90" in page.text
    assert "script" not in re.findall(r"<(\w+)", (tmp_path / "index.html").read_text(encoding="utf-8"))


def test_an_evaluation_of_nothing_has_a_page(tmp_path):
    assert "0 sets of one, two" in written(tmp_path, Evaluation(interrupted=True)).text


def test_without_matplotlib(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependency, match=r"remedy: pip install 'octobev\[report\]'"):
        ReportWriter(tmp_path / "report")
    assert not (tmp_path / "report").exists()


def test_a_directory_that_cannot_be_made(tmp_path):
    pytest.importorskip("matplotlib")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(RecordingError, match="file must be a folder, got a file"):
        ReportWriter(tmp_path / "file" / "report")


def test_a_page_that_cannot_be_written(tmp_path, evaluation):
    (tmp_path / "index.html").mkdir()
    with pytest.raises(RecordingError, match=r"index\.html must be a file, got a folder"):
        written(tmp_path, evaluation)
