import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid
from octobev.replay.scores import (
    BINS,
    CALIBRATION_BINS,
    CellMasks,
    ClassCounts,
    DirectionErrors,
    direction_error_deg,
    range_bands,
)


def masks(visible, remembered=None):
    visible = np.array(visible, dtype=np.bool_)
    hidden = np.zeros_like(visible) if remembered is None else np.array(remembered, dtype=np.bool_)
    return CellMasks(visible, hidden, np.zeros(visible.shape, dtype=np.int64))


def report(probability, truth, cells=None):
    counts = ClassCounts()
    truth = np.atleast_2d(np.array(truth, dtype=np.uint8))
    cells = cells or masks(np.ones(truth.shape))
    counts.add(np.atleast_2d(np.array(probability, dtype=np.float32)), truth, cells)
    return counts.report() | {"calibration_error": counts.calibration_error()}


def test_range_bands_are_half_open():
    grid = BevGrid(-0.5, 60.5, -0.5, 0.5, 1.0)  # cell centres at 0, 1, 2, ... metres
    bands = range_bands(grid)[:, 0]
    assert [bands[i] for i in (0, 9, 10, 39, 40, 60)] == [0, 0, 1, 3, 4, 4]


def test_remembered_cells_have_a_figure_of_their_own():
    """Hidden cells 1, 2, 3; of them 2 and 3 were seen before: 2 is right, 3 is missed. Cell 1 counts for nobody."""
    cells = masks([[1, 0, 0, 0]], [[0, 0, 1, 1]])
    figures = report([0.9, 0.9, 0.9, 0.1], [1, 0, 1, 1], cells)
    assert figures["iou_remembered"] == 0.5
    assert figures["iou_visible"] == 1.0
    assert figures["iou"] == 0.5
    assert figures["cells_remembered"] == 2


def test_cells_nobody_knows_do_not_count():
    truth = np.array([[1, 0, 255, 255]], np.uint8)
    counts = ClassCounts()
    everywhere = np.ones((1, 4), bool)
    counts.add(np.full((1, 4), 0.9, np.float32), truth, CellMasks(everywhere, everywhere, np.zeros((1, 4), np.int64)))
    report = counts.report()
    assert (report["iou"], report["iou_visible"], report["iou_remembered"]) == (0.5, 0.5, 0.5)
    assert report["cells"] == report["cells_remembered"] == 1


def test_nothing_remembered_has_no_figure():
    assert report([0.9, 0.1], [1, 1])["iou_remembered"] is None


def test_one_cell_aside_is_right_and_two_are_wrong():
    """Truth in column 3; predicted in 2 (right) and 0 (wrong): precision 1/2, recall 1."""
    assert report([0.9, 0, 0.9, 0, 0, 0], [0, 0, 0, 1, 0, 0])["f1_tolerant"] == pytest.approx(2 / 3, abs=1e-4)


def test_tolerance_reaches_across_corners_and_into_hidden_cells():
    truth = np.zeros((3, 3), dtype=np.uint8)
    truth[0, 0] = 1
    probability = np.zeros((3, 3), dtype=np.float32)
    probability[1, 1] = 0.8
    visible = np.ones((3, 3))
    visible[0, 0] = 0  # the truth is hidden: nothing to be found, but what was predicted beside it is right
    assert report(probability, truth, masks(visible))["f1_tolerant"] == 0.0
    assert report(probability, truth)["f1_tolerant"] == 1.0


def test_f1_of_a_class_that_never_occurs():
    assert report([0, 0], [0, 0])["f1_tolerant"] is None
    assert report([0.9, 0], [0, 0])["f1_tolerant"] == 0.0
    assert report([0.1, 0], [1, 0])["f1_tolerant"] == 0.0


def test_calibration_error_of_hand_counted_cells():
    """Said 0.9 of two cells, one is there: 0.4 off. Said 0.1 of two, none is: 0.1 off. The mean is 0.25."""
    assert report([0.9, 0.9, 0.1, 0.1], [1, 0, 0, 0])["calibration_error"] == pytest.approx(0.25, abs=1e-4)


def test_hidden_cells_do_not_enter_the_calibration_error():
    assert report([0.9, 0.9], [0, 1], masks([[0, 1]]))["calibration_error"] == pytest.approx(0.1, abs=1e-4)
    assert report([0.9, 0.9], [0, 1], masks([[0, 0]]))["calibration_error"] is None


