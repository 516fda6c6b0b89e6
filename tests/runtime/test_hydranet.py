"""Per-camera networks: values computed by hand, failures as values, and nothing shared that should not be."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import onnx
import pytest
from octobev.errors import BundleError, InvalidArgument, RigError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.runtime.bundle import open_bundle
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.hydranet import HydraNet
from octobev.runtime.stages import StageTimes, totals_ms
from octobev.runtime.workers import Workers
from onnx import TensorProto, helper

ALL = ("features", "segmentation", "depth", "bright")
CAMERAS = ("front", "left", "right")


def _load(write_bundle, rig, manifest=None, outputs=ALL, name="bundle", **models):
    arguments = {} if manifest is None else {"manifest": manifest}
    models = {f"{key}.onnx": value for key, value in models.items()}
    return HydraNet.load(open_bundle(write_bundle(models=models, name=name, **arguments)), "hydranet", rig, outputs)


def _colour(red: int, green: int, blue: int) -> np.ndarray:
    return np.full((16, 32, 3), (blue, green, red), np.uint8)


def _noise(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 32, 3), dtype=np.uint8)


def _frames(**images: np.ndarray) -> dict[str, Frame]:
    return {name: Frame(name, 7, image) for name, image in images.items()}


def _softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def test_outputs_are_what_the_manifest_declares(write_bundle, make_rig):
    net = _load(write_bundle, make_rig("front"))
    run = net.run(_frames(front=_colour(255, 51, 0)))
    results = run.results()
    assert (results.ran, results.absences, results.invalid) == ({"front"}, {}, {})
    outputs = {name: by_camera["front"] for name, by_camera in run.predictions().items()}
    assert outputs["features"].values.shape == (2, 4, 8)
    np.testing.assert_allclose(outputs["features"].values[:, 1, 2], [1.0, 0.2], atol=1e-6)
    assert outputs["segmentation"].classes == ("road", "line", "obstacle")
    np.testing.assert_allclose(outputs["segmentation"].values[:, 3, 7], _softmax(np.array([10, 2, 0.0])), rtol=1e-5)
    assert outputs["depth"].values.shape == (4, 8)
    np.testing.assert_allclose(outputs["depth"].values, np.exp(1.2 / 3), rtol=1e-5)
    assert (outputs["bright"].kind, outputs["bright"].values.dtype) == ("raw", np.int64)
    assert outputs["bright"].values.shape == (4, 4 * 8)


def test_rows_are_cameras_then_pixels_row_by_row(write_bundle, make_rig):
    net = _load(write_bundle, make_rig(*CAMERAS))
    run = net.run(_frames(front=_noise(0), left=_noise(1), right=_noise(2)))
    outputs = run.predictions()
    for name, channels in (("features", 2), ("segmentation", 3), ("depth", 1)):
        rows = net.rows(name)
        assert (rows.shape, rows.dtype, rows.flags.c_contiguous) == ((3 * 32, channels), np.float32, True)
        for number, camera in enumerate(CAMERAS):
            planes = outputs[name][camera].values.reshape(channels, 32)
            np.testing.assert_array_equal(rows[number * 32 : (number + 1) * 32], planes.T)


def test_features_tell_what_pixels_look_at(write_bundle, make_rig):
    rig = make_rig("front", width=64, height=48)
    net = _load(write_bundle, rig)
    maps = net.features("features")
    assert (maps.shape, maps.stride, maps.channels) == ((4, 8), 4.0, 2)
    assert maps.cameras[0].intrinsics == rig["front"].intrinsics.resized(32, 16)
    assert maps.cameras[0].ego_from_camera is rig["front"].ego_from_camera
    assert net.cameras == ("front",)


def test_pixels_from_image_maps_areas_to_areas(write_bundle, make_rig):
    net = _load(write_bundle, make_rig("front", width=64, height=48))
    run = net.run({"front": Frame("front", 7, np.zeros((48, 64, 3), np.uint8))})
    outputs = run.predictions()
    corner, far = np.array([-0.5, -0.5, 1]), np.array([63.5, 47.5, 1])
    segmentation = outputs["segmentation"]["front"].pixels_from_image
    np.testing.assert_allclose(segmentation @ corner, [-0.5, -0.5, 1], atol=1e-12)
    np.testing.assert_allclose(segmentation @ far, [7.5, 3.5, 1], atol=1e-12)
    np.testing.assert_allclose(outputs["bright"]["front"].pixels_from_image @ far, [31.5, 15.5, 1], atol=1e-12)


def test_values_outlive_the_next_run(write_bundle, make_rig):
    net = _load(write_bundle, make_rig("front"))
    first = net.run(_frames(front=_noise(0))).predictions()
    kept = {name: by_camera["front"].values.copy() for name, by_camera in first.items()}
    net.run(_frames(front=_noise(1)))
    for name, by_camera in first.items():
        np.testing.assert_array_equal(by_camera["front"].values, kept[name])
        assert not any(np.shares_memory(by_camera["front"].values, net.rows(n)) for n in ("features", "depth"))


@pytest.mark.parametrize("batch", [1, "batch", 2, 3, 4])
def test_batch_axis_and_threads_do_not_change_results(write_bundle, make_rig, hydra_model, manifest_text, batch):
    """A network that takes several images at once has no place for a raw output without the batch axis."""
    outputs = ("features", "segmentation", "depth")
    frames = _frames(front=_noise(0), left=_noise(1), right=_noise(2))
    single = _load(write_bundle, make_rig(*CAMERAS), outputs=outputs)
    wanted = single.run(frames).predictions()
    net = _load(write_bundle, make_rig(*CAMERAS), outputs=outputs, name="batch", hydra=hydra_model(batch))
    for workers in (None, Workers(1), Workers(3)):
        got = net.run(frames, workers).predictions()
        for name in outputs:
            for camera in CAMERAS:
                np.testing.assert_array_equal(got[name][camera].values, wanted[name][camera].values)
            np.testing.assert_array_equal(net.rows(name), single.rows(name))
        if workers:
            workers.close()


def test_absent_camera_of_a_batch_leaves_the_others_as_they_are(write_bundle, make_rig, hydra_model):
    net = _load(write_bundle, make_rig(*CAMERAS), outputs=("features",), hydra=hydra_model(2))
    whole = net.run(_frames(front=_noise(0), left=_noise(1), right=_noise(2))).predictions()["features"]
    run = net.run(_frames(left=_noise(1)))
    results = run.results()
    assert (results.ran, results.absences) == ({"left"}, {})
    assert set(run.predictions()["features"]) == {"left"}
    np.testing.assert_array_equal(run.predictions()["features"]["left"].values, whole["left"].values)
    rows = net.rows("features").reshape(3, 32, 2)
    assert (rows[0] == 0).all()
    assert (rows[1] != 0).any()
    assert (rows[2] == 0).all()


@pytest.mark.parametrize("batch", [1, "batch", 2])
def test_channels_last_layouts_are_bound_as_they_are(write_bundle, make_rig, hydra_model, manifest_text, batch):
    outputs = ("features", "segmentation")
    manifest = manifest_text.replace('kind = "features"', 'kind = "features"\nlayout = "rows"')
    manifest = manifest.replace('kind = "segmentation"', 'kind = "segmentation"\nlayout = "nhwc"')
    frames = _frames(front=_noise(0), left=_noise(1), right=_noise(2))
    planes = _load(write_bundle, make_rig(*CAMERAS), outputs=outputs)
    planes_outputs = planes.run(frames).predictions()
    model = hydra_model(batch, channels_last=True)
    net = _load(write_bundle, make_rig(*CAMERAS), manifest, outputs, "last", hydra=model)
    got = net.run(frames).predictions()
    np.testing.assert_array_equal(net.rows("features"), planes.rows("features"))
    np.testing.assert_allclose(net.rows("segmentation"), planes.rows("segmentation"), rtol=1e-6)
    assert got["features"]["left"].values.shape == (32, 2)
    assert got["segmentation"]["left"].values.shape == (3, 4, 8)
    expected = planes_outputs["segmentation"]["left"].values
    np.testing.assert_allclose(got["segmentation"]["left"].values, expected, rtol=1e-6)
    assert not np.shares_memory(got["features"]["left"].values, net.rows("features"))


def test_half_precision_open_sizes_and_depth_without_channels(write_bundle, make_rig, manifest_text):
    """features: float16 [n, 3, h, w], no size fixed; depth: [n, 4, 8]."""
    nodes = [
        helper.make_node("AveragePool", ["image"], ["trunk"], kernel_shape=[4, 4], strides=[4, 4]),
        helper.make_node("Cast", ["trunk"], ["features"], to=TensorProto.FLOAT16),
        helper.make_node("ReduceMean", ["trunk"], ["log_depth"], axes=[1], keepdims=0),
    ]
    outputs = [
        helper.make_tensor_value_info("features", TensorProto.FLOAT16, ["n", 3, "h", "w"]),
        helper.make_tensor_value_info("log_depth", TensorProto.FLOAT, ["n", 4, 8]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, "H", "W"])
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    net = _load(write_bundle, make_rig("front", "left"), outputs=("features", "depth"), hydra=model)
    run = net.run(_frames(front=_colour(255, 51, 0), left=_colour(0, 0, 0)))
    got = {name: by_camera["front"].values for name, by_camera in run.predictions().items()}
    assert got["features"].dtype == np.float32
    np.testing.assert_array_equal(got["features"][:, 2, 3], np.array([1, 0.2, 0], np.float16).astype(np.float32))
    np.testing.assert_array_equal(net.rows("features")[:32].T, got["features"].reshape(3, 32))
    np.testing.assert_allclose(got["depth"], np.full((4, 8), np.exp(0.4)), rtol=1e-5)
    np.testing.assert_array_equal(net.rows("depth")[32:], 1)


def test_only_wanted_outputs_are_loaded(write_bundle, make_rig):
    net = _load(write_bundle, make_rig("front"), outputs=("depth",))
    assert list(net.network.output_specs) == ["log_depth"]
    assert list(net.run(_frames(front=_noise(0))).predictions()) == ["depth"]
    with pytest.raises(InvalidArgument, match="output of network hydranet must be one of depth, got features"):
        net.rows("features")


def test_unusable_image_is_told_and_masked_and_the_others_go_on(write_bundle, make_rig):
    net = _load(write_bundle, make_rig(*CAMERAS))
    net.run(_frames(front=_noise(0), left=_noise(1), right=_noise(2)))
    jpeg = cv2.imencode(".jpg", _noise(0))[1].tobytes()
    frames = {
        "front": Frame("front", 7, jpeg[: len(jpeg) // 2], PixelFormat.JPEG),
        "left": Frame("left", 8, np.zeros((16, 31, 3), np.uint8)),
        "right": Frame("right", 9, _noise(2)),
    }
    run = net.run(frames)
    results = run.results()
    assert results.ran == {"right"}
    assert "camera front at 7 ns: JPEG must be whole" in results.absences["front"]
    assert "camera left at 8 ns: image size must be 32x16 as calibrated, got 31x16" in results.absences["left"]
    assert results.invalid == {}
    assert {camera for by in run.predictions().values() for camera in by} == {"right"}
    rows = net.rows("segmentation").reshape(3, 32, 3)
    assert (rows[:2] == 0).all()
    np.testing.assert_allclose(rows[2].sum(axis=1), 1, rtol=1e-5)
    assert [results.valid(camera, ["depth"]) for camera in CAMERAS] == [False, False, True]


def test_nan_withholds_the_output_of_that_camera_only(write_bundle, make_rig, hydra_model):
    net = _load(write_bundle, make_rig("front", "left"), hydra=hydra_model(with_nan=True))
    run = net.run(_frames(front=_colour(0, 0, 0), left=_colour(255, 255, 255)))
    results = run.results()
    assert results.invalid == {"depth/front": "network gave NaN or Inf in 32 of 32 numbers"}
    assert results.ran == {"front", "left"}
    assert results.valid("front", ["segmentation"])
    assert not results.valid("front", ["segmentation", "depth"])
    assert results.valid("left", ["segmentation", "depth"])
    outputs = run.predictions()
    assert set(outputs["depth"]) == {"left"}
    assert set(outputs["features"]) == {"front", "left"}
    assert np.isfinite(net.rows("depth")).all()
    assert (net.rows("depth")[:32] == 0).all()


def test_nan_does_not_stay(write_bundle, make_rig, hydra_model):
    net = _load(write_bundle, make_rig("front"), hydra=hydra_model(with_nan=True))
    clean = net.run(_frames(front=_colour(255, 255, 250))).predictions()["depth"]["front"].values
    assert net.run(_frames(front=_colour(0, 0, 0))).results().invalid
    assert (net.rows("depth") == 0).all()
    run = net.run(_frames(front=_colour(255, 255, 250)))
    results = run.results()
    assert results.invalid == {}
    np.testing.assert_array_equal(run.predictions()["depth"]["front"].values, clean)


def test_numbers_that_are_no_probabilities_are_withheld(write_bundle, make_rig, manifest_text):
    forgot = manifest_text.replace('activation = "softmax"\n', "")
    net = _load(write_bundle, make_rig("front"), forgot)
    results = net.run(_frames(front=_colour(255, 0, 0))).results()
    assert results.invalid["segmentation/front"].startswith("probabilities must be 0..1, got 0..10")


def test_exponential_that_overflows_is_withheld(write_bundle, make_rig, manifest_text):
    net = _load(write_bundle, make_rig("front"), manifest_text.replace("0.00392156862745098", "1.0"))
    results = net.run(_frames(front=_colour(255, 255, 255))).results()
    assert "depth/front" in results.invalid


def test_cameras_without_a_frame_and_frames_without_a_camera_are_left_out(write_bundle, make_rig):
    net = _load(write_bundle, make_rig("front", "left"))
    results = net.run(_frames(front=_noise(0), rear=_noise(1))).results()
    assert (results.ran, results.absences) == ({"front"}, {})


def test_named_cameras_are_taken_in_rig_order(write_bundle, make_rig, manifest_text):
    named = manifest_text.replace('cameras = ["*"]', 'cameras = ["right", "front"]')
    assert _load(write_bundle, make_rig(*CAMERAS), named).cameras == ("front", "right")
    with pytest.raises(RigError, match="got right"):
        _load(write_bundle, make_rig("front"), named, name="other")


def test_stages_are_summed_over_cameras(write_bundle, make_rig):
    stages = StageTimes()
    _load(write_bundle, make_rig("front", "left")).run(_frames(front=_noise(0), left=_noise(1)), stages=stages)
    assert set(totals_ms(stages.spans())) == {"decode", "preprocess", "network", "activation", "collect"}


def test_raw_batch_axis_is_taken_off(write_bundle, make_rig, manifest_text):
    """An axis named as the input's batch is one; another one of length 1 that is not fixed stays."""
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 16, 32])
    outputs = [
        helper.make_tensor_value_info("same", TensorProto.FLOAT, ["n", 3, 16, 32]),
        helper.make_tensor_value_info("one", TensorProto.FLOAT, [1, "k", 16, 32]),
        helper.make_tensor_value_info("found", TensorProto.FLOAT, ["m", 3, 16, 32]),
    ]
    nodes = [helper.make_node("Identity", ["image"], [value.name]) for value in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [image], outputs), opset_imports=[helper.make_opsetid("", 17)], ir_version=8
    ).SerializeToString()
    head, _, tail = manifest_text.partition("[networks.hydranet.outputs.features]")
    tables = "".join(
        f'[networks.hydranet.outputs.{value.name}]\ntensor = "{value.name}"\nkind = "raw"\n' for value in outputs
    )
    assert "[networks.topdown]" in tail
    net = _load(write_bundle, make_rig("front"), head + tables, ("same", "one", "found"), hydra=model)
    values = net.run(_frames(front=_noise(0))).predictions()
    shapes = {name: by_camera["front"].values.shape for name, by_camera in values.items()}
    assert shapes == {"same": (3, 16, 32), "one": (3, 16, 32), "found": (1, 3, 16, 32)}
    assert values["same"]["front"].values.flags.owndata


