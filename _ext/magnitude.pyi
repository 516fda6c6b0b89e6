from typing import Any

import numpy as np
from numpy.typing import NDArray

def magnitude(values: NDArray[np.floating[Any]]) -> tuple[float, bool]: ...
