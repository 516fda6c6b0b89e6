import numpy as np
from numpy.typing import NDArray

def smooth(
    values: NDArray[np.float32],
    observed: NDArray[np.uint8],
    taps: NDArray[np.float32],
    scratch: NDArray[np.float32],
    out: NDArray[np.float32],
) -> None: ...
