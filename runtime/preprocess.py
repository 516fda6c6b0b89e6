"""From one camera's frames to one network's input: decode scale, crop or letterbox, undistortion, colour, numbers.

Everything is worked out once per camera and network; a frame then takes one decode and one pass of a kernel.

Sampling. What a manifest declares (`bilinear`, `area`) is done exactly on the decoded image. A JPEG is decoded at the
smallest of 1/1, 1/2, 1/4, 1/8 that still has at least as many pixels as the network takes, so no image is enlarged that
need not be. For `area` this is close to the average over the full image (the reduced decode is itself such an average,
computed from the DCT); for `bilinear` it takes away the aliasing that bilinear sampling of a much larger image would
give. A network that was trained with one exact sampling of full images says `decode = "full"`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .._ext import preprocess as kernel
from ..errors import InvalidArgument, expected
from ..fusion.lens import Intrinsics, LensModel
from .frames import Frame, PixelFormat
from .images import pixels_of, reduction_for
from .manifest import ImageInput
from .stages import StageTimes

_OUTSIDE = np.float32(-1e6)
_BEYOND_PX: Final = 1 << 20
"""How far beside the image a point may come to lie and still be told from its other side."""


def _outline(per_side: int) -> NDArray[np.float64]:
    """Points on the outline of the unit square, float64 [4 * per_side, 2], corners among them."""
    step = np.arange(per_side) / per_side
    zero, one = np.zeros(per_side), np.ones(per_side)
    sides = ((step, zero), (one, step), (1 - step, one), (zero, 1 - step))
    return np.concatenate([np.stack(side, axis=-1) for side in sides])


_OUTLINE: Final = _outline(8)


@dataclass(frozen=True, slots=True)
class Placement:
    """Which rectangle of the image goes where in the network's image; edges of pixels, not centres.

    left, top, width, height : rectangle of the camera's full image, pixels
    inset : x, y, width, height of the pixels of the network's image that it fills
    """

    left: float
    top: float
    width: float
    height: float
    inset: tuple[int, int, int, int]

    @classmethod
    def fitting(cls, image: tuple[int, int], network: tuple[int, int], fit: str) -> Placement:
        """Work out a fit, see :class:`octobev.runtime.manifest.ImageInput`. Sizes are width, height."""
        (w, h), (nw, nh) = image, network
        if fit == "crop":
            scale = max(nw / w, nh / h)
            width, height = min(w, nw / scale), min(h, nh / scale)
            return cls((w - width) / 2, (h - height) / 2, width, height, (0, 0, nw, nh))
        if fit == "letterbox":
            scale = min(nw / w, nh / h)
            inset_w, inset_h = max(1, min(nw, round(w * scale))), max(1, min(nh, round(h * scale)))
            return cls(0, 0, w, h, ((nw - inset_w) // 2, (nh - inset_h) // 2, inset_w, inset_h))
        return cls(0, 0, w, h, (0, 0, nw, nh))

    @property
    def network_from_image(self) -> NDArray[np.float64]:
        """Pixel coordinates of the full image to those of the network's image, float64 [3, 3], homogeneous."""
        x, y, width, height = self.inset
        sx, sy = width / self.width, height / self.height
        return np.array(
            [[sx, 0, (0.5 - self.left) * sx - 0.5 + x], [0, sy, (0.5 - self.top) * sy - 0.5 + y], [0, 0, 1]]
        )

    def camera(self, intrinsics: Intrinsics, network: tuple[int, int]) -> Intrinsics:
        """Give the camera that sees the network's image."""
        m = self.network_from_image
        return replace(
            intrinsics,
            width=network[0],
            height=network[1],
            fx=intrinsics.fx * m[0, 0],
            fy=intrinsics.fy * m[1, 1],
            cx=intrinsics.cx * m[0, 0] + m[0, 2],
            cy=intrinsics.cy * m[1, 1] + m[1, 2],
        )


