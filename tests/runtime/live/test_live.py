"""The live runtime on a clock of the test's: cameras fire every 50 ms."""

import dataclasses
import hashlib
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from octobev.errors import ImageError, InvalidArgument, RigError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Rig, rig_sha256
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.live.health import CameraCondition
from octobev.runtime.live.runtime import LiveRuntime
from octobev.runtime.live.settings import LiveSettings
from octobev.runtime.sync import ApproximateTime
from octobev.runtime.topics.publisher import Publisher
from octobev.runtime.topics.subscriber import Subscriber

MS = 1_000_000
PERIOD_NS = 50 * MS
START_NS = 1_700_000_000_000_000_000
POLICY = ApproximateTime(max_skew_ns=20 * MS, max_wait_ns=30 * MS)
LONG_S = 60.0
SETTINGS = LiveSettings(policy=POLICY, threads=2, health_period_s=0.1, frozen_after=None)


class Host:
    """Cameras, a clock, and what comes out."""

    def __init__(self, bundle, rig, **options):
        self.now_ns = 1000 * MS
        self.number = -1
        self.rig = rig
        self.given = []
        self.came = threading.Condition()
        self.frozen = set()
        settings = dataclasses.replace(SETTINGS, **options.pop("settings", {}))
        options.setdefault("on_predictions", self.take)
        self.live = LiveRuntime(bundle, rig, settings=settings, clock_ns=lambda: self.now_ns, **options)

    def take(self, predictions):
        with self.came:
            self.given.append(predictions)
            self.came.notify_all()

    def wait_for(self, condition):
        with self.came:
            assert self.came.wait_for(lambda: any(map(condition, self.given)), LONG_S)
            return next(predictions for predictions in self.given if condition(predictions))

    def image(self, camera, number):
        height, width = self.rig[camera].intrinsics.height, self.rig[camera].intrinsics.width
        shade = 10 if camera in self.frozen else 10 + number % 60
        return np.full((height, width, 3), shade, dtype=np.uint8)

    def frame(self, camera, number):
        pose = Pose.planar(0.1 * number, 0.0, 0.0)
        return Frame(camera, START_NS + number * PERIOD_NS, self.image(camera, number), world_from_ego=pose)

    def frame_set(self, number, cameras=None):
        frames = tuple(self.frame(camera, number) for camera in cameras or self.rig.names)
        return FrameSet(START_NS + number * PERIOD_NS, frames, Pose.planar(0.1 * number, 0.0, 0.0))

    def fire(self, cameras=None, count=1):
        """A period passes; at its end these cameras fire, and what can be stepped on is."""
        for _ in range(count):
            self.number += 1
            self.now_ns += PERIOD_NS
            for camera in self.rig.names if cameras is None else cameras:
                self.live.submit_frame(self.frame(camera, self.number))
            self.now_ns += 40 * MS  # over max_wait
            assert self.live.flush(LONG_S)
            self.now_ns -= 40 * MS


@pytest.fixture
def host(bundle, rig):
    host = Host(bundle, rig)
    yield host
    host.live.close()


def test_predictions_are_those_of_a_runtime_on_the_same_sets(host, bundle, rig):
    host.fire(count=6)
    with Runtime(bundle, rig) as runtime:
        for number, given in enumerate(host.given):
            expected = runtime.step(host.frame_set(number))
            assert given.timestamp_ns == expected.timestamp_ns
            assert given.sequence == number
            for name, output in expected.bev.items():
                for key, array in output.arrays().items():
                    np.testing.assert_array_equal(given.bev[name].arrays()[key], array)
    assert len(host.given) == 6
    assert host.live.latest() is host.given[-1]


