"""Names and patterns of cameras in a manifest."""

import pytest
from octobev.errors import RigError
from octobev.runtime.camera_names import covers, select_cameras


@pytest.mark.parametrize(
    ("names", "wanted", "meant"),
    [
        (["front"], "front", True),
        (["front"], "front_left", False),
        (["front"], "FRONT", False),
        (["front*"], "front", True),
        (["front*"], "cam_front", False),
        (["*front*"], "CAM_FRONT_LEFT", True),
        (["*"], "", True),
        (["a.c"], "abc", False),
        (["a?c*"], "abc", False),
        (["left", "*r"], "rear", True),
        (["front*"], "front_*", True),
        (["front_*"], "front*", False),
        (["front"], "*", False),
    ],
)
def test_a_name_is_itself_and_a_pattern_what_it_matches(names, wanted, meant):
    assert covers(names, wanted) == meant


def test_cameras_come_in_the_order_of_the_rig(make_rig):
    rig = make_rig("rear", "front_b", "left", "front_a")
    assert select_cameras(rig, ["front*", "rear"], "net") == ("rear", "front_b", "front_a")


def test_a_pattern_may_find_nothing_as_long_as_another_finds_something(make_rig):
    assert select_cameras(make_rig("rear", "left"), ["front*", "r*"], "net") == ("rear",)


def test_a_rig_without_any_camera_that_is_meant_is_refused(make_rig):
    with pytest.raises(
        RigError, match=r"^net: cameras must be patterns that match one of rig made \(rear, left\), got front\*, cen\*$"
    ):
        select_cameras(make_rig("rear", "left"), ["front*", "cen*"], "net")


def test_a_name_must_be_in_the_rig(make_rig):
    with pytest.raises(RigError, match=r"net: camera must be one of rig made \(rear, left\), got front"):
        select_cameras(make_rig("rear", "left"), ["front", "*"], "net")


def test_a_pattern_of_many_parts_is_not_tried_in_every_way() -> None:
    """Within the time limit of a test, which backtracking over twelve parts is not."""
    assert not covers(["*a" * 12 + "*b"], "a" * 60)
    assert covers(["*a" * 12 + "*b"], "a" * 60 + "b")
    assert covers(["f*a*a*t"], "fxaxat")
    assert not covers(["f*at*t"], "fat")
