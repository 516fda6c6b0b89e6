import numpy as np
import pytest
from octobev.errors import DriveError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.models import windows
from octobev.models.mountings import network_intrinsics
from octobev.models.sequences import (
    GRID,
    LAYERS,
    MOST_OBJECTS,
    VISIBLE,
    Sequences,
    lens_numbers,
    lens_of,
    read_sequences,
    write_sequences,
)
from octobev.models.shelf import Shelf, town_path
from octobev.models.windows import LiftPlan, Source, WindowSampler, cut_window, mirrored
from octobev.replay.rigs import reference_rig

LIFT = LiftPlan((0.0,), 0.0, (8, 16))
SETS = 8


def small_rig():
    cameras = [
        Camera(camera.name, network_intrinsics(camera.intrinsics, 64, 32), camera.ego_from_camera)
        for camera in reference_rig()
    ]
    return Rig(tuple(cameras), "small")


def way(t):
    return Pose.planar(0.9 * t, 0.02 * t * t, 0.05 * t)


def sequences(stretches=2, sets=SETS, seed=0):
    """A red set number in every pixel; the left half of the ground is drivable, everything is visible."""
    rig = small_rig()
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (stretches, sets, len(rig), 32, 64, 3), dtype=np.uint8)
    images[..., 0] = 10 * np.arange(sets).reshape(1, -1, 1, 1, 1)
    layers = np.zeros((stretches, sets, len(LAYERS) + 1, *GRID.shape), np.uint8)
    layers[:, :, 0, :, GRID.shape[1] // 2 :] = 1
    layers[:, :, VISIBLE] = 1
    direction = np.full((stretches, sets, *GRID.shape), np.nan, np.float16)
    direction[..., GRID.shape[1] // 2 :] = 0.25
    fired = [[(way(t) @ Pose.planar(-0.05 * c, 0.0, 0.0)).matrix for c in range(len(rig))] for t in range(sets)]
    objects = np.zeros((stretches, sets, len(rig), MOST_OBJECTS, 5), np.float32)
    objects[..., 0, :] = 2, 10, 8, 30, 20
    mountings = np.stack([np.stack([camera.ego_from_camera.matrix for camera in rig])] * stretches)
    return Sequences(
        images,
        images[..., 1] % 7,
        np.abs(images[..., ::2, ::2, 2]).astype(np.float16),
        objects,
        layers,
        direction,
        np.stack([np.stack([lens_numbers(camera.intrinsics) for camera in rig])] * stretches),
        mountings,
        np.stack([np.stack([way(t).matrix for t in range(sets)])] * stretches),
        np.array([fired] * stretches),
        mountings @ Pose.planar(0.0, 0.0, 0.01).matrix,
        np.array([fired] * stretches) @ Pose.planar(0.0, 0.0, 0.02).matrix,
    )


def test_window_begins_where_it_is_cut():
    window = cut_window(sequences(), 0, 4, 3, LIFT)
    assert window.images[:, 0, 0, 0, 0].tolist() == [40, 50, 60]
    assert len(window.views) == len(window.motions) == len(window.layers) == 3
    np.testing.assert_allclose(window.motions[0].matrix, (way(3).inverse() @ way(4)).matrix, atol=1e-12)


def test_first_set_of_a_stretch_remembers_nothing():
    motions = cut_window(sequences(), 1, 0, 2, LIFT).motions
    assert motions[0] is None
    assert motions[1] is not None


def test_every_camera_looks_from_where_it_fired():
    still, moved = sequences(), sequences()
    still.world_from_fired[:] = still.world_from_ego[:, :, None]
    first = [cut_window(both, 0, 2, 1, LIFT).views[0] for both in (still, moved)]
    assert len(first[0].weights) != len(first[1].weights) or (first[0].weights != first[1].weights).any()


def test_what_only_a_missing_camera_sees_is_hidden():
    active = np.ones(8, bool)
    active[3:] = False
    whole, front = (cut_window(sequences(), 0, 1, 1, LIFT, mask) for mask in (None, active))
    assert front.layers[0, VISIBLE].sum() < whole.layers[0, VISIBLE].sum()
    hidden = (front.views[0].seen_by == 0).reshape(GRID.shape)
    assert (front.layers[0, VISIBLE][hidden] == 0).all()
    assert (front.layers[0, 0] == whole.layers[0, 0]).all()
    assert (sequences().layers[0, 1, VISIBLE] == 1).all()  # the file itself is not changed


def test_mirror_swaps_left_and_right_of_everything():
    plain = sequences()
    mirror = mirrored(plain, 1)
    assert len(mirror) == 1
    np.testing.assert_array_equal(mirror.images[0, 2, 3, :, 0], plain.images[1, 2, 3, :, -1])
    np.testing.assert_array_equal(mirror.labels[0, 2, 3, :, 0], plain.labels[1, 2, 3, :, -1])
    np.testing.assert_array_equal(mirror.depth_m[0, 2, 3, :, 0], plain.depth_m[1, 2, 3, :, -1])
    assert mirror.objects[0, 2, 3, 0].tolist() == [2, 33, 8, 53, 20]
    assert plain.objects[1, 2, 3, 0].tolist() == [2, 10, 8, 30, 20]
    assert mirror.layers[0, 0, 0, :, 0].all()
    assert not mirror.layers[0, 0, 0, :, -1].any()
    assert np.nanmax(mirror.direction_rad) == np.float16(-0.25)
    assert Pose(mirror.world_from_ego[0, 4]).yaw_rad == pytest.approx(-0.2)


def test_mirror_turns_the_exact_calibration_round_with_the_other():
    plain = sequences()
    exact = mirrored(plain.exact(), 1)
    other = mirrored(plain, 1).exact()
    np.testing.assert_array_equal(exact.ego_from_camera, other.ego_from_camera)
    np.testing.assert_array_equal(exact.world_from_fired, other.world_from_fired)
    assert Pose(exact.world_from_fired[0, 4, 0]).yaw_rad == pytest.approx(-0.2 - 0.02)


def test_mirrored_cameras_see_mirrored_points_in_mirrored_pixels():
    plain = sequences()
    mirror = mirrored(plain, 0)
    points = np.random.default_rng(1).uniform((-20, -20, 0), (30, 20, 2), (200, 3))
    for number in range(8):
        pixels, valid = [], []
        for source, flip in ((plain, 1.0), (mirror, -1.0)):
            camera = source.cameras(0)[number]
            uv, seen = camera.intrinsics.project(camera.ego_from_camera.inverse().apply(points * (1.0, flip, 1.0)))
            pixels.append(uv)
            valid.append(seen)
        np.testing.assert_array_equal(valid[0], valid[1])
        np.testing.assert_allclose(pixels[1][valid[0], 0], 63.0 - pixels[0][valid[0], 0], atol=1e-6)
        np.testing.assert_allclose(pixels[1][valid[0], 1], pixels[0][valid[0], 1], atol=1e-6)


def test_mirror_turns_the_tangential_distortion_round():
    plain = sequences(stretches=1)
    lens = lens_of(plain.lenses[0, 0])
    plain.lenses[0, 0, 2] = 1.0
    plain.lenses[0, 0, 7:12] = 0.1, -0.02, 0.003, 0.004, 0.0
    assert lens_of(plain.lenses[0, 0]).model.value != lens.model.value
    rays = np.random.default_rng(2).uniform((-0.3, -0.3, 1), (0.3, 0.3, 1), (50, 3))
    before, _ = lens_of(plain.lenses[0, 0]).project(rays)
    after, _ = lens_of(mirrored(plain, 0).lenses[0, 0]).project(rays * (-1.0, 1.0, 1.0))
    np.testing.assert_allclose(after, (63.0, 0.0) + before * (-1.0, 1.0), atol=1e-9)


def sampler(folder, **changes):
    options = {"seed": 0, "lanes": 2, "sets": 2, "windows": 4, **changes}
    return WindowSampler([Source(shelf(folder, (0, 1)))], LIFT, **options)


def shelf(folder, towns):
    files = [town_path(folder, town) for town in towns]
    return Shelf(files, read_sequences, steps_per_file=4, window=2, wait=lambda: None)


@pytest.fixture
def towns(tmp_path):
    for town in (0, 1):
        write_sequences(sequences(seed=town), town_path(tmp_path, town))
    return tmp_path


def test_share_of_stretches_has_the_exact_calibration(towns, monkeypatch):
    def weights(share):
        monkeypatch.setattr(windows, "EXACT", share)
        return [window.views[0].weights for step in range(0, 24, 4) for window in sampler(towns).draw(step)]

    never, half, always = weights(0.0), weights(0.5), weights(1.0)
    for town in (0, 1):
        write_sequences(sequences(seed=town).exact(), town_path(towns, town))
    for before, after in zip(always, weights(0.0), strict=True):
        np.testing.assert_array_equal(before, after)
    exact = [np.array_equal(drawn, known) for drawn, known in zip(half, always, strict=True)]
    believed = [np.array_equal(drawn, known) for drawn, known in zip(half, never, strict=True)]
    assert sum(exact) + sum(believed) == len(half)
    assert min(sum(exact), sum(believed)) > 0


def test_lane_plays_the_windows_of_a_stretch_in_order(towns, monkeypatch):
    monkeypatch.setattr(windows, "STATE_LOST", 0.0)
    monkeypatch.setattr(windows, "NOISY_ODOMETRY", 0.0)
    first = sampler(towns)
    starts = [first.draw(step)[0].motions[0] for step in range(8)]
    assert [motion is None for motion in starts] == [True, False, False, False] * 2
    forward = [abs(motion.translation_m[1]) for motion in starts[1:4]]  # the way bends ever more
    wanted = [abs((way(t - 1).inverse() @ way(t)).translation_m[1]) for t in (2, 4, 6)]
    np.testing.assert_allclose(forward, wanted, atol=1e-9)


def test_lanes_stand_at_different_places(towns, monkeypatch):
    monkeypatch.setattr(windows, "STATE_LOST", 0.0)
    drawn = sampler(towns).draw(0)
    assert [window.motions[0] is None for window in drawn] == [True, False]


def test_draws_are_a_function_of_the_step(towns):
    whole, late = sampler(towns), sampler(towns)
    for step in range(3):
        whole.draw(step)
    for one, other in zip(whole.draw(3), late.draw(3), strict=True):
        np.testing.assert_array_equal(one.images, other.images)
        np.testing.assert_array_equal(one.views[0].weights, other.views[0].weights)


def test_states_and_cameras_are_lost_now_and_then(towns, monkeypatch):
    monkeypatch.setattr(windows, "STATE_LOST", 1.0)
    monkeypatch.setattr(windows, "FRONT_ONLY", 1.0)
    for step in range(4):
        for window in sampler(towns).draw(step):
            assert window.motions[0] is None
            assert int(np.bitwise_or.reduce(window.views[0].seen_by)) == 0b111


def test_odometry_is_a_little_wrong_now_and_then(towns, monkeypatch):
    monkeypatch.setattr(windows, "STATE_LOST", 0.0)
    monkeypatch.setattr(windows, "NOISY_ODOMETRY", 1.0)
    drawn = sampler(towns)
    errors, turns = [], []
    for step in range(1, 4):
        for t, motion in enumerate(drawn.draw(step)[0].motions):
            true = way(2 * step + t - 1).inverse() @ way(2 * step + t)
            errors.append(motion.translation_m[0] / true.translation_m[0] - 1.0)
            turns.append(np.degrees(abs(motion.yaw_rad) - abs(true.yaw_rad)))
    assert 0.005 < np.std(errors) < 0.1
    assert 0.05 < np.std(turns) < 1.0


def test_cameras_that_take_no_part_are_said(towns, monkeypatch):
    monkeypatch.setattr(windows, "FRONT_ONLY", 1.0)
    assert sampler(towns).draw(0)[0].active.tolist() == [[True] * 3 + [False] * 5] * 2


def test_cameras_that_look_ahead_are_found_wherever_they_stand_in_the_rig(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "FRONT_ONLY", 1.0)
    turned = sequences()
    for mountings in (turned.ego_from_camera, turned.true_mountings):
        mountings[:] = mountings[:, ::-1].copy()
    for town in (0, 1):
        write_sequences(turned, town_path(tmp_path, town))
    assert sampler(tmp_path).draw(0)[0].active.tolist() == [[False] * 5 + [True] * 3] * 2


def lost(drawn, sets, cameras):
    """Leave out the images of these cameras in these sets."""
    drawn.world_from_fired[:, sets, cameras] = drawn.true_fired[:, sets, cameras] = np.nan
    return drawn


def test_a_camera_without_an_image_takes_no_part_in_that_set():
    whole, part = (cut_window(drawn, 0, 0, 3, LIFT) for drawn in (sequences(), lost(sequences(), 1, 2)))
    assert part.active.tolist() == [[True] * 8, [True] * 2 + [False] + [True] * 5, [True] * 8]
    np.testing.assert_array_equal(part.views[0].weights, whole.views[0].weights)
    assert int(np.bitwise_or.reduce(part.views[1].seen_by)) == 0b11111011
    assert part.layers[1, VISIBLE].sum() <= whole.layers[1, VISIBLE].sum()


def test_images_that_are_missing_are_missing_in_the_mirror_too():
    np.testing.assert_array_equal(mirrored(lost(sequences(), 3, 5), 1).taken[0], lost(sequences(), 3, 5).taken[1])


def test_every_set_keeps_a_camera_that_has_an_image(tmp_path, monkeypatch):
    monkeypatch.setattr(windows, "FRONT_ONLY", 1.0)
    for town in (0, 1):
        write_sequences(lost(sequences(), 1, slice(0, 3)), town_path(tmp_path, town))
    drawn = sampler(tmp_path).draw(0)[0].active
    assert drawn.tolist() == [[True] * 3 + [False] * 5, [False] * 3 + [True] * 5]


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.25, 4, 18), (1.0, 40, 40)])
def test_sources_have_their_shares_of_the_stretches(towns, share, least, most):
    sources = [Source(shelf(towns, [0]), 1.0 - share), Source(shelf(towns, [1]), share)]
    drawn = WindowSampler(sources, LIFT, seed=0, lanes=2, sets=2, windows=4)
    chosen = [drawn._source(lane, number) is sources[1] for number in range(20) for lane in range(2)]
    assert least <= sum(chosen) <= most


