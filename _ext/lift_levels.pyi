import numpy as np
from numpy.typing import NDArray

def is_quick() -> bool: ...
def fixed_weights(weights: NDArray[np.float32], out: NDArray[np.int16]) -> None: ...
def lift_levels(
    indptr: NDArray[np.int32],
    indices: NDArray[np.int32],
    weights: NDArray[np.int16],
    features: NDArray[np.uint8],
    scale: float,
    zero_point: int,
    out: NDArray[np.uint8],
    out_scale: float,
    out_zero_point: int,
    num_threads: int = 1,
    plain: bool = False,
) -> None: ...
