"""In which arithmetic a bundle's networks compute: read from the networks themselves."""

from __future__ import annotations

from typing import Final, Literal

import onnx

from ..errors import BundleError, expected
from .bundle import Bundle

Variant = Literal["fp32", "int8"]

_QUANTISED: Final = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})


def variant_of(bundle: Bundle) -> Variant:
    """`int8` for a bundle with a network that quantises its activations, `fp32` for one without."""
    for network_id in bundle.manifest.networks:
        graph = onnx.load_from_string(bundle.model_bytes(network_id)).graph
        if any(node.op_type in _QUANTISED for node in graph.node):
            return "int8"
    return "fp32"


def check_variant(bundle: Bundle, wanted: Variant) -> None:
    """Refuse a bundle that is not of the wanted variant.

    Raises
    ------
    BundleError
        Saying which one the bundle has.
    """
    actual = variant_of(bundle)
    if actual != wanted:
        raise BundleError(expected(f"variant of bundle {bundle.manifest.name}", wanted, f"{actual} only"))
