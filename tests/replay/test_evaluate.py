import sys

import numpy as np
import pytest
from octobev.errors import DriveError
from octobev.fusion.direction import CorridorDirection
from octobev.fusion.grid import BevGrid
from octobev.fusion.layout import RoadLayout
from octobev.fusion.occupancy import OccupancyGrid
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Rig
from octobev.replay.disturbance import Disturbance
from octobev.replay.drive import Drive, DriveStep, GroundTruth, Losses
from octobev.replay.evaluate import COMPARED_KINDS, Evaluation, evaluate, flat
from octobev.replay.refine import Refinement
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.bundle import REFERENCE_BUNDLE, open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import FrameSet

GRID = BevGrid(0.0, 4.0, 0.0, 1.0, 1.0)  # four cells in a row
ZEROS = np.zeros(GRID.shape, dtype=np.uint64)


def row(*values, dtype=np.float32):
    return np.array(values, dtype=dtype).reshape(GRID.shape)


class OneSet(Drive):
    def __init__(self, truth):
        self.name, self.rig, self.losses, self.truth = "one", None, Losses(), truth

    def steps(self, *, start_s=0.0, duration_s=None):
        yield DriveStep(FrameSet(1, (), Pose.identity()), self.truth)


class Predicted:
    """A runtime that knows what it will say."""

    def __init__(self, layout=None, occupancy=None):
        self.road_layout, self.occupancy, self.bev, self.resets = layout, occupancy, {}, 0
        self.levelled = {}

    def __call__(self, rig: Rig):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def reset(self, reason):
        self.resets += 1

    def stream(self, frame_sets):
        for _ in frame_sets:
            yield self


def layout(*probability, observed=(1, 1, 1, 1)):
    return RoadLayout(GRID, ("drivable",), row(*probability)[np.newaxis], row(*observed, dtype=np.bool_), ZEROS)


def truth(drivable, visible=(1, 1, 1, 1), **more):
    layers = {"drivable": row(*drivable, dtype=np.uint8), "visible": row(*visible, dtype=np.uint8)}
    return GroundTruth(1, GRID, layers | {name: row(*values, dtype=np.uint8) for name, values in more.items()})


def test_iou_of_hand_counted_cells():
    """Predicted cells 0, 1; true cells 1, 2: one in both, three in either."""
    result = evaluate([OneSet(truth([0, 1, 1, 0]))], Predicted(layout(0.9, 0.6, 0.2, 0.1))).report()
    assert result["frames"] == 1
    assert result["road_layout"]["drivable"]["iou"] == pytest.approx(1 / 3, abs=1e-4)


