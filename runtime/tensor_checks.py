"""What the inputs and outputs of a top-down network must be: as its declaration says."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ..errors import BundleError, expected
from ..fusion.levels import Levels
from .session import Network

FLOAT: Final[np.dtype[Any]] = np.dtype(np.float32)


def static_shape(where: str, network: Network, tensor: str, *, is_input: bool) -> tuple[int, ...]:
    """The shape of an input or output, which must be fixed; a free batch is 1. `where`: path in the manifest."""
    specs = network.input_specs if is_input else network.output_specs
    if tensor not in specs:
        kind = "input" if is_input else "output"
        raise BundleError(expected(f"{where}: {kind} tensor", f"one of {', '.join(specs)}", tensor))
    shape = tuple(
        1 if axis == 0 and not isinstance(size, int) else size for axis, size in enumerate(specs[tensor].shape)
    )
    if not all(isinstance(size, int) for size in shape):
        raise BundleError(expected(f"{where}: shape of tensor {tensor}", "fixed (but for the batch)", shape))
    return tuple(int(size) for size in shape if size is not None)


def check_tensor(
    where: str,
    network: Network,
    tensor: str,
    shape: tuple[int, ...],
    *,
    is_input: bool,
    dtype: np.dtype[Any] = FLOAT,
) -> None:
    """Refuse an input or output of another shape or type."""
    actual = static_shape(where, network, tensor, is_input=is_input)
    given = (network.input_specs if is_input else network.output_specs)[tensor].dtype
    if actual != shape or given != dtype:
        undeclared = is_input and dtype == FLOAT and given == np.uint8
        hint = "; levels must be declared for uint8" if undeclared else ""
        raise BundleError(expected(f"{where}: tensor {tensor}", f"{dtype} {shape}", f"{given} {actual}") + hint)


def check_levels(where: str, network: Network, tensor: str, declared: Levels | None) -> None:
    """Refuse levels that the network takes for other numbers; where its graph does not say for which, all are good."""
    taken_for = network.input_specs[tensor].levels
    if declared is None or taken_for is None:
        return
    if (np.float32(declared.scale), declared.zero_point) != (np.float32(taken_for.scale), taken_for.zero_point):
        what = f"{where}: levels of tensor {tensor}"
        raise BundleError(expected(what, f"those of its ONNX file, {_words(taken_for)}", _words(declared)))


def _words(levels: Levels) -> str:
    return f"scale {levels.scale!r} and zero_point {levels.zero_point}"