def reference(probability, truth, visible, remembered):
    """The figures, one cell at a time."""
    nx, ny = truth.shape
    tally = {"both": 0, "either": 0, "both_r": 0, "either_r": 0, "right": 0, "said": 0, "found": 0, "true": 0}
    bins = [[] for _ in range(CALIBRATION_BINS)]
    level = np.minimum(np.floor(probability * BINS).astype(int), BINS - 1)
    for i in range(nx):
        for j in range(ny):
            said, there = level[i, j] >= BINS // 2, truth[i, j] != 0
            near = [(a, b) for a in range(i - 1, i + 2) for b in range(j - 1, j + 2) if 0 <= a < nx and 0 <= b < ny]
            if remembered[i, j]:
                tally["both_r"] += said and there
                tally["either_r"] += said or there
            if not visible[i, j]:
                continue
            tally["both"] += said and there
            tally["either"] += said or there
            tally["said"] += said
            tally["true"] += there
            tally["right"] += said and any(truth[cell] for cell in near)
            tally["found"] += there and any(level[cell] >= BINS // 2 for cell in near)
            bins[level[i, j] * CALIBRATION_BINS // BINS].append((float(probability[i, j]), there))
    precision, recall = tally["right"] / tally["said"], tally["found"] / tally["true"]
    gaps = [
        abs(np.mean([p for p, _ in cells]) - np.mean([t for _, t in cells])) * len(cells) for cells in bins if cells
    ]
    return {
        "iou_visible": tally["both"] / tally["either"],
        "iou_remembered": tally["both_r"] / tally["either_r"],
        "f1_tolerant": 2 * precision * recall / (precision + recall),
        "calibration_error": sum(gaps) / visible.sum(),
    }


@pytest.mark.parametrize("seed", range(3))
def test_figures_are_those_of_plain_code(seed):
    rng = np.random.default_rng(seed)
    truth = (rng.random((20, 15)) < 0.2).astype(np.uint8)
    probability = np.clip(0.3 * rng.random((20, 15)) + 0.5 * truth * rng.random((20, 15)), 0, 1).astype(np.float32)
    probability[rng.random((20, 15)) < 0.1] = 0.75
    visible = rng.random((20, 15)) < 0.7
    remembered = ~visible & (rng.random((20, 15)) < 0.5)
    figures = report(probability, truth, masks(visible, remembered))
    wanted = reference(probability, truth, visible, remembered)
    assert {key: figures[key] for key in wanted} == pytest.approx(wanted, abs=6e-5)


def test_pooled_counts_add_up():
    counts = ClassCounts()
    ious = [
        counts.add(np.float32([[1, 0]]), np.uint8([[1, 0]]), masks([[1, 1]])),
        counts.add(np.float32([[0, 0]]), np.uint8([[1, 1]]), masks([[1, 1]])),
        counts.add(np.float32([[0, 0]]), np.uint8([[0, 0]]), masks([[1, 1]])),
    ]
    assert ious == pytest.approx([1.0, 0.0, np.nan], nan_ok=True)
    assert counts.report()["iou_visible"] == pytest.approx(1 / 3, abs=1e-4)


def test_precision_and_recall_of_hand_counted_cells():
    counts = ClassCounts()
    counts.add(np.float32([[0.9, 0.7, 0.3]]), np.uint8([[1, 0, 1]]), masks([[1, 1, 1]]))
    precision, recall = counts.precision_recall()
    at = {
        threshold: (precision[round(threshold * BINS)], recall[round(threshold * BINS)])
        for threshold in (0.2, 0.5, 0.8)
    }
    assert at == {0.2: (pytest.approx(2 / 3), 1.0), 0.5: (0.5, 0.5), 0.8: (1.0, 0.5)}


@pytest.mark.parametrize(
    ("said_deg", "true_deg", "error_deg"),
    [(0, 0, 0), (10, 0, 10), (-89, 89, 2), (90, -90, 0), (45, -45, 90), (170, 5, 15)],
)
def test_directions_have_no_sign(said_deg, true_deg, error_deg):
    said, true = np.radians(np.float32([[said_deg], [true_deg]]))
    assert direction_error_deg(said, true) == pytest.approx([error_deg], abs=1e-3)


def test_a_direction_that_says_nothing_is_as_wrong_as_can_be():
    assert direction_error_deg(np.float32([np.nan]), np.float32([0.1])).tolist() == [90.0]


def test_quantiles_of_directions_in_visible_cells():
    """Errors 1, 2, 3, 4 degrees; a cell without direction and a hidden one do not count."""
    said = np.radians(np.float32([[1, 2, 3, 4, 50, 60]]))
    truth = np.float32([[0, 0, 0, 0, np.nan, 0]])
    errors = DirectionErrors()
    errors.add(said, truth, np.array([[1, 1, 1, 1, 1, 0]], dtype=np.bool_))
    assert errors.quantile(0.5) == pytest.approx(2.0, abs=0.11)
    assert errors.quantile(0.9) == pytest.approx(4.0, abs=0.11)
    assert DirectionErrors().quantile(0.5) is None


def test_directions_of_another_shape_are_refused():
    with pytest.raises(InvalidArgument, match=r"shape of the directions must be \(1, 2\), got \(1, 3\)"):
        DirectionErrors().add(np.zeros((1, 3), np.float32), np.zeros((1, 2), np.float32), np.ones((1, 2), np.bool_))
