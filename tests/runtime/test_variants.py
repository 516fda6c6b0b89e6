import onnx
import pytest
from octobev.errors import BundleError
from octobev.runtime.bundle import open_bundle
from octobev.runtime.variants import check_variant, variant_of
from onnx import TensorProto, helper


def quantised(model: bytes) -> bytes:
    """The model with its image quantised and dequantised first."""
    proto = onnx.load_from_string(model)
    proto.graph.initializer.append(helper.make_tensor("scale", TensorProto.FLOAT, [], [1 / 255]))
    proto.graph.initializer.append(helper.make_tensor("zero", TensorProto.UINT8, [], [0]))
    for node in proto.graph.node:
        node.input[:] = ["image_dq" if name == "image" else name for name in node.input]
    proto.graph.node.insert(0, helper.make_node("DequantizeLinear", ["image_q", "scale", "zero"], ["image_dq"]))
    proto.graph.node.insert(0, helper.make_node("QuantizeLinear", ["image", "scale", "zero"], ["image_q"]))
    return proto.SerializeToString()


def test_variant_is_read_from_the_networks(write_bundle, hydra_model):
    assert variant_of(open_bundle(write_bundle())) == "fp32"
    int8 = write_bundle(models={"hydra.onnx": quantised(hydra_model())}, name="int8")
    assert variant_of(open_bundle(int8)) == "int8"


def test_another_variant_is_refused(write_bundle):
    bundle = open_bundle(write_bundle())
    check_variant(bundle, "fp32")
    with pytest.raises(BundleError, match="variant of bundle tiny must be int8, got fp32 only"):
        check_variant(bundle, "int8")
