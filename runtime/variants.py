"""Variants of a bundle's networks: the same networks in another arithmetic, and which of them suits this machine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Final, Literal

import onnx

from ..errors import BundleError, InvalidArgument, expected
from .bundle import Bundle, Variant
from .cpu import fast_int8
from .subgraph import parse_model

VariantChoice = Literal["auto", "fp32", "int8"]

VARIANT_CHOICES: Final = ("auto", "fp32", "int8")

_QUANTISED: Final = frozenset({"QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"})


def select_variant(
    bundle: Bundle, choice: VariantChoice = "auto", int8_features: Sequence[str] | None = None
) -> Bundle:
    """The bundle with the networks of one variant; a network without variants runs as it is in every one.

    Parameters
    ----------
    choice : `fp32`, `int8`, or `auto`: int8 where the processor has int8 dot products and the bundle has int8
        networks, otherwise fp32
    int8_features : what the processor has, see :func:`octobev.runtime.cpu.fast_int8`; None: this one is asked

    Raises
    ------
    InvalidArgument
        No such choice.
    BundleError
        The bundle has no such variant, or a variant's inputs or outputs are not those of the network itself.
    """
    if choice not in VARIANT_CHOICES:
        raise InvalidArgument(expected("variant", f"one of {', '.join(VARIANT_CHOICES)}", choice))
    available = variants_of(bundle)
    wanted: Variant
    if choice == "auto":
        fast = fast_int8() if int8_features is None else int8_features
        wanted = "int8" if "int8" in available and (fast or "fp32" not in available) else "fp32"
    else:
        wanted = choice
    if wanted not in available:
        raise BundleError(expected(f"variant of bundle {bundle.manifest.name}", wanted, f"{available[0]} only"))
    for network_id, spec in bundle.manifest.networks.items():
        if wanted in spec.variants:
            _check_same_tensors(bundle, network_id, wanted)
    return replace(bundle, variant=wanted)


def variants_of(bundle: Bundle) -> tuple[Variant, ...]:
    """Which variants a bundle has, fp32 first.

    A bundle with an int8 network has int8; one whose own files (not their variants) compute in int8 has no fp32.
    """
    networks = bundle.manifest.networks
    listed = any("int8" in spec.variants for spec in networks.values())
    if any(is_quantised(_parse(bundle, name, "fp32")) for name in networks):
        return ("int8",)
    return ("fp32", "int8") if listed else ("fp32",)


def is_quantised(model: onnx.ModelProto) -> bool:
    """Whether a network quantises its activations."""
    return any(node.op_type in _QUANTISED for node in model.graph.node)


def _check_same_tensors(bundle: Bundle, network_id: str, variant: Variant) -> None:
    """Refuse a variant whose tensors are others than those of the network, but for levels in place of numbers."""
    own, other = _parse(bundle, network_id, "fp32").graph, _parse(bundle, network_id, variant).graph
    where = f"{bundle.path}: networks.{network_id}.variants.{variant}"
    levels = bundle.manifest.networks[network_id].variants[variant].levels
    for what, mine, theirs in (("inputs", own.input, other.input), ("outputs", own.output, other.output)):
        wanted, actual = _tensors(mine, levels), _tensors(theirs)
        if wanted != actual:
            with_levels = f", with levels for {', '.join(levels)}" if levels and what == "inputs" else ""
            raise BundleError(expected(f"{where}: {what}", f"those of the network{with_levels} ({wanted})", actual))


def _parse(bundle: Bundle, network_id: str, variant: Variant) -> onnx.ModelProto:
    """Parse the file of a network; errors say where it is."""
    content = bundle.model_bytes(network_id, variant)
    spec = bundle.manifest.networks[network_id]
    other = spec.variants.get(variant)
    try:
        return parse_model(content, network_id if other is None else f"{network_id}, variant {variant}")
    except BundleError as error:
        raise BundleError(f"{bundle.path / (spec if other is None else other).file}: {error}") from error


def _tensors(values: Sequence[onnx.ValueInfoProto], levels: Collection[str] = ()) -> str:
    """Name, type and shape of every tensor; those in `levels` as if they were uint8."""
    described = []
    for value in values:
        tensor = value.type.tensor_type
        sizes = [size.dim_param or (size.dim_value if size.HasField("dim_value") else "?") for size in tensor.shape.dim]
        kind = "uint8" if value.name in levels else onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
        described.append(f"{value.name} {kind} [{', '.join(map(str, sizes))}]")
    return "; ".join(described)
