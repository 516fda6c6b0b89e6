from dataclasses import fields

import numpy as np
import pytest
from octobev.errors import DriveError
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.models import sequences
from octobev.models.mountings import network_intrinsics
from octobev.models.sequences import (
    DEPTH_STRIDE,
    GRID,
    LAYERS,
    MOST_OBJECTS,
    VISIBLE,
    coarse_depth,
    draw_sequences,
    lens_numbers,
    lens_of,
    read_sequences,
    write_sequences,
)
from octobev.replay.render import CLASSES
from octobev.replay.rigs import fisheye_rig, reference_rig


@pytest.fixture(scope="module")
def drawn():
    return draw_sequences(11, 64, 32, count=2, sets=3)


def test_two_stretches_of_a_town(drawn):
    assert len(drawn) == 2
    assert drawn.sets == 3
    assert drawn.images.shape == (2, 3, 8, 32, 64, 3)
    assert drawn.labels.shape == (2, 3, 8, 32, 64)
    assert drawn.depth_m.shape == (2, 3, 8, 16, 32)
    assert drawn.objects.shape == (2, 3, 8, MOST_OBJECTS, 5)
    assert drawn.layers.shape == (2, 3, len(LAYERS) + 1, *GRID.shape)
    assert drawn.layers.max() == 1
    assert drawn.layers[:, :, LAYERS.index("drivable")].mean() > 0.05
    assert 0.1 < drawn.layers[:, :, VISIBLE].mean() < 1.0
    known = np.isfinite(drawn.direction_rad)
    assert known.any()
    assert not known.all()
    assert np.abs(drawn.direction_rad[known]).max() <= np.float16(np.pi / 2)


def test_views_have_their_truth(drawn):
    seen = set(np.unique(drawn.labels).tolist())
    assert {CLASSES.index(name) for name in ("other", "drivable", "obstacle")} <= seen <= set(range(len(CLASSES)))
    assert (drawn.depth_m > 0).all()
    assert drawn.depth_m.max() == 80.0
    road = drawn.labels[..., ::2, ::2] == CLASSES.index("drivable")
    assert np.median(drawn.depth_m[road]) < 20.0


def test_boxes_are_around_vehicles_and_pedestrians():
    drawn = draw_sequences(12, 160, 96, count=1, sets=2)
    of_class = {2: CLASSES.index("vehicle"), 3: CLASSES.index("obstacle")}
    found = 0
    for place in zip(*np.nonzero(drawn.objects[..., 0]), strict=True):
        kind, *box = drawn.objects[place]
        x_min, y_min, x_max, y_max = (int(np.ceil(side)) for side in box)
        labels = drawn.labels[place[:3]][y_min:y_max, x_min:x_max]
        assert (labels == of_class[int(kind)]).mean() > 0.25
        found += 1
    assert found > 3


def test_coarse_depth_is_the_geometric_mean():
    depth = np.array([[2.0, 8.0, 5.0, 5.0], [2.0, 8.0, 5.0, np.inf]], np.float32)
    np.testing.assert_allclose(coarse_depth(depth), [[4.0, 10.0]], rtol=1e-3)


def test_cameras_fire_before_the_instant_of_their_set(drawn):
    now, fired = drawn.world_from_ego[:, :, None], drawn.world_from_fired
    apart = np.linalg.norm(fired[..., :2, 3] - now[..., :2, 3], axis=-1)
    assert apart.max() < 1.0
    moved = np.linalg.norm(np.diff(drawn.world_from_ego[..., :2, 3], axis=1), axis=-1)
    assert moved.max() > apart.max()


def test_every_stretch_has_mountings_of_its_own(drawn):
    apart = np.linalg.norm(drawn.ego_from_camera[0, :, :3, 3] - drawn.ego_from_camera[1, :, :3, 3], axis=-1)
    assert 0.0 < apart.min() < apart.max() < 0.6


