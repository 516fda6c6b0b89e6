"""int8 networks: what is quantised, that it computes nearly the same, and how it gets into a bundle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from octobev.errors import BundleError, DriveError, InvalidArgument, NetworkError
from octobev.models import quantize
from octobev.models.calibration import Comparison, OutputDifference, RangeProbe, one_thread_session
from octobev.models.int8_choice import check_patterns
from octobev.models.qdq import chosen, quantised, quantised_tensors, scale_groups
from octobev.models.quantize import Selection, quantise_bundle
from octobev.models.variant_files import variant_file, without_variant, write_variants
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.bundle import open_bundle
from octobev.runtime.subgraph import keep_outputs
from octobev.runtime.variants import select_variant
from onnx import TensorProto, helper, numpy_helper

C, NX, NY = 16, 32, 64

MANIFEST = """\
schema = 1
name = "small"  # a comment that stays
version = "1"

[grid]
x_min_m = 0.0
x_max_m = 32.0
y_min_m = -32.0
y_max_m = 32.0
resolution_m = 1.0

[networks.hydranet]
kind = "camera"
file = "hydra.onnx"
sha256 = "{sha256 of hydra.onnx}"
cameras = ["*"]
input = { tensor = "image", width = 64, height = 32, dtype = "uint8", layout = "nchw", colour = "rgb" }

[networks.hydranet.outputs.features]
tensor = "features"
kind = "features"
stride = 2

[networks.hydranet.outputs.segmentation]
tensor = "segmentation"
kind = "segmentation"
layout = "rows"
stride = 2
classes = ["a", "b", "c", "d"]

[networks.topdown]
kind = "topdown"
file = "topdown.onnx"
sha256 = "{sha256 of topdown.onnx}"
cameras = ["*"]

[[networks.topdown.lifts]]
tensor = "lifted"
source = "features"

[[networks.topdown.states]]
input = "state"
output = "next_state"