def test_shares_do_not_change_what_is_drawn_from_a_source(towns):
    alone = sampler(towns).draw(0)
    both = WindowSampler(
        [Source(shelf(towns, (0, 1)), 1.0), Source(shelf(towns, [0]), 0.0)], LIFT, seed=0, lanes=2, sets=2, windows=4
    )
    for one, other in zip(alone, both.draw(0), strict=True):
        np.testing.assert_array_equal(one.images, other.images)


def test_views_come_from_labelled_sources_alone(towns):
    options = {"seed": 0, "lanes": 2, "sets": 2, "windows": 4}
    drives = Source(shelf(towns, [1]), labelled=False)
    assert WindowSampler([drives], LIFT, **options).draw_views(0, 5) is None
    mixed = WindowSampler([drives, Source(shelf(towns, [0]))], LIFT, **options).draw_views(0, 5)
    alone = WindowSampler([Source(shelf(towns, [0]))], LIFT, **options).draw_views(0, 5)
    np.testing.assert_array_equal(mixed.images, alone.images)


def test_shares_that_are_none_are_refused(towns):
    with pytest.raises(DriveError, match=r"shares of sources must be not negative and one above 0, got \[0\.0\]"):
        WindowSampler([Source(shelf(towns, [0]), 0.0)], LIFT, seed=0, lanes=2, sets=2, windows=4)


