import numpy as np
from numpy.typing import NDArray

def warp_planes(
    source: NDArray[np.float32],
    source_from_target: NDArray[np.float64],
    out: NDArray[np.float32],
    fill: float = 0.0,
    num_threads: int = 1,
) -> None: ...
def warp_mask(
    source: NDArray[np.uint8],
    source_from_target: NDArray[np.float64],
    out: NDArray[np.uint8],
    num_threads: int = 1,
) -> None: ...
