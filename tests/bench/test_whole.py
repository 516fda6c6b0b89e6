"""Glued steps and the process that takes what is published, with parts that can be seen through."""

from types import SimpleNamespace

import numpy as np
import onnxruntime
import pytest
from octobev.bench.material import Material
from octobev.bench.peers.glued import GluedStep, taking_numbers
from octobev.bench.whole import publishing
from octobev.fusion.grid import BevGrid
from octobev.fusion.pose import Pose
from octobev.runtime.bundle import REFERENCE_BUNDLE, open_bundle
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

GRID = BevGrid(0.0, 8.0, -4.0, 4.0, 1.0)


def test_glued_step_lifts_carries_its_state_and_sends_everything():
    sent, read = [], []

    def run_topdown(inputs):
        read.append(inputs["state"].copy())
        state = np.zeros((1, 1, 8, 8), np.float32)
        state[0, 0, 4, 4] = 1.0
        return {"road_layout": inputs["lifted"].sum(), "next_state": state}

    step = GluedStep(
        prepare=lambda images: np.stack([np.full((3, 2, 2), image[0], np.uint8) for image in images]),
        run_cameras=lambda images: [{"features": one[0], "depth": one[1]} for one in images],
        lift=lambda features: np.full((GRID.cells * 4, 1), features.sum(), np.float32),
        run_topdown=run_topdown,
        grid=GRID,
        state=np.zeros((1, 1, 8, 8), np.float32),
        send=sent.append,
    )
    for number in range(2):
        frames = tuple(Frame(name, number, bytes([value]), PixelFormat.JPEG) for name, value in (("a", 1), ("b", 2)))
        ground = step.step(FrameSet(number, frames, Pose.planar(2.0 * number, 0, 0)))
    assert ground["road_layout"] == GRID.cells * 4 * (4 * 1 + 4 * 2)
    assert list(sent[1]) == ["road_layout", "0/depth", "1/depth"]
    assert read[0].max() == 0
    assert np.argwhere(read[1][0, 0] > 0.5).tolist() == [[2, 4]]  # two metres on, it lies two cells nearer


def test_published_messages_are_taken_by_another_process(tmp_path):
    with publishing(SimpleNamespace(folder=tmp_path), "sets", ("road_layout/", "camera/")) as publisher:
        assert publisher.subscriptions == {"road_layout/", "camera/"}
        assert publisher.wants("road_layout")


def test_the_car_of_the_material_drives_on(tmp_path):
    material = Material(tmp_path)
    material.decoded = ((np.zeros((960, 1280, 3), np.uint8),) * 8,) * 4
    first, second = material.frame_set(0), material.frame_set(1)
    assert [frame.camera for frame in first.frames] == list(material.rig.names)
    assert first.timestamp_ns == first.frames[-1].timestamp_ns > first.frames[0].timestamp_ns
    moved = (first.world_from_ego.inverse() @ second.world_from_ego).translation_m
    assert 0.5 < moved[0] < 2.0
    together = material.frame_set(0, staggered=False)
    assert len({frame.timestamp_ns for frame in together.frames}) == 1


@pytest.mark.parametrize(("quick", "rounds"), [(False, 40), (True, 10)])
def test_quick_does_fewer_rounds(tmp_path, quick, rounds):
    assert Material(tmp_path, quick=quick).rounds(40) == rounds
    assert Material(tmp_path, quick=True).rounds(4) == 5


def test_peers_get_networks_that_round_lifted_numbers_themselves():
    bundle = open_bundle(REFERENCE_BUNDLE)
    assert taking_numbers(bundle, "topdown", "fp32") == bundle.model_bytes("topdown", "fp32")
    assert taking_numbers(bundle, "hydranet", "int8") == bundle.model_bytes("hydranet", "int8")
    level = bundle.manifest.networks["topdown"].variants["int8"].levels["lifted"]
    numbers = np.random.default_rng(0).gamma(1.0, 0.5, (12288, 192)).astype(np.float32)
    levels = np.clip(np.rint(numbers / np.float32(level.scale)) + level.zero_point, 0, 255).astype(np.uint8)
    given = {taking_numbers(bundle, "topdown", "int8"): numbers, bundle.model_bytes("topdown", "int8"): levels}
    layouts = []
    for model, lifted in given.items():
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        state = np.zeros((1, 64, 64, 48), np.float32)
        layouts.append(session.run(["road_layout"], {"lifted": lifted, "state": state})[0])
    np.testing.assert_array_equal(*layouts)
