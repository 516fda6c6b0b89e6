import numpy as np
from numpy.typing import NDArray

def find(
    values: NDArray[np.float32],
    observed: NDArray[np.uint8],
    smoothed: NDArray[np.float32],
    threshold: float,
    least_height: float,
    least_bend: float,
    strength: NDArray[np.float32],
    ridge: NDArray[np.uint8],
) -> None: ...
def crest(smoothed: NDArray[np.float32], cells: NDArray[np.int32], points: NDArray[np.float64]) -> None: ...
