"""Objects that a network found in one camera's image. A value type: numpy only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected

_FIELDS: Final[Mapping[str, np.dtype[Any]]] = {
    "boxes": np.dtype(np.float32),
    "scores": np.dtype(np.float32),
    "class_ids": np.dtype(np.uint16),
}


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """2-D objects in one camera's image, the best score first; none is a value too: its arrays are empty.

    Parameters
    ----------
    camera : name of the camera
    classes : names of all classes that the network tells apart
    boxes : float32 [n, 4], x_min, y_min, x_max, y_max in pixels of the camera's full image as it was taken (lens
        distortion and all), inside -0.5 .. width - 0.5 and -0.5 .. height - 0.5: pixel (0, 0) is the centre of the
        top-left pixel
    scores : float32 [n], 0..1
    class_ids : uint16 [n], place of the class in `classes`

    The arrays are copied and read-only.

    Raises
    ------
    InvalidArgument
        Arrays of other types or shapes, numbers that are not finite, a box that ends before it begins, a score outside
        of 0..1, a class that is not there.
    """

    camera: str
    classes: tuple[str, ...]
    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    class_ids: NDArray[np.uint16]

    kind: ClassVar[str] = "detections"
    """Kind of the output, as a manifest calls it."""

    def __post_init__(self) -> None:
        count = self.scores.size
        for name, dtype in _FIELDS.items():
            array, shape = getattr(self, name), (count, 4) if name == "boxes" else (count,)
            if array.dtype != dtype or array.shape != shape:
                wanted = f"{dtype.name} {list(shape)}"
                raise InvalidArgument(expected(name, wanted, f"{array.dtype} {list(array.shape)}"))
            array = array.copy()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if not count:
            return
        if not np.isfinite(self.boxes).all():
            raise InvalidArgument(expected("boxes", "finite", "NaN or infinity"))
        if not (self.boxes[:, :2] <= self.boxes[:, 2:]).all():
            raise InvalidArgument(expected("boxes", "x_min <= x_max and y_min <= y_max", "a box that is not"))
        if not (self.scores.min() >= 0 and self.scores.max() <= 1):
            raise InvalidArgument(expected("scores", "0..1", self.scores.tolist()[:8]))
        if int(self.class_ids.max()) >= len(self.classes):
            raise InvalidArgument(expected("class_ids", f"below {len(self.classes)}", int(self.class_ids.max())))

    @classmethod
    def of_network(
        cls,
        camera: str,
        classes: tuple[str, ...],
        boxes: NDArray[np.float32],
        scores: NDArray[np.float32],
        class_ids: NDArray[np.uint16],
    ) -> Self:
        """Take arrays that nobody else holds, made of checked numbers: in a step, checks and copies cost the most."""
        found = object.__new__(cls)
        for name, value in (("camera", camera), ("classes", classes)):
            object.__setattr__(found, name, value)
        for name, array in (("boxes", boxes), ("scores", scores), ("class_ids", class_ids)):
            array.flags.writeable = False
            object.__setattr__(found, name, array)
        return found

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def names(self) -> tuple[str, ...]:
        """Class name of each object."""
        return tuple(self.classes[class_id] for class_id in self.class_ids.tolist())

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays by name, in wire order."""
        return {name: getattr(self, name) for name in _FIELDS}
