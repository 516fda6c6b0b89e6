"""Frames to network inputs. A picture whose values grow evenly tells at every pixel where it was sampled."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from octobev.errors import ImageError, InvalidArgument
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.manifest import ImageInput
from octobev.runtime.preprocess import InputPlan, Placement
from octobev.runtime.stages import StageTimes

WIDTH, HEIGHT = 128, 96


def _spec(**changes) -> ImageInput:
    fields = {"tensor": "x", "width": 32, "height": 24, "dtype": "float32", "layout": "nchw", "colour": "bgr"}
    return ImageInput(**(fields | changes))


def _lens(width: int = WIDTH, height: int = HEIGHT, **changes) -> Intrinsics:
    fields = {"fx": 100.0, "fy": 110.0, "cx": 60.0, "cy": 50.0}
    return Intrinsics(width, height, **(fields | changes))


def _even(width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Blue = column, green = row, red = 7."""
    picture = np.empty((height, width, 3), np.uint8)
    picture[..., 0] = np.arange(width)
    picture[..., 1] = np.arange(height)[:, np.newaxis]
    picture[..., 2] = 7
    return picture


def _run(plan: InputPlan, data, pixel_format: str = "bgr8") -> np.ndarray:
    out = np.full(plan.shape, 99, plan.dtype)
    plan.run(Frame("front", 7, data, PixelFormat(pixel_format)), out, StageTimes())
    return out


def _sampled_at(plan: InputPlan) -> np.ndarray:
    """Pixel coordinates of the full image under each pixel of the network's image, [2, h, w]."""
    h, w = plan.spec.height, plan.spec.width
    v, u = np.mgrid[:h, :w]
    inverse = np.linalg.inv(plan.network_from_image)
    return (inverse @ np.stack((u, v, np.ones_like(u))).reshape(3, -1))[:2].reshape(2, h, w)


def test_stretch_is_the_resized_camera():
    plan = InputPlan(_lens(), _spec(width=64, height=24))
    assert plan.intrinsics == _lens().resized(64, 24)
    assert plan.placement == Placement(0, 0, 128, 96, (0, 0, 64, 24))
    assert plan.unseen_share == 0


def test_crop_takes_the_middle():
    assert Placement.fitting((1600, 900), (352, 352), "crop") == Placement(350, 0, 900, 900, (0, 0, 352, 352))
    assert Placement.fitting((900, 1600), (352, 352), "crop") == Placement(0, 350, 900, 900, (0, 0, 352, 352))


def test_letterbox_leaves_bars_on_both_sides():
    assert Placement.fitting((1600, 900), (352, 352), "letterbox") == Placement(0, 0, 1600, 900, (0, 77, 352, 198))
    plan = InputPlan(_lens(128, 64), _spec(width=32, height=32, fit="letterbox"))
    assert plan.unseen_share == 0.5


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
def test_network_camera_sees_the_same_rays_as_the_real_one(fit):
    lens = _lens(model=LensModel.BROWN_CONRADY, coefficients=(-0.1, 0.02, 0.001, 0, 0))
    plan = InputPlan(lens, _spec(fit=fit, width=48, height=24))
    pixels = np.array([[10.0, 20.0], [64.0, 48.0], [100.5, 70.25]])
    moved = (plan.network_from_image @ np.column_stack((pixels, np.ones(3))).T).T[:, :2]
    np.testing.assert_allclose(plan.intrinsics.unproject(moved)[0], lens.unproject(pixels)[0], atol=1e-9)


@pytest.mark.parametrize("sampling", ["bilinear", "area"])
@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize("size", [(32, 24), (40, 16), (17, 23)])
def test_pixels_come_from_where_the_matrix_says(fit, sampling, size):
    plan = InputPlan(_lens(), _spec(fit=fit, sampling=sampling, width=size[0], height=size[1], fill=99))
    out = _run(plan, _even())
    x, y, w, h = plan.placement.inset
    inside = np.s_[:, y : y + h, x : x + w]
    # an average over a box that cuts pixels in two takes each pixel as a step, not as a slope: up to 1/8 off
    np.testing.assert_allclose(out[:2][inside], _sampled_at(plan)[inside], atol=0.126 if sampling == "area" else 0.02)
    np.testing.assert_allclose(out[2][inside[1:]], 7, atol=1e-3)
    bars = np.ones(out.shape[1:], bool)
    bars[inside[1:]] = False
    assert (out[:, bars] == 99).all()


