import numpy as np
from numpy.typing import NDArray

def build(
    points: NDArray[np.float64],
    camera_from_points: NDArray[np.float64],
    lens_models: NDArray[np.int32],
    lens: NDArray[np.float64],
    limits: NDArray[np.float64],
    image_size: NDArray[np.float64],
    active: NDArray[np.uint8],
    feature_width: int,
    feature_height: int,
    stride: float,
    *,
    weighting: str = "resolution",
    border_px: float = 0.0,
    point_active: NDArray[np.uint8] | None = None,
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    depths: NDArray[np.float32],
    seen_by: NDArray[np.uint64],
    num_threads: int = 1,
) -> int: ...
def openmp_enabled() -> bool: ...
