"""What a network's tensors are like on real inputs: their ranges, and how far another network's outputs are off."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray

from ..errors import NetworkError, expected
from .qdq import Range

Inputs = Mapping[str, NDArray[Any]]


class RangeProbe:
    """Runs a network and remembers the smallest and the largest value of some of its tensors (MinMax calibration).

    Parameters
    ----------
    name : for messages
    model : the network
    tensors : names of float32 tensors, graph inputs among them or not
    """

    def __init__(self, name: str, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        self.name = name
        self.runs = 0
        self.ranges: dict[str, Range] = {}
        inputs = {value.name for value in model.graph.input}
        self._inputs = [tensor for tensor in tensors if tensor in inputs]
        self._inner = [tensor for tensor in tensors if tensor not in inputs]
        probed = onnx.ModelProto()
        probed.CopyFrom(model)
        own = {value.name for value in probed.graph.output}
        added = [
            onnx.helper.make_tensor_value_info(t, onnx.TensorProto.FLOAT, None) for t in self._inner if t not in own
        ]
        probed.graph.output.extend(added)
        self._session = one_thread_session(probed.SerializeToString())

    def show(self, inputs: Inputs) -> None:
        """Run on the inputs of one run."""
        self.runs += 1
        for tensor in self._inputs:
            self._widen(tensor, inputs[tensor])
        if self._inner:
            for tensor, values in zip(self._inner, self._session.run(self._inner, dict(inputs)), strict=True):
                self._widen(tensor, values)

    def _widen(self, tensor: str, values: NDArray[Any]) -> None:
        low, high = float(values.min()), float(values.max())
        if not np.isfinite([low, high]).all():
            raise NetworkError(f"network {self.name}: " + expected(f"values of tensor {tensor}", "finite", (low, high)))
        before = self.ranges.get(tensor, (low, high))
        self.ranges[tensor] = (min(low, before[0]), max(high, before[1]))


@dataclass(slots=True)
class OutputDifference:
    """How far one output is from what it should be, over all runs.

    largest, mean : of the absolute difference, in the output's unit
    relative : root of the mean squared difference over the root mean square of the right values
    """

    largest: float = 0.0
    relative: float = 0.0
    mean: float = 0.0
    _sums: NDArray[np.float64] = field(default_factory=lambda: np.zeros(4), repr=False)

    def add(self, actual: NDArray[Any], right: NDArray[Any]) -> None:
        """Take the values of one run."""
        difference = np.abs(actual.astype(np.float64) - right)
        self._sums += (difference.size, difference.sum(), (difference**2).sum(), (right.astype(np.float64) ** 2).sum())
        count, total, squares, right_squares = self._sums
        self.largest = max(self.largest, float(difference.max(initial=0.0)))
        self.mean = float(total / max(count, 1))
        self.relative = float(np.sqrt(squares / right_squares)) if right_squares else float(squares > 0)


class Comparison:
    """Runs a network and another form of it side by side on the same inputs.

    Outputs whose numbers are no floats, or whose size is not fixed, are not compared.
    """

    def __init__(self, right: bytes, other: bytes) -> None:
        self.runs = 0
        self.seconds = {"right": 0.0, "other": 0.0}
        self._sessions = {"right": one_thread_session(right), "other": one_thread_session(other)}
        outputs = self._sessions["right"].get_outputs()
        names = [out.name for out in outputs if out.type == "tensor(float)" and None not in out.shape]
        self.differences = {name: OutputDifference() for name in names}

    def show(self, inputs: Inputs) -> None:
        """Run both."""
        self.runs += 1
        found = {which: self._run(which, inputs) for which in self._sessions}
        for name, difference in self.differences.items():
            difference.add(found["other"][name], found["right"][name])

    def _run(self, which: str, inputs: Inputs) -> dict[str, NDArray[Any]]:
        names = list(self.differences)
        start = time.thread_time()
        values = self._sessions[which].run(names, dict(inputs))
        self.seconds[which] += time.thread_time() - start
        return dict(zip(names, values, strict=True))


def one_thread_session(model: bytes) -> ort.InferenceSession:
    """Load a network to be run on one thread."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # an error is raised, not also printed
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