@pytest.mark.parametrize("width", [128, 127, 121])
@pytest.mark.parametrize("fit", ["stretch", "crop"])
def test_reduced_decode_keeps_the_geometry(width, fit):
    """Sizes that the decoder's divisor does not divide are rounded up; the scale stays exactly 1/2."""
    plan = InputPlan(_lens(width, 90), _spec(fit=fit, sampling="area"))
    assert plan.reduction(PixelFormat.JPEG) == 2
    jpeg = cv2.imencode(".jpg", _even(width, 90), [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    out = _run(plan, jpeg, "jpeg")
    # the last column and row lie in decoded pixels that cover only half a pair
    np.testing.assert_allclose(out[:2, :-1, :-1], _sampled_at(plan)[:, :-1, :-1], atol=1.6)
    assert abs((out[:2] - _sampled_at(plan)).mean()) < 0.4


def test_full_decode_is_used_where_declared_and_where_pixels_are_needed():
    assert InputPlan(_lens(), _spec(decode="full")).reduction(PixelFormat.JPEG) == 1
    assert InputPlan(_lens(), _spec(width=65, height=24)).reduction(PixelFormat.JPEG) == 1
    assert InputPlan(_lens(), _spec()).reduction(PixelFormat.JPEG) == 4
    assert InputPlan(_lens(), _spec()).reduction(PixelFormat.PNG) == 1


@pytest.mark.parametrize(("pixel_format", "colour"), [("bgr8", "bgr"), ("rgb8", "rgb")])
def test_matching_colour_order_is_kept(pixel_format, colour):
    out = _run(InputPlan(_lens(), _spec(colour=colour)), _even(), pixel_format)
    np.testing.assert_allclose(out[2], 7, atol=1e-3)


@pytest.mark.parametrize(
    ("pixel_format", "colour"), [("bgr8", "rgb"), ("rgb8", "bgr"), ("jpeg", "rgb"), ("png", "rgb")]
)
def test_other_colour_order_is_turned(pixel_format, colour):
    data = _even()
    if pixel_format in ("jpeg", "png"):
        data = cv2.imencode(f".{pixel_format}", data, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    out = _run(InputPlan(_lens(), _spec(colour=colour)), data, pixel_format)
    np.testing.assert_allclose(out[0], 7, atol=3)


def test_mono_frames_fill_three_channels_and_colour_frames_one():
    grey = np.full((HEIGHT, WIDTH), 50, np.uint8)
    three = _run(InputPlan(_lens(), _spec()), grey, "mono8")
    assert three.shape == (3, 24, 32)
    np.testing.assert_allclose(three, 50, atol=1e-3)
    colour = np.full((HEIGHT, WIDTH, 3), (100, 0, 0), np.uint8)
    one = _run(InputPlan(_lens(), _spec(colour="mono")), colour)
    assert one.shape == (1, 24, 32)
    np.testing.assert_allclose(one, round(0.114 * 100), atol=1e-3)


def test_numbers_are_scaled_then_normalised_in_the_tensors_channel_order():
    spec = _spec(colour="rgb", scale=0.5, mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0), layout="nhwc")
    out = _run(InputPlan(_lens(), spec), np.full((HEIGHT, WIDTH, 3), (30, 20, 10), np.uint8))
    assert out.shape == (24, 32, 3)
    np.testing.assert_allclose(out[3, 5], [(5 - 1) / 2, (10 - 2) / 4, (15 - 3) / 8], rtol=1e-6)


def test_bars_are_raw_values_normalised_like_pixels():
    spec = _spec(width=32, height=32, fit="letterbox", fill=114, scale=1 / 255, mean=(0.5,) * 3, std=(0.25,) * 3)
    out = _run(InputPlan(_lens(128, 64), spec), np.zeros((64, 128, 3), np.uint8))
    np.testing.assert_allclose(out[:, 0], (114 / 255 - 0.5) / 0.25, rtol=1e-5)


def test_uint8_networks_get_rounded_pixels():
    out = _run(InputPlan(_lens(), _spec(dtype="uint8", layout="nhwc")), _even())
    assert (out.dtype, out.shape) == (np.uint8, (24, 32, 3))
    np.testing.assert_allclose(out[..., 0], np.broadcast_to(np.arange(32) * 4 + 1.5, (24, 32)), atol=0.51)


@pytest.mark.parametrize("encoded", [False, True])
@pytest.mark.parametrize(
    ("model", "coefficients"),
    [
        (LensModel.BROWN_CONRADY, (-0.2, 0.05, 0.001, -0.002, 0.01)),
        (LensModel.KANNALA_BRANDT, (0.05, -0.01, 0.002, 0.0)),
    ],
)
def test_undistortion_samples_where_the_lens_maps_each_ray(model, coefficients, encoded):
    lens = _lens(model=model, coefficients=coefficients)
    plan = InputPlan(lens, _spec(undistort=True))
    assert plan.intrinsics == _lens().resized(32, 24)
    v, u = np.mgrid[:24, :32].astype(float)
    source, seen = lens.project(plan.intrinsics.unproject(np.stack((u, v), axis=-1))[0])
    data, kind, atol = _even(), "bgr8", 0.02
    if encoded:
        data, kind, atol = cv2.imencode(".jpg", data, [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes(), "jpeg", 2.0
        assert plan.reduction(PixelFormat.JPEG) == 4
    out = _run(plan, data, kind)
    inner = seen & (source > 3).all(axis=-1) & (source < (WIDTH - 4, HEIGHT - 4)).all(axis=-1)
    assert inner.sum() > 400
    np.testing.assert_allclose(out[0][inner], source[inner][:, 0], atol=atol)
    np.testing.assert_allclose(out[1][inner], source[inner][:, 1], atol=atol)


def test_undistortion_fills_what_no_pixel_falls_on():
    lens = _lens(model=LensModel.BROWN_CONRADY, coefficients=(0.4, 0, 0, 0, 0))
    plan = InputPlan(lens, _spec(undistort=True, fill=200))
    assert 0.05 < plan.unseen_share < 0.6
    out = _run(plan, np.full((HEIGHT, WIDTH, 3), 10, np.uint8))
    np.testing.assert_allclose(out[:, 0, 0], 200, atol=1e-3)
    np.testing.assert_allclose(out[:, 12, 15], 10, atol=1e-3)


YUV_TO_BGR = {"nv12": cv2.COLOR_YUV2BGR_NV12, "yuyv": cv2.COLOR_YUV2BGR_YUY2}


@pytest.mark.parametrize("pixel_format", YUV_TO_BGR)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"colour": "rgb", "dtype": "uint8", "layout": "nhwc"},
        {"fit": "crop", "width": 17, "height": 23, "sampling": "area"},
        {"fit": "letterbox", "width": 40, "height": 40, "fill": 99},
        {"width": 200, "height": 150},
        {"undistort": True, "colour": "rgb", "scale": 1 / 255},
    ],
)
def test_yuv_gives_what_its_conversion_gives(pixel_format, changes):
    lens = _lens(model=LensModel.BROWN_CONRADY, coefficients=(-0.2, 0.05, 0.001, -0.002, 0.01))
    plan = InputPlan(lens, _spec(**changes))
    shape = PixelFormat(pixel_format).array_shape(WIDTH, HEIGHT)
    data = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    colours = cv2.cvtColor(data, YUV_TO_BGR[pixel_format])
    np.testing.assert_array_equal(_run(plan, data, pixel_format), _run(plan, colours))


@pytest.mark.parametrize("pixel_format", YUV_TO_BGR)
@pytest.mark.parametrize("undistort", [False, True])
def test_mono_networks_see_the_luma_of_yuv(pixel_format, undistort):
    lens = _lens(model=LensModel.BROWN_CONRADY, coefficients=(-0.2, 0.05, 0.001, -0.002, 0.01))
    plan = InputPlan(lens, _spec(colour="mono", undistort=undistort))
    data = np.full(PixelFormat(pixel_format).array_shape(WIDTH, HEIGHT), 128, np.uint8)
    luma = data[:HEIGHT] if pixel_format == "nv12" else data[..., 0]
    luma[:] = 16 + np.arange(WIDTH)
    grey = cv2.cvtColor(cv2.cvtColor(data, YUV_TO_BGR[pixel_format]), cv2.COLOR_BGR2GRAY)
    np.testing.assert_allclose(_run(plan, data, pixel_format), _run(plan, grey, "mono8"), atol=1)


BENT = [
    (LensModel.BROWN_CONRADY, (-0.2, 0.05, 0.001, -0.002, 0.01)),
    (LensModel.BROWN_CONRADY, (0.3, 0, 0, 0, 0)),
    (LensModel.KANNALA_BRANDT, (0.05, -0.01, 0.002, 0.0)),
]


@pytest.mark.parametrize("fit", ["stretch", "crop", "letterbox"])
@pytest.mark.parametrize(("model", "coefficients"), BENT)
def test_boxes_of_undistorted_images_enclose_what_they_enclosed(model, coefficients, fit):
    lens = _lens(model=model, coefficients=coefficients)
    plan = InputPlan(lens, _spec(width=40, undistort=True, fit=fit))
    box = np.array([10.0, 4.0, 27.0, 18.0])
    u, v = np.linspace(*box[[0, 2]], 101), np.linspace(*box[[1, 3]], 101)
    pixels, seen = lens.project(plan.intrinsics.unproject(np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2))[0])
    assert seen.all()
    wanted = [*pixels.min(axis=0), *pixels.max(axis=0)]
    np.testing.assert_allclose(plan.image_boxes(box[np.newaxis])[0], wanted, atol=0.05)


