import numpy as np
from octobev.replay.bodies import OTHER, PEDESTRIAN, VEHICLE
from octobev.replay.objects import OBJECT_CLASSES, visible_boxes

KINDS = np.array([0, OTHER, VEHICLE, PEDESTRIAN, VEHICLE], np.uint8)


def view():
    things = np.zeros((40, 60), np.int32)
    things[5:15, 10:30] = 4
    things[8:20, 40:46] = 3
    things[20:40, 0:20] = 1
    return things


def test_boxes_enclose_whole_pixels():
    boxes = visible_boxes(view(), KINDS)
    np.testing.assert_array_equal(boxes, [[3, 39.5, 7.5, 45.5, 19.5], [2, 9.5, 4.5, 29.5, 14.5]])
    assert [OBJECT_CLASSES[int(kind) - VEHICLE] for kind in boxes[:, 0]] == ["pedestrian", "vehicle"]


def test_only_the_visible_part_counts():
    things = view()
    things[:, 20:] = 1
    np.testing.assert_array_equal(visible_boxes(things, KINDS), [[2, 9.5, 4.5, 19.5, 14.5]])


def test_parts_apart_are_one_thing():
    things = view()
    things[5:15, 15:25] = 1
    np.testing.assert_array_equal(visible_boxes(things, KINDS)[1], [2, 9.5, 4.5, 29.5, 14.5])


def test_what_is_hardly_seen_is_left_out():
    things = np.zeros((40, 60), np.int32)
    things[3:6, 3:30] = 2
    things[20:26, 20:22] = 3
    assert visible_boxes(things, KINDS).shape == (0, 5)
    assert len(visible_boxes(things, KINDS, least_side_px=2.0, least_pixels=5)) == 2


def test_nothing_in_sight():
    assert visible_boxes(np.zeros((4, 4), np.int32), KINDS).shape == (0, 5)