def test_frames_from_one_thread_per_camera(bundle, rig):
    host = Host(bundle, rig)
    turn = threading.Barrier(len(rig.names))

    def drive(camera):
        for number in range(40):
            if turn.wait(LONG_S) == 0:
                host.now_ns = 1000 * MS + number * PERIOD_NS
            turn.wait(LONG_S)
            host.live.submit_frame(host.frame(camera, number))

    with host.live:
        threads = [threading.Thread(target=drive, args=(camera,)) for camera in rig.names]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG_S)
        assert host.live.flush(LONG_S)
        health = host.live.health()
    assert health.sets + health.overrun == 40
    assert health.incomplete == 0
    for camera in health.cameras.values():
        assert (camera.received, camera.used + camera.dropped.get("overrun", 0)) == (40, 40)


def test_lost_camera_is_masked_flagged_and_used_again_when_it_returns(host, bundle, rig):
    host.fire(count=8)
    host.fire(["front"], count=3)
    assert host.live.health().cameras["rear"].condition is CameraCondition.MISSING
    assert host.given[-1].camera_mask.tolist() == [True, False]
    assert host.given[-1].bev.keys() == host.given[0].bev.keys()
    host.fire(count=6)  # the first frame may be late: nothing waited for it
    assert host.given[-1].camera_mask.all()
    assert host.live.health().cameras["rear"].condition is CameraCondition.OK
    with Runtime(bundle, rig) as undisturbed:
        for number in range(17):
            expected = undisturbed.step(host.frame_set(number))
    layout, undisturbed_layout = host.given[-1].road_layout, expected.road_layout
    np.testing.assert_array_equal(layout.seen_by, undisturbed_layout.seen_by)


def test_without_any_camera_predictions_say_that_they_are_not_valid(host):
    host.fire(count=5)
    host.now_ns += 900 * MS
    silent = host.wait_for(lambda predictions: not predictions.camera_mask.any())
    assert not silent.bev
    assert not silent.camera_outputs
    reason = "no camera delivers (missing)"
    assert {reason} == set(silent.invalid.values())
    assert {"road_layout", "occupancy", "segmentation/front"} <= silent.invalid.keys()
    assert silent.timestamp_ns == START_NS + 4 * PERIOD_NS + 900 * MS
    health = host.live.health()
    assert (health.valid, health.reason) == (False, reason)
    host.number += 18
    host.fire(count=4)
    assert host.live.health().valid
    assert host.given[-1].bev


def test_frozen_camera_is_left_out_and_said_to_be_stale(bundle, rig):
    host = Host(bundle, rig, settings={"frozen_after": 4})
    with host.live:
        host.frozen = {"rear"}
        host.fire(count=10)
        health = host.live.health()
        assert health.cameras["rear"].condition is CameraCondition.STALE
        assert health.cameras["rear"].dropped["stale"] >= 6
        assert host.given[-1].absences == {"rear": "stale"}
        assert health.cameras["front"].condition is CameraCondition.OK
        host.frozen = set()
        host.fire(count=4)
        assert host.given[-1].camera_mask.all()


def test_image_that_cannot_be_read_is_counted_and_its_camera_corrupt(host):
    host.fire(count=3)
    host.number += 1
    host.now_ns += PERIOD_NS
    timestamp_ns = START_NS + host.number * PERIOD_NS
    host.live.submit_frame(host.frame("front", host.number))
    host.live.submit("rear", b"no JPEG", timestamp_ns, pixel_format="jpeg")
    assert host.live.flush(LONG_S)
    health = host.live.health()
    assert health.cameras["rear"].corrupt == 1
    assert health.cameras["rear"].condition is CameraCondition.CORRUPT
    assert "rear" in host.given[-1].absences
    assert health.errors == {}


def test_when_no_image_can_be_read_nothing_is_said_of_what_is_remembered(host):
    host.fire(count=3)
    host.number += 1
    host.now_ns += PERIOD_NS
    for camera in host.rig.names:
        timestamp_ns = START_NS + host.number * PERIOD_NS
        host.live.submit(camera, b"no JPEG", timestamp_ns, pixel_format="jpeg")
    assert host.live.flush(LONG_S)
    blind = host.given[-1]
    assert (blind.bev, blind.camera_outputs) == ({}, {})
    assert set(blind.invalid.values()) == {"no camera gave an image that can be used"}
    assert "JPEG" in blind.absences["rear"]
    assert blind.state.carried
    assert not host.live.health().valid
    host.fire()
    assert host.given[-1].state.carried
    assert host.given[-1].bev