def test_images_of_a_batch_are_told_apart_and_absent_ones_are_black(write_bundle, make_rig, manifest_text):
    """The network takes the mean of its batch off each image: what stood in an absent camera's place would show."""
    shape = [2, 3, 16, 32]
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["image", "mean"], ["difference"]),
    ]
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "g",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("difference", TensorProto.FLOAT, shape)],
        ),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    ).SerializeToString()
    head, _, _ = manifest_text.partition("[networks.hydranet.outputs.features]")
    table = '[networks.hydranet.outputs.difference]\ntensor = "difference"\nkind = "raw"\n'
    net = _load(write_bundle, make_rig("front", "left"), head + table, ("difference",), hydra=model)

    def differences(**images):
        by_camera = net.run(_frames(**images)).predictions()["difference"]
        return {camera: output.values[:, 3, 4] for camera, output in by_camera.items()}

    both = differences(front=_colour(255, 0, 0), left=_colour(0, 255, 0))
    np.testing.assert_allclose(both["front"], [0.5, -0.5, 0], atol=1e-6)
    np.testing.assert_allclose(both["left"], [-0.5, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(differences(front=_colour(255, 0, 0))["front"], [0.5, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('tensor = "image"', 'tensor = "picture"', r"input\.tensor must be an input of the ONNX file \(image\), got"),
        ("width = 32", "width = 64", r"must be float32 \[batch, 3, 16, 64\] as declared, got float32 \[1, 3"),
        ('layout = "nchw"', 'layout = "nhwc"', r"tensor image must be float32 \[batch, 16, 32, 3\] as declared, got"),
        ('colour = "rgb"', 'colour = "mono"', r"tensor image must be float32 \[batch, 1, 16, 32\] as declared, got"),
        ('dtype = "float32"', 'dtype = "uint8"', r"must be uint8 \[batch, 3, 16, 32\] as declared, got float32"),
        ('tensor = "features"', 'tensor = "feature"', r"output tensor must be one of features, .*, got feature"),
        ("stride = 4", "stride = 2", r"\(kind features\) must be float32 \[1, C, 8, 16\] as declared, got"),
        ('"obstacle"]', '"obstacle", "sky"]', r"must be float32 \[1, 4, 4, 8\] as declared, got float32 \[1, 3"),
        ('tensor = "log_depth"\nkind = "depth"', 'tensor = "logits2"\nkind = "depth"', "got logits2"),
        ('kind = "features"', 'kind = "features"\nlayout = "rows"', r"must be float32 \[32, C\] or \[1, 32, C\] as"),
        ('tensor = "bright"\nkind = "raw"', 'tensor = "bright"\nkind = "features"\nstride = 4',
         r"tensor bright \(kind features\) must be float32 \[1, C, 4, 8\] as declared, got int64 \[4, n\]"),
    ],
)  # fmt: skip
def test_network_that_is_not_as_declared_is_refused_naming_both(write_bundle, make_rig, manifest_text, old, new, match):
    manifest = manifest_text.replace("scale = 0.00392156862745098\n", "").replace(old, new, 1)
    assert old in manifest_text
    with pytest.raises(BundleError, match=match):
        _load(write_bundle, make_rig("front"), manifest)


def test_second_input_is_refused(write_bundle, make_rig, hydra_model):
    model = onnx.load_model_from_string(hydra_model())
    model.graph.input.append(helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1]))
    model.graph.node[1].input[0] = "moved"
    model.graph.node.insert(1, helper.make_node("Add", ["trunk", "extra"], ["moved"]))
    with pytest.raises(BundleError, match="inputs of the ONNX file must be image alone, got image, extra"):
        _load(write_bundle, make_rig("front"), hydra=model.SerializeToString())