class InputPlan:
    """How frames of one camera become the input of one network.

    Parameters
    ----------
    intrinsics : of the camera's full image
    spec : the network's input

    Attributes
    ----------
    intrinsics : of the network's image, after crop, resize and undistortion
    network_from_image : float64 [3, 3], homogeneous, pixel coordinates of the camera's full image (of the undistorted
        one where `undistort` is declared) to those of the network's image
    shape : of one image without the batch axis
    """

    def __init__(self, intrinsics: Intrinsics, spec: ImageInput) -> None:
        self.spec = spec
        self._image = intrinsics
        self._size = (intrinsics.width, intrinsics.height)
        network = (spec.width, spec.height)
        self.placement = Placement.fitting(self._size, network, spec.fit)
        straight = intrinsics.undistorted() if spec.undistort else intrinsics
        self.intrinsics = self.placement.camera(straight, network)
        self.network_from_image = self.placement.network_from_image
        self._box_offset = np.tile(self.network_from_image[:2, 2], 2)
        self._box_scale = np.tile(self.network_from_image.diagonal()[:2], 2)
        self._edges = np.full(4, -0.5), np.tile(self._size, 2) - 0.5
        plane = (spec.height, spec.width)
        self.shape = (spec.channels, *plane) if spec.layout == "nchw" else (*plane, spec.channels)
        self.dtype = np.dtype(spec.dtype)
        mean = np.array(spec.mean or [0.0] * spec.channels)
        std = np.array(spec.std or [1.0] * spec.channels)
        is_float = self.dtype == np.float32
        self._scale = (spec.scale / std).astype(np.float32) if is_float else None
        self._offset = (-mean / std).astype(np.float32) if is_float else None
        self._fill = np.full(spec.channels, spec.fill, dtype=np.float32)
        self._maps: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}
        self._undistort = spec.undistort and intrinsics.model is not straight.model

    def fits(self, intrinsics: Intrinsics, spec: ImageInput) -> bool:
        """Whether a plan for these would be the same."""
        return self._image == intrinsics and self.spec == spec

    def warm(self, pixel_formats: Iterable[PixelFormat]) -> None:
        """Make the maps that frames of these formats will need."""
        for reduction in {self.reduction(pixel_format) for pixel_format in pixel_formats} if self._undistort else ():
            self._map(reduction)

    @property
    def unseen_share(self) -> float:
        """Share of the network's image that no source pixel falls on: letterbox bars, corners after undistortion."""
        if not self._undistort:
            _, _, width, height = self.placement.inset
            return 1 - width * height / (self.spec.width * self.spec.height)
        return float(np.mean(self._map(1)[0] == _OUTSIDE))

    def reduction(self, pixel_format: PixelFormat) -> int:
        """By what the image is divided when it is decoded: 1, 2, 4 or 8."""
        if self.spec.decode == "full":
            return 1
        used = (self.placement.width, self.placement.height)
        return reduction_for(pixel_format, used, self.placement.inset[2:])

    def run(self, frame: Frame, out: NDArray[Any], stages: StageTimes, num_threads: int = 1) -> None:
        """Decode a frame and write the network's input.

        Parameters
        ----------
        frame : not written to
        out : :attr:`shape`, :attr:`dtype`, written
        stages : gets `decode` and `preprocess`

        Raises
        ------
        ImageError
            Corrupt, or not of the calibrated size.
        """
        if out.shape != self.shape or out.dtype != self.dtype:
            raise InvalidArgument(expected("out", f"{self.dtype} {self.shape}", f"{out.dtype} {out.shape}"))
        reduction = self.reduction(frame.pixel_format)
        grey, pixel_format = self.spec.colour == "mono", frame.pixel_format
        with stages.measure("decode", (frame.camera,)):
            image = pixels_of(frame, self._size, reduction, grey=grey)
        yuv = pixel_format.value if pixel_format.yuv and not grey else None
        swap_rb = (pixel_format is PixelFormat.RGB8) != (self.spec.colour == "rgb")
        with stages.measure("preprocess", (frame.camera,)):
            self._resample(image, out, reduction, yuv, swap_rb, num_threads)

    def image_boxes(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Carry boxes from the network's image back to the camera's full image, as it was taken.

        Parameters
        ----------
        boxes : float64 [n, 4], x_min, y_min, x_max, y_max, pixel coordinates of the network's image

        Returns
        -------
        float64 [n, 4], the same in the full image, clipped to it (-0.5 .. width - 0.5); where the network's image is
        undistorted, around the outline as the lens bends it. A box that lies beside the image has no area.
        """
        boxes = self._bent(boxes).reshape(-1, 4) if self._undistort else (boxes - self._box_offset) / self._box_scale
        first, last = self._edges
        np.maximum(boxes, first, out=boxes)
        return np.minimum(boxes, last, out=boxes)

    def _bent(self, boxes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Corners, float64 [n, 2, 2], of the boxes around the outlines of undistorted boxes in the distorted image."""
        size = np.array([self.spec.width, self.spec.height])
        low, high = np.split(np.clip(boxes.reshape(-1, 2, 2), -size, 2 * size), 2, axis=1)
        pinhole = self.intrinsics
        outline = low + _OUTLINE * (high - low)
        tangents = (outline - (pinhole.cx, pinhole.cy)) / (pinhole.fx, pinhole.fy)
        lens, limit = self._image, self._image.limit
        if lens.model is LensModel.KANNALA_BRANDT:
            limit = math.tan(min(limit, math.pi / 2))
        reach = np.maximum(np.hypot(tangents[..., 0], tangents[..., 1]), 1e-12)
        tangents *= np.minimum(1, limit * (1 - 1e-9) / reach)[..., np.newaxis]
        rays = np.concatenate((tangents, np.ones((*reach.shape, 1))), axis=-1)
        margin = _BEYOND_PX
        wide = lens.cropped(-margin, -margin, lens.width + 2 * margin, lens.height + 2 * margin)
        pixels, valid = wide.project(rays)
        pixels -= margin
        seen = valid[..., np.newaxis]
        corners = (np.where(seen, pixels, np.inf).min(axis=1), np.where(seen, pixels, -np.inf).max(axis=1))
        return np.stack(corners, axis=1)

    def _resample(
        self,
        image: NDArray[np.uint8],
        out: NDArray[Any],
        reduction: int,
        yuv: str | None,
        swap_rb: bool,
        num_threads: int,
    ) -> None:
        if self._undistort:
            kernel.remap(
                image,
                out,
                *self._map(reduction),
                yuv=yuv,
                layout=self.spec.layout,
                swap_rb=swap_rb,
                scale=self._scale,
                offset=self._offset,
                fill=self._fill,
                num_threads=num_threads,
            )
            return
        place = self.placement
        kernel.resize(
            image,
            out,
            (place.left / reduction, place.top / reduction, place.width / reduction, place.height / reduction),
            yuv=yuv,
            sampling=self.spec.sampling,
            layout=self.spec.layout,
            swap_rb=swap_rb,
            scale=self._scale,
            offset=self._offset,
            inset=place.inset,
            fill=self._fill,
            num_threads=num_threads,
        )

    def _map(self, reduction: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Where each pixel of the network's image lies in the decoded image; made once per decode scale."""
        if reduction not in self._maps:
            v, u = np.mgrid[: self.spec.height, : self.spec.width].astype(np.float64)
            rays, _ = self.intrinsics.unproject(np.stack((u, v), axis=-1))
            pixels, seen = self._image.project(rays)
            decoded = ((pixels + 0.5) / reduction - 0.5).astype(np.float32)
            decoded[~seen | self._barred(u, v)] = _OUTSIDE
            self._maps[reduction] = (decoded[..., 0].copy(), decoded[..., 1].copy())
        return self._maps[reduction]

    def _barred(self, u: NDArray[np.float64], v: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Pixels beside the inset."""
        x, y, width, height = self.placement.inset
        return np.asarray((u < x) | (u >= x + width) | (v < y) | (v >= y + height))
