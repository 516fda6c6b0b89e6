"""The search alone on curves that are known, and the whole on a painted plain with cameras pitched wrongly."""

import cv2
import numpy as np
import pytest
from colours import HEIGHT, WIDTH, colours_model, looking, make_bundle, memory_model
from octobev.errors import InvalidArgument
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.disturbance import Disturbance, turned_camera
from octobev.replay.refine import layout_output, refine_rig, search_pitch
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

LENS = Intrinsics(WIDTH, HEIGHT, 40, 40, (WIDTH - 1) / 2, (HEIGHT - 1) / 2)
NAMES = ("front", "left", "right", "rear")
RIG = Rig(tuple(Camera(name, LENS, looking(yaw)) for name, yaw in zip(NAMES, (0, 1.5, -1.5, 3), strict=True)))


def pitches_deg(rig, reference=RIG):
    """How much farther up than in the reference each camera looks."""
    turns = [b.ego_from_camera.inverse() @ a.ego_from_camera for a, b in zip(rig, reference, strict=True)]
    return np.array([np.degrees(cv2.Rodrigues(turn.rotation)[0][0, 0]) for turn in turns])


class KnownCurve:
    """Similarity 0.8 minus a parabola around where the cameras really look, and each stretch a little elsewhere."""

    sets, pairs = 40, 48

    def __init__(self, true_deg, spread_deg=0.0, sharpness=0.04, top=0.8, stretches=8):
        self.true_deg = np.broadcast_to(np.asarray(true_deg, float), (len(NAMES),))
        self.offsets = spread_deg * np.random.default_rng(3).normal(size=(stretches, len(NAMES)))
        self.sharpness, self.top, self.tried = sharpness, top, 0

    def measure(self, rig):
        self.tried += 1
        away = pitches_deg(rig) - self.true_deg - self.offsets
        value = np.clip(self.top - (self.sharpness * away**2).sum(axis=1), 0.01, 1.0)
        return np.stack([1000 * value, np.full(len(value), 1000.0)], axis=1)


def test_a_common_pitch_is_found():
    found = search_pitch(KnownCurve(0.83), RIG)
    assert found.sure
    assert found.applied_deg == pytest.approx(0.83, abs=0.01)
    np.testing.assert_allclose(pitches_deg(found.rig), 0.83, atol=0.01)
    assert found.similarity_after > found.similarity_before


def test_a_pitch_outside_the_first_angles_is_followed():
    assert search_pitch(KnownCurve(-2.2), RIG).applied_deg == pytest.approx(-2.2, abs=0.01)


def test_a_right_calibration_stays_the_very_same():
    found = search_pitch(KnownCurve(0.0, spread_deg=0.1), RIG)
    assert found.sure
    assert found.applied_deg == 0.0
    assert found.rig is RIG


def test_a_small_pitch_is_left_as_it_is():
    assert search_pitch(KnownCurve(0.12), RIG).applied_deg == 0.0
    assert search_pitch(KnownCurve(0.4), RIG, least_deg=0.5).rig is RIG


def test_stretches_that_contradict_each_other_change_nothing():
    found = search_pitch(KnownCurve(0.8, spread_deg=1.0, sharpness=0.02), RIG)
    assert not found.sure
    assert "standard error of the pitch must be at most" in found.reason
    assert found.rig is RIG
    assert found.applied_deg == 0.0


def test_a_flat_curve_changes_nothing():
    found = search_pitch(KnownCurve(0.8, sharpness=0.0), RIG)
    assert not found.sure
    assert "no angle that is better than others" in found.reason
    assert found.rig is RIG


def test_predictions_that_never_agree_change_nothing():
    found = search_pitch(KnownCurve(0.8, top=0.2), RIG)
    assert "similarity of road layouts from places apart must be at least" in found.reason
    assert found.rig is RIG


def test_an_angle_beyond_the_search_is_not_believed():
    found = search_pitch(KnownCurve(4.0, sharpness=0.006), RIG)
    assert "pitch must be within 3 degrees" in found.reason
    assert found.rig is RIG