def test_network_that_gives_nan_is_withheld_and_counted(host):
    host.fire(count=2)
    host.number += 1
    host.now_ns += PERIOD_NS
    for camera in host.rig.names:
        poisoned = np.full((48, 64, 3), 77, dtype=np.uint8)
        host.live.submit(camera, poisoned, START_NS + host.number * PERIOD_NS)
    assert host.live.flush(LONG_S)
    assert "segmentation/front" in host.given[-1].invalid
    assert "segmentation" not in {name for name, by in host.given[-1].camera_outputs.items() if by}
    health = host.live.health()
    assert health.outputs["segmentation"].invalid == 1
    assert not health.outputs["segmentation"].valid


def test_when_behind_the_newest_set_wins_and_the_others_are_counted(bundle, rig):
    busy, go_on = threading.Event(), threading.Event()

    def block(predictions):
        busy.set()
        assert go_on.wait(LONG_S)

    host = Host(bundle, rig, on_predictions=block)
    with host.live:
        for number in range(5):
            host.now_ns += PERIOD_NS
            for camera in rig.names:
                host.live.submit_frame(host.frame(camera, number))
            if number == 0:
                assert busy.wait(LONG_S)
        go_on.set()
        assert host.live.flush(LONG_S)
        health = host.live.health()
        assert host.live.latest().timestamp_ns == START_NS + 4 * PERIOD_NS
        assert host.live.latest().state.carried
    assert (health.sets, health.overrun) == (2, 3)
    assert health.cameras["front"].dropped == {"overrun": 3}
    assert health.deadline_misses == 1  # the first was published in time, 150 ms later the last


def test_stage_that_does_not_return_is_noticed(bundle, rig):
    busy, go_on = threading.Event(), threading.Event()

    def block(predictions):
        busy.set()
        assert go_on.wait(LONG_S)

    host = Host(bundle, rig, on_predictions=block)
    with host.live:
        for camera in rig.names:
            host.live.submit_frame(host.frame(camera, 0))
        assert busy.wait(LONG_S)
        assert host.live.health().stalled == {}
        host.now_ns += 1500 * MS
        assert host.live.health().stalled == {"callback": pytest.approx(1.5)}
        go_on.set()
        assert host.live.flush(LONG_S)
        assert host.live.health().stalled == {}


def test_what_a_callback_raises_is_logged_and_counted(bundle, rig, caplog):
    def fail(predictions):
        raise RuntimeError("of the host")

    host = Host(bundle, rig, on_predictions=fail)
    with host.live, caplog.at_level(logging.ERROR, "octobev.live"):
        host.fire(count=3)
        assert host.live.health().errors == {"callback": 3}
    assert "of the host" in caplog.text


def test_iteration_gives_new_predictions_and_ends_with_the_runtime(host):
    reader = iter(host.live)
    host.fire()
    assert next(reader) is host.given[0]
    host.fire(count=3)
    assert next(reader) is host.given[3]
    host.live.close()
    assert list(reader) == []


def test_copied_memory_may_be_written_to_at_once(bundle, rig):
    host = Host(bundle, rig)
    with host.live:
        image = host.image("front", 3)
        host.live.submit("front", image, START_NS)
        image[:] = 250
        host.live.submit_frame(host.frame("rear", 0))
        assert host.live.flush(LONG_S)
        assert float(host.live.latest().camera_outputs["brightness"]["front"].values) == 13.0