[networks.topdown.outputs.layout]
tensor = "layout"
kind = "road_layout"
classes = ["drivable", "edge"]
"""


class Net:
    """A network under construction; weights are drawn, always the same."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self._random = np.random.default_rng(0)

    def weights(self, name: str, *shape: int) -> str:
        scale = np.prod(shape[1:]) ** -0.5
        self.constants[name] = (scale * self._random.normal(size=shape)).astype(np.float32)
        return name

    def add(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=f"n/{output}", **attributes))
        return output

    def conv(self, source: str, output: str, channels: int, wide: int, size: int = 3, **attributes: object) -> str:
        inputs = [source, self.weights(f"w_{output}", wide, channels, size, size), self.weights(f"b_{output}", wide)]
        return self.add("Conv", inputs, output, pads=[size // 2] * 4, **attributes)

    def model(self, inputs: dict, outputs: dict) -> bytes:
        tensors = [
            [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in values.items()]
            for values in (inputs, outputs)
        ]
        constants = [numpy_helper.from_array(value, name) for name, value in self.constants.items()]
        graph = helper.make_graph(self.nodes, "small", *tensors, constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        onnx.checker.check_model(model)
        return model.SerializeToString()


@pytest.fixture(scope="module")
def hydra() -> bytes:
    """A stem, a residual block, upsampling by repetition, and a head of rows with a softmax."""
    net = Net()
    net.add("Cast", ["image"], "cast", to=TensorProto.FLOAT)
    net.constants["scale"] = np.float32([1 / 255])
    net.add("Mul", ["cast", "scale"], "scaled")
    net.add("Relu", [net.conv("scaled", "stem", 3, C, strides=[2, 2])], "x0")
    net.add("Relu", [net.conv("x0", "c1", C, C, strides=[2, 2])], "x1")
    net.add("Add", [net.conv("x1", "c2", C, C), "x1"], "sum")
    net.add("Relu", ["sum"], "x2")
    net.constants["twice"] = np.float32([1, 1, 2, 2])
    how = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    net.add("Resize", ["x2", "", "twice"], "up", **how)
    net.add("Add", [net.conv("x0", "lateral", C, C, 1), "up"], "joined")
    net.conv("joined", "features", C, C)
    net.constants["rows"] = np.array([1, 512, C])
    net.constants["flat"] = np.array([512, 2 * C])
    net.add("Transpose", ["features"], "t", perm=[0, 2, 3, 1])
    net.add("Reshape", ["t", "rows"], "three_axes")
    net.add("MatMul", ["three_axes", net.weights("w_hidden", C, 2 * C)], "product")
    net.add("Add", ["product", net.weights("b_hidden", 2 * C)], "hidden")
    net.add("Relu", ["hidden"], "active")
    net.add("Reshape", ["active", "flat"], "two_axes")
    net.add("MatMul", ["two_axes", net.weights("w_last", 2 * C, 4)], "scores")
    net.add("Softmax", ["scores"], "segmentation", axis=-1)
    f32 = TensorProto.FLOAT
    outputs = {"features": (f32, [1, C, 16, 32]), "segmentation": (f32, [512, 4])}
    return net.model({"image": (TensorProto.UINT8, [1, 3, 32, 64])}, outputs)


@pytest.fixture(scope="module")
def topdown() -> bytes:
    """An update of the state through a gate, interpolation, and a last convolution of two channels."""
    net = Net()
    net.add("Concat", [net.conv("lifted", "fine", C, C), "state"], "both", axis=1)
    net.add("Sigmoid", [net.conv("both", "gate_in", 2 * C, C)], "gate")
    net.add("Tanh", [net.conv("both", "new_in", 2 * C, C)], "new")
    net.add("Sub", ["new", "state"], "change")
    net.add("Mul", ["gate", "change"], "step")
    net.add("Add", ["state", "step"], "next_state")
    net.conv("next_state", "coarse", C, C, strides=[2, 2])
    net.constants["twice"] = np.float32([1, 1, 2, 2])
    net.add("Resize", ["coarse", "", "twice"], "up", mode="linear")
    net.add("Add", [net.conv("next_state", "skip", C, C), "up"], "sum")
    net.add("Relu", ["sum"], "decoded")
    net.add("Sigmoid", [net.conv("decoded", "head", C, 2, 1)], "layout")
    f32 = TensorProto.FLOAT
    state = (f32, [1, C, NX, NY])
    return net.model({"lifted": state, "state": state}, {"layout": (f32, [1, 2, NX, NY]), "next_state": state})


def hydra_inputs(count: int = 4) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(1)
    return [{"image": random.integers(0, 256, (1, 3, 32, 64), dtype=np.uint8)} for _ in range(count)]


def topdown_inputs(count: int = 4) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(2)
    return [
        {name: random.normal(size=(1, C, NX, NY)).astype(np.float32) for name in ("lifted", "state")}
        for _ in range(count)
    ]


def int8_of(content: bytes, inputs: list[dict[str, np.ndarray]], keep: tuple[str, ...] = ()) -> onnx.ModelProto:
    model, graph, choice = chosen(content, "net", keep)
    probe = RangeProbe("net", model, quantised_tensors(graph, choice))
    for one in inputs:
        probe.show(one)
    return quantised(model, choice, probe.ranges)


def run(model: bytes | onnx.ModelProto, inputs: dict[str, np.ndarray], names: list[str] | None = None) -> list:
    content = model if isinstance(model, bytes) else model.SerializeToString()
    return one_thread_session(content).run(names, inputs)


def kernels(model: onnx.ModelProto, path: Path) -> list[str]:
    """Operators that ONNX Runtime runs after its own optimisations."""
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(path)
    options.log_severity_level = 4
    ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [node.op_type for node in onnx.load(path).graph.node]


def test_layers_become_int8_but_for_those_that_gain_nothing(hydra, topdown):
    _, graph, choice = chosen(hydra, "net")
    assert choice.reasons == {"n/stem": "fewer than 4 input channels"}
    assert {"n/c1", "n/c2", "n/lateral", "n/features", "n/sum", "n/joined"} <= choice.int8
    assert not {node.name for node in graph.nodes if node.op_type in ("Softmax", "Mul", "Cast")} & choice.int8
    _, graph, choice = chosen(topdown, "net")
    assert {"n/fine", "n/gate_in", "n/new_in", "n/both", "n/coarse", "n/skip"} <= choice.int8
    assert not {"n/gate", "n/new", "n/change", "n/step", "n/next_state", "n/up"} & choice.int8


def test_sum_of_exponentials_stays_float32():
    net = Net()
    net.add("Exp", ["x"], "odds")
    net.constants["ones"] = np.ones((C, C), np.float32)
    net.add("MatMul", ["odds", "ones"], "sums")
    net.add("Div", ["odds", "sums"], "p")
    shape = (TensorProto.FLOAT, [NX * NY, C])
    _, _, choice = chosen(net.model({"x": shape}, {"p": shape}), "net")
    assert choice.reasons == {"n/sums": "a sum of exponentials"}


def test_what_is_kept_on_request_stays_float32(topdown):
    _, _, choice = chosen(topdown, "net", ("n/*_in", "n/skip"))
    assert choice.reasons == dict.fromkeys(("n/gate_in", "n/new_in", "n/skip"), "kept on request")
    with pytest.raises(InvalidArgument, match=r"node to keep must be one of the networks' \(n/skip, .*\), got n/skipp"):
        check_patterns(["n/skip", "n/up"], ["n/up", "n/skipp"])


def test_prepared_forms_compute_the_same(hydra, topdown):
    for content, inputs, operators in (
        (hydra, hydra_inputs(1)[0], {"Concat"}),
        (topdown, topdown_inputs(1)[0], {"Gemm"}),
    ):
        model, graph, _ = chosen(content, "net")
        assert operators <= {node.op_type for node in graph.nodes}
        for right, own in zip(run(content, inputs), run(model, inputs), strict=True):
            np.testing.assert_allclose(own, right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "limits", "wanted"),
    [
        ("hydra", {"features": 0.03, "segmentation": 0.02}, {"QLinearConv": 5, "QLinearAdd": 2, "Conv": 1, "QGemm": 0}),
        (
            "topdown",
            {"layout": 0.02, "next_state": 0.02},
            {"QLinearConv": 5, "QLinearConcat": 0, "Concat": 1, "QGemm": 1, "Conv": 0},
        ),
    ],
)
def test_int8_is_near_float32_and_runs_on_8_bit_kernels(net, limits, wanted, request, tmp_path):
    content = request.getfixturevalue(net)
    inputs = {"hydra": hydra_inputs, "topdown": topdown_inputs}[net](6)
    model = int8_of(content, inputs[:4])
    assert [value.name for value in model.graph.output] == list(limits)
    comparison = Comparison(content, model.SerializeToString())
    for one in inputs[4:]:
        comparison.show(one)
    for name, limit in limits.items():
        assert 0 < comparison.differences[name].relative < limit
    found = kernels(model, tmp_path / "optimised.onnx")
    assert {kind: found.count(kind) for kind in wanted} == wanted


@pytest.fixture(scope="module")
def gated() -> bytes:
    """Two concatenations of the same tensor, one with a state, one with what a gate lets through of it."""
    net = Net()
    net.add("Relu", [net.conv("lifted", "fine", C, C)], "x")
    net.add("Concat", ["x", "state"], "both", axis=1)
    net.add("Sigmoid", [net.conv("both", "gate_in", 2 * C, C)], "gate")
    net.add("Mul", ["gate", "state"], "kept")
    net.add("Concat", ["x", "kept"], "again", axis=1)
    net.add("Tanh", [net.conv("again", "new_in", 2 * C, C)], "new")
    net.add("Sub", ["new", "state"], "next_state")
    state = (TensorProto.FLOAT, [1, C, NX, NY])
    return net.model({"lifted": state, "state": state}, {"next_state": state})


def test_what_is_put_together_has_one_scale_and_gates_between_are_int8(gated, tmp_path):
    _, graph, choice = chosen(gated, "net")
    assert {"n/gate", "n/kept", "n/both", "n/again"} <= choice.int8
    assert not {"n/new", "n/next_state"} & choice.int8
    ((names, tensors),) = scale_groups(graph, choice)
    assert (names, tensors) == ({"n/both", "n/again"}, {"x", "state", "kept", "both", "again"})
    inputs = topdown_inputs(6)
    model = int8_of(gated, inputs[:4])
    found = kernels(model, tmp_path / "optimised.onnx")
    wanted = {"QLinearConv": 3, "Concat": 2, "Clip": 1, "QLinearSigmoid": 1, "QLinearMul": 1, "Relu": 0, "Mul": 0}
    assert {kind: found.count(kind) for kind in wanted} == wanted
    comparison = Comparison(gated, model.SerializeToString())
    for one in inputs[4:]:
        comparison.show(one)
    assert 0 < comparison.differences["next_state"].relative < 0.02


def test_rows_are_rounded_before_they_are_reshaped():
    """Whoever writes them may then write levels."""
    net = Net()
    net.add("Gemm", ["rows", net.weights("w", C, C), net.weights("b", C)], "product")
    net.add("Relu", ["product"], "active")
    net.add("Gemm", ["active", net.weights("w_last", C, C), net.weights("b_last", C)], "y")
    shape = (TensorProto.FLOAT, [NX * NY, C])
    random = np.random.default_rng(4)
    inputs = [{"rows": random.normal(size=shape[1]).astype(np.float32)} for _ in range(2)]
    model = int8_of(net.model({"rows": shape}, {"y": shape}), inputs)
    (reader,) = [node for node in model.graph.node if "rows" in node.input]
    assert reader.op_type == "QuantizeLinear"


def test_gate_that_float32_reads_stays_float32(gated):
    model = onnx.load_from_string(gated)
    model.graph.output.append(helper.make_tensor_value_info("kept", TensorProto.FLOAT, [1, C, NX, NY]))
    _, _, choice = chosen(model.SerializeToString(), "net")
    assert not {"n/gate", "n/kept"} & choice.int8


def test_what_a_layer_reads_keeps_a_scale_of_its_own(gated):
    net = onnx.load_from_string(gated)
    weights = ["w_gate_in_2", "b_gate_in"]
    net.graph.initializer.append(numpy_helper.from_array(np.ones((C, C, 1, 1), np.float32), weights[0]))
    net.graph.node.append(helper.make_node("Conv", ["state", *weights], ["other"], name="n/other"))
    net.graph.output.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1, C, NX, NY]))
    _, graph, choice = chosen(net.SerializeToString(), "net")
    assert [names for names, _ in scale_groups(graph, choice)] == [{"n/again"}]


