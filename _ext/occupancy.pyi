import numpy as np
from numpy.typing import NDArray

def update_log_odds(
    log_odds: NDArray[np.float32],
    observed: NDArray[np.uint8],
    probability: NDArray[np.float32],
    mass: NDArray[np.float32],
    gain: NDArray[np.float32],
    prior_logit: NDArray[np.float32],
    decay: float,
    limit: float,
    min_mass: float,
    num_threads: int = 1,
) -> None: ...
