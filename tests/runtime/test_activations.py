import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.runtime.activations import activate


def array(*values):
    return np.array(values, dtype=np.float32)


def test_softmax_sums_to_one_over_the_class_axis_and_survives_large_numbers():
    values = activate("softmax", np.array([[1000.0, 0.0], [1000.0, np.log(3.0)]], dtype=np.float32), axis=0)
    assert values == pytest.approx(np.array([[0.5, 0.25], [0.5, 0.75]]))


def test_sigmoid_of_hand_computed_values():
    assert activate("sigmoid", array(0, np.log(3), -1000, 1000), axis=0) == pytest.approx([0.5, 0.75, 0, 1])


def test_exp_and_none_work_in_place():
    values = array(0, 1)
    assert activate("none", values, axis=0) is values
    assert activate("exp", values, axis=0) is values
    assert values == pytest.approx([1, np.e])


def test_nan_stays_nan():
    for name in ("softmax", "sigmoid", "exp"):
        assert np.isnan(activate(name, array(np.nan, 1), axis=0)[0])


def test_unknown_activation_is_refused():
    with pytest.raises(InvalidArgument, match="activation must be one of none, sigmoid, softmax, exp, got tanh"):
        activate("tanh", array(1), axis=0)