def test_visible_mask_leaves_hidden_cells_out():
    """Without cell 2, which is hidden: one in both, two in either."""
    result = evaluate([OneSet(truth([0, 1, 1, 0], visible=[1, 1, 0, 1]))], Predicted(layout(0.9, 0.6, 0.2, 0.1)))
    figures = result.report()["road_layout"]["drivable"]
    assert figures["iou_visible"] == 0.5
    assert figures["iou"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["cells"] == 1


def test_best_threshold_separates_what_the_fixed_one_does_not():
    figures = flat(evaluate([OneSet(truth([1, 1, 0, 0]))], Predicted(layout(0.4, 0.3, 0.2, 0.1))).report())["drivable"]
    assert figures["iou_visible"] == 0.0
    assert figures["iou_best_visible"] == 1.0
    assert 0.2 < figures["threshold_best"] <= 0.3


def test_sets_are_pooled_not_averaged():
    """Set one: 1 of 1. Set two: 0 of 3. Pooled 1 of 4; the mean of the two would be 0.5."""
    drives = [OneSet(truth([1, 0, 0, 0])), OneSet(truth([1, 1, 1, 0]))]
    predicted = Predicted(layout(1, 0, 0, 0))
    first = evaluate(drives[:1], predicted).report()["road_layout"]["drivable"]["iou"]
    pooled = evaluate(drives, predicted).report()["road_layout"]["drivable"]["iou"]
    assert (first, pooled) == (1.0, 0.5)  # 2 in both, 4 in either: (1 + 1) / (1 + 3)


def test_occupancy_of_cells_never_observed_counts_as_free():
    observed = row(1, 0, 1, 1, dtype=np.bool_)
    grid = OccupancyGrid(GRID, row(3, 0, -3, -3), observed, ZEROS, 1.0)
    report = evaluate([OneSet(truth([0, 0, 0, 0], occupancy=[1, 1, 0, 0]))], Predicted(occupancy=grid)).report()
    assert report["occupancy"]["iou"] == 0.5
    assert report["road_layout"] == {}


def test_class_that_never_occurs_has_no_figure():
    figures = evaluate([OneSet(truth([0, 0, 0, 0]))], Predicted(layout(0, 0, 0, 0))).report()["road_layout"]["drivable"]
    assert figures["iou_visible"] is None


def test_reset_every_frame_resets_before_each_set():
    predicted = Predicted(layout(0, 0, 0, 0))
    evaluate([OneSet(truth([0, 0, 0, 0]))], predicted, reset_every_frame=True)
    assert predicted.resets == 1


class Sets(OneSet):
    """Several sets, each a metre farther on."""

    def __init__(self, *truths):
        super().__init__(None)
        self.truths = truths

    def steps(self, *, start_s=0.0, duration_s=None):
        for k, truth in enumerate(self.truths):
            yield DriveStep(FrameSet(1 + k, (), Pose.planar(float(k), 0.0, 0.0)), truth)


def test_remembered_cells_are_followed_through_the_warm_up():
    """Set 0 sees cells 0 to 3. Set 1, a metre on, sees nothing: its cells 0 to 2 are known, cell 3 is new."""
    drive = Sets(truth([1, 1, 1, 1]), truth([1, 1, 0, 1], visible=(0, 0, 0, 0)))
    figures = evaluate([drive], Predicted(layout(1, 0, 0, 0)), warm_up=1).report()["road_layout"]["drivable"]
    assert figures["iou_remembered"] == 0.5
    assert figures["iou"] == pytest.approx(1 / 3, abs=1e-4)
    assert figures["iou_visible"] is None


def test_drives_do_not_remember_each_other():
    drives = [OneSet(truth([1, 1, 1, 1])), OneSet(truth([1, 1, 1, 1], visible=(0, 0, 0, 0)))]
    report = evaluate(drives, Predicted(layout(1, 1, 1, 1))).report()
    assert report["road_layout"]["drivable"]["iou_remembered"] is None


def corridor(direction_deg, observed):
    return CorridorDirection(
        GRID, np.radians(row(*direction_deg)), row(1, 1, 1, 1), row(*observed, dtype=np.bool_), ZEROS
    )


@pytest.mark.parametrize(("observed", "median"), [((1, 1, 1, 1), 5.0), ((1, 0, 1, 1), 10.0)])
def test_corridor_direction_is_read_from_the_output_that_has_it(observed, median):
    """All cells say 10 degrees; the truth is 0, 5, 10 and nothing: errors 10, 5, 0, or 90 where not observed."""
    predicted = Predicted(layout(0, 0, 0, 0))
    predicted.bev = {"occupancy": layout(0, 0, 0, 0), "corridor": corridor([10, 10, 10, 10], observed)}
    directions = np.radians(row(0, 5, 10, np.nan)).astype(np.float32)
    drive = OneSet(GroundTruth(1, GRID, {"drivable": row(1, 1, 1, 1, dtype=np.uint8), "direction_rad": directions}))
    report = evaluate([drive], predicted).report()["corridor_direction_deg"]
    assert report["median"] == pytest.approx(median, abs=0.11)


class Stepping(Runtime):
    """A runtime that begins nothing ahead."""

    def stream(self, frame_sets):
        return map(self.step, frame_sets)


@pytest.fixture(scope="module")
def town():
    return SyntheticDrive(20_003, 0.75, rate_hz=8.0, size=(320, 240))


def refuse(frame_sets, rig):
    return Refinement(rig, len(list(frame_sets)) > 100, "too few sets")


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"reset_every_frame": True, "warm_up": 2},
        {"disturbance": Disturbance(("rear",), 0.3, 0.2, 3.0, 0.3, seed=4), "refine": refuse, "duration_s": 0.5},
    ],
    ids=["whole", "each set by itself", "disturbed"],
)
def test_sets_under_way_together_are_compared_as_one_after_another(town, how):
    bundle, results = open_bundle(REFERENCE_BUNDLE), []
    for kind in (Runtime, Stepping):
        compared = []
        result = evaluate([town], lambda rig, kind=kind: kind(bundle, rig, threads=2), watch=compared.append, **how)
        assert [one.frame_set.timestamp_ns for one in compared] == [one.predictions.timestamp_ns for one in compared]
        assert [one.truth.timestamp_ns for one in compared] == [one.predictions.timestamp_ns for one in compared]
        results.append(
            (result.report(), [(one.index, dict(one.iou_visible), one.predictions.state) for one in compared])
        )
    assert results[0] == results[1]
    assert results[0][0]["frames"] == len(compared) > 2


