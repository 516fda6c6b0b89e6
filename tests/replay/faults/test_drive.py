import numpy as np
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.replay.drive import Drive, DriveStep, GroundTruth, Losses
from octobev.replay.faults import FaultyDrive, parse_fault
from octobev.runtime.frames import Frame, FrameSet

MS = 1_000_000
T0 = 1_700_000_000_000_000_000
PERIOD, STAGGER = 100 * MS, 10 * MS
GRID = BevGrid(0.0, 2.0, 0.0, 1.0, 1.0)
NAMES = ("front", "left", "rear")
RIG = Rig(tuple(Camera(name, Intrinsics(4, 3, 4, 4, 1.5, 1.0), Pose.identity()) for name in NAMES))


class Recorded(Drive):
    """Sets of three cameras that fire 10 ms after one another."""

    def __init__(self, sets=30):
        self.name, self.rig, self.losses, self.sets = "recorded", RIG, Losses(), sets

    def steps(self, *, start_s=0.0, duration_s=None):
        for number in range(round(start_s * 10), self.sets):
            begin = T0 + number * PERIOD
            frames = tuple(
                Frame(
                    name,
                    begin + k * STAGGER,
                    np.full((3, 4, 3), number, np.uint8),
                    "bgr8",
                    Pose.planar(number, k, 0),
                )
                for k, name in enumerate(NAMES)
            )
            truth = GroundTruth(frames[-1].timestamp_ns, GRID, {"drivable": np.full(GRID.shape, number % 2, np.uint8)})
            yield DriveStep(FrameSet(frames[-1].timestamp_ns, frames, frames[-1].world_from_ego), truth)


def steps(*faults, drive=None, seed=0, **part):
    return list(FaultyDrive(drive or Recorded(), [parse_fault(text) for text in faults], seed).steps(**part))


def ids(step):
    frame_set = step.frame_set
    times = [(frame.camera, frame.timestamp_ns, int(np.asarray(frame.data)[0, 0, 0])) for frame in frame_set.frames]
    return frame_set.timestamp_ns, times, dict(frame_set.absences), frame_set.world_from_ego.translation_m.tolist()


def absent(made, camera):
    """Numbers of the sets of the drive in which a camera is absent."""
    return [(s.frame_set.timestamp_ns - T0) // PERIOD for s in made if s.frame_set.frame(camera) is None]


def test_without_faults_the_sets_are_those_of_the_drive():
    assert [ids(step) for step in steps()] == [ids(step) for step in Recorded().steps()]
    assert [step.truth.layers["drivable"][0, 0] for step in steps()] == [number % 2 for number in range(30)]


def test_lost_camera_is_absent_and_comes_back():
    made = steps("lose:left@1s+500ms")
    assert len(made) == 30
    assert absent(made, "left") == [10, 11, 12, 13, 14]
    assert absent(made, "front") == []
    reasons = {step.frame_set.absences["left"] for step in made if "left" in step.frame_set.absences}
    assert reasons <= {"missing", "not there within 80 ms"}


def test_truth_stays_with_the_sets_of_its_time():
    made = steps("lose:rear@1s+1s")
    assert {len(step.frame_set.frames) for step in made if step.truth is None} == {2}
    assert {len(step.frame_set.frames) for step in made if step.truth is not None} == {3}


def test_camera_that_is_too_late_is_left_out():
    made = steps("delay:rear+300ms@1s+1s")
    assert 5 < len(absent(made, "rear")) < 13


def test_camera_whose_clock_jumps_is_left_out_until_it_is_right_again():
    made = steps("clock:front+5s@1s+500ms")
    gone = absent(made, "front")
    assert set(gone) >= {11, 12, 13}
    assert max(gone) < 25
    assert "clock differs" in " ".join(step.frame_set.absences.get("front", "") for step in made)


def test_nothing_arrives_while_all_are_lost():
    made = steps("lose:*@1s+1s")
    numbers = [(step.frame_set.timestamp_ns - T0) // PERIOD for step in made]
    assert not set(numbers) & set(range(11, 19))
    assert numbers[-1] == 29


def test_reordered_frames_are_used_at_most_once():
    made = steps("reorder:*@..")
    used = [(frame.camera, frame.timestamp_ns) for step in made for frame in step.frame_set.frames]
    assert len(used) == len(set(used))
    times = [step.frame_set.timestamp_ns for step in made]
    assert times == sorted(set(times))


def test_same_seed_same_sets_again_and_again():
    drive = FaultyDrive(Recorded(), [parse_fault("lose:*%30@.."), parse_fault("reorder:*@..")], 3)
    first, second = ([ids(step) for step in drive.steps()] for _ in range(2))
    assert first == second
    assert first != [ids(step) for step in steps("lose:*%30@..", "reorder:*@..", seed=4)]


def test_times_of_faults_count_from_the_part_that_is_played():
    made = steps("lose:left@1s", start_s=1.0)
    assert min(absent(made, "left")) == 20


def test_time_is_told_before_each_set():
    told = []
    drive = FaultyDrive(Recorded(5), [], follow=told.append)
    for number, _ in enumerate(drive.steps()):
        assert told[number] >= number * PERIOD
    assert told == sorted(told)
    assert len(told) == 5
