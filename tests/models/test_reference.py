"""The bundle that is shipped: it is what its manifest says."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from octobev import models
from octobev.runtime.bundle import open_bundle

FOLDER = Path(models.__file__).parent / "reference"


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(FOLDER)


@pytest.fixture(scope="module")
def session(bundle):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(bundle.model_bytes("hydranet"), options, providers=["CPUExecutionProvider"])


def test_file_has_the_hash_of_the_manifest(bundle):
    network = bundle.manifest.networks["hydranet"]
    assert hashlib.sha256((FOLDER / network.file).read_bytes()).hexdigest() == network.sha256


def test_file_is_small_enough_to_ship():
    assert (FOLDER / "hydranet.onnx").stat().st_size < 5_000_000


def test_graph_is_opset_17_and_one_file():
    graph = onnx.load(FOLDER / "hydranet.onnx", load_external_data=False)
    assert [imported.version for imported in graph.opset_import if imported.domain == ""] == [17]
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in graph.graph.initializer)


def test_batch_normalisation_is_folded():
    graph = onnx.load(FOLDER / "hydranet.onnx")
    assert "BatchNormalization" not in {node.op_type for node in graph.graph.node}


def test_input_is_as_declared(bundle, session):
    declared = bundle.manifest.networks["hydranet"].input
    (given,) = session.get_inputs()
    assert (given.name, given.type) == (declared.tensor, "tensor(uint8)")
    assert given.shape == [1, 3, declared.height, declared.width] == [1, 3, 192, 320]


def test_outputs_have_the_declared_rows_and_channels(bundle, session):
    network = bundle.manifest.networks["hydranet"]
    shapes = {output.name: output.shape for output in session.get_outputs()}
    assert set(shapes) == {output.tensor for output in network.outputs.values()}
    for output in network.outputs.values():
        pixels = (network.input.height // output.stride) * (network.input.width // output.stride)
        assert output.layout == "rows"
        assert shapes[output.tensor][0] == pixels
    assert shapes["segmentation"][1] == len(network.outputs["segmentation"].classes)
    assert shapes["depth"][1] == 1


def test_classes_are_those_of_the_world(bundle):
    classes = bundle.manifest.networks["hydranet"].outputs["segmentation"].classes
    assert classes == ("other", "drivable", "lane_marking", "road_edge", "obstacle", "crosswalk")
    assert bundle.manifest.castouts["road_layout"].bev_classes == ("drivable", "lane_divider", "road_edge", "crosswalk")
    assert bundle.manifest.castouts["occupancy"].bev_classes == ("occupied",)


def test_every_output_is_finite_and_in_its_range(session):
    image = np.random.default_rng(3).integers(0, 256, (1, 3, 192, 320), dtype=np.uint8)
    features, segmentation, depth = session.run(["features", "segmentation", "depth"], {"image": image})
    assert np.isfinite(features).all()
    np.testing.assert_allclose(segmentation.sum(axis=1), 1.0, atol=1e-5)
    assert depth.min() >= 0.5
    assert depth.max() <= 80.0 * (1 + 1e-6)


def test_grid_reaches_forty_metres_ahead(bundle):
    grid = bundle.manifest.grid
    assert (grid.x_min_m, grid.x_max_m, grid.y_min_m, grid.y_max_m) == (-24.0, 40.0, -24.0, 24.0)
    assert grid.resolution_m == 0.5