def test_outputs_that_are_not_compared_make_no_difference(town):
    bundle = open_bundle(REFERENCE_BUNDLE)
    compared = [name for name in bundle.default_outputs if bundle.outputs[name] in COMPARED_KINDS]
    assert 0 < len(compared) < len(bundle.default_outputs)
    some, every = (
        evaluate([town], lambda rig, outputs=outputs: Runtime(bundle, rig, outputs, 2), duration_s=0.3).report()
        for outputs in (compared, None)
    )
    assert some == every


def test_each_set_by_itself_has_nothing_of_the_one_before(town):
    bundle, compared = open_bundle(REFERENCE_BUNDLE), []

    def make(rig):
        return Runtime(bundle, rig, threads=2)

    evaluate([town], make, reset_every_frame=True, warm_up=3, watch=compared.append)
    assert {one.predictions.state.reset_reason for one in compared} == {"reset at every frame"}
    assert [one.index for one in compared] == [3, 4, 5]


def test_interrupt_while_the_next_set_is_read_keeps_the_set_before(town):
    class Cut(Drive):
        name, rig, losses = "cut", town.rig, town.losses

        def steps(self, *, start_s=0.0, duration_s=None):
            for number, step in enumerate(town.steps()):
                if number == 3:
                    raise KeyboardInterrupt
                yield step

    bundle = open_bundle(REFERENCE_BUNDLE)
    result = evaluate([Cut()], lambda rig: Runtime(bundle, rig, threads=2))
    assert (result.frames, result.interrupted) == (3, True)


def test_interrupt_keeps_what_was_compared():
    def stop(drive, done):
        if done == 2:
            raise KeyboardInterrupt

    drive = Sets(*[truth([1, 1, 1, 1])] * 5)
    result = evaluate([drive, drive], Predicted(layout(1, 1, 0, 0)), progress=stop)
    assert (result.frames, result.interrupted) == (2, True)
    assert result.report()["road_layout"]["drivable"]["iou"] == 0.5


COMPARING = {f"octobev.replay.{name}" for name in ("evaluate", "matching", "remembered", "scores")}


class InterruptAt:
    """A trace function that interrupts at the n-th line of the code that compares, and counts the lines."""

    def __init__(self, line):
        self.line, self.reached = line, 0

    def __call__(self, frame, event, arg):
        if frame.f_globals.get("__name__") not in COMPARING:
            return None
        if event == "line":
            self.reached += 1
            if self.reached == self.line:
                raise KeyboardInterrupt
        return self


def values(counted):
    """All numbers of counts, to be compared."""
    if isinstance(counted, np.ndarray):
        return counted.tolist()
    names = counted if isinstance(counted, dict) else getattr(counted, "__slots__", getattr(counted, "__dict__", ()))
    if not names:
        return counted
    return {name: values(counted[name] if isinstance(counted, dict) else getattr(counted, name)) for name in names}