def test_borrowed_memory_is_kept_alive_until_it_was_used(bundle, rig):
    host = Host(bundle, rig)
    with host.live:
        image = host.image("front", 3)
        owners = sys.getrefcount(image)
        host.live.submit("front", image, START_NS, copy=False)
        assert sys.getrefcount(image) > owners
        host.live.submit_frame(host.frame("rear", 0))
        assert host.live.flush(LONG_S)
        assert float(host.live.latest().camera_outputs["brightness"]["front"].values) == 13.0
        assert sys.getrefcount(image) == owners


def test_submitted_pose_carries_what_is_remembered(bundle, rig):
    host = Host(bundle, rig)
    with host.live:
        for number in range(2):
            host.now_ns += PERIOD_NS
            host.live.submit_pose(START_NS + number * PERIOD_NS, Pose.planar(0.1 * number, 0.0, 0.0))
            for camera in rig.names:
                host.live.submit(camera, host.image(camera, number), START_NS + number * PERIOD_NS)
            assert host.live.flush(LONG_S)
        assert host.live.latest().state.carried
        host.now_ns += 6 * PERIOD_NS  # the latest pose is out of reach
        for camera in rig.names:
            host.live.submit(camera, host.image(camera, 2), START_NS + 7 * PERIOD_NS)
        assert host.live.flush(LONG_S)
        assert not host.live.latest().state.carried


def test_bad_arguments_are_refused(host):
    with pytest.raises(InvalidArgument, match="camera must be one of front, rear, got roof"):
        host.live.submit("roof", host.image("front", 0), START_NS)
    with pytest.raises(ImageError, match=f"camera front at {START_NS} ns: data must be a uint8 array, got float64"):
        host.live.submit("front", np.zeros((48, 64, 3)), START_NS)
    assert host.live.health().cameras["front"].received == 0


def test_closed_runtime_refuses_frames_and_starts_again_with_nothing_carried_over(host):
    host.fire(count=3)
    threads = [thread for thread in threading.enumerate() if thread.name.startswith("octobev-")]
    assert {"octobev-live", "octobev-watch"} <= {thread.name for thread in threads}
    host.live.close()
    host.live.close()
    assert not any(thread.is_alive() for thread in threads)
    with pytest.raises(InvalidArgument, match="live runtime must be running, got a closed one"):
        host.live.submit_frame(host.frame("front", 3))
    host.live.start()
    assert host.live.latest() is None
    host.fire()
    assert host.given[-1].state.reset_reason == "first set"
    assert host.live.health().sets == 1


def test_close_does_not_wait_for_a_callback_that_is_stuck(bundle, rig, caplog):
    busy, go_on = threading.Event(), threading.Event()

    def block(predictions):
        busy.set()
        assert go_on.wait(LONG_S)

    host = Host(bundle, rig, on_predictions=block)
    for camera in rig.names:
        host.live.submit_frame(host.frame(camera, 0))
    assert busy.wait(LONG_S)
    host.now_ns += 1500 * MS
    host.live.close()
    assert "closed while callback had not returned" in caplog.text
    with pytest.raises(InvalidArgument, match="closed with all its threads"):
        host.live.start()
    go_on.set()


def test_two_runtimes_side_by_side_do_not_know_of_each_other(bundle, rig):
    first, second = Host(bundle, rig), Host(bundle, rig)
    with first.live, second.live:
        first.fire(count=3)
        second.fire(["front"], count=30)
        assert first.live.health().cameras["rear"].received == 3
        assert second.live.health().cameras["rear"].received == 0
        assert len(first.given) == 3


def test_predictions_outlive_the_steps_after_them_and_the_runtime(host):
    def digest(predictions):
        sha256 = hashlib.sha256()
        predictions.digest_into(sha256)
        return sha256.hexdigest()

    host.fire(count=2)
    kept = host.given[-1]
    before = digest(kept)
    host.fire(count=4)
    host.live.close()
    assert digest(kept) == before != digest(host.given[-1])


