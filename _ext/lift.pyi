import numpy as np
from numpy.typing import NDArray

def lift_rows(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    features: NDArray[np.float32],
    out: NDArray[np.float32],
    num_threads: int = 1,
) -> None: ...
def lift_planes(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    features: NDArray[np.float32],
    heights: int,
    out: NDArray[np.float32],
    num_threads: int = 1,
) -> None: ...
def lift_row_levels(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    features: NDArray[np.float32],
    out: NDArray[np.uint8],
    scale: float,
    zero_point: int,
    num_threads: int = 1,
) -> None: ...
def lift_plane_levels(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    features: NDArray[np.float32],
    heights: int,
    out: NDArray[np.uint8],
    scale: float,
    zero_point: int,
    num_threads: int = 1,
) -> None: ...
def depth_weights(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.float32],
    depths: NDArray[np.float32],
    depth_map: NDArray[np.float32],
    sigma_m: float,
    sigma_relative: float,
    out_weights: NDArray[np.float32],
    mass: NDArray[np.float32],
    num_threads: int = 1,
) -> None: ...
def row_mass(
    indptr: NDArray[np.int32],
    weights: NDArray[np.float32],
    mass: NDArray[np.float32],
    num_threads: int = 1,
) -> None: ...
def planes_to_rows(
    planes: NDArray[np.float32],
    rows: NDArray[np.float32],
    num_threads: int = 1,
) -> None: ...
