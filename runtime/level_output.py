"""Features that a per-camera network gives as levels of 8 bits, for lifts that take them so."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._ext.magnitude import magnitude
from ..fusion.levels import Levels
from ..fusion.view import aligned_zeros
from .camera_outputs import count_not_finite, dense_shape
from .manifest import ImageOutput
from .session import TensorSpec


class LevelOutput:
    """Features in levels, one vector per output pixel, channels last; otherwise as :class:`DenseOutput`.

    Levels are always finite, so there is nothing to check, unless somebody tampered with the numbers that they stand
    for.

    Parameters
    ----------
    where : path in the manifest, for messages
    spec : the declaration
    tensor : the ONNX graph output
    levels : what its levels stand for
    shape : height and width in output pixels
    cameras : number of cameras
    batch : images per run; cameras are rounded up to whole batches

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
        levels: Levels,
        *,
        shape: tuple[int, int],
        cameras: int,
        batch: int,
    ) -> None:
        self.spec = spec
        self.shape = shape
        self.levels = levels
        numbers = replace(tensor, dtype=np.dtype(np.float32))
        self._bound_shape, self.channels = dense_shape(where, spec, numbers, shape, batch)
        self._cameras = cameras
        self._batch = batch
        self._pixels = shape[0] * shape[1]
        padded = -(-cameras // batch) * batch
        self._values: NDArray[np.uint8] = aligned_zeros((padded, self._pixels, self.channels), np.uint8)
        self._values[:] = levels.zero_point

    @property
    def rows(self) -> NDArray[np.uint8]:
        """uint8 [cameras * h * w, channels], overwritten by the next run."""
        return self._values.reshape(-1, self.channels)[: self._cameras * self._pixels]

    def bound(self, group: int) -> dict[str, NDArray[Any]]:
        """Give the memory that a batch of cameras is written to, by tensor and in its shape."""
        values = self._values[group * self._batch : (group + 1) * self._batch]
        return {self.spec.tensor: values.reshape(self._bound_shape)}

    def clear(self, camera: int) -> None:
        """Set what a camera gave to zero."""
        self._values[camera] = self.levels.zero_point

    def finish(self, camera: int, results: Mapping[str, NDArray[Any]]) -> str | None:
        """Take over numbers that somebody may have tampered with; returns None, or why they are not valid."""
        given = results[self.spec.tensor]
        if given.dtype == np.uint8:
            return None
        numbers = given.reshape(self._batch, self._pixels, self.channels)[camera % self._batch]
        if not math.isfinite(magnitude(numbers)[0]):
            self.clear(camera)
            return count_not_finite(numbers)
        self._values[camera] = self.levels.nearest(numbers)
        return None

    def values(self, camera: int) -> NDArray[np.float32]:
        """Make numbers of what a camera gave, float32 [h * w, channels] or [h, w, channels] as declared, new memory."""
        numbers = self.levels.numbers(self._values[camera])
        return numbers if self.spec.layout == "rows" else numbers.reshape(*self.shape, self.channels)