def test_progress_ends_where_it_says():
    curve, seen = KnownCurve(0.6), []
    search_pitch(curve, RIG, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == list(range(1, curve.tried + 1))
    assert all(done <= total for done, total in seen)


def test_report_is_json_without_infinities():
    report = search_pitch(KnownCurve(0.8, sharpness=0.0), RIG).report()
    assert report["standard_error_deg"] is None
    assert report["curve"][0].keys() == {"pitch_deg", "similarity"}


# A plain with red and green patches, seen by cameras whose calibration is wrong.


def painted_ground(rng):
    """Patches of 2 m, red or green at random, 4 pixels a metre, 128 x 64 m."""
    small = rng.integers(0, 2, (64, 32), dtype=np.uint8)
    patches = cv2.resize(small, (256, 512), interpolation=cv2.INTER_NEAREST)
    return np.stack([np.zeros_like(patches), 255 * (1 - patches), 255 * patches], axis=-1)  # BGR: green, red


def photograph(camera, world_from_ego, ground):
    u, v = np.meshgrid(np.arange(WIDTH), np.arange(HEIGHT))
    rays, _ = camera.intrinsics.unproject(np.stack((u, v), axis=-1).astype(np.float64))
    world_from_camera = world_from_ego @ camera.ego_from_camera
    rays = rays @ world_from_camera.rotation.T
    reach = np.where(rays[..., 2] < -1e-3, -world_from_camera.translation_m[2] / np.minimum(rays[..., 2], -1e-3), 1e4)
    at = world_from_camera.translation_m[:2] + reach[..., np.newaxis] * rays[..., :2]
    row, column = (np.floor(4 * (at + np.array([16.0, 32.0]))).astype(np.int64)).transpose(2, 0, 1)
    inside = (row >= 0) & (row < ground.shape[0]) & (column >= 0) & (column < ground.shape[1])
    image = np.full((HEIGHT, WIDTH, 3), (255, 0, 0), dtype=np.uint8)  # blue: sky, and what hides the ground
    image[inside] = ground[row[inside], column[inside]]
    return image


def drive(rig, places=24, step_m=3.2):
    ground = painted_ground(np.random.default_rng(1))
    for number in range(places):
        pose = Pose.planar(number * step_m, 0.0, 0.0)
        frames = tuple(
            Frame(camera.name, 10**9 * number, photograph(camera, pose, ground), PixelFormat.BGR8, pose)
            for camera in rig
        )
        yield FrameSet(10**9 * number, frames, pose)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_bundle(tmp_path_factory.mktemp("b"), {"colours": colours_model(), "memory": memory_model()})


TWO = Rig(
    tuple(
        turned_camera(Camera(name, LENS, looking(yaw)), (-15.0, 0.0, 0.0))
        for name, yaw in (("front", 0), ("rear", np.pi))
    ),
    "two",
)


def test_cast_out_layouts_show_a_wrong_pitch(bundle):
    wrong = Disturbance(pitch_deg=1.2).rig(TWO)
    found = refine_rig(drive(TWO), bundle, wrong, threads=1)
    assert found.sure, found.reason
    np.testing.assert_allclose(pitches_deg(found.rig, TWO), 0.0, atol=0.3)
    assert (found.sets, found.pairs) == (20, 24)


def test_equal_drives_give_equal_angles_with_any_number_of_threads(bundle):
    wrong = Disturbance(pitch_deg=1.5).rig(TWO)
    one, two = (refine_rig(drive(TWO), bundle, wrong, threads=n).report() for n in (1, 2))
    assert one == two


def test_a_car_that_stands_is_not_enough(bundle):
    found = refine_rig(drive(TWO, step_m=0.1), bundle, TWO)
    assert not found.sure
    assert "at least 3 stretches of 5 places 3 m apart, with ego poses" in found.reason
    assert found.rig is TWO


def test_a_bundle_without_road_layout_is_refused(write_bundle, detection_manifest):
    from octobev.runtime.bundle import open_bundle

    opened = open_bundle(write_bundle(detection_manifest))
    with pytest.raises(InvalidArgument, match="must be a road layout among them, got none"):
        layout_output(opened)
