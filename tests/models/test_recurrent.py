"""The recurrent preview of the repository: a good bundle that remembers under ego-motion."""

from pathlib import Path

import numpy as np
import pytest
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
