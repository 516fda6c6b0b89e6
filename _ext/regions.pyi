import numpy as np
from numpy.typing import NDArray

def label(mask: NDArray[np.uint8], labels: NDArray[np.int32], stack: NDArray[np.int32]) -> int: ...
def outline(
    values: NDArray[np.float32],
    labels: NDArray[np.int32],
    region: int,
    level: float,
    points: NDArray[np.float64],
    outside: NDArray[np.int32],
) -> int: ...
def centre(
    values: NDArray[np.float32],
    observed: NDArray[np.uint8],
    direction: NDArray[np.float32],
    level: float,
    reach: float,
    near: float,
    offset: NDArray[np.float32],
    width: NDArray[np.float32],
) -> None: ...
