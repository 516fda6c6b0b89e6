import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.pose import Pose
from octobev.replay.arrivals import Arrival, StampedPose
from octobev.replay.live import FLUSH_S, LiveSinks, play_live
from octobev.runtime.frames import Frame
from octobev.runtime.predictions import Predictions, Provenance, StateStatus

MS = 1_000_000
T0 = 1_000_000 * MS
IMAGE = np.zeros((3, 4, 3), np.uint8)


class Time:
    """A clock that stands still but for waiting, and for what something costs."""

    def __init__(self):
        self.now_ns = 0
        self.waits = []

    def __call__(self):
        return self.now_ns

    def wait(self, seconds):
        self.waits.append(seconds)
        self.now_ns += round(seconds * 1e9)


class Recording:
    """A live runtime that only remembers what it was given, and when."""

    def __init__(self, time, cost_ns=0, interrupt_at=None):
        self.time, self.cost_ns, self.interrupt_at = time, cost_ns, interrupt_at
        self.frames, self.poses, self.flushed = [], [], []

    def submit_frame(self, frame):
        if len(self.frames) == self.interrupt_at:
            raise KeyboardInterrupt
        self.frames.append((self.time.now_ns // MS, frame))
        self.time.now_ns += self.cost_ns

    def submit_pose(self, timestamp_ns, world_from_ego):
        self.poses.append((self.time.now_ns // MS, timestamp_ns))

    def flush(self, timeout_s):
        self.flushed.append(timeout_s)
        return True


def frame(camera, at_ms, pose=None):
    return Frame(camera, T0 + at_ms * MS, IMAGE, "bgr8", pose)


def stream(*times_ms, cameras=("a",)):
    made = []
    for at in times_ms:
        made.append(Arrival(at * MS, StampedPose(T0 + at * MS, Pose.planar(at, 0, 0))))
        made += [Arrival(at * MS, frame(camera, at, Pose.planar(at, 0, 0))) for camera in cameras]
    return made


def play(arrivals, cost_ns=0, interrupt_at=None, **options):
    time = Time()
    runtime = Recording(time, cost_ns, interrupt_at)
    return play_live(arrivals, runtime, clock=time, wait=time.wait, **options), runtime


@pytest.mark.parametrize(("rate", "times"), [(1.0, [0, 100, 300]), (2.0, [0, 50, 150]), (0.5, [0, 200, 600])])
def test_each_frame_and_pose_goes_in_at_its_time(rate, times):
    pacing, runtime = play(stream(0, 100, 300), rate=rate)
    assert [at for at, _ in runtime.frames] == times
    assert [at for at, _ in runtime.poses] == times
    assert (pacing.frames, pacing.poses, pacing.late) == (3, 3, 0)
    assert pacing.drive_seconds == pytest.approx(0.3)
    assert pacing.seconds == pytest.approx(times[-1] / 1000)
    assert pacing.flushed
    assert runtime.flushed == [FLUSH_S]


def test_frames_go_without_their_poses():
    _, runtime = play(stream(0))
    assert runtime.frames[0][1].world_from_ego is None
    assert runtime.frames[0][1].data is IMAGE


def test_drive_that_cannot_be_read_fast_enough_is_counted():
    pacing, runtime = play(stream(0, 10, 20, 30, 200), cost_ns=25 * MS)
    assert [at for at, _ in runtime.frames] == [0, 25, 50, 75, 200]
    assert pacing.late == 2, "those that were more than 20 ms late"
    assert pacing.latest_by_ms == pytest.approx(45)


def test_frames_of_other_cameras_are_passed_over():
    pacing, runtime = play(stream(0, 100, cameras=("a", "b")), cameras=["b"])
    assert [found.camera for _, found in runtime.frames] == ["b", "b"]
    assert pacing.frames == 2


def test_who_follows_is_told_the_time_of_the_drive_before_the_arrival():
    told = []
    play(stream(0, 100, 300), rate=2.0, follow=lambda at_ns: told.append(at_ns // MS))
    assert told == [0, 0, 100, 100, 300, 300]


def test_interruption_is_no_error():
    pacing, runtime = play(stream(0, 100, 300), interrupt_at=2)
    assert pacing.interrupted
    assert pacing.frames == 3
    assert not pacing.flushed
    assert len(runtime.frames) == 2


@pytest.mark.parametrize("rate", [0.0, -1.0, float("inf"), float("nan")])
def test_rate_must_be_positive(rate):
    with pytest.raises(InvalidArgument, match="rate must be positive, got"):
        play([], rate=rate)


def predictions(at_ms, mask, ages_ms=(0, 0)):
    cameras = ("a", "b")
    return Predictions(
        timestamp_ns=T0 + at_ms * MS,
        sequence=0,
        cameras=cameras,
        camera_mask=np.array(mask),
        camera_age_ns=np.array(ages_ms, dtype=np.int64) * MS,
        absences={name: "gone" for name, used in zip(cameras, mask, strict=True) if not used},
        bev={},
        camera_outputs={},
        invalid={},
        state=StateStatus(False, "first set", 0),
        provenance=Provenance("b", "0", "0", (), (), 1),
    )


def taken(keep_images, *values, submit=((("a"), 0), ("b", 20), ("a", 100), ("b", 120))):
    seen, time = [], Time()
    sinks = LiveSinks({"see": lambda step, _: seen.append(step.frame_set)}, keep_images=keep_images, clock=time)
    for camera, at in submit:
        time.now_ns = at * MS
        sinks.submitted(frame(camera, at, Pose.planar(at, 0, 0)))
    time.now_ns = 150 * MS
    for value in values:
        sinks(value)
    return sinks, seen


def test_sinks_get_the_frames_that_predictions_were_made_from():
    _, (frame_set,) = taken(True, predictions(20, [True, True], [20, 0]))
    assert [(f.camera, f.timestamp_ns - T0) for f in frame_set.frames] == [("a", 0), ("b", 20 * MS)]
    assert frame_set.world_from_ego.translation_m[0] == pytest.approx(20)


def test_images_are_not_kept_where_no_sink_wants_them():
    _, (frame_set,) = taken(False, predictions(20, [True, False]), predictions(0, [False, False]))
    assert frame_set.frames == ()
    assert frame_set.absences == {"b": "gone"}


def test_predictions_without_a_camera_are_counted_only():
    sinks, seen = taken(True, predictions(200, [False, False]))
    assert (sinks.predictions, sinks.without_cameras, seen) == (1, 1, [])
    assert sinks.latency is None


def test_latency_counts_from_the_submission_of_the_last_frame_of_the_set():
    sinks, _ = taken(False, predictions(20, [True, True], [20, 0]), predictions(100, [True, False]))
    assert sinks.latency.count == 2
    assert sinks.latency.max_ms == pytest.approx(130)
    assert sinks.latency.p50_ms == pytest.approx((130 + 50) / 2)


def test_only_the_latest_frames_are_remembered():
    sinks, seen = taken(True, predictions(0, [True, False]), submit=[("a", at) for at in range(300)])
    assert seen[0].frames == ()
    assert len(sinks._submitted) == 256
