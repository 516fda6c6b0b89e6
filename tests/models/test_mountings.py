import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.models.mountings import (
    EGO_FROM_OPTICAL,
    jittered_rig,
    network_intrinsics,
    rotation,
    surround_rig,
    training_rig,
)
from octobev.replay.rigs import reference_rig


def test_crop_of_a_camera_is_its_middle():
    lens = network_intrinsics(Intrinsics(1280, 960, 640.0, 640.0, 639.5, 479.5), 320, 192)
    assert (lens.width, lens.height, lens.fx, lens.fy) == (320, 192, 160.0, 160.0)
    assert (lens.cx, lens.cy) == (159.5, 95.5)


def test_crop_keeps_where_a_pixel_is():
    full = Intrinsics(1280, 960, 700.0, 710.0, 630.0, 500.0)
    small = network_intrinsics(full, 320, 192)
    point = np.array([[0.3, 0.1, 2.0]])
    (u, v), _ = full.project(point)[0][0], None
    np.testing.assert_allclose(small.project(point)[0][0], ((u + 0.5) / 4 - 0.5, (v - 96 + 0.5) / 4 - 0.5))


def test_wide_images_lose_their_sides():
    lens = network_intrinsics(Intrinsics(2000, 600, 500.0, 500.0, 999.5, 299.5), 320, 192)
    assert lens.fx == pytest.approx(160.0)
    assert lens.cx == pytest.approx(159.5)


def test_optical_axis_looks_along_x():
    np.testing.assert_allclose(EGO_FROM_OPTICAL.rotation @ (0, 0, 1), (1, 0, 0))
    np.testing.assert_allclose(EGO_FROM_OPTICAL.rotation @ (1, 0, 0), (0, -1, 0))


def test_rotation_about_y_looks_down():
    looking = rotation(np.array([0.0, np.pi / 6, 0.0])).rotation @ (1, 0, 0)
    np.testing.assert_allclose(looking, (np.sqrt(0.75), 0, -0.5), atol=1e-12)


def test_jitter_is_small_and_not_nothing():
    camera = Camera("a", Intrinsics(320, 192, 160, 160, 159.5, 95.5), Pose.identity() @ EGO_FROM_OPTICAL)
    jittered = jittered_rig(Rig((camera,) * 1), np.random.default_rng(0))["a"].ego_from_camera
    turn = np.degrees(np.arccos((np.trace(jittered.rotation @ EGO_FROM_OPTICAL.rotation.T) - 1) / 2))
    assert 0.1 < turn < 5.0
    assert 0.0 < np.linalg.norm(jittered.translation_m) < 0.4


def test_surround_rigs_see_all_around_and_not_the_sky():
    for seed in range(20):
        rig = surround_rig(np.random.default_rng(seed))
        assert 5 <= len(rig) <= 8
        yaws = []
        for camera in rig:
            axis, right = camera.ego_from_camera.rotation[:, 2], camera.ego_from_camera.rotation[:, 0]
            assert -np.sin(np.radians(8.1)) < axis[2] < np.sin(np.radians(1.1))
            assert abs(right[2]) < 1e-9
            assert 0.5 < camera.ego_from_camera.translation_m[2] < 2.5
            yaws.append(np.degrees(np.arctan2(axis[1], axis[0])))
        assert abs(yaws[0]) < 1e-9
        half_deg = [np.degrees(np.arctan(640.0 / camera.intrinsics.fx)) for camera in rig]
        bearings = np.arange(-180.0, 180.0, 2.0)
        apart = np.abs((bearings[:, None] - np.array(yaws) + 180.0) % 360.0 - 180.0)
        assert (apart < half_deg).any(axis=1).mean() > 0.9


def test_towns_have_rigs_of_three_kinds_and_none_the_six_camera_rig():
    names = [training_rig(seed, np.random.default_rng(seed)).name for seed in range(10)]
    assert names.count("surround") == 2
    assert len(training_rig(9, np.random.default_rng(0))) == 4
    assert names.count(reference_rig().name) == 7