def test_state_is_handed_on_unrounded(topdown):
    """With the gate shut the next state is the state, to the last bit."""
    model = onnx.load_from_string(topdown)
    for tensor in model.graph.initializer:
        if tensor.name == "b_gate_in":
            tensor.CopyFrom(numpy_helper.from_array(np.full(C, -200, np.float32), "b_gate_in"))
    inputs = topdown_inputs(2)
    _, state = run(int8_of(model.SerializeToString(), inputs), inputs[0])
    np.testing.assert_array_equal(state, inputs[0]["state"])


def test_unused_outputs_can_be_cut_away(hydra):
    inputs = hydra_inputs(2)
    model = int8_of(hydra, inputs)
    right = dict(zip(("features", "segmentation"), run(model, inputs[0]), strict=True))
    for name in right:
        part = onnx.ModelProto()
        part.CopyFrom(model)
        keep_outputs(part, [name], "net")
        np.testing.assert_array_equal(run(part, inputs[0])[0], right[name])
    keep_outputs(model, ["features"], "net")
    assert "Softmax" not in {node.op_type for node in model.graph.node}


def test_a_bias_that_is_too_large_for_its_channel_survives():
    net = Net()
    net.conv("lifted", "made", C, C)
    net.conv("made", "again", C, C)
    net.constants["w_made"][3] = 1e-12
    net.constants["b_made"][3] = 2.0
    shape = (TensorProto.FLOAT, [1, C, NX, NY])
    content = net.model({"lifted": shape}, {"made": shape, "again": shape})
    inputs = [{"lifted": one["lifted"]} for one in topdown_inputs(2)]
    made, _ = run(int8_of(content, inputs), inputs[0])
    np.testing.assert_allclose(made[0, 3], 2.0, atol=0.05)


