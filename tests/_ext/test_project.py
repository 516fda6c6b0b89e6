"""The view matrix against a plain NumPy reference, the lens models' own statement and OpenCV."""

import cv2
import numpy as np
import pytest
from octobev._ext import project
from octobev.fusion.lens import Intrinsics, LensModel

WIDTH, HEIGHT, STRIDE = 320, 192, 4.0
FEATURE_WIDTH, FEATURE_HEIGHT = 80, 48
LENSES = {
    "pinhole": Intrinsics(WIDTH, HEIGHT, 250.0, 255.0, 160.3, 91.2),
    "five": Intrinsics(
        WIDTH, HEIGHT, 180.0, 182.0, 158.0, 97.0, LensModel.BROWN_CONRADY, (-0.3, 0.11, 1e-3, -7e-4, -0.02)
    ),
    "rational": Intrinsics(
        WIDTH,
        HEIGHT,
        140.0,
        141.0,
        161.0,
        95.0,
        LensModel.BROWN_CONRADY,
        (0.8, 0.1, 4e-4, -2e-4, 0.003, 1.1, 0.2, 0.01),
    ),
    "fisheye": Intrinsics(
        WIDTH, HEIGHT, 95.0, 96.0, 159.0, 96.0, LensModel.KANNALA_BRANDT, (0.05, -0.012, 0.003, -5e-4)
    ),
}


def surround(lenses):
    """Cameras that look around, evenly spread in yaw, 1.6 m above the ground."""
    matrices = []
    for index in range(len(lenses)):
        yaw = 2 * np.pi * index / len(lenses)
        forward = np.array([np.cos(yaw), np.sin(yaw), -0.1])
        forward /= np.linalg.norm(forward)
        right = np.array([np.sin(yaw), -np.cos(yaw), 0.0])
        rotation = np.stack((right, np.cross(forward, right), forward))
        centre = np.array([1.0 + 0.3 * index, 0.1 * index, 1.6])
        matrices.append(np.column_stack((rotation, -rotation @ centre)))
    return np.array(matrices)


def ground(cells_x=16, cells_y=14, heights=(0.0, 1.1)):
    x, y, z = np.meshgrid(np.linspace(-20, 30, cells_x), np.linspace(-18, 18, cells_y), heights, indexing="ij")
    return np.ascontiguousarray(np.stack((x, y, z), axis=-1).reshape(-1, 3))


def arguments(lenses, points, matrices=None):
    table = np.zeros((len(lenses), 12))
    for row, lens in zip(table, lenses, strict=True):
        row[: 4 + len(lens.coefficients)] = (lens.fx, lens.fy, lens.cx, lens.cy, *lens.coefficients)
    return {
        "points": points,
        "camera_from_points": surround(lenses) if matrices is None else matrices,
        "lens_models": np.array([lens.model.code for lens in lenses], np.int32),
        "lens": table,
        "limits": np.array([lens.limit for lens in lenses], np.float64),
        "image_size": np.array([(lens.width, lens.height) for lens in lenses], np.float64).reshape(-1, 2),
        "active": np.ones(len(lenses), np.uint8),
        "feature_width": FEATURE_WIDTH,
        "feature_height": FEATURE_HEIGHT,
        "stride": STRIDE,
    }


def outputs(points, cameras, capacity=None):
    capacity = len(points) * cameras * 4 if capacity is None else capacity
    return {
        "indptr": np.full(len(points) + 1, -1, np.int32),
        "indices": np.full(capacity, -1, np.int32),
        "weights": np.full(capacity, np.nan, np.float32),
        "depths": np.full(capacity, np.nan, np.float32),
        "seen_by": np.full(len(points), 2**64 - 1, np.uint64),
    }


def build(given, capacity=None, **options):
    out = outputs(given["points"], len(given["camera_from_points"]), capacity)
    entries = project.build(**given, **options, **out)
    return entries, out


