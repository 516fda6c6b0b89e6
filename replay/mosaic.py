"""Every camera's pixels cast to the ground and blended into one top-down picture."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..fusion.grid import BevGrid
from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Rig
from ..runtime.frames import FrameSet
from ..runtime.images import bgr_of, load_opencv

cv2: Any = load_opencv()

_BORDER_SHARE: Final = 0.04
"""Width of the soft image border, as a share of the image width."""


@dataclass(frozen=True, slots=True, eq=False)
class CameraView:
    """One image and where it was taken.

    name : camera name
    image : uint8 [H, W, 3] BGR
    intrinsics : of exactly this image
    set_from_camera : optical camera frame at the image's own time -> ego frame at the time of the set
    """

    name: str
    image: NDArray[np.uint8]
    intrinsics: Intrinsics
    set_from_camera: Pose


def views_of(frame_set: FrameSet, rig: Rig) -> Iterator[CameraView]:
    """Decode the images of a set at full size, each placed where the ego was when it was taken.

    Raises
    ------
    ImageError
        An image cannot be decoded or has not the size that its calibration says.
    """
    for camera in rig:
        frame = frame_set.frame(camera.name)
        if frame is None:
            continue
        image = bgr_of(frame, (camera.intrinsics.width, camera.intrinsics.height))
        moved = set_from_ego(frame_set, camera.name)
        yield CameraView(camera.name, image, camera.intrinsics, moved @ camera.ego_from_camera)


def set_from_ego(frame_set: FrameSet, camera: str) -> Pose:
    """Return the ego frame when a camera took its image -> ego frame of the set; identity where poses are missing."""
    frame = frame_set.frame(camera)
    if frame is None or frame.world_from_ego is None or frame_set.world_from_ego is None:
        return Pose.identity()
    return frame_set.world_from_ego.inverse() @ frame.world_from_ego


@dataclass(frozen=True, slots=True, eq=False)
class GroundMosaic:
    """Images cast to the ground plane z = 0.

    picture : uint8 [nx, ny, 3] BGR on `grid`, 0 where no camera sees the ground
    count : uint8 [nx, ny], how many cameras see the cell
    disagreement : float32 [nx, ny], weighted standard deviation of brightness between the cameras that see the cell,
        0..255; NaN where fewer than two do
    """

    grid: BevGrid
    picture: NDArray[np.uint8]
    count: NDArray[np.uint8]
    disagreement: NDArray[np.float32]


def cast_to_ground(view: CameraView, grid: BevGrid) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Look up the pixel of every ground cell in one image.

    Returns
    -------
    picture : uint8 [nx, ny, 3] BGR
    weight : float32 [nx, ny], pixels per metre on the ground, faded at the image border; 0 where not seen
    """
    centres = grid.centres()
    points = np.concatenate([centres, np.zeros((*grid.shape, 1))], axis=-1)
    in_camera = view.set_from_camera.inverse().apply(points)
    pixels, valid = view.intrinsics.project(in_camera)
    height_m = float(view.set_from_camera.translation_m[2])
    valid &= height_m > 0
    maps = np.where(valid[..., None], pixels, -1e4).astype(np.float32)
    picture = cv2.remap(view.image, maps, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    distance = np.linalg.norm(in_camera, axis=-1)
    # across the ray a pixel covers distance / f; along the ground it is longer by 1 / sin(angle below the horizon)
    resolution = view.intrinsics.fx / distance * max(height_m, 1e-3) / distance
    lens = view.intrinsics
    border = _BORDER_SHARE * lens.width
    with np.errstate(invalid="ignore"):
        to_side = np.minimum(pixels[..., 0] + 0.5, lens.width - 0.5 - pixels[..., 0])
        to_end = np.minimum(pixels[..., 1] + 0.5, lens.height - 0.5 - pixels[..., 1])
        fade = np.clip(np.minimum(to_side, to_end) / border, 0.02, 1.0)
    weight = np.where(valid, resolution * fade, 0.0)
    return np.asarray(picture, dtype=np.uint8), weight.astype(np.float32)


def make_mosaic(views: Iterable[CameraView], grid: BevGrid, *, sharpness: float = 2.0) -> GroundMosaic:
    """Blend the views of a set.

    Parameters
    ----------
    sharpness : exponent of the blending weights; larger prefers the camera with the best resolution more strongly
    """
    total = np.zeros((*grid.shape, 3), dtype=np.float32)
    weights = np.zeros(grid.shape, dtype=np.float32)
    brightness = np.zeros(grid.shape, dtype=np.float32)
    squares = np.zeros(grid.shape, dtype=np.float32)
    count = np.zeros(grid.shape, dtype=np.uint8)
    for view in views:
        picture, weight = cast_to_ground(view, grid)
        seen = weight > 0
        weight = weight**sharpness
        total += picture * weight[..., None]
        grey = picture.mean(axis=-1, dtype=np.float32)
        weights += weight
        brightness += grey * seen
        squares += grey**2 * seen
        count += seen
    with np.errstate(divide="ignore", invalid="ignore"):
        blended = np.where(weights[..., None] > 0, total / weights[..., None], 0.0)
        mean = brightness / count
        spread = np.sqrt(np.maximum(squares / count - mean**2, 0.0))
    spread[count < 2] = np.nan
    return GroundMosaic(grid, np.rint(blended).astype(np.uint8), count, spread.astype(np.float32))
