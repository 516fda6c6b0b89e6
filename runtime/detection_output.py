"""Detections from a heat map of object centres and a map of boxes, for networks of the CenterNet family.

A class has an object where its heat is the largest of 3 x 3 pixels ("Objects as Points", Zhou et al. 2019, section 3);
the box is what the other map says at that pixel: the distances from its centre to the four sides. The bell of a large
object may have several crests: of boxes of one class that overlap, the best stays (greedy non-maximum suppression).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from .._ext import objects as kernel
from ..errors import expected
from .camera_outputs import SLACK, DenseOutput, not_probabilities
from .detections import Detections
from .manifest import ImageOutput
from .preprocess import InputPlan
from .session import TensorSpec

SIDES: Final = ("left", "top", "right", "bottom")
"""Channels of a box tensor: distances from the pixel's centre to the sides, pixels of the network's image."""


class DetectionOutput:
    """Detections of a per-camera network for all its cameras.

    Parameters
    ----------
    where : path in the manifest, for messages
    spec : the declaration, of kind detections
    tensors : the ONNX graph outputs by name
    shape : height and width in output pixels
    plans : camera -> how its image became the network's
    batch : images per run; cameras are rounded up to whole batches

    Raises
    ------
    BundleError
        A tensor is not what is declared.
    """

    def __init__(
        self,
        where: str,
        spec: ImageOutput,
        tensors: Mapping[str, TensorSpec],
        *,
        shape: tuple[int, int],
        plans: Mapping[str, InputPlan],
        batch: int,
    ) -> None:
        self._spec = spec
        self._plans = list(plans.items())
        sides = msgspec.structs.replace(spec, tensor=spec.boxes or "", classes=SIDES, activation="none")
        self._heat, self._sides = (
            DenseOutput(
                where,
                part,
                tensors[part.tensor],
                shape=shape,
                cameras=len(plans),
                batch=batch,
                cast_down=False,
                meaning=meaning,
            )
            for part, meaning in ((spec, not_probabilities), (sides, _not_distances))
        )
        # views of the memory that the network writes to, and room for what is found: cameras may be done side by side
        self._maps = [(self._heat.planes(camera), self._sides.planes(camera)) for camera in range(len(plans))]
        most = min(spec.max_detections, len(spec.classes) * -(-shape[0] // 2) * -(-shape[1] // 2))  # no two peaks touch
        self._found = [(np.empty((most, 4)), np.empty(most, np.float32), np.empty(most, np.uint16)) for _ in plans]
        nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.uint16)
        self._nothing = [Detections(camera, spec.classes, *nothing) for camera in plans]
        self._latest = list(self._nothing)

    def bound(self, group: int) -> dict[str, NDArray[Any]]:
        """Give the memory that a batch of cameras is written to, by tensor."""
        return self._heat.bound(group) | self._sides.bound(group)

    def clear(self, camera: int) -> None:
        """Forget what a camera gave."""
        self._latest[camera] = self._nothing[camera]

    def finish(self, camera: int, results: Mapping[str, NDArray[Any]]) -> str | None:
        """Check what the network wrote for a camera and find the objects in it.

        Returns
        -------
        None, or why the output is not valid; there are no objects then.
        """
        reason = self._heat.finish(camera, results) or self._sides.finish(camera, results)
        self._latest[camera] = self._nothing[camera] if reason is not None else self._decode(camera)
        return reason

    def detections(self, camera: int) -> Detections:
        """Give what was found for a camera; nothing in it changes any more."""
        return self._latest[camera]

    def _decode(self, camera: int) -> Detections:
        spec = self._spec
        boxes, scores, class_ids = self._found[camera]
        heat, sides = self._maps[camera]
        stride, threshold, max_overlap = spec.stride or 1, spec.score_threshold, spec.max_overlap
        count = kernel.find_objects(heat, sides, stride, threshold, max_overlap, boxes, scores, class_ids)
        if not count:
            return self._nothing[camera]
        name, plan = self._plans[camera]
        boxes = plan.image_boxes(boxes[:count])
        seen = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
        return Detections.of_network(
            name, spec.classes, boxes[seen].astype(np.float32), scores[:count][seen], class_ids[:count][seen]
        )


def _not_distances(sides: NDArray[np.float32], largest: float, negative: bool) -> str | None:
    """Why finite numbers cannot be distances to the sides of boxes, or None."""
    least = float(sides.min()) if negative else 0.0
    return expected("distances to the sides of boxes", "at least 0", f"{least:.3g}") if least < -SLACK else None