def test_single_views_come_from_everywhere_half_of_them_mirrored(towns):
    views = sampler(towns).draw_views(4, 200)
    assert views.images.shape == (200, 32, 64, 3)
    assert (views.labels.shape, views.depth_m.shape) == ((200, 32, 64), (200, 16, 32))
    left = views.objects[:, 0, 1]
    assert set(left.tolist()) == {10.0, 33.0}  # of the box from 10 to 30, and of its mirror image
    assert 0.3 < (left == 10.0).mean() < 0.7
    assert len({label.tobytes() for label in views.labels}) > 100


def test_a_view_keeps_its_truth_when_it_is_mirrored(towns):
    views = sampler(towns).draw_views(0, 40)
    plain = {label.tobytes() for town in (0, 1) for label in sequences(seed=town).labels.reshape(-1, 32, 64)}
    for label, box in zip(views.labels, views.objects[:, 0], strict=True):
        upright = label if box[1] == 10 else label[:, ::-1]
        assert np.ascontiguousarray(upright).tobytes() in plain


def test_views_are_a_function_of_the_step(towns):
    one, other = sampler(towns), sampler(towns)
    one.draw_views(0, 5)
    np.testing.assert_array_equal(one.draw_views(1, 5).images, other.draw_views(1, 5).images)


def test_too_short_stretches_are_refused(towns):
    with pytest.raises(DriveError, match="sets of a stretch must be at least 12, got 8"):
        sampler(towns, sets=3).draw(0)


def test_lanes_must_be_positive(towns):
    with pytest.raises(DriveError, match=r"lanes, sets and windows must be at least 1, got \(0, 2, 4\)"):
        sampler(towns, lanes=0)