def test_opset_without_scales_per_channel_is_refused():
    net = Net()
    net.conv("lifted", "made", C, C)
    shape = (TensorProto.FLOAT, [1, C, NX, NY])
    model = onnx.load_from_string(net.model({"lifted": shape}, {"made": shape}))
    model.opset_import[0].version = 12
    with pytest.raises(BundleError, match="network net: opset must be 13 or newer, got 12"):
        chosen(model.SerializeToString(), "net")


def test_ranges_are_of_all_runs_and_must_be_finite(topdown):
    model, _, _ = chosen(topdown, "net")
    probe = RangeProbe("net", model, ["lifted", "gate"])
    one = topdown_inputs(1)[0]
    for factor in (1.0, 3.0, 2.0):
        probe.show({**one, "lifted": factor * one["lifted"]})
    largest = 3 * one["lifted"]
    assert probe.ranges["lifted"] == (float(largest.min()), float(largest.max()))
    assert 0 < probe.ranges["gate"][0] < probe.ranges["gate"][1] < 1
    with pytest.raises(NetworkError, match="network net: values of tensor lifted must be finite"):
        probe.show({**one, "lifted": np.full_like(one["lifted"], np.nan)})


def test_difference_is_relative_to_the_right_values():
    difference = OutputDifference()
    difference.add(np.float32([3.0, 4.0]), np.float32([3.0, 4.0]))
    difference.add(np.float32([3.0, 5.0]), np.float32([3.0, 4.0]))
    assert (difference.largest, difference.mean) == (1.0, 0.25)
    assert difference.relative == pytest.approx((1 / 50) ** 0.5)


