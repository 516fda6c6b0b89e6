"""The outputs of a per-camera network: where ONNX Runtime writes them, and what is made of them.

Per output there is one array for all cameras. What a network gives with the channels last is bound to the very rows
that are cast to the ground; planes are turned into rows by a kernel where something casts them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from .._ext import lift as kernel
from .._ext.magnitude import magnitude
from .._ext.outputs import rows_to_planes
from ..errors import BundleError, expected
from ..fusion.levelling import HORIZON_CHANNELS
from ..fusion.view import aligned_zeros
from .activations import activate
from .manifest import ImageOutput
from .session import TensorSpec

SLACK: Final = 1e-3
"""How far probabilities may leave 0..1 (rounding of int8 networks) before they are taken for something else."""

Meaning = Callable[[NDArray[np.float32], float, bool], str | None]
"""Why numbers cannot be what they are said to be, or None; their largest magnitude, and whether there is a minus sign,
are known. What is off by rounding only may be put right in place."""


class DenseOutput:
    """Features, segmentation, depth, or one of the two maps of detections: one vector per output pixel.

    Parameters
    ----------
    where : path in the manifest, for messages
    spec : the declaration
    tensor : the ONNX graph output
    shape : height and width in output pixels
    cameras : number of cameras
    batch : images per run; cameras are rounded up to whole batches
    cast_down : whether rows are needed
    meaning : what the activated numbers must be besides finite; None: what the kind says

    Raises
    ------
    BundleError
        The tensor is not what is declared.
    """

    def __init__(
        self,
        where: str,
        spec: ImageOutput,
        tensor: TensorSpec,
        *,
        shape: tuple[int, int],
        cameras: int,
        batch: int,
        cast_down: bool,
        meaning: Meaning | None = None,
    ) -> None:
        self.spec = spec
        self.shape = shape
        self._cameras = cameras
        self._batch = batch
        self._bound_shape, self.channels = dense_shape(where, spec, tensor, shape, batch)
        padded = -(-cameras // batch) * batch
        pixels = shape[0] * shape[1]
        self._pixels = pixels
        self._planes = spec.layout == "nchw"
        self._meaning = _MEANINGS.get(spec.kind) if meaning is None else meaning
        one = (self.channels, pixels) if self._planes else (pixels, self.channels)
        self._values = aligned_zeros((padded, *one))
        self._native = self._values if tensor.dtype == np.float32 else np.zeros((padded, *one), dtype=tensor.dtype)
        self._rows: NDArray[np.float32] | None = None
        self._turns = spec.kind == "segmentation" and not (self._planes or cast_down) and spec.activation == "none"
        self._turned: dict[int, NDArray[np.float32]] = {}
        if not self._planes:
            self._rows = self._values.reshape(-1, self.channels)
        elif cast_down:
            self._rows = aligned_zeros((padded * pixels, self.channels))

    @property
    def rows(self) -> NDArray[np.float32] | None:
        """float32 [cameras * h * w, channels], overwritten by the next run; None where nobody casts this output."""
        return None if self._rows is None else self._rows[: self._cameras * self._pixels]

    def bound(self, group: int) -> dict[str, NDArray[Any]]:
        """Give the memory that a batch of cameras is written to, by tensor and in its shape."""
        native = self._native[group * self._batch : (group + 1) * self._batch]
        return {self.spec.tensor: native.reshape(self._bound_shape)}

    def clear(self, camera: int) -> None:
        """Set what a camera gave to zero."""
        self._turned.pop(camera, None)
        self._values[camera] = 0
        if self._rows is not None:
            self._rows[camera * self._pixels : (camera + 1) * self._pixels] = 0

    def finish(self, camera: int, results: Mapping[str, NDArray[Any]]) -> str | None:
        """Check what the network wrote for a camera, apply the activation and make the rows.

        Returns
        -------
        None, or why the output is not valid; it is then zero.
        """
        values = self._values[camera]
        if self._values is not self._native:
            values[:] = self._native[camera]
        reason = self._turn(camera) if self._turns else self._activate(values)
        if reason is not None:
            self.clear(camera)
        elif self._planes and self._rows is not None:
            kernel.planes_to_rows(values, self._rows[camera * self._pixels : (camera + 1) * self._pixels])
        return reason

    def planes(self, camera: int) -> NDArray[np.float32]:
        """View what a camera gave, float32 [channels, h, w]; overwritten by the next run."""
        values: NDArray[np.float32] = self._values[camera]
        return (values if self._planes else values.T).reshape(self.channels, *self.shape)

    def values(self, camera: int) -> NDArray[Any]:
        """Copy what a camera gave, see :class:`octobev.runtime.predictions.CameraOutput`."""
        values: NDArray[Any] = self._values[camera]
        if self.spec.kind == "depth":
            return values.reshape(self.shape).copy()
        if self._planes:
            return values.reshape(self.channels, *self.shape).copy()
        if self.spec.kind == "segmentation":
            turned = self._turned.pop(camera, None)
            return self._planes_of(values)[0] if turned is None else turned
        return (values if self.spec.layout == "rows" else values.reshape(*self.shape, self.channels)).copy()

    def _planes_of(self, rows: NDArray[np.float32]) -> tuple[NDArray[np.float32], float, bool]:
        """Copy rows as planes [channels, h, w]; with their largest magnitude, and whether there is a minus sign."""
        planes = np.empty((self.channels, *self.shape), dtype=np.float32)
        return planes, *rows_to_planes(rows, planes.reshape(self.channels, -1))

    def _turn(self, camera: int) -> str | None:
        """Check what needs no activation, and keep it as planes for :meth:`values`; returns why it is not valid."""
        values = self._values[camera]
        turned, largest, negative = self._planes_of(values)
        if largest <= 1 and not negative:
            self._turned[camera] = turned
            return None
        self._turned.pop(camera, None)  # what rounding took out of 0..1 is put right in `values` alone
        return self._judge(values, largest, negative)

    def _activate(self, values: NDArray[np.float32]) -> str | None:
        """Apply the activation in place; returns why the values are not valid, before or after it."""
        largest, negative = magnitude(values)
        if self.spec.activation != "none" and math.isfinite(largest):
            with np.errstate(over="ignore"):
                activate(self.spec.activation, values, axis=0 if self._planes else 1)
            largest, negative = magnitude(values)
        return self._judge(values, largest, negative)

    def _judge(self, values: NDArray[np.float32], largest: float, negative: bool) -> str | None:
        """Why activated numbers are not valid, or None; finite ones may be too large for an exponential."""
        if not math.isfinite(largest):
            return count_not_finite(values)
        return None if self._meaning is None else self._meaning(values, largest, negative)


@dataclass(frozen=True, slots=True)
class RawLayout:
    """How the images of a run lie in an output that is handed on as the network gives it.

    Where the network runs one image at a time, an axis of length 1 in front that is the batch (it is fixed at 1, or
    bears the name of the input's batch axis) is taken off.

    tensor : the ONNX graph output
    dtype : its type
    bound_shape : of a whole run; None where it is known only after one
    shape : of one image, None the same
    strip : whether there may be an axis to take off where a run takes one image
    """

    tensor: str
    dtype: np.dtype[Any]
    bound_shape: tuple[int, ...] | None
    shape: tuple[int, ...] | None
    strip: bool

    @classmethod
    def of(cls, where: str, tensor: TensorSpec, *, batch: int, batch_name: int | str | None) -> Self:
        """Work it out.

        Parameters
        ----------
        where : path in the manifest, for messages
        batch : images per run
        batch_name : what the ONNX file calls the input's batch axis, or its fixed length

        Raises
        ------
        BundleError
            Several images go into a run, and this output has no axis for them.
        """
        first = tensor.shape[0] if tensor.shape else None
        named = isinstance(first, str) and first == batch_name
        if batch > 1 and first != batch and not named:
            wanted = f"{batch} images in front, as the input"
            raise BundleError(expected(f"{where}: tensor {tensor.name}", wanted, str(tensor)))
        sizes = [batch if named and axis == 0 else size for axis, size in enumerate(tensor.shape)]
        strip = first == 1 or named
        bound = tuple(size for size in sizes if isinstance(size, int))
        if len(bound) < len(sizes):
            return cls(tensor.name, tensor.dtype, None, None, strip)
        return cls(tensor.name, tensor.dtype, bound, bound[1:] if batch > 1 or strip else bound, strip)


class RawOutput:
    """An output that is handed on as the network gives it: any type and shape, also one known only after a run.

    Parameters
    ----------
    layout : how the images of a run lie in it
    cameras : number of cameras
    batch : images per run
    """

    def __init__(self, layout: RawLayout, *, cameras: int, batch: int) -> None:
        self._layout = layout
        self._may_be_not_finite = layout.dtype.kind == "f"
        self._batch = batch
        groups = -(-cameras // batch)
        shape = layout.bound_shape
        self._static = [] if shape is None else [np.zeros(shape, dtype=layout.dtype) for _ in range(groups)]
        self._latest: list[NDArray[Any] | None] = [None] * (groups * batch)

    def bound(self, group: int) -> dict[str, NDArray[Any]]:
        """Give the memory that a batch of cameras is written to, by tensor; none where its size is not known before."""
        return {self._layout.tensor: self._static[group]} if self._static else {}

    def clear(self, camera: int) -> None:
        """Forget what a camera gave."""
        self._latest[camera] = None

    def finish(self, camera: int, results: Mapping[str, NDArray[Any]]) -> str | None:
        """Check what the network gave for a camera; returns None, or why it is not valid."""
        array = results[self._layout.tensor]
        if self._batch > 1:
            array = array[camera % self._batch]
        elif self._layout.strip and array.shape[0] == 1:
            array = array[0]
        if self._may_be_not_finite and not math.isfinite(magnitude(array)[0]):
            self._latest[camera] = None
            return count_not_finite(array)
        self._latest[camera] = array
        return None

    def values(self, camera: int) -> NDArray[Any]:
        """Copy what a camera gave."""
        latest = self._latest[camera]
        return np.empty(0, dtype=self._layout.dtype) if latest is None else np.array(latest, order="C")


def free_batch(axis: str | None, wanted: int, cameras: int, raw: Sequence[TensorSpec]) -> int:
    """Tell how many images a run takes where the ONNX file leaves that open.

    Parameters
    ----------
    axis : what the file calls the input's batch axis
    wanted, cameras : how many it should be, how many there are
    raw : the raw outputs; where one does not have that axis, nobody can tell the images in it apart
    """
    apart = all(axis is not None and spec.shape and spec.shape[0] == axis for spec in raw)
    return min(wanted, cameras) if apart else 1


def not_probabilities(values: NDArray[np.float32], largest: float, negative: bool) -> str | None:
    """Why finite numbers cannot be probabilities, or None; what leaves 0..1 by rounding only is put right in place."""
    if largest <= 1 and not negative:
        return None
    low, high = float(values.min()), float(values.max())
    if low < -SLACK or high > 1 + SLACK:
        return expected("probabilities", "0..1", f"{low:.3g}..{high:.3g} (is an activation to be declared?)")
    if low < 0 or high > 1:
        np.clip(values, 0, 1, out=values)
    return None


def count_not_finite(values: NDArray[Any]) -> str:
    """Say why numbers are not valid of which some are not finite."""
    count = values.size - int(np.isfinite(values).sum())
    return f"network gave NaN or Inf in {count} of {values.size} numbers"


_MEANINGS: Final[Mapping[str, Meaning]] = {"segmentation": not_probabilities}


def dense_shape(
    where: str, spec: ImageOutput, tensor: TensorSpec, shape: tuple[int, int], batch: int
) -> tuple[tuple[int, ...], int]:
    """Find the shape to bind and the number of channels; the ONNX file must say what the manifest says."""
    channels = _channels(spec, tensor)
    fitting = [shape for shape in _layouts(spec, shape, batch, channels) if tensor.admits(shape)]
    if tensor.dtype not in (np.float32, np.float16) or channels < 1 or not fitting:
        named = "C" if spec.kind == "features" else channels
        sizes = " or ".join(str(list(sizes)).replace("'", "") for sizes in _layouts(spec, shape, batch, named))
        what = f"{where}: tensor {tensor.name} (kind {spec.kind})"
        raise BundleError(expected(what, f"float32 {sizes} as declared", str(tensor)))
    return fitting[0], channels


def _channels(spec: ImageOutput, tensor: TensorSpec) -> int:
    """Tell the length of the vector at a pixel: declared, or for features as the ONNX file says, 0 if it does not."""
    if spec.kind in ("segmentation", "detections"):
        return len(spec.classes)
    if spec.kind == "depth":
        return 1
    if spec.kind == "horizon":
        return HORIZON_CHANNELS
    axis = 1 if spec.layout == "nchw" else -1
    size = tensor.shape[axis] if len(tensor.shape) > 1 else None
    return size if isinstance(size, int) else 0


def _layouts(spec: ImageOutput, shape: tuple[int, int], batch: int, channels: Any) -> list[tuple[Any, ...]]:
    """List the shapes that a tensor of the declared layout may have."""
    h, w = shape
    layouts: dict[str, list[tuple[Any, ...]]] = {
        "nchw": [(batch, channels, h, w)],
        "nhwc": [(batch, h, w, channels)],
        "rows": [(batch * h * w, channels), (batch, h * w, channels)],
    }
    without_channels = [(batch, h * w)] if spec.layout == "rows" else [(batch, h, w)]
    return layouts[spec.layout] + (without_channels if spec.kind == "depth" else [])
