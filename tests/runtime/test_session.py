"""One ONNX Runtime network: only what is wanted runs, arrays are written in place, bad models are refused."""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import onnx
import pytest
from octobev.errors import BundleError, InvalidArgument, NetworkError
from octobev.runtime.manifest import Provider
from octobev.runtime.session import Network, TensorSpec
from onnx import TensorProto, helper, numpy_helper


def _image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random((1, 3, 16, 32), dtype=np.float32)


def _executed(network: Network) -> list[str]:
    """Operators of the nodes that ran, from the profile."""
    events = json.loads(network.end_profiling().read_text(encoding="utf-8"))
    return [event["args"]["op_name"] for event in events if event.get("cat") == "Node"]


def _run(network: Network, **inputs: np.ndarray) -> dict[str, np.ndarray]:
    return network.bind(inputs, {}).run()


def test_specs_tell_names_types_and_shapes(hydra_model):
    network = Network(hydra_model("batch"), name="hydra")
    assert network.input_specs == {"image": TensorSpec("image", np.dtype(np.float32), ("batch", 3, 16, 32))}
    assert list(network.output_specs) == ["features", "logits", "log_depth", "bright"]
    assert network.output_specs["bright"].dtype == np.int64
    assert str(network.output_specs["bright"]) == "int64 [4, n]"
    assert network.providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("outputs", "operators"),
    [
        (None, ["AveragePool", "Conv", "Conv", "Conv", "Conv", "Greater", "NonZero"]),
        (["features"], ["AveragePool", "Conv"]),
        (["log_depth", "features"], ["AveragePool", "Conv", "Conv"]),
        (["bright"], ["AveragePool", "Conv", "Greater", "NonZero"]),
    ],
)
def test_only_nodes_that_wanted_outputs_need_are_executed(hydra_model, tmp_path, outputs, operators):
    network = Network(
        hydra_model(),
        name="hydra",
        outputs=outputs,
        graph_optimization="disabled",
        profile_prefix=str(tmp_path / "profile"),
    )
    results = _run(network, image=_image())
    assert sorted(_executed(network)) == sorted(operators)
    assert list(results) == (outputs or ["features", "logits", "log_depth", "bright"])


def test_cut_network_gives_what_the_whole_gives(hydra_model):
    whole = _run(Network(hydra_model(), name="whole"), image=_image())
    for name, values in whole.items():
        cut = _run(Network(hydra_model(), name="cut", outputs=[name]), image=_image())
        np.testing.assert_array_equal(cut[name], values)


