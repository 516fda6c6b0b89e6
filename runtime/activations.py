"""What turns a network's last numbers into probabilities or metres, where the graph does not do it itself."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, expected

ACTIVATIONS = ("none", "sigmoid", "softmax", "exp")


def activate(name: str, values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Apply an activation in place.

    Parameters
    ----------
    name : none, sigmoid, softmax (over `axis`) or exp
    values : float32, overwritten
    axis : the class axis

    Returns
    -------
    `values`
    """
    if name == "softmax":
        values -= values.max(axis=axis, keepdims=True)
        np.exp(values, out=values)
        values /= values.sum(axis=axis, keepdims=True)
    elif name == "sigmoid":
        np.negative(values, out=values)
        with np.errstate(over="ignore"):  # overflows to infinity: a probability of 0
            np.exp(values, out=values)
        values += 1
        np.reciprocal(values, out=values)
    elif name == "exp":
        np.exp(values, out=values)
    elif name != "none":
        raise InvalidArgument(expected("activation", f"one of {', '.join(ACTIVATIONS)}", name))
    return values