def test_interrupt_at_any_line_leaves_whole_sets_only():
    """Every class, the occupancy and the directions of a set are counted, or nothing of it is."""
    layers = {
        "drivable": row(1, 1, 0, 0, dtype=np.uint8),
        "intersection": row(1, 1, 1, 1, dtype=np.uint8),
        "occupancy": row(0, 0, 0, 1, dtype=np.uint8),
        "direction_rad": np.full(GRID.shape, 0.1, np.float32),
    }
    truths = [GroundTruth(1 + k, GRID, layers) for k in range(3)]
    everywhere = row(1, 1, 1, 1, dtype=np.bool_)
    said = np.stack((row(1, 1, 1, 0), row(1, 1, 1, 1)))
    predicted = Predicted(
        RoadLayout(GRID, ("drivable", "intersection"), said, everywhere, ZEROS),
        OccupancyGrid(GRID, row(-3, -3, -3, 3), everywhere, ZEROS, 1.0),
    )
    predicted.bev = {"corridor": corridor([0, 0, 0, 0], (1, 1, 1, 1))}

    def compare(sets, trace):
        sys.settrace(trace)
        try:
            return evaluate([Sets(*truths[:sets])], predicted)
        finally:
            sys.settrace(None)

    whole = [values(Evaluation().counts), *(values(compare(sets, None).counts) for sets in (1, 2, 3))]
    uninterrupted = InterruptAt(None)
    compare(3, uninterrupted)
    found = set()
    for line in range(1, uninterrupted.reached):
        try:
            result = compare(3, InterruptAt(line))
        except KeyboardInterrupt:  # before the first drive, or after the last
            continue
        assert values(result.counts) == whole[result.frames], f"interrupted at line {line}"
        found.add(result.frames)
    assert found == {0, 1, 2, 3}


def test_interrupt_keeps_what_the_drive_lost_until_then():
    def stop(drive, done):
        drive.losses.add("damaged chunk")
        raise KeyboardInterrupt

    result = evaluate([Sets(*[truth([1, 1, 1, 1])] * 2)], Predicted(layout(1, 1, 0, 0)), progress=stop)
    assert (result.frames, result.corrupt) == (1, 1)


def test_watchers_get_the_figures_of_each_set():
    seen = []
    drive = Sets(truth([1, 0, 0, 0]), truth([1, 1, 0, 0]))
    evaluate([drive], Predicted(layout(1, 0, 0, 0)), watch=seen.append)
    assert [(compared.index, dict(compared.iou_visible)) for compared in seen] == [
        (0, {"drivable": 1.0}),
        (1, {"drivable": 0.5}),
    ]


def test_drive_without_truth_is_refused():
    with pytest.raises(DriveError, match="one: a drive to evaluate must be one with ground truth"):
        evaluate([OneSet(None)], Predicted(layout(0, 0, 0, 0)))


def test_truth_on_another_grid_is_refused():
    other = GroundTruth(1, BevGrid(0.0, 2.0, 0.0, 1.0, 1.0), {"drivable": np.zeros((2, 1), dtype=np.uint8)})
    with pytest.raises(DriveError, match="grid of the truth must be"):
        evaluate([OneSet(other)], Predicted(layout(0, 0, 0, 0)))


def drawn_line(y_m, grid):
    y = grid.centres()[..., 1]
    return np.where(np.abs(y - y_m) < 0.25, 1.0, 0.0).astype(np.float32)


@pytest.mark.parametrize(
    ("aside_m", "expected"), [(0.0, (1, 1, 1)), (0.75, (0, 1, 1)), (1.25, (0, 0, 1)), (3.0, (0, 0, 0))]
)
def test_polylines_are_compared_with_those_of_the_truth(aside_m, expected):
    grid = BevGrid(0.0, 24.0, -8.0, 8.0, 0.25)
    there = drawn_line(0.75, grid)
    observed = np.ones(grid.shape, np.bool_)
    said = drawn_line(0.75 + aside_m, grid)[None]
    made = RoadLayout(grid, ("lane_divider",), said, observed, observed.astype(np.uint64))
    step = GroundTruth(1, grid, {"lane_divider": there.astype(np.uint8)})
    report = evaluate([OneSet(step)], Predicted(made)).report()
    *figures, mean = report["polylines"]["lane_divider"]["chamfer_ap"].values()
    assert tuple(figures) == expected
    assert mean == pytest.approx(sum(expected) / 3, abs=1e-3)
    assert report["polylines"]["road_edge"]["chamfer_ap"]["mean"] is None


def test_cameras_that_were_levelled_are_told(town):
    bundle, wrong = open_bundle(REFERENCE_BUNDLE), Disturbance(pitch_deg=1.0)
    for disturbance, cameras in ((wrong, set(town.rig.names)), (Disturbance(), set())):
        result = evaluate([town], lambda rig: Runtime(bundle, rig, ["corridor_direction"], 1), disturbance=disturbance)
        (told,) = result.report()["levelled"]
        assert (told["drive"], set(told["cameras"])) == (town.name, cameras)
        assert all(pitch == pytest.approx(1.0, abs=0.3) for pitch, _ in told["cameras"].values())
