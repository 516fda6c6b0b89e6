"""Two entries of a manifest that are one network: all cameras, and on demand those in front."""

import numpy as np
import pytest
from octobev.errors import BundleError, RigError
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet, PixelFormat
from octobev.runtime.session import Network
from octobev.runtime.verification import verify_bundle

FRONT = """
[networks.front]
kind = "topdown"
file = "topdown.onnx"
sha256 = "{sha256 of topdown.onnx}"
cameras = ["front*"]
on_demand = true

[[networks.front.lifts]]
tensor = "lifted"
source = "features"
heights_m = [0.0, 1.0]

[[networks.front.states]]
input = "state"
output = "state_out"

[networks.front.outputs.front_layout]
tensor = "layout"
kind = "road_layout"
classes = ["drivable", "edge"]
activation = "sigmoid"
"""
BOTH = ("layout", "front_layout")


def mounted(y_m):
    return Pose(np.array([[0, 0, 1, 0], [-1, 0, 0, y_m], [0, -1, 0, 1.5], [0, 0, 0, 1.0]]))


LENS = Intrinsics(32, 16, 16, 16, 15.5, 7.5)
RIG = Rig((Camera("side", LENS, mounted(2.0)), Camera("front_a", LENS, mounted(-2.0))), "two")


@pytest.fixture
def bundle(write_bundle, manifest_text):
    return open_bundle(write_bundle(manifest_text + FRONT))


def frame_set(number=0, side=None):
    time_ns = number * 100_000_000
    red, grey = np.full((16, 32, 3), (0, 0, 255), np.uint8), np.full((16, 32, 3), 99, np.uint8)
    side = Frame("side", time_ns, red, world_from_ego=Pose.identity()) if side is None else side
    front = Frame("front_a", time_ns, grey, world_from_ego=Pose.identity())
    return FrameSet(time_ns, (side, front), Pose.identity())


def test_what_is_on_demand_is_given_to_nobody_who_does_not_name_it(bundle):
    assert "front_layout" in bundle.outputs
    assert "front_layout" not in bundle.default_outputs
    assert "features" not in bundle.default_outputs
    assert set(bundle.plan().topdown) == {"topdown"}
    assert bundle.plan([*bundle.default_outputs, "front_layout"]).topdown["front"] == ("front_layout",)


def test_front_is_what_the_front_camera_alone_gives(bundle):
    with Runtime(bundle, RIG, BOTH, threads=1) as runtime:
        both = runtime.step(frame_set()).bev
    with Runtime(bundle, RIG.select(["front_a"]), ["layout"], threads=1) as runtime:
        alone = runtime.step(frame_set()).bev["layout"]
    np.testing.assert_array_equal(both["front_layout"].probability, alone.probability)
    np.testing.assert_array_equal(both["front_layout"].observed, alone.observed)
    assert set(np.unique(both["front_layout"].seen_by)) == {0, 2}  # bits of the whole rig
    assert set(np.unique(both["layout"].seen_by)) >= {1, 2}
    assert not np.array_equal(both["layout"].probability, both["front_layout"].probability)


def test_each_entry_has_a_state_of_its_own(bundle):
    def second(outputs, rig=RIG):
        with Runtime(bundle, rig, outputs, threads=1) as runtime:
            runtime.step(frame_set(0))
            return runtime.step(frame_set(1)).bev

    both, surround, front = second(BOTH), second(["layout"]), second(["front_layout"])
    np.testing.assert_array_equal(both["layout"].probability, surround["layout"].probability)
    np.testing.assert_array_equal(both["front_layout"].probability, front["front_layout"].probability)


def test_entries_of_one_file_share_the_loaded_network(bundle, monkeypatch):
    loaded = []

    def load(model, **options):
        loaded.append(options["name"])
        return Network(model, **options)

    monkeypatch.setattr("octobev.runtime.sessions.Network", load)
    with Runtime(bundle, RIG, BOTH, threads=1) as runtime:
        assert loaded == ["hydranet", "topdown"]
        assert {"topdown", "front"} <= dict(runtime.provenance.providers).keys()


def test_cameras_that_nothing_wanted_looks_at_are_not_even_decoded(bundle):
    broken = frame_set(side=Frame("side", 0, b"\xff\xd8\xff no image", PixelFormat.JPEG))
    with Runtime(bundle, RIG, ["front_layout"], threads=1) as runtime:
        assert dict(runtime.step(broken).absences) == {}
    with Runtime(bundle, RIG, ["front_layout", "depth"], threads=1) as runtime:
        assert set(runtime.step(broken).absences) == {"side"}


def test_a_camera_that_stays_broken_costs_a_matrix_when_it_breaks_and_one_when_it_is_whole_again(bundle):
    """Matrices are made before images are decoded, for the cameras that are expected to be usable."""
    broken = Frame("side", 0, b"\xff\xd8\xff no image", PixelFormat.JPEG)
    with Runtime(bundle, RIG, ["layout"], threads=2) as runtime:
        builder = runtime._graph.topdowns._topdowns["topdown"]._lifts[0]._builder
        builds = []
        for number in range(6):
            given = {"side": broken} if number in (1, 2, 3) else {}
            runtime.step(frame_set(number, **given))
            builds.append(builder.builds)
    assert builds == [1, 2, 2, 2, 3, 3]


def test_a_rig_without_a_front_camera_cannot_give_what_needs_one(bundle):
    rig = RIG.select(["side"])
    with Runtime(bundle, rig, threads=1) as runtime:
        assert "layout" in runtime.step(frame_set()).bev
    with pytest.raises(
        RigError, match=r"networks\.front\.cameras: cameras must be patterns that match .*, got front\*"
    ):
        Runtime(bundle, rig, BOTH, threads=1)


def test_predictions_say_which_network_gave_an_output(bundle):
    with Runtime(bundle, RIG, ["layout", "front_layout", "occupancy"], threads=1) as runtime:
        assert dict(runtime.step(frame_set()).networks) == {"layout": "topdown", "front_layout": "front"}


def test_verification_runs_what_is_on_demand(bundle):
    found = verify_bundle(bundle)
    assert "front_layout" in [output.topic for output in found.outputs]
    assert {topic.split("/")[1] for topic in (o.topic for o in found.outputs) if "/" in topic} == {"front"}


def test_patterns_must_lie_within_those_of_the_source(write_bundle, manifest_text):
    text = manifest_text.replace('cameras = ["*"]', 'cameras = ["front_*"]') + FRONT
    with pytest.raises(
        BundleError,
        match=r"networks\.front\.lifts\[0\]\.source: cameras must be among those of .* \(front_\*\), got front\*",
    ):
        open_bundle(write_bundle(text))


def test_belief_reaches_beyond_what_was_observed(bundle):
    with Runtime(bundle, RIG, ["front_layout"], threads=1) as runtime:
        layout = runtime.step(frame_set()).bev["front_layout"]
    hidden = ~layout.observed
    assert hidden.any()
    assert (layout.probability[:, hidden] == 0).all()
    np.testing.assert_allclose(layout.belief[:, hidden], 0.5)  # the sigmoid of a state that nothing was added to
    np.testing.assert_array_equal(layout.belief[:, ~hidden], layout.probability[:, ~hidden])
    assert "belief" not in layout.arrays()
