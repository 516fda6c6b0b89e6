"""Small raw outputs of all types in one block of memory: each is itself, and nobody's but its own."""

from __future__ import annotations

import numpy as np
import pytest
from octobev.errors import NetworkError
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.hydranet import HydraNet
from onnx import TensorProto, helper

CAMERAS = ("front", "left", "right")
COLOURS = {"front": (51, 102, 204), "left": (255, 1, 51), "right": (102, 153, 2)}
TYPES = {
    "flag": TensorProto.BOOL,
    "half": TensorProto.FLOAT16,
    "inverse": TensorProto.FLOAT,
    "large": TensorProto.FLOAT,
    "mean": TensorProto.FLOAT,
    "octet": TensorProto.UINT8,
    "whole": TensorProto.INT64,
}
ALL = tuple(TYPES)


def _model(batch: int | str) -> bytes:
    """`mean` [n, 3] is the mean of each channel, the others are made of it: `inverse` is infinite where one is 0."""
    given = helper.make_tensor_value_info("image", TensorProto.FLOAT, [batch, 3, 16, 32])
    nodes = [
        helper.make_node("ReduceMean", ["image"], ["mean"], axes=[2, 3], keepdims=0),
        helper.make_node("Reciprocal", ["mean"], ["inverse"]),
        helper.make_node("Identity", ["image"], ["large"]),
        helper.make_node("Cast", ["mean"], ["flag"], to=TensorProto.BOOL),
        helper.make_node("Cast", ["mean"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["mean"], ["octet"], to=TensorProto.UINT8),
        helper.make_node("Cast", ["mean"], ["whole"], to=TensorProto.INT64),
    ]
    shapes = {name: [batch, 3, 16, 32] if name == "large" else [batch, 3] for name in ALL}
    results = [helper.make_tensor_value_info(name, TYPES[name], shapes[name]) for name in ALL]
    graph = helper.make_graph(nodes, "g", [given], results)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()


@pytest.fixture
def bundle(write_bundle, manifest_text):
    def opened(batch=1):
        head, _, _ = manifest_text.partition("[networks.hydranet.outputs.features]")
        head = head.replace("scale = 0.00392156862745098\n", "")
        tables = "".join(
            f'[networks.hydranet.outputs.{name}]\ntensor = "{name}"\nkind = "raw"\n' for name in reversed(ALL)
        )
        folder = write_bundle(models={"hydra.onnx": _model(batch)}, manifest=head + tables, name=f"bundle{batch}")
        return open_bundle(folder)

    return opened


def _frames(*cameras: str, **colours: tuple[int, int, int]) -> dict[str, Frame]:
    rgb = {camera: COLOURS[camera] for camera in cameras} | colours
    images = {camera: np.full((16, 32, 3), colour[::-1], np.uint8) for camera, colour in rgb.items()}
    return {camera: Frame(camera, 7, image) for camera, image in images.items()}


def _wanted(colour: tuple[int, int, int]) -> dict[str, np.ndarray]:
    mean = np.array(colour, np.float32)
    return {
        "flag": mean != 0,
        "half": mean.astype(np.float16),
        "inverse": 1 / mean,
        "large": np.broadcast_to(mean[:, None, None], (3, 16, 32)),
        "mean": mean,
        "octet": mean.astype(np.uint8),
        "whole": mean.astype(np.int64),
    }


@pytest.mark.parametrize("batch", [1, 2, 3, "n"])
def test_outputs_of_all_types_are_what_the_network_gave(bundle, make_rig, batch):
    net = HydraNet.load(bundle(batch), "hydranet", make_rig(*CAMERAS), ALL)
    run = net.run(_frames(*CAMERAS))
    assert not run.results().invalid
    given = run.predictions()
    assert tuple(given) == net.output_names == ALL
    for camera, colour in COLOURS.items():
        for name, wanted in _wanted(colour).items():
            output = given[name][camera]
            assert (output.camera, output.kind, output.classes) == (camera, "raw", ())
            assert (output.values.dtype, output.values.shape) == (wanted.dtype, wanted.shape)
            assert output.values.flags.c_contiguous
            np.testing.assert_allclose(output.values, wanted, rtol=1e-6)


@pytest.mark.parametrize("batch", [1, 2])
def test_number_that_is_not_finite_withholds_that_output_of_that_camera_alone(bundle, make_rig, batch):
    net = HydraNet.load(bundle(batch), "hydranet", make_rig(*CAMERAS), ALL)
    run = net.run(_frames("front", "right", left=(255, 0, 51)))
    assert run.results().invalid == {"inverse/left": "network gave NaN or Inf in 1 of 3 numbers"}
    given = run.predictions()
    assert {name: set(by_camera) for name, by_camera in given.items()} == {
        name: {"front", "right"} if name == "inverse" else set(CAMERAS) for name in ALL
    }
    np.testing.assert_allclose(given["inverse"]["right"].values, _wanted(COLOURS["right"])["inverse"], rtol=1e-6)
    assert not net.run(_frames(*CAMERAS)).results().invalid


def test_camera_without_a_frame_gives_nothing(bundle, make_rig):
    net = HydraNet.load(bundle(2), "hydranet", make_rig(*CAMERAS), ALL)
    run = net.run(_frames("left"))
    assert not run.results().invalid  # the black images of the others make `inverse` infinite
    assert all(set(by_camera) == {"left"} for by_camera in run.predictions().values())
    assert all(not by_camera for by_camera in net.run({}).predictions().values())


def test_values_are_those_of_their_set_also_when_first_asked_for_later(bundle, make_rig):
    net = HydraNet.load(bundle(), "hydranet", make_rig(*CAMERAS), ALL)
    first = net.run(_frames(*CAMERAS)).predictions()
    second = net.run(_frames("front", left=(255, 0, 51), right=(1, 1, 1)))
    assert set(second.results().invalid) == {"inverse/left"}
    assert set(first["inverse"]) == set(CAMERAS)
    first["mean"]["front"].values[:] = 7
    for camera, colour in COLOURS.items():
        for name, wanted in _wanted(colour).items():
            changed = (name, camera) == ("mean", "front")
            np.testing.assert_allclose(first[name][camera].values, 7 if changed else wanted, rtol=1e-6)


def test_output_that_is_asked_for_again_is_the_same(bundle, make_rig):
    given = HydraNet.load(bundle(), "hydranet", make_rig("front"), ALL).run(_frames("front")).predictions()
    assert given["mean"]["front"] is given["mean"]["front"]
    assert dict(given) == given


def test_only_small_outputs_share_memory(bundle, make_rig):
    given = HydraNet.load(bundle(), "hydranet", make_rig("front"), ALL).run(_frames("front")).predictions()
    assert given["large"]["front"].values.flags.owndata
    assert given["mean"]["front"].values.base is not None


@pytest.mark.parametrize("threads", [1, 2])
def test_run_that_fails_withholds_all_outputs_of_its_camera(bundle, make_rig, threads):
    def fail(cameras, outputs):
        if cameras == ("left",):
            raise NetworkError("network does not answer")

    with Runtime(bundle(), make_rig(*CAMERAS), ["half", "mean", "large"], threads) as runtime:
        runtime.tamper("hydranet", fail)
        predictions = runtime.step(FrameSet(7, tuple(_frames("front", "left").values())))
    assert predictions.invalid == {f"{name}/left": "network does not answer" for name in ("half", "mean", "large")}
    assert list(predictions.camera_outputs) == ["mean", "large", "half"]
    assert all(set(by_camera) == {"front"} for by_camera in predictions.camera_outputs.values())


def test_what_is_written_into_an_output_is_taken_for_the_networks_own(bundle, make_rig):
    def spoil(cameras, outputs):
        outputs["half"][0, 1] = np.nan
        outputs["mean"][0] = 0.25

    with Runtime(bundle(), make_rig("front"), ["half", "mean"], 1) as runtime:
        runtime.tamper("hydranet", spoil)
        predictions = runtime.step(FrameSet(7, tuple(_frames("front").values())))
    assert predictions.invalid == {"half/front": "network gave NaN or Inf in 1 of 3 numbers"}
    np.testing.assert_array_equal(predictions.camera_outputs["mean"]["front"].values, np.full(3, 0.25, np.float32))