def test_cutting_keeps_what_control_flow_takes_from_around_it():
    """The bodies of an If use `trunk`, which is no input of the If node itself."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [2])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [2])
    other = helper.make_tensor_value_info("other", TensorProto.FLOAT, [2])
    bodies = {
        name: helper.make_graph([helper.make_node(op, ["trunk"], [f"{name}_y"])], name, [],
                                [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [2])])
        for name, op in (("then", "Neg"), ("else", "Abs"))
    }  # fmt: skip
    nodes = [
        helper.make_node("Exp", ["x"], ["trunk"]),
        helper.make_node("Sqrt", ["x"], ["other"]),
        helper.make_node("If", ["condition"], ["y"], then_branch=bodies["then"], else_branch=bodies["else"]),
    ]
    graph = helper.make_graph(nodes, "g", [x], [other, y], [numpy_helper.from_array(np.array(True), "condition")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    results = _run(Network(model.SerializeToString(), name="if", outputs=["y"]), x=np.zeros(2, np.float32))
    np.testing.assert_array_equal(results["y"], [-1, -1])


def test_cutting_drops_inputs_that_nobody_needs(topdown_model):
    assert list(Network(topdown_model(), name="top", outputs=["state_out"]).input_specs) == ["lifted", "state"]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    a, b = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "ab")
    graph = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["a"]), helper.make_node("Neg", ["y"], ["b"])], "g", [x, y], [a, b]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    assert list(Network(model, name="two", outputs=["b"]).input_specs) == ["y"]


def test_bound_arrays_are_read_and_written_in_place(hydra_model):
    network = Network(hydra_model(), name="hydra", outputs=["features"])
    image, features = _image(1), np.zeros((1, 2, 4, 8), np.float32)
    binding = network.bind({"image": image}, {"features": features})
    assert binding.run()["features"] is features
    expected = image.reshape(3, 4, 4, 8, 4).mean(axis=(2, 4))[:2]
    np.testing.assert_allclose(features[0], expected, atol=1e-6)
    image[:] = 0
    binding.run()
    np.testing.assert_array_equal(features, 0)


def test_output_whose_size_changes_is_given_anew_each_run(hydra_model):
    network = Network(hydra_model(), name="hydra", outputs=["bright", "features"])
    image, features = np.zeros((1, 3, 16, 32), np.float32), np.zeros((1, 2, 4, 8), np.float32)
    binding = network.bind({"image": image}, {"features": features})
    assert binding.run()["bright"].shape == (4, 0)
    image[0, 1, :4, 4:8] = 1
    first = binding.run()
    np.testing.assert_array_equal(first["bright"].T, [[0, 1, 0, 1]])
    assert features[0, 1, 0, 1] == 1
    image[:] = 1
    assert binding.run()["bright"].shape == (4, 3 * 4 * 8)
    np.testing.assert_array_equal(first["bright"].T, [[0, 1, 0, 1]])


def test_bindings_of_one_network_run_side_by_side(hydra_model):
    network = Network(hydra_model(), name="hydra", outputs=["logits"])
    images = [_image(seed) for seed in range(8)]
    outputs = [np.zeros((1, 3, 4, 8), np.float32) for _ in images]
    bindings = [
        network.bind({"image": image}, {"logits": output}) for image, output in zip(images, outputs, strict=True)
    ]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(5):
            list(pool.map(lambda binding: binding.run(), bindings))
    for image, output in zip(images, outputs, strict=True):
        np.testing.assert_array_equal(output, _run(network, image=image)["logits"])


@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.uint8, np.int64])
def test_other_types_pass_through(dtype):
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    x, y = (helper.make_tensor_value_info(name, kind, [2, 2]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Transpose", ["x"], ["y"])], "g", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    given, taken = np.array([[1, 2], [3, 4]], dtype), np.zeros((2, 2), dtype)
    Network(model, name="t").bind({"x": given}, {"y": taken}).run()
    np.testing.assert_array_equal(taken, given.T)


@pytest.mark.parametrize(
    ("inputs", "outputs", "match"),
    [
        ({}, {}, "bound inputs must be all, got none for image"),
        ({"image": np.zeros((1, 3, 16, 33), np.float32)}, {}, r"image must be float32 \[1, 3, 16, 32\], got float32"),
        ({"image": np.zeros((1, 3, 16, 32))}, {}, "got float64"),
        ({"image": np.zeros((1, 16, 32, 3), np.float32).transpose(0, 3, 1, 2)}, {}, "got another memory layout"),
        ({"image": np.zeros((1, 3, 16, 32), np.float32), "x": np.zeros(1)}, {}, "input must be one of image, got x"),
        ({"image": _image()}, {"x": np.zeros(1)}, r"output must be one of features, .*, got x"),
        ({"image": _image()}, {"features": np.zeros((1, 2, 4, 9), np.float32)}, r"got float32 \[1, 2, 4, 9\]"),
    ],
)  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(hydra_model, inputs, outputs, match):
    with pytest.raises(InvalidArgument, match=match):
        Network(hydra_model(), name="hydra").bind(inputs, outputs)


def test_read_only_output_is_refused(hydra_model):
    features = np.zeros((1, 2, 4, 8), np.float32)
    features.flags.writeable = False
    with pytest.raises(InvalidArgument, match="output features must be C-contiguous and writable"):
        Network(hydra_model(), name="hydra").bind({"image": _image()}, {"features": features})


def test_failing_run_is_a_network_error():
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [3])
    shape = numpy_helper.from_array(np.array([3]), "shape")
    graph = helper.make_graph([helper.make_node("Reshape", ["x", "shape"], ["y"])], "g", [x], [y], [shape])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString()
    with pytest.raises(NetworkError, match="network bad: "):
        _run(Network(model, name="bad"), x=np.zeros(4, np.float32))


def test_unknown_output_is_refused_and_the_known_are_listed(hydra_model):
    with pytest.raises(BundleError, match=r"hydra: output tensor must be one of features, .*bright, got roads"):
        Network(hydra_model(), name="hydra", outputs=["roads"])


def test_bytes_that_are_no_model_are_refused(hydra_model):
    with pytest.raises(BundleError, match="network n: model must be an ONNX file"):
        Network(b"\xff\xfe not a model", name="n")
    with pytest.raises(BundleError, match="network n: model must be an ONNX file, got a file without graph outputs"):
        Network(b"", name="n")


def test_name_that_is_no_text_is_refused(hydra_model):
    model = hydra_model().replace(b"features", b"feat\x86res")
    with pytest.raises(BundleError, match=r"network n: names in the model must be UTF-8, got b'feat"):
        Network(model, name="n")


def test_mutated_models_give_typed_errors_only(hydra_model):
    model = hydra_model()
    random = np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        mutated = bytearray(model)
        for position in random.integers(0, len(mutated), 3):
            mutated[position] = random.integers(0, 256)
        try:
            Network(bytes(mutated), name="mutated")
        except BundleError:
            refused += 1
    assert refused > 30


@pytest.mark.parametrize("location", ["weights.bin", "../weights.bin", "/etc/passwd"])
def test_external_data_is_refused(hydra_model, location):
    model = onnx.load_model_from_string(hydra_model())
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    with pytest.raises(BundleError, match=r"model must be a single file, got tensor 'w_features' in external data"):
        Network(model.SerializeToString(), name="hydra")


def test_provider_that_is_not_there_is_refused_and_nothing_is_printed(hydra_model, capfd):
    with pytest.raises(BundleError, match=r"provider must be one of .*CPUExecutionProvider.*, got NoneProvider"):
        Network(hydra_model(), name="hydra", providers=[Provider(name="NoneProvider")])
    assert capfd.readouterr().out == ""


def test_provider_options_reach_the_provider(hydra_model):
    options = Provider(name="CPUExecutionProvider", options={"use_arena": "0"})
    assert Network(hydra_model(), name="hydra", providers=[options]).providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"threads": 0}, "threads must be at least 1, got 0"),
        ({"graph_optimization": "most"}, "graph_optimization must be"),
    ],
)
def test_bad_options_are_refused(hydra_model, options, match):
    with pytest.raises(InvalidArgument, match=match):
        Network(hydra_model(), name="hydra", **options)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_child_may_let_go_of_a_network_whose_threads_only_the_parent_has(hydra_model):
    networks = [Network(hydra_model(), name="hydra", threads=2)]
    process = multiprocessing.get_context("fork").Process(target=networks.clear)
    process.start()
    process.join(60)
    ended = process.exitcode
    process.kill()
    process.join()
    assert ended == 0
    assert _run(networks[0], image=_image())
