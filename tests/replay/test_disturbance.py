import numpy as np
import pytest
from octobev.errors import InvalidArgument, RigError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import rig_sha256
from octobev.replay.disturbance import LEFT_OUT, Disturbance
from octobev.replay.rigs import optical_mounting, reference_rig
from octobev.runtime.frames import Frame, FrameSet

PIXELS = np.zeros((4, 4, 3), dtype=np.uint8)


def frame_set(*cameras, world_from_ego=None, fired_at=None, timestamp_ns=1):
    frames = tuple(Frame(name, timestamp_ns, PIXELS, world_from_ego=fired_at) for name in cameras)
    return FrameSet(timestamp_ns, frames, world_from_ego, {"rear": "broken"})


def drive_straight(steps, step_m=1.0):
    return [frame_set(world_from_ego=Pose.planar(100.0 + step_m * k, 50.0, 0.0)) for k in range(steps)]


def test_without_faults_nothing_changes():
    rig, given = reference_rig(), frame_set("a", world_from_ego=Pose.identity())
    assert Disturbance().rig(rig) is rig
    assert Disturbance().frames()(given) is given


def test_a_camera_that_is_left_out_is_absent():
    given = Disturbance(without_cameras=("b",)).frames()(frame_set("a", "b", "c"))
    assert [frame.camera for frame in given.frames] == ["a", "c"]
    assert given.absences == {"rear": "broken", "b": LEFT_OUT}


def test_only_cameras_of_the_rig_can_be_left_out():
    with pytest.raises(RigError, match=r"camera must be one of front_main, .*, got cellar"):
        Disturbance(without_cameras=("cellar",)).rig(reference_rig())


def test_pitch_makes_every_camera_look_farther_down():
    rig = Disturbance(pitch_deg=1.5).rig(reference_rig())
    wanted = optical_mounting(1.15, 0.72, 1.36, 58.0, 4.0 + 1.5)
    np.testing.assert_allclose(rig["left_pillar"].ego_from_camera.matrix, wanted.matrix, atol=1e-12)
    for before, after in zip(reference_rig(), rig, strict=True):
        assert before.ego_from_camera.rotation[2, 2] > after.ego_from_camera.rotation[2, 2]


def test_random_mountings_are_those_of_the_seed():
    rigs = [Disturbance(mounting_deg=0.5, seed=seed).rig(reference_rig()) for seed in (3, 3, 4)]
    hashes = [rig_sha256(rig) for rig in rigs]
    assert hashes[0] == hashes[1] != hashes[2]
    turned_deg = [
        np.degrees(np.arccos((np.trace(a.ego_from_camera.rotation.T @ b.ego_from_camera.rotation) - 1) / 2))
        for a, b in zip(reference_rig(), rigs[0], strict=True)
    ]
    assert 0.2 < np.mean(turned_deg) < 1.6
    assert len(set(turned_deg)) == len(turned_deg)


def test_odometry_drifts_and_keeps_the_first_pose():
    """Lengths wrong by 10 % a step: after 400 steps of 1 m the way is 400 m give or take 2 m a standard deviation."""
    disturbed = Disturbance(odometry_percent=10.0, seed=1).frames()
    poses = [disturbed(given).world_from_ego for given in drive_straight(401)]
    np.testing.assert_allclose(poses[0].translation_m, (100.0, 50.0, 0.0))
    steps_m = np.diff([pose.translation_m[0] for pose in poses])
    assert 0.08 < steps_m.std() < 0.12
    assert poses[-1].translation_m[1:].tolist() == [50.0, 0.0]


def test_turns_of_the_odometry_add_up():
    disturbed = Disturbance(odometry_deg=0.3, seed=2).frames()
    yaw_deg = np.degrees([disturbed(given).world_from_ego.yaw_rad for given in drive_straight(401)])
    assert 0.25 < np.diff(yaw_deg).std() < 0.35


def test_motion_within_a_set_stays_right():
    pose, fired_at = Pose.planar(7.0, 1.0, 0.4), Pose.planar(6.7, 1.0, 0.38)
    disturbed = Disturbance(odometry_percent=50.0, odometry_deg=20.0).frames()
    disturbed(frame_set("a", world_from_ego=Pose.identity()))
    given = disturbed(frame_set("a", world_from_ego=pose, fired_at=fired_at))
    assert not np.allclose(given.world_from_ego.matrix, pose.matrix)
    np.testing.assert_allclose(
        (given.frames[0].world_from_ego.inverse() @ given.world_from_ego).matrix,
        (fired_at.inverse() @ pose).matrix,
        atol=1e-12,
    )


def test_no_pose_is_invented():
    disturbed = Disturbance(odometry_percent=10.0).frames()
    assert disturbed(frame_set("a")).world_from_ego is None


@pytest.mark.parametrize("name", ["mounting_deg", "odometry_percent", "odometry_deg"])
@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_sizes_are_finite_and_not_negative(name, value):
    with pytest.raises(InvalidArgument, match=f"{name} must be finite and not negative, got {value}"):
        Disturbance(**{name: value})


def test_pitch_is_finite():
    with pytest.raises(InvalidArgument, match="pitch_deg must be finite, got nan"):
        Disturbance(pitch_deg=float("nan"))
