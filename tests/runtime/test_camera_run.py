"""Which threads do the work of per-camera networks; what they give is the same."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from colours import HEIGHT, POISON, WIDTH
from octobev.runtime import camera_run
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet


def _frame_set(number: int) -> FrameSet:
    image = np.random.default_rng(number).integers(0, POISON, (HEIGHT, WIDTH, 3), np.uint8)
    frames = tuple(Frame(name, number * 100_000_000, image) for name in ("front", "rear"))
    return FrameSet(number * 100_000_000, frames)


@pytest.mark.parametrize(("quick_ns", "threads_at_most"), [(-1, 2), (10**12, 1)])
def test_networks_that_are_quick_run_one_after_another(bundle, rig, monkeypatch, quick_ns, threads_at_most):
    monkeypatch.setattr(camera_run, "QUICK_NS", quick_ns)
    with Runtime(bundle, rig, ["segmentation", "brightness"], 2) as runtime, Runtime(bundle, rig, threads=1) as alone:
        for number in range(5):
            predictions, wanted = runtime.step(_frame_set(number)), alone.step(_frame_set(number))
            runs = [span for span in predictions.spans if span.stage == "network"]
            assert sorted(camera for span in runs for camera in span.cameras) == ["front", "rear"]
            if number:  # how long a run takes is known from the first
                assert len({span.thread for span in runs}) <= threads_at_most
            for name in ("segmentation", "brightness"):
                for camera, output in wanted.camera_outputs[name].items():
                    np.testing.assert_array_equal(predictions.camera_outputs[name][camera].values, output.values)


def test_what_breaks_off_one_quick_network_breaks_off_the_others(bundle, rig, monkeypatch):
    def interrupt(network, inputs):
        seen.append(network)
        raise KeyboardInterrupt

    seen = []
    monkeypatch.setattr(camera_run, "QUICK_NS", 10**12)
    with Runtime(bundle, rig, threads=2) as runtime:
        runtime.step(_frame_set(0))
        runtime.watch_inputs(interrupt)
        with pytest.raises(KeyboardInterrupt):
            runtime.step(_frame_set(1))
    assert seen == ["colours"]


def test_what_is_only_handed_on_is_done_while_another_camera_still_runs(bundle, rig, monkeypatch):
    def collect(run, group):
        original(run, group)
        collected.set()

    def slow(cameras, outputs):
        if "rear" in cameras and not collected.wait(20):
            raise KeyboardInterrupt

    collected, original = threading.Event(), camera_run.CameraRun._collect
    monkeypatch.setattr(camera_run.CameraRun, "_collect", collect)
    with Runtime(bundle, rig, ["segmentation"], 2) as runtime, Runtime(bundle, rig, ["segmentation"], 1) as alone:
        wanted = alone.step(_frame_set(0)).camera_outputs["segmentation"]
        collected.clear()
        runtime.tamper("colours", slow)
        given = runtime.step(_frame_set(0)).camera_outputs["segmentation"]
    assert list(given) == list(wanted) == ["front", "rear"]
    for camera, output in wanted.items():
        np.testing.assert_array_equal(given[camera].values, output.values)