def dense(given, lenses, out):
    matrix = np.zeros((len(given["points"]), len(lenses) * FEATURE_HEIGHT * FEATURE_WIDTH))
    rows = np.repeat(np.arange(len(given["points"])), np.diff(out["indptr"]))
    entries = out["indptr"][-1]
    np.add.at(matrix, (rows, out["indices"][:entries]), out["weights"][:entries])
    return matrix


def reference(given, lenses, weighting="resolution", border_px=0.0, point_active=None):
    """Dense matrix [points, pixels], seen_by [points]; one camera after the other, in float64."""
    points = given["points"]
    shares = np.zeros((len(lenses), len(points)))
    samples = np.zeros((len(lenses), len(points), FEATURE_HEIGHT * FEATURE_WIDTH))
    for index, (lens, matrix) in enumerate(zip(lenses, given["camera_from_points"], strict=True)):
        local = points @ matrix[:, :3].T + matrix[:, 3]
        pixels, valid = lens.project(local)
        if not given["active"][index]:
            valid[:] = False
        if point_active is not None:
            valid &= point_active.astype(bool)
        u, v = np.where(valid[:, None], pixels, 0.0).T
        edge = np.minimum.reduce([u + 0.5, lens.width - 0.5 - u, v + 0.5, lens.height - 0.5 - v])
        ramp = np.minimum(1.0, edge / border_px) if border_px else 1.0
        distance = np.linalg.norm(local, axis=1) if lens.model is LensModel.KANNALA_BRANDT else local[:, 2]
        density = lens.fx / np.where(valid, distance, 1.0) if weighting == "resolution" else 1.0
        shares[index] = np.where(valid, ramp * density, 0.0)
        uf = np.clip((u + 0.5) / STRIDE - 0.5, 0, FEATURE_WIDTH - 1)
        vf = np.clip((v + 0.5) / STRIDE - 0.5, 0, FEATURE_HEIGHT - 1)
        u0, v0 = np.minimum(uf.astype(int), FEATURE_WIDTH - 2), np.minimum(vf.astype(int), FEATURE_HEIGHT - 2)
        every = np.arange(len(points))
        for du, wu in ((0, 1 - (uf - u0)), (1, uf - u0)):
            for dv, wv in ((0, 1 - (vf - v0)), (1, vf - v0)):
                samples[index, every, (v0 + dv) * FEATURE_WIDTH + u0 + du] += wu * wv
    total = shares.sum(axis=0)
    shares = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    seen_by = np.zeros(len(points), np.uint64)
    for index in range(len(lenses)):
        seen_by |= (shares[index] > 0).astype(np.uint64) << np.uint64(index)
    return np.concatenate(list(shares[..., None] * samples), axis=1), seen_by


@pytest.mark.parametrize("weighting", ["uniform", "resolution"])
@pytest.mark.parametrize("border_px", [0.0, 25.0])
@pytest.mark.parametrize("name", [*LENSES, "all"])
def test_matrix_equals_reference(name, border_px, weighting):
    lenses = list(LENSES.values()) * 2 if name == "all" else [LENSES[name]] * 5
    given = arguments(lenses, ground())
    entries, out = build(given, weighting=weighting, border_px=border_px)
    matrix, seen_by = reference(given, lenses, weighting, border_px)
    np.testing.assert_array_equal(out["seen_by"], seen_by)
    assert entries == out["indptr"][-1] == 4 * sum(int(mask).bit_count() for mask in seen_by)
    np.testing.assert_allclose(dense(given, lenses, out), matrix, atol=2e-5)
    assert (seen_by > 0).mean() > 0.4


