"""Lens models: from directions in the camera frame to pixels and back.

The camera frame is optical (x right, y down, z forward). Pixel coordinates follow OpenCV: the centre of the top-left
pixel is (0, 0). The same models are evaluated by the kernel `_ext.project`; the code here is the readable statement.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.polynomial import Polynomial
from numpy.typing import NDArray

from ..errors import CalibrationError, expected

Array = NDArray[np.float64]

_NEWTON_STEPS: Final = 12
_BISECTIONS: Final = 60
_UNPROJECT_TOLERANCE: Final = 1e-9
_WIDEST_TANGENT: Final = 1e4
_P2: Final = 3  # among the coefficients of Brown and Conrady: of what is not the same to the left and the right
"""Where the search for a Brown-Conrady radius ends when the lens never folds: within 0.006 degrees of the side."""


class LensModel(StrEnum):
    """How directions become pixels."""

    PINHOLE = "pinhole"
    BROWN_CONRADY = "brown_conrady"
    KANNALA_BRANDT = "kannala_brandt"

    @property
    def code(self) -> int:
        """Number of the model in the kernels' parameter table."""
        return list(LensModel).index(self)


COEFFICIENTS: Final = {
    LensModel.PINHOLE: (0,),
    LensModel.BROWN_CONRADY: (5, 8),
    LensModel.KANNALA_BRANDT: (4,),
}
"""How many distortion coefficients each model takes, in OpenCV's order: k1 k2 p1 p2 k3 [k4 k5 k6], or k1 k2 k3 k4."""


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """Image size, focal lengths, principal point and lens distortion of one camera.

    Parameters
    ----------
    width, height : image size in pixels
    fx, fy : focal lengths in pixels
    cx, cy : principal point in pixels; (0, 0) is the centre of the top-left pixel
    model : the lens model
    coefficients : distortion coefficients in OpenCV's order, see :data:`COEFFICIENTS`

    Raises
    ------
    CalibrationError
        A value that no camera can have, or a wrong number of coefficients.
    """

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float
    model: LensModel = LensModel.PINHOLE
    coefficients: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.model not in list(LensModel):
            raise CalibrationError(expected("lens model", f"one of {', '.join(LensModel)}", repr(self.model)))
        object.__setattr__(self, "model", LensModel(self.model))
        for name in ("fx", "fy", "cx", "cy"):
            object.__setattr__(self, name, float(getattr(self, name)))
        object.__setattr__(self, "coefficients", tuple(float(c) for c in self.coefficients))
        for name in ("fx", "fy", "cx", "cy"):  # numpy's numbers are no JSON, msgpack or TOML
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.width < 1 or self.height < 1:
            raise CalibrationError(expected("image size", "positive", f"{self.width}x{self.height}"))
        numbers = (self.fx, self.fy, self.cx, self.cy, *self.coefficients)
        if not all(map(math.isfinite, numbers)):
            raise CalibrationError(expected("intrinsics", "finite", numbers))
        if self.fx <= 0 or self.fy <= 0:
            raise CalibrationError(expected("focal lengths", "positive", f"fx {self.fx:g}, fy {self.fy:g}"))
        allowed = COEFFICIENTS[self.model]
        if len(self.coefficients) not in allowed:
            wanted = " or ".join(map(str, allowed))
            raise CalibrationError(
                expected(f"{self.model} coefficients", f"{wanted} numbers", f"{len(self.coefficients)}")
            )

    @property
    def matrix(self) -> Array:
        """Camera matrix K, float64 [3, 3]."""
        return np.array([[self.fx, 0, self.cx], [0, self.fy, self.cy], [0, 0, 1]], dtype=np.float64)

    @property
    def fov_deg(self) -> tuple[float, float]:
        """Horizontal and vertical field of view along the axes through the principal point, degrees.

        An image edge beyond the one-to-one range of the lens counts as that range's end.
        """
        edges = np.array([[-0.5, self.cy], [self.width - 0.5, self.cy], [self.cx, -0.5], [self.cx, self.height - 0.5]])
        rays, valid = self.unproject(edges)
        outward = np.array([-rays[0, 0], rays[1, 0], -rays[2, 1], rays[3, 1]])
        end = self.limit if self.model is LensModel.KANNALA_BRANDT else math.atan(self.limit)
        angles = np.degrees(np.where(valid, np.arctan2(outward, rays[:, 2]), end))
        return float(angles[0] + angles[1]), float(angles[2] + angles[3])

    @property
    def limit(self) -> float:
        """Where the model stops being one-to-one: a direction beyond it would fold back into the image.

        Pinhole and Brown-Conrady: the largest usable tan(angle from the optical axis). Kannala-Brandt: the largest
        usable angle itself, radians. A radial polynomial that never folds gives infinity (or pi).
        """
        return _fold(self.model, self.coefficients)

    def project(self, points_camera: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Project points into the image.

        Parameters
        ----------
        points_camera : float64 [..., 3], camera frame, metres

        Returns
        -------
        pixels_uv : float64 [..., 2]; NaN where not valid
        valid : bool [...], in front of the camera, inside the one-to-one range of the lens and inside the image
            (-0.5 <= u < width - 0.5, the same for v)
        """
        points = np.asarray(points_camera, dtype=np.float64)
        x, y, z = points[..., 0], points[..., 1], points[..., 2]
        lateral = np.hypot(x, y)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.model is LensModel.KANNALA_BRANDT:
                angle = np.arctan2(lateral, z)
                valid = (angle <= self.limit) & ((lateral > 0) | (z > 0))
                scale = np.where(lateral > 0, _radial(self.model, self.coefficients, angle) / lateral, 1 / z)
                xd, yd = x * scale, y * scale
            else:
                valid = (z > 0) & (lateral <= self.limit * z)
                xd, yd = _distort(self.coefficients, x / z, y / z)
            u, v = self.fx * xd + self.cx, self.fy * yd + self.cy
            valid = valid & (u >= -0.5) & (u < self.width - 0.5) & (v >= -0.5) & (v < self.height - 0.5)
        pixels = np.stack((u, v), axis=-1)
        pixels[~valid] = np.nan
        return pixels, valid

    def unproject(self, pixels_uv: Array) -> tuple[Array, NDArray[np.bool_]]:
        """Directions seen by pixels.

        Parameters
        ----------
        pixels_uv : float64 [..., 2]

        Returns
        -------
        rays : float64 [..., 3], unit length, camera frame; NaN where not valid
        valid : bool [...], whether the lens maps a direction to this pixel
        """
        pixels = np.asarray(pixels_uv, dtype=np.float64)
        xd = (pixels[..., 0] - self.cx) / self.fx
        yd = (pixels[..., 1] - self.cy) / self.fy
        if self.model is LensModel.KANNALA_BRANDT:
            image_radius = np.hypot(xd, yd)
            angle, valid = _invert_radial(self.model, self.coefficients, image_radius)
            with np.errstate(divide="ignore", invalid="ignore"):
                scale = np.where(image_radius > 0, np.sin(angle) / image_radius, 1.0)
            rays = np.stack((xd * scale, yd * scale, np.cos(angle)), axis=-1)
        else:
            x, y, valid = _undistort(self.coefficients, xd, yd)
            valid = valid & (np.hypot(x, y) <= self.limit)
            rays = np.stack((x, y, np.ones_like(x)), axis=-1)
            rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
        rays[~valid] = np.nan
        return rays, valid

    def cropped(self, left: float, top: float, width: int, height: int) -> Intrinsics:
        """Return the camera that sees only a rectangle of the image, whose top-left pixel is (left, top)."""
        return replace(self, width=width, height=height, cx=self.cx - left, cy=self.cy - top)

    def mirrored(self) -> Intrinsics:
        """Return the camera whose image is this one's seen in a mirror, left for right."""
        coefficients = list(self.coefficients)
        if self.model == LensModel.BROWN_CONRADY:
            coefficients[_P2] *= -1
        return replace(self, cx=self.width - 1.0 - self.cx, coefficients=tuple(coefficients))

    def resized(self, width: int, height: int) -> Intrinsics:
        """Return the camera after a resize of its image (pixel areas are mapped: centres move by half a pixel)."""
        sx, sy = width / self.width, height / self.height
        return replace(
            self,
            width=width,
            height=height,
            fx=self.fx * sx,
            fy=self.fy * sy,
            cx=(self.cx + 0.5) * sx - 0.5,
            cy=(self.cy + 0.5) * sy - 0.5,
        )

    def undistorted(self) -> Intrinsics:
        """Return the pinhole camera of the same size, focal lengths and principal point."""
        return replace(self, model=LensModel.PINHOLE, coefficients=())


def _radial(model: LensModel, coefficients: tuple[float, ...], r: Array) -> Array:
    """Distorted radius of an undistorted one, which is an angle (Kannala-Brandt) or its tangent (Brown-Conrady)."""
    r2 = r * r
    if model is LensModel.KANNALA_BRANDT:
        k1, k2, k3, k4 = coefficients
        return r * (1 + r2 * (k1 + r2 * (k2 + r2 * (k3 + r2 * k4))))
    k1, k2, _, _, k3, k4, k5, k6 = _eight(coefficients)
    return r * (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))