FORGETFUL_HOST = """
import atexit, sys, threading
atexit.register(lambda: print([thread.name for thread in threading.enumerate()]))  # called after those that come later
from pathlib import Path
from colours import colours_model, make_bundle, memory_model, two_cameras
from octobev import LiveRuntime
bundle = make_bundle(Path(sys.argv[1]), {"colours": colours_model(), "memory": memory_model()})
live = LiveRuntime(bundle, two_cameras())
"""


def test_host_that_forgets_to_close_ends_cleanly(tmp_path):
    paths = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    words = [sys.executable, "-c", FORGETFUL_HOST, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": paths}
    result = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LONG_S, env=environment)
    assert (result.returncode, result.stdout, result.stderr) == (0, "['MainThread']\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_forked_process_is_refused(host, tmp_path):
    with Publisher(f"ipc://{tmp_path}/topics") as publisher:

        def child(answers):
            for use in (
                lambda: host.live.submit_frame(host.frame("front", 0)),
                lambda: host.live.submit_pose(START_NS, Pose.identity()),
                host.live.latest,
                host.live.health,
                lambda: next(iter(host.live)),
                lambda: host.live.recalibrate(host.rig),
                lambda: publisher.set_rig(host.rig, ""),
                lambda: publisher.subscriptions,
            ):
                try:
                    answers.put(f"{use()} in a forked process")
                except InvalidArgument as error:
                    answers.put(str(error))
            host.live.close()
            publisher.close()

        holds, go_on = threading.Event(), threading.Event()

        def hold():  # as a step or a sending does that is under way while the process forks
            with host.live._changed, publisher._changed:
                holds.set()
                go_on.wait(LONG_S)

        holder = threading.Thread(target=hold)
        holder.start()
        assert holds.wait(LONG_S)
        context = multiprocessing.get_context("fork")
        answers = context.SimpleQueue()
        process = context.Process(target=child, args=(answers,))
        process.start()
        for _ in range(8):
            assert "must be used in the process that made it, got used after a fork" in answers.get()
        process.join(LONG_S)
        assert process.exitcode == 0
        go_on.set()
        holder.join(LONG_S)
    host.fire()
    assert len(host.given) == 1


def test_cameras_do_not_wait_while_health_waits_for_the_publisher(bundle, rig):
    submitted = threading.Event()

    class Sending:
        """A publisher that is at work."""

        subscriptions = property(lambda self: frozenset({str(submitted.wait(LONG_S))}))

        def set_rig(self, rig, rig_sha256):
            pass

        def publish(self, predictions):
            pass

        def publish_health(self, health):
            pass

    host = Host(bundle, rig, publisher=Sending(), settings={"health_period_s": LONG_S})
    with host.live:
        reports = []
        asking = threading.Thread(target=lambda: reports.append(host.live.health()))
        asking.start()
        host.live.submit_frame(host.frame("front", 0))
        submitted.set()
        asking.join(LONG_S)
        assert reports[0].subscriptions == ("True",)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_threads_keep_to_the_given_processors_and_names(bundle, rig):
    mine = os.sched_getaffinity(0)
    one = frozenset({min(mine)})
    seen = {}

    def look(predictions):
        seen["cpus"] = os.sched_getaffinity(0)
        seen["name"] = threading.current_thread().name

    host = Host(bundle, rig, settings={"cpus": one, "thread_name": "guest"}, on_predictions=look)
    with host.live:
        host.fire()
    assert seen == {"cpus": set(one), "name": "guest-live"}
    assert os.sched_getaffinity(0) == mine
    with pytest.raises(InvalidArgument, match=r"cpus must be some of .*, got 4096"):
        Host(bundle, rig, settings={"cpus": frozenset({4096})})


def test_recalibration_takes_effect_between_two_sets(host, bundle, rig):
    host.fire(count=3)
    camera = rig["front"]
    ahead = Pose.planar(0.5, 0.0, 0.0) @ camera.ego_from_camera
    moved = Rig((dataclasses.replace(camera, ego_from_camera=ahead), rig["rear"]), "moved")
    host.live.recalibrate(moved)
    host.fire(count=3)
    before, after = rig_sha256(rig), rig_sha256(moved)
    assert [given.provenance.rig_sha256 for given in host.given] == 3 * [before] + 3 * [after]
    assert host.given[3].state.carried
    assert host.live.health().rig_sha256 == after
    assert (host.live.health().sets, host.live.health().overrun) == (6, 0)


def test_calibration_that_fails_the_check_is_refused_and_the_old_one_stays(host, rig):
    host.fire()
    buried = Pose(np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, -30.0], [0, 0, 0, 1]])) @ rig["front"].ego_from_camera
    bad = Rig((dataclasses.replace(rig["front"], ego_from_camera=buried), rig["rear"]), "bad")
    with pytest.raises(RigError, match=r"the new calibration was refused: .*front"):
        host.live.recalibrate(bad)
    with pytest.raises(RigError, match="cameras of the new calibration must be front, rear, got front"):
        host.live.recalibrate(Rig((rig["front"],), "one"))
    host.fire()
    assert host.given[-1].provenance.rig_sha256 == rig_sha256(rig)


