"""Small outputs that are handed on as the network gives them: checked and copied together, however many there are."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .._ext.magnitude import magnitude
from .camera_outputs import RawLayout, count_not_finite
from .predictions import CameraOutput, CameraPrediction

LARGEST: Final = 4096
"""Bytes an image of an output that is packed: whoever keeps one such array keeps those of the same run alive."""

_ALIGNMENT: Final = 64


@dataclass(frozen=True, slots=True, eq=False)
class PackedOutput:
    """One of the outputs.

    layout : its tensor; :meth:`fits`
    classes : what the manifest calls its channels
    pixels_from_image : of every camera, see :class:`octobev.runtime.predictions.CameraOutput`
    """

    layout: RawLayout
    classes: tuple[str, ...]
    pixels_from_image: Sequence[NDArray[np.float64]]


class PackedOutputs:
    """Raw outputs of a per-camera network for all its cameras, side by side in one block of memory for each run.

    Parameters
    ----------
    outputs : by name
    cameras : names, in the order of the images
    batch : images per run, kept under this name
    """

    def __init__(self, outputs: Mapping[str, PackedOutput], cameras: Sequence[str], batch: int) -> None:
        self._outputs = dict(outputs)
        self._cameras = list(cameras)
        self.batch = batch
        # by type, so that all numbers of one type can be looked at together; what lies between them stays zero
        names = sorted(outputs, key=lambda name: outputs[name].layout.dtype.str)
        self._offsets, size = {}, 0
        for name in names:
            self._offsets[name] = size
            size += -(-self._bytes(name) // _ALIGNMENT) * _ALIGNMENT
        groups = -(-len(cameras) // batch)
        self._blocks = np.zeros((groups, size), dtype=np.uint8)
        self._fields = np.dtype(
            {
                "names": names,
                "formats": [(outputs[name].layout.dtype, self._shape(name)) for name in names],
                "offsets": [self._offsets[name] for name in names],
                "itemsize": size,
            }
        )
        self._floats = [self._numbers(dtype, list(same)) for dtype, same in groupby(names, self._dtype)]
        self._floats = [numbers for numbers in self._floats if numbers.dtype.kind == "f"]

    @property
    def names(self) -> Collection[str]:
        """Names of the outputs."""
        return self._outputs.keys()

    @staticmethod
    def fits(layout: RawLayout) -> bool:
        """Whether an output is small, and its size known before a run."""
        return layout.shape is not None and 0 < math.prod(layout.shape) * layout.dtype.itemsize <= LARGEST

    def bound(self, group: int) -> dict[str, NDArray[Any]]:
        """Give the memory that a batch of cameras is written to, by tensor."""
        block = self._named(self._blocks[group])
        layouts = {name: output.layout for name, output in self._outputs.items()}
        return {layout.tensor: block[name].reshape(layout.bound_shape) for name, layout in layouts.items()}

    def collect(self, cameras: Collection[int]) -> tuple[PackedValues, dict[int, dict[str, str]]]:
        """Check and copy what the network gave.

        Parameters
        ----------
        cameras : numbers of those whose images went through the network, in order

        Returns
        -------
        values : a copy, of those that are valid
        invalid : number of a camera -> output -> why it is not valid
        """
        groups = {camera // self.batch for camera in cameras}
        copies = {group: self._blocks[group].copy() for group in groups}
        broken = {group for group in groups if not self._finite(group)}
        invalid = {number: self._reasons(number) for number in cameras if number // self.batch in broken}
        return PackedValues(self, copies, cameras, invalid), invalid

    def describe(self, name: str, camera: int, block: NDArray[np.uint8]) -> CameraOutput:
        """View what a camera gave in a block of its run, or a copy of it, as one output."""
        output = self._outputs[name]
        values = self._named(block)[name]
        if self.batch > 1:
            values = values[camera % self.batch]
        return CameraOutput(self._cameras[camera], "raw", values, output.classes, output.pixels_from_image[camera])

    def _named(self, block: NDArray[np.uint8]) -> NDArray[Any]:
        """View a block of memory as its outputs: an array without axes, whose fields are arrays."""
        return np.ndarray((), self._fields, block)

    def _finite(self, group: int) -> bool:
        return all(math.isfinite(magnitude(numbers[group])[0]) for numbers in self._floats)

    def _reasons(self, camera: int) -> dict[str, str]:
        """Output -> why what it gave for a camera is not valid."""
        block = self._blocks[camera // self.batch]
        given = {name: self.describe(name, camera, block).values for name in self._outputs}
        broken = {name: v for name, v in given.items() if v.dtype.kind == "f" and not np.isfinite(v).all()}
        return {name: count_not_finite(values) for name, values in broken.items()}

    def _dtype(self, name: str) -> np.dtype[Any]:
        return self._outputs[name].layout.dtype

    def _shape(self, name: str) -> tuple[int, ...]:
        shape = self._outputs[name].layout.shape
        return () if shape is None else (self.batch, *shape) if self.batch > 1 else shape

    def _bytes(self, name: str) -> int:
        return math.prod(self._shape(name)) * self._dtype(name).itemsize

    def _numbers(self, dtype: np.dtype[Any], names: Sequence[str]) -> NDArray[Any]:
        """View all outputs of one type, which lie one behind the other: [groups, numbers]."""
        begin, last = self._offsets[names[0]], names[-1]
        end = self._offsets[last] + self._bytes(last)
        return self._blocks[:, begin:end].view(dtype)


class PackedValues:
    """What the packed outputs of a network were for one set, in memory of their own.

    Parameters
    ----------
    outputs : describes them
    copies : number of a run -> copy of its block
    cameras : numbers of those whose images went through the network, in order
    invalid : number of a camera -> outputs that it is left out of
    """

    __slots__ = ("_cameras", "_copies", "_invalid", "_outputs")

    def __init__(
        self,
        outputs: PackedOutputs,
        copies: Mapping[int, NDArray[np.uint8]],
        cameras: Collection[int],
        invalid: Mapping[int, Collection[str]],
    ) -> None:
        self._outputs = outputs
        self._copies = copies
        self._cameras = cameras
        self._invalid = invalid

    def __call__(self, name: str) -> dict[str, CameraPrediction]:
        """Make one output's values: views of the copy, by camera."""
        outputs = self._outputs
        valid = (number for number in self._cameras if name not in self._invalid.get(number, ()))
        made = [outputs.describe(name, number, self._copies[number // outputs.batch]) for number in valid]
        return {output.camera: output for output in made}