def test_hand_computed_sample():
    # 10 m ahead, 1 m to the left and 1.5 m below: u = 100 * (-1 / 10) + 159.5 = 149.5, v = 100 * 0.15 + 95.5 = 110.5;
    # on the feature map (149.5 + 0.5) / 4 - 0.5 = 37.0 and (110.5 + 0.5) / 4 - 0.5 = 27.25
    lens = Intrinsics(WIDTH, HEIGHT, 100.0, 100.0, 159.5, 95.5)
    camera_from_points = np.array([[[0.0, -1, 0, 0], [0, 0, -1, 1.5], [1, 0, 0, 0]]])
    given = arguments([lens], np.array([[10.0, 1.0, 0.0]]), camera_from_points)
    entries, out = build(given)
    assert entries == 4
    first = 27 * FEATURE_WIDTH + 37
    assert out["indices"].tolist() == [first, first + 1, first + FEATURE_WIDTH, first + FEATURE_WIDTH + 1]
    np.testing.assert_allclose(out["weights"], [0.75, 0.0, 0.25, 0.0], atol=1e-6)
    np.testing.assert_allclose(out["depths"], 10.0)
    assert out["seen_by"].tolist() == [1]


def pixels_of(lens, points_camera):
    """Network pixels that the matrix samples: stride 1, so that the weights give the position back."""
    given = arguments([lens], points_camera, np.eye(4)[None, :3])
    given |= {"feature_width": lens.width, "feature_height": lens.height, "stride": 1.0}
    _, out = build(given)
    pixels = np.full((len(points_camera), 2), np.nan)
    for row in np.flatnonzero(out["seen_by"]):
        entry = slice(out["indptr"][row], out["indptr"][row + 1])
        columns, weights = out["indices"][entry], out["weights"][entry].astype(np.float64)
        pixels[row] = weights @ (columns % lens.width), weights @ (columns // lens.width)
    return pixels


def directions(count=3000, angle_deg=80.0):
    rng = np.random.default_rng(3)
    angle, turn = np.radians(angle_deg) * np.sqrt(rng.random(count)), 2 * np.pi * rng.random(count)
    rays = np.stack((np.sin(angle) * np.cos(turn), np.sin(angle) * np.sin(turn), np.cos(angle)), axis=-1)
    return np.ascontiguousarray(rays * rng.uniform(0.5, 60.0, (count, 1)))


@pytest.mark.parametrize("name", LENSES)
def test_pixels_equal_opencv(name):
    lens, points = LENSES[name], directions()
    pixels = pixels_of(lens, points)
    none = np.zeros(3)
    if lens.model is LensModel.KANNALA_BRANDT:
        wanted, _ = cv2.fisheye.projectPoints(points[:, None], none, none, lens.matrix, np.array(lens.coefficients))
    else:
        wanted, _ = cv2.projectPoints(points, none, none, lens.matrix, np.array(lens.coefficients))
    wanted = wanted.reshape(-1, 2)
    well_inside = ((wanted >= 0) & (wanted <= (WIDTH - 1, HEIGHT - 1))).all(axis=1)
    tangent = np.hypot(points[:, 0], points[:, 1]) / points[:, 2]
    usable = well_inside & ((lens.model is LensModel.KANNALA_BRANDT) | (tangent <= lens.limit))
    assert usable.sum() > 300
    assert np.abs(pixels[usable] - wanted[usable]).max() < 1e-3


@pytest.mark.parametrize("name", LENSES)
def test_pixels_equal_intrinsics(name):
    lens, points = LENSES[name], directions(angle_deg=179.0)
    pixels = pixels_of(lens, points)
    wanted, valid = lens.project(points)
    np.testing.assert_array_equal(np.isfinite(pixels[:, 0]), valid)
    inside = valid & (wanted >= 0).all(axis=1) & (wanted <= (WIDTH - 1, HEIGHT - 1)).all(axis=1)
    assert np.abs(pixels[inside] - wanted[inside]).max() < 1e-3


def test_directions_beyond_the_fold_are_not_seen():
    lens = Intrinsics(WIDTH, HEIGHT, 100.0, 100.0, 159.5, 95.5, LensModel.BROWN_CONRADY, (-0.3, 0.0, 0.0, 0.0, 0.0))
    beyond = lens.limit * 1.5  # its image lies well inside
    assert np.isnan(pixels_of(lens, np.array([[beyond, 0.0, 1.0]]))).all()
    assert np.isfinite(pixels_of(lens, np.array([[lens.limit * 0.9, 0.0, 1.0]]))).all()


def test_fisheye_sees_behind_its_image_plane():
    lens = Intrinsics(WIDTH, HEIGHT, 60.0, 60.0, 159.5, 95.5, LensModel.KANNALA_BRANDT, (0.0, 0.0, 0.0, 0.0))
    angle = np.radians(120.0)
    pixels = pixels_of(lens, np.array([[np.sin(angle), 0.0, np.cos(angle)], [0.0, 0.0, 2.0], [0.0, 0.0, -2.0]]))
    np.testing.assert_allclose(pixels[0], (159.5 + 60.0 * angle, 95.5), atol=1e-3)
    np.testing.assert_allclose(pixels[1], (159.5, 95.5), atol=1e-3)
    assert np.isnan(pixels[2]).all()


def test_image_edges_are_clamped_to_the_feature_map():
    lens = Intrinsics(WIDTH, HEIGHT, 100.0, 100.0, 159.5, 95.5)
    corner = np.array([[-159.9 / 100, -95.9 / 100, 1.0]])  # pixel (-0.4, -0.4): inside the image, left of its centre
    _, out = build(arguments([lens], corner, np.eye(4)[None, :3]))
    assert out["indices"].tolist() == [0, 1, FEATURE_WIDTH, FEATURE_WIDTH + 1]
    np.testing.assert_array_equal(out["weights"], [1, 0, 0, 0])


@pytest.mark.parametrize("shape", [(1, 1), (1, 48), (80, 1)])
def test_thin_feature_maps_stay_inside(shape):
    given = arguments([LENSES["pinhole"]] * 3, ground())
    given |= {"feature_width": shape[0], "feature_height": shape[1], "stride": 4.0}
    entries, out = build(given)
    columns = out["indices"][:entries]
    assert columns.min() >= 0
    assert columns.max() < 3 * shape[0] * shape[1]
    sums = np.add.reduceat(out["weights"][:entries], out["indptr"][:-1][np.diff(out["indptr"]) > 0])
    np.testing.assert_allclose(sums, 1.0, atol=1e-6)


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_change_no_bit(num_threads):
    given = arguments(list(LENSES.values()), ground(30, 31))
    _, one = build(given, border_px=10.0)
    _, many = build(given, border_px=10.0, num_threads=num_threads)
    for name, values in one.items():
        np.testing.assert_array_equal(values, many[name])


def test_masks_of_cameras_and_points():
    lenses = [LENSES["pinhole"]] * 6
    given = arguments(lenses, ground())
    given["active"] = np.array([1, 0, 1, 1, 0, 1], np.uint8)
    point_active = (np.arange(len(given["points"])) % 3 > 0).astype(np.uint8)
    _, out = build(given, point_active=point_active)
    matrix, seen_by = reference(given, lenses, point_active=point_active)
    np.testing.assert_array_equal(out["seen_by"], seen_by)
    np.testing.assert_allclose(dense(given, lenses, out), matrix, atol=2e-5)
    assert (np.diff(out["indptr"])[point_active == 0] == 0).all()
    assert not (seen_by & np.uint64(0b010010)).any()


@pytest.mark.parametrize("count", [1, 63, 64, 65, 130])
def test_every_number_of_points(count):
    given = arguments([LENSES["five"]] * 4, ground()[200 : 200 + count])
    _, out = build(given)
    _, seen_by = reference(given, [LENSES["five"]] * 4)
    np.testing.assert_array_equal(out["seen_by"], seen_by)


def test_64_cameras():
    lenses = [LENSES["pinhole"]] * 64
    given = arguments(lenses, ground(5, 5))
    _, out = build(given)
    _, seen_by = reference(given, lenses)
    np.testing.assert_array_equal(out["seen_by"], seen_by)
    assert seen_by.max() >= 2**63


def test_no_points_and_no_cameras_give_an_empty_matrix():
    assert build(arguments([LENSES["pinhole"]], np.zeros((0, 3))))[0] == 0
    entries, out = build(arguments([], ground(), np.zeros((0, 3, 4))))
    assert entries == 0
    assert not out["indptr"].any()
    assert not out["seen_by"].any()


def test_points_that_are_not_numbers_are_not_seen():
    points = ground()
    points[::2, 0] = np.nan
    points[1::4, 2] = np.inf
    _, out = build(arguments(list(LENSES.values()), points))
    bad = ~np.isfinite(points).all(axis=1)
    assert not out["seen_by"][bad].any()
    assert out["seen_by"][~bad].any()


def test_too_little_room_tells_how_much_is_needed():
    given = arguments([LENSES["pinhole"]] * 5, ground())
    needed, whole = build(given)
    entries, out = build(given, capacity=needed - 1)
    assert entries == needed
    assert len(out["indices"]) == needed - 1
    for name in ("indptr", "seen_by"):
        np.testing.assert_array_equal(out[name], whole[name])
    assert build(given, capacity=0)[0] == needed


def wrong(**changes):
    return changes


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (wrong(points=np.zeros((4, 2))), r"points must be of shape \(points, 3\), got \(4, 2\)"),
        (wrong(camera_from_points=np.zeros((2, 4, 4))), r"camera_from_points must be of shape"),
        (wrong(camera_from_points=np.full((2, 3, 4), np.nan)), "camera_from_points must be finite"),
        (wrong(lens=np.zeros((2, 11))), r"lens must be of shape \(2, 12\), got \(2, 11\)"),
        (wrong(lens=np.full((2, 12), np.inf)), "lens must be finite"),
        (wrong(lens_models=np.zeros(3, np.int32)), "lens_models must be of length 2, got 3"),
        (wrong(lens_models=np.array([0, 3], np.int32)), "lens_models must be between 0 and 2"),
        (wrong(limits=np.zeros(1)), "limits must be of length 2, got 1"),
        (wrong(limits=np.array([1.0, np.nan])), "limits must be numbers, got NaN"),
        (wrong(image_size=np.zeros((2, 3))), r"image_size must be of shape \(2, 2\), got \(2, 3\)"),
        (wrong(image_size=np.full((2, 2), np.nan)), "image_size must be finite"),
        (wrong(active=np.ones(1, np.uint8)), "active must be of length 2, got 1"),
        (wrong(feature_width=0), "feature size must be positive, got 0x48"),
        (wrong(feature_width=2**16, feature_height=2**15), "feature pixels must be fewer than"),
        (wrong(stride=0.0), "stride must be positive"),
        (wrong(stride=np.nan), "stride must be finite"),
        (wrong(border_px=-1.0), "border_px must be not negative"),
        (wrong(weighting="best"), "weighting must be 'uniform' or 'resolution', got 'best'"),
        (wrong(point_active=np.ones(3, np.uint8)), "point_active must be of length 448, got 3"),
        (wrong(indptr=np.zeros(448, np.int32)), "indptr must be of length 449, got 448"),
        (wrong(seen_by=np.zeros(449, np.uint64)), "seen_by must be of length 448, got 449"),
        (wrong(num_threads=0), "num_threads must be at least 1, got 0"),
        (wrong(points=np.zeros((4, 3), np.float32)), "Buffer dtype mismatch"),
    ],
)
def test_wrong_arguments_are_refused(changes, match):
    given = arguments([LENSES["pinhole"]] * 2, ground())
    with pytest.raises(ValueError, match=match):
        project.build(**(given | outputs(given["points"], 2) | changes))


def test_more_than_64_cameras_are_refused():
    given = arguments([LENSES["pinhole"]] * 65, ground(2, 2))
    with pytest.raises(ValueError, match="cameras must be at most 64, got 65"):
        build(given)


def test_none_is_refused():
    given = arguments([LENSES["pinhole"]], ground()) | outputs(ground(), 1)
    with pytest.raises(TypeError, match="points"):
        project.build(**(given | {"points": None}))


def test_openmp_is_reported():
    assert isinstance(project.openmp_enabled(), bool)
