"""The recurrent preview of the repository: a good bundle that remembers under ego-motion."""

from pathlib import Path

import numpy as np
import pytest
from octobev.replay.rigs import reference_rig, six_camera_rig
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import FrameSet

FOLDER = Path(__file__).parents[2] / "models" / "recurrent"


@pytest.fixture(scope="module")
def predicted():
    """Two sets of a drive; the second without any frame: what is predicted then is memory."""
    drive = SyntheticDrive(20_003, 0.5, rate_hz=4.0, size=(320, 240))
    first, second = (step.frame_set for step in drive.steps())
    with Runtime(open_bundle(FOLDER), drive.rig) as runtime:
        return runtime.step(first), runtime.step(FrameSet(second.timestamp_ns, (), second.world_from_ego))


def test_outputs_are_those_of_the_manifest(predicted):
    first, _ = predicted
    assert set(first.bev) == {"road_layout", "occupancy", "corridor_direction"}
    assert "intersection" in first.road_layout.classes
    assert 0.05 < (first.road_layout["drivable"] > 0.5).mean() < 0.9


def test_what_was_seen_is_remembered_without_frames(predicted):
    first, second = predicted
    assert second.state.carried
    assert not second.camera_mask.any()
    assert second.road_layout.observed.mean() > 0.8 * first.road_layout.observed.mean()
    seen = first.road_layout["drivable"] > 0.5
    kept = second.road_layout["drivable"] > 0.5
    assert (seen & kept).sum() > 0.6 * seen.sum()


def test_cells_never_observed_have_no_probability(predicted):
    for predictions in predicted:
        layout = predictions.road_layout
        assert not layout.probability[:, ~layout.observed].any()
        assert np.isfinite(layout.probability).all()


@pytest.mark.parametrize("make_rig", [reference_rig, six_camera_rig])
def test_front_layout_sees_ahead_what_all_cameras_see_and_nothing_behind(make_rig):
    drive = SyntheticDrive(20_003, 0.25, rate_hz=4.0, size=(320, 240), rig=make_rig())
    (step,) = drive.steps()
    with Runtime(open_bundle(FOLDER), drive.rig, ["road_layout", "front_road_layout"]) as runtime:
        bev = runtime.step(step.frame_set).bev
    everywhere, front = bev["road_layout"], bev["front_road_layout"]
    x, y = np.moveaxis(front.grid.centres(), -1, 0)
    assert not front.observed[x < -1].any()
    ahead = (x > 6) & (x < 25) & (np.abs(y) < 0.5 * x)
    assert front.observed[ahead].all()
    road, front_road = everywhere["drivable"][ahead] > 0.5, front["drivable"][ahead] > 0.5
    assert (road & front_road).sum() > 0.8 * (road | front_road).sum()
    assert front.belief[0, x < -5].max() > 0.2  # it has a guess, which is kept apart


def test_front_layout_is_on_demand():
    assert not any(name.startswith("front_") for name in open_bundle(FOLDER).default_outputs)
