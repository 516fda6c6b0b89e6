import numpy as np
from numpy.typing import NDArray

def find_objects(
    heat: NDArray[np.float32],
    sides: NDArray[np.float32],
    stride: float,
    threshold: float,
    max_overlap: float,
    boxes: NDArray[np.float64],
    scores: NDArray[np.float32],
    class_ids: NDArray[np.uint16],
) -> int: ...