@pytest.mark.parametrize("undistort", [False, True])
@pytest.mark.parametrize(("model", "coefficients"), [*BENT, (LensModel.BROWN_CONRADY, (-0.3, 0, 0, 0, 0))])
def test_boxes_around_everything_are_the_whole_image(model, coefficients, undistort):
    """Also where the outline lies beyond the angle at which the lens folds back (k1 = -0.3: at tan 1.05)."""
    plan = InputPlan(_lens(model=model, coefficients=coefficients), _spec(undistort=undistort))
    for far in (40.0, 1e6, 3e38):
        boxes = plan.image_boxes(np.array([[-far, -far, far, far]]))
        np.testing.assert_array_equal(boxes, [[-0.5, -0.5, 127.5, 95.5]])


def test_boxes_beside_the_image_have_no_area():
    for plan in (InputPlan(_lens(), _spec()), InputPlan(_lens(model=BENT[0][0], coefficients=BENT[0][1]), _spec())):
        left, above = plan.image_boxes(np.array([[-30.0, 2, -10, 8], [2, -30, 8, -10]]))
        assert left[0] == left[2] == -0.5
        assert above[1] == above[3] == -0.5
    assert plan.image_boxes(np.zeros((0, 4))).shape == (0, 4)


def test_undistorting_a_pinhole_is_a_plain_resize():
    plain, straight = InputPlan(_lens(), _spec()), InputPlan(_lens(), _spec(undistort=True))
    np.testing.assert_array_equal(_run(plain, _even()), _run(straight, _even()))


def test_frames_are_not_written_to_and_any_stride_is_read():
    wide = np.zeros((2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    wide[::2, ::2] = _even()
    view = wide[::2, ::2]
    view.flags.writeable = False
    plan = InputPlan(_lens(), _spec())
    np.testing.assert_array_equal(_run(plan, view), _run(plan, _even()))


def test_stages_are_timed():
    plan, stages = InputPlan(_lens(), _spec()), StageTimes()
    plan.run(Frame("front", 7, _even()), np.empty(plan.shape, plan.dtype), stages)
    assert [span.stage for span in stages.spans()] == ["decode", "preprocess"]


def test_wrong_size_names_camera_and_time():
    with pytest.raises(ImageError, match="camera front at 7 ns: image size must be 128x96 as calibrated, got 96x128"):
        _run(InputPlan(_lens(), _spec()), np.zeros((128, 96, 3), np.uint8))


def test_out_of_another_shape_is_refused():
    plan = InputPlan(_lens(), _spec())
    with pytest.raises(InvalidArgument, match=r"out must be float32 \(3, 24, 32\), got float32 \(24, 32, 3\)"):
        plan.run(Frame("front", 7, _even()), np.empty((24, 32, 3), np.float32), StageTimes())
