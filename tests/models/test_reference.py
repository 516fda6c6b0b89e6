"""The bundle that is shipped: it is what its manifest says, and it remembers under ego-motion."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from octobev import models
from octobev.replay.render import CLASSES
from octobev.replay.rigs import reference_rig, six_camera_rig
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import FrameSet

FOLDER = Path(models.__file__).parent / "reference"
FILES = sorted(path.name for path in FOLDER.glob("*.onnx"))


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(FOLDER)


@pytest.fixture(scope="module")
def sessions(bundle):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return {
        name: onnxruntime.InferenceSession(bundle.model_bytes(name), options, providers=["CPUExecutionProvider"])
        for name in ("hydranet", "topdown")
    }


def test_file_has_the_hash_of_the_manifest(bundle):
    for network in bundle.manifest.networks.values():
        assert hashlib.sha256((FOLDER / network.file).read_bytes()).hexdigest() == network.sha256


def test_files_are_small_enough_to_ship():
    assert sum((FOLDER / name).stat().st_size for name in FILES) < 16_000_000


@pytest.mark.parametrize("name", FILES)
def test_graph_is_opset_17_and_one_file(name):
    graph = onnx.load(FOLDER / name, load_external_data=False)
    assert [imported.version for imported in graph.opset_import if imported.domain == ""] == [17]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.graph.initializer)


@pytest.mark.parametrize("name", FILES)
def test_batch_normalisation_is_folded(name):
    assert "BatchNormalization" not in {node.op_type for node in onnx.load(FOLDER / name).graph.node}


def test_input_is_as_declared(bundle, sessions):
    declared = bundle.manifest.networks["hydranet"].input
    (given,) = sessions["hydranet"].get_inputs()
    assert (given.name, given.type) == (declared.tensor, "tensor(uint8)")
    assert given.shape == [1, 3, declared.height, declared.width] == [1, 3, 192, 320]


def test_outputs_have_the_declared_rows_and_channels(bundle, sessions):
    network = bundle.manifest.networks["hydranet"]
    shapes = {output.name: output.shape for output in sessions["hydranet"].get_outputs()}
    assert set(shapes) == {tensor for output in network.outputs.values() for tensor in output.tensors.values()}
    for output in network.outputs.values():
        pixels = (network.input.height // output.stride) * (network.input.width // output.stride)
        assert output.layout == "rows"
        assert {shapes[tensor][0] for tensor in output.tensors.values()} == {pixels}
    assert shapes["segmentation"][1] == len(network.outputs["segmentation"].classes)
    assert shapes["depth"][1] == 1
    assert (shapes["object_heat"][1], shapes["object_boxes"][1]) == (2, 4)


def test_classes_are_those_of_the_world(bundle):
    assert bundle.manifest.networks["hydranet"].outputs["segmentation"].classes == CLASSES


def test_every_output_is_finite_and_in_its_range(sessions):
    image = np.random.default_rng(3).integers(0, 256, (1, 3, 192, 320), dtype=np.uint8)
    names = ["features", "segmentation", "depth", "object_heat", "object_boxes"]
    features, segmentation, depth, heat, boxes = sessions["hydranet"].run(names, {"image": image})
    assert np.isfinite(features).all()
    np.testing.assert_allclose(segmentation.sum(axis=1), 1.0, atol=1e-5)
    assert depth.min() >= 0.5
    assert depth.max() <= 80.0 * (1 + 1e-6)
    assert 0.0 <= heat.min() <= heat.max() <= 1.0
    assert 0.0 <= boxes.min() <= boxes.max() <= 320.0


def test_grid_reaches_forty_metres_ahead(bundle):
    grid = bundle.manifest.grid
    assert (grid.x_min_m, grid.x_max_m, grid.y_min_m, grid.y_max_m) == (-24.0, 40.0, -24.0, 24.0)
    assert grid.resolution_m == 0.5


@pytest.fixture(scope="module")
def drive():
    return SyntheticDrive(20_003, 0.5, rate_hz=4.0, size=(640, 480))


@pytest.fixture(scope="module")
def predicted(bundle, drive):
    """Two sets of a drive; the second without any frame: what is predicted then is memory."""
    first, second = (step.frame_set for step in drive.steps())
    with Runtime(bundle, drive.rig) as runtime:
        return runtime.step(first), runtime.step(FrameSet(second.timestamp_ns, (), second.world_from_ego))


def test_outputs_of_a_step_are_those_of_the_manifest(predicted):
    first, _ = predicted
    assert set(first.bev) == {"road_layout", "occupancy", "corridor_direction"}
    assert set(first.camera_outputs) == {"segmentation", "depth", "objects"}
    assert "intersection" in first.road_layout.classes


def test_it_sees_the_street_that_is_there(predicted, drive):
    truth = next(iter(drive.steps())).truth
    first, _ = predicted
    visible = truth.layers["visible"] > 0
    street = truth.layers["drivable"][visible] > 0
    found = first.road_layout["drivable"][visible] > 0.5
    assert (street & found).sum() / (street | found).sum() > 0.8


def test_what_was_seen_is_remembered_without_frames(predicted):
    first, second = predicted
    assert second.state.carried
    assert not second.camera_mask.any()
    assert second.road_layout.observed.mean() > 0.8 * first.road_layout.observed.mean()
    seen = first.road_layout["drivable"] > 0.5
    kept = second.road_layout["drivable"] > 0.5
    assert (seen & kept).sum() > 0.6 * seen.sum()


def test_cells_never_observed_have_no_probability(predicted):
    for predictions in predicted:
        layout = predictions.road_layout
        assert not layout.probability[:, ~layout.observed].any()
        assert np.isfinite(layout.probability).all()


@pytest.mark.parametrize("make_rig", [reference_rig, six_camera_rig])
def test_front_layout_sees_ahead_what_all_cameras_see_and_nothing_behind(bundle, make_rig):
    drive = SyntheticDrive(20_003, 0.25, rate_hz=4.0, size=(640, 384), rig=make_rig())
    (step,) = drive.steps()
    with Runtime(bundle, drive.rig, ["road_layout", "front_road_layout"]) as runtime:
        bev = runtime.step(step.frame_set).bev
    everywhere, front = bev["road_layout"], bev["front_road_layout"]
    x, y = np.moveaxis(front.grid.centres(), -1, 0)
    assert not front.observed[x < -1].any()
    ahead = (x > 6) & (x < 25) & (np.abs(y) < 0.5 * x)
    assert front.observed[ahead].all()
    road, front_road = everywhere["drivable"][ahead] > 0.5, front["drivable"][ahead] > 0.5
    assert (road & front_road).sum() > 0.8 * (road | front_road).sum()
    assert front.belief[0, x < -5].max() > 0.2  # it has a guess, which is kept apart


def test_front_layout_is_on_demand(bundle):
    assert not any(name.startswith("front_") for name in bundle.default_outputs)