def depth_error(drawn):
    """How far the ground is, by the calibration, from the depth that was drawn there: median of |log ratio|."""
    ground = GRID.centres()[drawn.layers[0, 0, VISIBLE] == 1]
    points = Pose(drawn.world_from_ego[0, 0]).apply(np.concatenate((ground, np.zeros((len(ground), 1))), axis=1))
    errors = []
    for number, camera in enumerate(drawn.cameras(0)):
        seen_from = Pose(drawn.world_from_fired[0, 0, number]) @ camera.ego_from_camera
        in_camera = seen_from.inverse().apply(points)
        uv, seen = camera.intrinsics.project(in_camera)
        u, v = (np.round(uv[seen]) // DEPTH_STRIDE).astype(int).T
        depth = drawn.depth_m[0, 0, number]
        inside = (u >= 0) & (u < depth.shape[1]) & (v >= 0) & (v < depth.shape[0])
        errors.append(np.abs(np.log(in_camera[seen, 2][inside] / depth[v[inside], u[inside]])))
    return np.median(np.concatenate(errors))


def test_exact_calibration_knows_what_the_other_does_not(monkeypatch):
    monkeypatch.setattr(sequences, "UNKNOWN_MOUNTING_DEG", 1.0)
    monkeypatch.setattr(sequences, "BODY_DEG", (1.0, 2.0))
    for seed in (11, 12):
        drawn = draw_sequences(seed, 160, 96, count=1, sets=1)
        assert depth_error(drawn.exact()) < 0.6 * depth_error(drawn)


def test_equal_seeds_draw_equal_sequences(drawn, tmp_path):
    write_sequences(drawn, tmp_path / "town.npz")
    before, again = read_sequences(tmp_path / "town.npz"), draw_sequences(11, 64, 32, count=2, sets=3)
    for name in (field.name for field in fields(drawn)):
        np.testing.assert_array_equal(getattr(before, name), getattr(again, name))


def test_cameras_are_as_the_network_sees_them(drawn):
    cameras = drawn.cameras(1)
    assert len(cameras) == 8
    assert {(camera.intrinsics.width, camera.intrinsics.height) for camera in cameras} == {(64, 32)}
    np.testing.assert_array_equal(cameras[3].ego_from_camera.matrix, Pose(drawn.ego_from_camera[1, 3]).matrix)


def test_towns_are_driven_through_by_the_rigs_that_are_given():
    rigs = [reference_rig().select(("rear",)), fisheye_rig().select(("left", "rear"))]
    for seed in (20, 21):
        rig = rigs[seed % 2]
        drawn = draw_sequences(seed, 64, 32, rigs=rigs, count=1, sets=1)
        assert drawn.images.shape[2] == len(rig)
        lenses = [network_intrinsics(camera.intrinsics, 64, 32) for camera in rig]
        assert [camera.intrinsics for camera in drawn.cameras(0)] == lenses
        wanted = np.stack([camera.ego_from_camera.matrix for camera in rig])
        apart = np.abs(drawn.ego_from_camera[0] - wanted)
        assert 0.0 < apart[:, :3, 3].max() < 0.4


def test_rays_of_few_lenses_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(sequences, "LENSES_KEPT", 1)
    kept = []

    def draw(town, width, height, *, rigs, rays):
        kept.append(len(rays))
        rays |= {(town, lens): None for lens in rigs}
        return None

    monkeypatch.setattr(sequences, "draw_sequences", draw)
    monkeypatch.setattr(sequences, "write_sequences", lambda drawn, path: None)
    sequences.draw_towns(tmp_path, [1, 2, 3], 64, 32, ("a", "b"))
    assert kept == [0, 1, 1]


@pytest.mark.parametrize(
    "lens",
    [
        Intrinsics(320, 192, 150.5, 151.5, 159.0, 96.25),
        Intrinsics(320, 192, 150.0, 150.0, 160.0, 96.0, LensModel.KANNALA_BRANDT, (0.03, -0.01, 0.003, 0.0)),
        Intrinsics(320, 192, 150.0, 150.0, 160.0, 96.0, LensModel.BROWN_CONRADY, (0.1, -0.01, 0.001, 0.002, 0.0)),
    ],
)
def test_lens_round_trip(lens):
    assert lens_of(lens_numbers(lens)) == lens


def test_files_that_are_none_are_refused(tmp_path):
    (tmp_path / "town.npz").write_bytes(b"PK nothing")
    with pytest.raises(DriveError, match="not a file of training sequences"):
        read_sequences(tmp_path / "town.npz")
