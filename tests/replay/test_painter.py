from __future__ import annotations

import numpy as np
import pytest
from octobev.replay.painter import paint, painting_order, unobstructed


def rectangle(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    return np.array([[x1, y0], [x1, y1], [x0, y1], [x0, y0]], np.float32)


def test_a_car_before_a_long_house_is_painted_after_it() -> None:
    # the house begins beside the camera, nearer than the car, but the car stands before it
    house, car = rectangle(1, 40, 4, 9), rectangle(20, 24, 1, 3)
    order = painting_order(np.stack((car, house)), np.zeros(2, np.float32))
    assert order.tolist() == [1, 0]


@pytest.mark.parametrize("turn", range(4))
def test_the_nearer_of_two_boxes_in_line_is_painted_last(turn: int) -> None:
    quarter = np.linalg.matrix_power(np.array([[0, -1], [1, 0]], np.float32), turn)
    boxes = np.stack((rectangle(5, 7, -1, 1), rectangle(12, 14, -1, 1))) @ quarter.T
    assert painting_order(boxes, np.zeros(2, np.float32)).tolist() == [1, 0]


def test_no_bodies_have_an_empty_order() -> None:
    assert painting_order(np.zeros((0, 4, 2), np.float32), np.zeros(2, np.float32)).tolist() == []


def test_a_tree_behind_a_house_is_hidden_and_a_tower_is_not() -> None:
    house, behind = rectangle(10, 15, -5, 5), rectangle(30, 31, -0.5, 0.5)
    kept = unobstructed(
        np.stack((house, behind, behind)),
        np.array([10, 30, 30], np.float32),
        np.array([[-0.45, 0.45], [-0.02, 0.02], [-0.02, 0.02]], np.float32),
        np.array([6, 5, 40], np.float32),
        np.array([6, 0, 0], np.float32),
        1.4,
    )
    assert kept.tolist() == [True, False, True]


def test_details_change_the_picture_but_not_what_is_in_front() -> None:
    image, front = np.zeros((20, 20, 3), np.uint8), np.zeros((20, 20), np.int32)
    big = np.array([[2, 2], [17, 2], [17, 17], [2, 17]], np.float32)
    outlines = np.stack((big, 0.5 * big + 5))
    paint(image, front, outlines, np.array([[0, 0, 200], [0, 200, 0]], np.float32), np.array([False, True]))
    assert image[10, 10].tolist() == [0, 200, 0]
    assert image[3, 3].tolist() == [0, 0, 200]
    assert set(np.unique(front)) == {0, 1}
    assert front[10, 10] == 1