def test_subscriptions_decide_what_is_computed_beyond_the_minimum(bundle, rig, tmp_path):
    with Publisher(f"ipc://{tmp_path}/topics") as publisher:
        host = Host(bundle, rig, publisher=publisher, settings={"minimum_outputs": ("occupancy",)})
        with host.live:
            host.fire()
            assert set(host.given[-1].bev) == {"occupancy"}
            assert not host.given[-1].camera_outputs
            with Subscriber(publisher.endpoint, topics=("camera/front/brightness", "road_layout")):
                assert publisher.wait_for_subscription("camera/front/brightness", LONG_S)
                assert publisher.wait_for_subscription("road_layout", LONG_S)
                computed = {"occupancy", "brightness", "road_layout"}
                wait_until(lambda: {n for n, o in host.live.health().outputs.items() if o.computed} == computed)
                host.fire()
                assert set(host.given[-1].bev) == {"occupancy", "road_layout"}
                assert set(host.given[-1].camera_outputs) == {"brightness"}
            wait_until(lambda: {n for n, o in host.live.health().outputs.items() if o.computed} == {"occupancy"})
            host.fire()
            assert set(host.given[-1].bev) == {"occupancy"}


def wait_until(condition):
    patience = threading.Event()
    for _ in range(int(LONG_S / 0.01)):
        if condition():
            return
        patience.wait(0.01)
    raise AssertionError("it has not come to this in time")


def test_cameras_of_a_set_that_waits_begin_beside_the_rest_of_the_step_before(bundle, rig):
    """Its predictions are the same, and nothing is left out."""
    host = Host(bundle, rig)
    stepping, begun, submitted, runs, in_time = threading.Event(), threading.Event(), threading.Event(), [], []

    def run_camera(cameras, outputs):
        runs.append(cameras)
        stepping.set()
        submitted.wait(LONG_S)
        if len(runs) > len(rig.names):
            begun.set()

    def run_topdown(cameras, outputs):
        if not in_time:
            in_time.append(begun.wait(LONG_S))

    with host.live:
        host.fire(count=4)  # the cameras' period is known now
        host.live.tamper("colours", run_camera)
        host.live.tamper("memory", run_topdown)
        for number in (4, 5):
            host.now_ns += PERIOD_NS
            for camera in rig.names:
                host.live.submit_frame(host.frame(camera, number))
            assert stepping.wait(LONG_S)
        submitted.set()
        assert host.live.flush(LONG_S)
        health = host.live.health()
    assert in_time == [True]
    assert (health.sets, health.overrun) == (6, 0)
    with Runtime(bundle, rig) as runtime:
        for number, given in enumerate(host.given):
            for name, output in runtime.step(host.frame_set(number)).bev.items():
                for key, array in output.arrays().items():
                    np.testing.assert_array_equal(given.bev[name].arrays()[key], array)
