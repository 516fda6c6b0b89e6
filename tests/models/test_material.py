import numpy as np
import pytest
from octobev.errors import DriveError, InvalidArgument
from octobev.models.material import FILES_IN_USE, DriveFiles, Material, make_sources, spread
from octobev.models.mountings import jittered_rig
from octobev.replay.rigs import fisheye_rig, reference_rig, six_camera_rig


def sources(material, folder, files):
    return make_sources(material, folder, DriveFiles(tuple(files), ()), steps_per_file=8, wait=lambda: None)


def test_towns_alone_have_all_the_room(tmp_path):
    (source,) = sources(Material(tuple(range(200))), tmp_path, [])
    assert source.share == 1.0
    assert source.shelf.window == FILES_IN_USE
    assert source.shelf.in_use(0) == [tmp_path / "town_00000.npz", tmp_path / "town_00001.npz"]


def test_drives_alone_are_all_in_use_at_once(tmp_path):
    files = [tmp_path / f"{number}" for number in range(10)]
    (source,) = sources(Material((), ("a",), drive_share=0.2), tmp_path, files)
    assert source.share == 1.0
    assert source.shelf.in_use(0) == files
    assert not source.labelled


def test_towns_and_drives_share_the_room(tmp_path):
    files = [tmp_path / f"{number}" for number in range(100)]
    both = sources(Material(tuple(range(200)), ("a",), drive_share=0.25), tmp_path, files)
    assert [source.share for source in both] == [0.75, 0.25]
    assert [source.labelled for source in both] == [True, False]
    assert [source.shelf.window for source in both] == [0.75 * FILES_IN_USE, 0.25 * FILES_IN_USE]
    assert len(both[1].shelf.in_use(0)) == 0.25 * FILES_IN_USE


def test_a_file_of_a_drive_that_is_gone_is_not_waited_for(tmp_path):
    (source,) = sources(Material((), ("a",)), tmp_path, [tmp_path / "gone"])
    with pytest.raises(DriveError, match="is missing; was it deleted"):
        source.shelf.open(tmp_path / "gone")


def test_towns_of_other_rigs_are_elsewhere(tmp_path):
    rigs = (reference_rig(), six_camera_rig(), fisheye_rig())
    folders = [
        Material((0,), rigs=chosen).town_folder(tmp_path) for chosen in ((), rigs[:1], rigs[1:2], rigs, rigs[::-1])
    ]
    assert folders[0] == tmp_path
    assert len(set(folders)) == 5
    assert Material((5,), rigs=rigs).town_folder(tmp_path) == folders[3]


def test_towns_of_a_rig_that_was_calibrated_again_are_elsewhere(tmp_path):
    again = jittered_rig(reference_rig(), np.random.default_rng(0))
    folders = {Material((0,), rigs=(rig,)).town_folder(tmp_path) for rig in (reference_rig(), again)}
    assert len(folders) == 2


def test_held_out_towns_are_drawn_early():
    assert Material((1, 2, 3, 4), held_out_towns=(8, 9)).towns_to_draw == [1, 2, 8, 9, 3, 4]


def test_files_are_spread_over_a_drive():
    assert spread([0, 1, 2, 3, 4], 2) == [0, 4]
    assert spread([0, 1, 2, 3, 4], 3) == [0, 2, 4]
    assert spread([7], 2) == [7]
    assert spread([], 2) == []


def test_nothing_to_learn_from_is_refused():
    with pytest.raises(InvalidArgument, match="data to learn from must be towns or drives, got neither"):
        Material(())


@pytest.mark.parametrize("share", [0.0, 1.0, -0.5, float("nan")])
def test_share_of_drives_is_bounded(share):
    with pytest.raises(InvalidArgument, match="share of drives must be above 0 and below 1"):
        Material((1,), ("a",), share)


def test_drives_to_measure_on_are_held_out():
    with pytest.raises(InvalidArgument, match=r"validation drive must be held out, got a/\.\./b\.mcap"):
        Material((1,), ("b.mcap",), held_out_drives=("a/../b.mcap",))