def _eight(coefficients: tuple[float, ...]) -> tuple[float, ...]:
    return coefficients + (0.0,) * (8 - len(coefficients))


def _distort(coefficients: tuple[float, ...], x: Array, y: Array) -> tuple[Array, Array]:
    """Brown (1971) with the rational radial term of OpenCV's calib3d documentation."""
    if not coefficients:
        return x, y
    k1, k2, p1, p2, k3, k4, k5, k6 = _eight(coefficients)
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    return (
        x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
        y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
    )


def _undistort(coefficients: tuple[float, ...], xd: Array, yd: Array) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Invert :func:`_distort`: the radial part by bisection, then Newton's method for the small tangential rest."""
    if not coefficients:
        return xd, yd, np.ones(xd.shape, dtype=np.bool_)
    image_radius = np.hypot(xd, yd)
    radius, _ = _invert_radial(LensModel.BROWN_CONRADY, coefficients, image_radius)
    scale = np.divide(radius, image_radius, out=np.ones_like(radius), where=image_radius > 0)
    x, y = xd * scale, yd * scale
    h = 1e-6
    with np.errstate(all="ignore"):
        for _ in range(_NEWTON_STEPS):
            fx, fy = _distort(coefficients, x, y)
            fx_x, fy_x = _distort(coefficients, x + h, y)
            fx_y, fy_y = _distort(coefficients, x, y + h)
            a, b, c, d = (fx_x - fx) / h, (fx_y - fx) / h, (fy_x - fy) / h, (fy_y - fy) / h
            ex, ey = xd - fx, yd - fy
            determinant = a * d - b * c
            step_x, step_y = (d * ex - b * ey) / determinant, (a * ey - c * ex) / determinant
            # half a unit at a time: keeps far pixels of strong lenses from jumping over the fold
            length = np.maximum(np.hypot(step_x, step_y) / 0.5, 1.0)
            x, y = x + step_x / length, y + step_y / length
        fx, fy = _distort(coefficients, x, y)
        valid = np.hypot(fx - xd, fy - yd) < _UNPROJECT_TOLERANCE * (1 + np.hypot(xd, yd))
    return x, y, valid


