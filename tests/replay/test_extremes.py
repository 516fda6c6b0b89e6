from types import SimpleNamespace

import pytest
from octobev.replay.evaluate import ComparedSet
from octobev.replay.extremes import APART_NS, Extremes

DRIVE = SimpleNamespace(name="one")


def compared(score, second, drive=DRIVE, **more):
    timestamp_ns = int(second * 1e9)
    ious = {"drivable": score} if score is not None else {}
    truth = SimpleNamespace(timestamp_ns=timestamp_ns)
    return ComparedSet(drive, round(second * 10), None, None, None, truth, ious | more)


def watched(sets, count=2):
    drawn = []

    def draw(given):
        drawn.append(given.index)
        return b"%d" % given.index

    extremes = Extremes(count, draw)
    for given in sets:
        extremes(given)
    return extremes, drawn


def scores(entries):
    return [entry.score for entry in entries]


def test_the_best_and_the_worst_are_kept_in_order():
    extremes, _ = watched([compared(score, 10 * k) for k, score in enumerate([0.5, 0.9, 0.1, 0.7, 0.3])])
    assert scores(extremes.best) == [0.9, 0.7]
    assert scores(extremes.worst) == [0.1, 0.3]
    assert extremes.best[0].jpeg == b"100"


def test_only_what_is_kept_is_drawn():
    _, drawn = watched([compared(score, 10 * k) for k, score in enumerate([0.1, 0.2, 0.8, 0.9, 0.5, 0.4])])
    assert drawn == [0, 100, 200, 300]


def test_neighbours_are_shown_once():
    """Three sets of one stretch: the best of them and the worst of them are candidates, the third is not."""
    extremes, _ = watched([compared(0.5, 0.0), compared(0.9, 0.1), compared(0.2, 0.2), compared(0.6, 10.0)])
    assert scores(extremes.best) == [0.9, 0.6]
    assert scores(extremes.worst) == [0.2]  # 0.6 is among the best


def test_stretches_of_two_drives_are_two():
    later = SimpleNamespace(name="two")
    extremes, _ = watched([compared(0.5, 0.0), compared(0.6, 0.0, later)])
    assert [entry.drive for entry in extremes.best] == ["two", "one"]
    assert APART_NS == 2_000_000_000


def test_score_is_the_mean_over_classes():
    extremes, _ = watched([compared(0.4, 0.0, occupancy=0.8)])
    assert scores(extremes.best) == [pytest.approx(0.6)]
    assert dict(extremes.best[0].iou_visible) == {"drivable": 0.4, "occupancy": 0.8}


def test_a_set_without_figures_is_passed_over():
    extremes, drawn = watched([compared(None, 0.0)])
    assert (extremes.best, extremes.worst, drawn) == ([], [], [])
