import numpy as np
from numpy.typing import NDArray

def to_octets(probability: NDArray[np.float32], octets: NDArray[np.uint8]) -> bool: ...
