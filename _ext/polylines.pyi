import numpy as np
from numpy.typing import NDArray

def thin(mask: NDArray[np.uint8]) -> None: ...
def trace(
    skeleton: NDArray[np.uint8], nodes: NDArray[np.int32], cells: NDArray[np.int32], chains: NDArray[np.int32]
) -> tuple[int, int]: ...
def simplify(
    points: NDArray[np.float64], tolerance: float, keep: NDArray[np.uint8], stack: NDArray[np.int32]
) -> None: ...