def test_raw_output_without_a_batch_is_refused_where_images_are_batched(write_bundle, make_rig, hydra_model):
    with pytest.raises(BundleError, match=r"tensor bright must be 2 images in front, as the input, got int64 \[4, n\]"):
        _load(write_bundle, make_rig("front"), hydra=hydra_model(2))


def test_unknown_output_is_refused(write_bundle, make_rig):
    with pytest.raises(InvalidArgument, match=r"output must be one of features, .*, got roads"):
        _load(write_bundle, make_rig("front"), outputs=("roads",))


def test_undistorted_corners_that_show_nothing_are_warned_of(write_bundle, make_rig, manifest_text, caplog):
    from dataclasses import replace

    from octobev.fusion.rig import Rig

    rig = make_rig("front")
    lens = replace(rig["front"].intrinsics, model="brown_conrady", coefficients=(0.4, 0, 0, 0, 0))
    distorted = Rig((replace(rig["front"], intrinsics=lens),))
    _load(write_bundle, distorted, manifest_text.replace('colour = "rgb"', 'colour = "rgb"\nundistort = true'))
    assert "camera front" in caplog.text
    assert "show nothing" in caplog.text


def test_input_plans_go_on_where_the_lens_is_the_same(write_bundle, make_rig):
    rig = make_rig("front", "rear")
    old = HydraNet.load(open_bundle(write_bundle()), "hydranet", rig, ["depth"])
    lens = rig["rear"].intrinsics
    moved = Camera("front", rig["front"].intrinsics, Pose.planar(1.0, 0.0, 0.0) @ rig["front"].ego_from_camera)
    zoomed = Camera("rear", replace(lens, fx=lens.fx * 2), rig["rear"].ego_from_camera)
    bundle = open_bundle(write_bundle(name="again"))
    new = HydraNet.load(bundle, "hydranet", Rig((moved, zoomed)), ["depth"], plans=old.plans)
    assert new.plans["front"] is old.plans["front"]
    assert new.plans["rear"].intrinsics.fx == 2 * old.plans["rear"].intrinsics.fx