# into a bundle


@pytest.fixture
def bundle_path(write_bundle, hydra, topdown):
    return write_bundle(MANIFEST, {"hydra.onnx": hydra, "topdown.onnx": topdown})


@pytest.fixture(scope="module")
def short_drive():
    return SyntheticDrive(3, 1.0, rate_hz=4.0, size=(64, 48))


SELECTION = Selection(seconds=1.0, frames=2)


def files(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_bundle_gets_int8_networks_and_keeps_the_rest(bundle_path, short_drive):
    before = files(bundle_path)
    shares = []
    results = quantise_bundle(
        open_bundle(bundle_path),
        [short_drive],
        bundle_path,
        selection=SELECTION,
        progress=lambda drive, share: shares.append(share),
    )
    after = files(bundle_path)
    assert sorted(set(after) - set(before)) == ["hydra.int8.onnx", "topdown.int8.onnx"]
    assert [after[name] for name in ("hydra.onnx", "topdown.onnx")] == [before["hydra.onnx"], before["topdown.onnx"]]
    assert after["bundle.toml"].startswith(before["bundle.toml"])
    assert shares == [0.0, 0.25, 0.5, 0.75]
    bundle = select_variant(open_bundle(bundle_path), "int8")
    assert bundle.model_bytes("topdown") == after["topdown.int8.onnx"]
    assert list(bundle.manifest.networks["topdown"].variants["int8"].levels) == ["lifted"]
    assert results["hydra.onnx"].networks == ("hydranet",)
    assert results["hydra.onnx"].sizes == (len(before["hydra.onnx"]), len(after["hydra.int8.onnx"]))
    assert {name: 0 < off.relative < 0.1 for name, off in results["topdown.onnx"].differences.items()} == {
        "layout": True,
        "next_state": True,
    }
    again = quantise_bundle(open_bundle(bundle_path), [short_drive], bundle_path, selection=SELECTION)
    assert again.keys() == results.keys()
    assert files(bundle_path) == after


def test_another_directory_gets_the_whole_bundle(bundle_path, short_drive, tmp_path):
    before = files(bundle_path)
    quantise_bundle(open_bundle(bundle_path), [short_drive], tmp_path / "out", selection=SELECTION)
    assert files(bundle_path) == before
    assert select_variant(open_bundle(tmp_path / "out"), "int8").variant == "int8"


def test_output_beyond_the_limit_writes_nothing(bundle_path, short_drive):
    before = files(bundle_path)
    with pytest.raises(NetworkError, match=r"network hydranet: int8 output features must be within 1e-06 of float32"):
        quantise_bundle(open_bundle(bundle_path), [short_drive], bundle_path, selection=SELECTION, limit=1e-6)
    assert files(bundle_path) == before


def test_interruption_writes_nothing(bundle_path, short_drive, monkeypatch, capsys):
    def interrupt(*arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    before = files(bundle_path)
    monkeypatch.setattr("octobev.cli.source.open_source", lambda *_, **__: short_drive)
    monkeypatch.setattr(quantize, "write_variants", interrupt)
    arguments = [str(bundle_path), "--drives", "here", "--seconds", "1", "--frames", "1"]
    assert quantize.main(arguments) == 130
    assert "stopped" in capsys.readouterr().err
    assert files(bundle_path) == before


def test_network_that_is_int8_already_is_refused(write_bundle, hydra, topdown, short_drive):
    int8 = int8_of(hydra, hydra_inputs(1)).SerializeToString()
    path = write_bundle(MANIFEST, {"hydra.onnx": int8, "topdown.onnx": topdown})
    with pytest.raises(BundleError, match=r"hydra\.onnx must be a float32 network, got one that computes in int8"):
        quantise_bundle(open_bundle(path), [short_drive], path, selection=SELECTION)


def test_drive_that_holds_nothing_out_is_refused(bundle_path, short_drive):
    with pytest.raises(DriveError, match="must be longer than 6 s, three quarters of --seconds, got shorter"):
        quantise_bundle(open_bundle(bundle_path), [short_drive], bundle_path, selection=Selection(8.0, 2))


def test_command_prints_what_it_did(bundle_path, tmp_path, capsys, short_drive, monkeypatch):
    monkeypatch.setattr("octobev.cli.source.open_source", lambda *_, **__: short_drive)
    out = tmp_path / "out"
    arguments = [str(bundle_path), "--drives", "here", "--seconds", "1", "--frames", "2", "--out", str(out)]
    assert quantize.main([*arguments, "--keep", "n/skip"]) == 0
    printed = capsys.readouterr().out
    assert "float32  n/skip: kept on request" in printed
    assert "next_state           off by 0." in printed
    assert quantize.main([*arguments, "--keep", "n/nothing"]) == 1
    assert "error: node to keep must be" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        quantize.main([*arguments, "--frames", "0"])


# the manifest's text


def test_text_around_a_variant_stays_byte_for_byte():
    table = '\n[networks.a.variants.int8]\nfile = "a.int8.onnx"\nsha256 = "00"\n'
    rest = "\n# after\n[networks.b]\nkind = 1\n"
    assert without_variant(f"x = 1\n{table}{rest}", "int8") == f"x = 1\n{rest}"
    assert without_variant(f"x = 1\n{table}{table.replace('.a.', '.b_2.')}", "int8") == "x = 1\n"
    assert without_variant(f"x = 1\n{table}", "fp32") == f"x = 1\n{table}"
    assert variant_file("nets/hydra.v1.onnx", "int8") == "nets/hydra.v1.int8.onnx"


def test_file_of_two_networks_is_pinned_by_both(write_bundle, hydra, topdown):
    head, _, rest = MANIFEST.partition("[networks.topdown]")
    second = (
        ("[networks.topdown]" + rest).replace("networks.topdown", "networks.front").replace("layout]", "front_layout]")
    )
    path = write_bundle(f"{head}[networks.topdown]{rest}\n{second}", {"hydra.onnx": hydra, "topdown.onnx": topdown})
    bundle = write_variants(open_bundle(path), {"topdown.onnx": topdown + b""}, path)
    pins = {name: spec.variants for name, spec in bundle.manifest.networks.items()}
    assert pins["hydranet"] == {}
    assert pins["topdown"]["int8"] == pins["front"]["int8"]
    assert pins["front"]["int8"].sha256 == hashlib.sha256(topdown).hexdigest()


def test_manifest_of_inline_tables_is_refused(write_bundle, hydra, topdown):
    head = MANIFEST.partition("[networks.topdown]")[0]
    network = head[head.index("[networks.hydranet]") :]
    inline = network.replace("[networks.hydranet]\n", "").split("\n\n")[0].replace("\n", ", ")
    outputs = 'outputs = { segmentation = { tensor = "segmentation", kind = "segmentation", layout = "rows", '
    outputs += 'stride = 2, classes = ["a", "b", "c", "d"] } }'
    text = head[: head.index("[networks.hydranet]")] + f"[networks]\nhydranet = {{ {inline}, {outputs} }}\n"
    path = write_bundle(text, {"hydra.onnx": hydra})
    with pytest.raises(
        BundleError, match=r"must be a file to which tables \[networks.<id>.variants.int8\] can be added"
    ):
        write_variants(open_bundle(path), {"hydra.onnx": hydra}, path)