def _invert_radial(
    model: LensModel, coefficients: tuple[float, ...], image_radius: Array
) -> tuple[Array, NDArray[np.bool_]]:
    """Invert :func:`_radial` by bisection between 0 and the fold, where it is monotonic."""
    low = np.zeros_like(image_radius)
    high = np.full_like(image_radius, min(_fold(model, coefficients), _WIDEST_TANGENT))
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        above = _radial(model, coefficients, middle) > image_radius
        high, low = np.where(above, middle, high), np.where(above, low, middle)
    radius = 0.5 * (low + high)
    reached = _radial(model, coefficients, radius)
    return radius, np.abs(reached - image_radius) < _UNPROJECT_TOLERANCE * (1 + image_radius)


@lru_cache(maxsize=256)
def _fold(model: LensModel, coefficients: tuple[float, ...]) -> float:
    """Smallest positive radius at which :func:`_radial` stops growing: the first root of its derivative, or a pole."""
    if model is LensModel.PINHOLE:
        return math.inf
    squared = Polynomial([0.0, 1.0])  # the variable is r squared throughout
    if model is LensModel.KANNALA_BRANDT:
        numerator, denominator = Polynomial([1.0, *coefficients]), Polynomial([1.0])
    else:
        k1, k2, _, _, k3, k4, k5, k6 = _eight(coefficients)
        numerator, denominator = Polynomial([1.0, k1, k2, k3]), Polynomial([1.0, k4, k5, k6])
    # d/dr of r N(r²)/D(r²) has the sign of N D + 2 r² (N' D - N D')
    slope = numerator * denominator + 2 * squared * (numerator.deriv() * denominator - numerator * denominator.deriv())
    roots = np.concatenate([_roots(slope), _roots(denominator)])
    real = roots.real[(np.abs(roots.imag) <= 1e-9 * np.abs(roots)) & (roots.real > 0)]
    end = math.pi if model is LensModel.KANNALA_BRANDT else math.inf
    return float(np.sqrt(real).min(initial=end))


def _roots(polynomial: Polynomial) -> NDArray[np.complex128]:
    return np.asarray(polynomial.trim().roots(), dtype=np.complex128)
