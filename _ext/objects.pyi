import numpy as np
from numpy.typing import NDArray

def find_peaks(
    heat: NDArray[np.float32], threshold: float, places: NDArray[np.int64], scores: NDArray[np.float32]
) -> int: ...
def suppress(
    boxes: NDArray[np.float64], class_ids: NDArray[np.int64], max_overlap: float, stays: NDArray[np.uint8]
) -> None: ...
