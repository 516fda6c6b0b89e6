"""Peers do the same work as ours: small cases, no timings. And the made-up bundles are what they say."""

import cv2
import numpy as np
import pytest
from octobev.bench import bundles
from octobev.bench.peers.images import blob_inputs, exact_bilinear, usual_input
from octobev.bench.peers.lifts import csr_lift_scipy
from octobev.bench.peers.warps import remap_planes, warp_affine_planes
from octobev.bench.stepping import grey_sets, ring_rig, stage_spreads, stepping
from octobev.fusion.grid import BevGrid
from octobev.fusion.pose import Pose
from octobev.fusion.state import carry_raster, source_from_target_cells
from octobev.fusion.view_builder import ViewBuilder
from octobev.runtime.engine import Runtime

GRID = BevGrid(-8.0, 8.0, -8.0, 8.0, 0.5)


@pytest.fixture
def image():
    small = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(small, (160, 96), interpolation=cv2.INTER_CUBIC)


def test_opencv_inputs_are_exact_bilinear_within_one_level(image):
    exact = exact_bilinear(image, (40, 24))
    assert np.abs(usual_input(image, (40, 24)) - exact).max() <= 1.001 / 255
    assert np.abs(blob_inputs([image], (40, 24))[0] - exact).max() <= 1.001 / 255


def test_exact_bilinear_by_hand():
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[0, 1, 2] = 200  # red, on the right
    exact = exact_bilinear(frame, (1, 1))
    np.testing.assert_allclose(exact[:, 0, 0], [50 / 255, 0, 0])


@pytest.mark.parametrize("warp", [warp_affine_planes, remap_planes])
def test_opencv_carries_a_raster_as_ours_does(warp):
    planes = cv2.GaussianBlur(np.random.default_rng(0).random((32, 32, 3)).astype(np.float32), (0, 0), 2).transpose(
        2, 0, 1
    )
    planes, motion = np.ascontiguousarray(planes), Pose.planar(0.7, -0.4, 0.1)
    ours = np.empty_like(planes)
    carry_raster(planes, GRID, motion, ours)
    matrix = source_from_target_cells((-8.0, -8.0), (-8.0, -8.0), 0.5, motion)
    assert np.abs(warp(planes, matrix) - ours)[:, 6:-6, 6:-6].max() < 0.01


def test_scipy_lifts_as_ours_does():
    view = ViewBuilder.for_grid(GRID, (0.0, 1.0), ring_rig(3, (64, 32)), (8, 16), 4.0).build()
    features = np.random.default_rng(0).random((view.pixels, 5), dtype=np.float32)
    np.testing.assert_allclose(csr_lift_scipy(view)(features).reshape(view.cells, -1), view.lift(features), atol=1e-5)


def test_eight_heads_share_a_trunk(tmp_path):
    bundle, share = bundles.eight_heads(tmp_path / "heads")
    assert bundle.default_outputs == tuple(f"head{head}" for head in range(8))
    assert share == pytest.approx(6 / 27)
    rig = ring_rig(1, bundles.HEAD_IMAGE)
    with Runtime(bundle, rig, ["head3"], 1) as runtime:
        assert list(runtime.step(next(grey_sets(rig))).camera_outputs) == ["head3"]


def test_full_stack_has_a_thousand_outputs(tmp_path):
    bundle = bundles.full_stack(tmp_path / "stack")
    assert len(bundle.manifest.networks) == 48
    assert len(bundle.default_outputs) == 1000


def test_a_sample_steps_the_next_set_each_time(tmp_path):
    bundle, _ = bundles.eight_heads(tmp_path / "heads")
    rig, stages = ring_rig(2, bundles.HEAD_IMAGE), []
    sets = grey_sets(rig)
    with Runtime(bundle, rig, ["head0"], 1) as runtime:
        sample = stepping(runtime, sets, stages)
        assert all(sample() > 0 for _ in range(3))
    assert next(sets).timestamp_ns == 3 * 83_333_333
    assert len(stages) == 3
    assert "stage network, ms" in stage_spreads(stages)
