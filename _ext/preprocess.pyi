from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

MAY_DOT: bool

def resize(
    image: NDArray[np.uint8],
    out: NDArray[Any],
    crop: tuple[float, float, float, float] | None = None,
    *,
    yuv: Literal["nv12", "yuyv"] | str | None = None,
    sampling: Literal["bilinear", "area"] | str = "bilinear",
    layout: Literal["nchw", "nhwc"] | str = "nchw",
    swap_rb: bool = False,
    scale: NDArray[np.float32] | None = None,
    offset: NDArray[np.float32] | None = None,
    inset: tuple[int, int, int, int] | None = None,
    fill: NDArray[np.float32] | None = None,
    num_threads: int = 1,
) -> None: ...
def remap(
    image: NDArray[np.uint8],
    out: NDArray[Any],
    map_x: NDArray[np.float32],
    map_y: NDArray[np.float32],
    *,
    yuv: Literal["nv12", "yuyv"] | str | None = None,
    layout: Literal["nchw", "nhwc"] | str = "nchw",
    swap_rb: bool = False,
    scale: NDArray[np.float32] | None = None,
    offset: NDArray[np.float32] | None = None,
    fill: NDArray[np.float32] | None = None,
    num_threads: int = 1,
) -> None: ...
