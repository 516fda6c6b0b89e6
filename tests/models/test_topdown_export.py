"""The same sequence through the training code and through the runtime, on networks with random weights."""

import numpy as np
import pytest
from octobev.errors import BundleError, MissingFile, NetworkError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.models.mountings import network_intrinsics
from octobev.models.sequences import GRID, LAYERS, Sequences, lens_numbers
from octobev.replay.rigs import reference_rig
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

torch = pytest.importorskip("torch")

from octobev.models import topdown_export  # noqa: E402
from octobev.models.net import HydraNet, HydraNetConfig  # noqa: E402
from octobev.models.topdown_checkpoint import (  # noqa: E402
    TopDownCheckpoint,
    load_topdown_checkpoint,
    save_topdown_checkpoint,
)
from octobev.models.topdown_net import TopDownConfig, TopDownNet  # noqa: E402
from octobev.models.topdown_training import carried, lifted_features  # noqa: E402
from octobev.models.windows import LiftPlan, cut_window  # noqa: E402

HYDRANET = HydraNetConfig(
    width=64, height=32, stage_channels=(16, 16, 16, 16), stage_blocks=(1, 1, 1, 1), feature_channels=16
)
TOPDOWN = TopDownConfig(
    feature_channels=16, heights_m=(0.0, 1.5), fine_channels=16, state_channels=16, coarse_channels=(16, 16)
)
CAMERAS = ("front_main", "front_wide", "rear")
SETS = 3


def random_weights(net):
    """Statistics of batch normalisation away from their first values, and a memory that matters."""
    generator = torch.Generator().manual_seed(3)
    for name, value in net.state_dict().items():
        if "running" in name:
            value.add_(0.2 * torch.rand(value.shape, generator=generator))
        if name.startswith("cell."):
            value.mul_(8.0)
    return net.eval()


@pytest.fixture(scope="module")
def checkpoint():
    torch.manual_seed(0)
    hydranet, net = random_weights(HydraNet(HYDRANET)), random_weights(TopDownNet(TOPDOWN))
    weights = net.state_dict()
    return TopDownCheckpoint(TOPDOWN, HYDRANET, hydranet.state_dict(), weights, weights, {}, None, 7, 1.0, 0)


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    report = topdown_export.export_topdown_bundle(checkpoint, folder, "0.0.1")
    assert max(report.differences.values()) < 1e-4
    assert "next_state: at most" in topdown_export.describe(report)
    return open_bundle(folder)


@pytest.fixture(scope="module")
def rig():
    """Cameras whose images have the network's size, so that nothing has to be resampled."""
    cameras = [
        Camera(
            camera.name,
            network_intrinsics(camera.intrinsics, HYDRANET.width, HYDRANET.height),
            camera.ego_from_camera,
        )
        for camera in reference_rig().select(CAMERAS)
    ]
    return Rig(tuple(cameras), "small")


@pytest.fixture(scope="module")
def sequences(rig):
    """One stretch of noise, seen on a way with a bend."""
    random = np.random.default_rng(1)
    shape = (1, SETS, len(rig), HYDRANET.height, HYDRANET.width, 3)
    there = [Pose.planar(1.3 * t, 0.1 * t * t, 0.08 * t) for t in range(SETS)]
    fired = [[pose @ Pose.planar(-0.1 * camera, 0.0, 0.0) for camera in range(len(rig))] for pose in there]
    return Sequences(
        random.integers(0, 256, shape, dtype=np.uint8),
        np.ones((1, SETS, len(LAYERS) + 1, *GRID.shape), np.uint8),
        np.zeros((1, SETS, *GRID.shape), np.float16),
        np.stack([lens_numbers(camera.intrinsics) for camera in rig])[np.newaxis],
        np.stack([camera.ego_from_camera.matrix for camera in rig])[np.newaxis],
        np.stack([pose.matrix for pose in there])[np.newaxis],
        np.array([[pose.matrix for pose in poses] for poses in fired])[np.newaxis],
    )


def in_torch(checkpoint, sequences, active=None):
    """Road layout, occupancy and direction of each set."""
    hydranet, net = checkpoint.hydranet_net(), checkpoint.topdown_net()
    lift = LiftPlan(TOPDOWN.heights_m, TOPDOWN.border_px, HYDRANET.feature_shape)
    window = cut_window(sequences, 0, 0, SETS, lift, active)
    state, results = net.empty_state(1), []
    with torch.no_grad():
        for t in range(SETS):
            rows = lifted_features(hydranet, window.images[t : t + 1], window.views[t : t + 1], 1)
            outputs, state = net(rows, carried(state, [window.motions[t]]))
            p = torch.sigmoid(outputs.logits)[0].numpy()
            results.append((p[:-1], p[-1], outputs.direction[0].numpy()))
    return results


def frame_set(rig, sequences, t, missing=()):
    moment = 100_000_000 * t
    frames = tuple(
        Frame(
            name,
            moment,
            sequences.images[0, t, number],
            PixelFormat.RGB8,
            Pose(sequences.world_from_fired[0, t, number]),
        )
        for number, name in enumerate(rig.names)
        if name not in missing
    )
    return FrameSet(moment, frames, Pose(sequences.world_from_ego[0, t]))


def in_runtime(bundle, rig, sequences, missing=(), first=0):
    """Predictions of the sets from the first on."""
    with Runtime(bundle, rig, threads=1) as runtime:
        return [runtime.step(frame_set(rig, sequences, t, missing)) for t in range(first, SETS)]


@pytest.mark.parametrize("missing", [(), ("front_wide",)])
def test_runtime_gives_what_training_computes(checkpoint, bundle, rig, sequences, missing):
    active = np.array([name not in missing for name in rig.names])
    wanted = in_torch(checkpoint, sequences, active)
    got = in_runtime(bundle, rig, sequences, missing)
    for (layout, occupancy, direction), predictions in zip(wanted, got, strict=True):
        observed = predictions.road_layout.observed
        assert 0.2 < observed.mean() < 1.0
        np.testing.assert_allclose(predictions.road_layout.probability[:, observed], layout[:, observed], atol=1e-4)
        np.testing.assert_allclose(predictions.occupancy.probability[observed], occupancy[observed], atol=1e-4)
        corridor = predictions.bev["corridor_direction"]
        doubled = corridor.confidence[observed] * np.exp(2j * corridor.direction_rad[observed])
        vectors = direction[0] + 1j * direction[1]
        shortened = vectors / np.maximum(np.abs(vectors), 1.0)
        np.testing.assert_allclose(doubled, shortened[observed], atol=1e-4)


def test_what_was_seen_before_counts(bundle, rig, sequences):
    """Otherwise the test above would not say that the state is carried alike."""
    whole = in_runtime(bundle, rig, sequences)[-1].occupancy
    alone = in_runtime(bundle, rig, sequences, first=SETS - 1)[-1].occupancy
    seen = whole.seen_by != 0
    assert np.ptp(whole.probability[seen]) > 0.02
    assert np.abs(whole.probability - alone.probability)[seen].max() > 0.002


def test_wrong_graph_is_refused(checkpoint, tmp_path, monkeypatch):
    other = topdown_export.topdown_bytes(TopDownNet(TOPDOWN).eval())
    monkeypatch.setattr(topdown_export, "topdown_bytes", lambda net: other)
    with pytest.raises(NetworkError, match=r"exported output .* must be within 0\.001 of PyTorch"):
        topdown_export.export_topdown_bundle(checkpoint, tmp_path / "bundle", "0.0.1")
    assert not (tmp_path / "bundle").exists()


def test_checkpoint_round_trip_and_export_command(checkpoint, tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    save_topdown_checkpoint(checkpoint, path)
    again = load_topdown_checkpoint(path)
    assert (again.config, again.hydranet_config, again.step) == (TOPDOWN, HYDRANET, 7)
    assert topdown_export.main([str(path), "--out", str(tmp_path / "bundle")]) == 0
    assert "topdown.onnx" in capsys.readouterr().out
    assert topdown_export.main([str(tmp_path / "none.pt"), "--out", str(tmp_path)]) == 1
    assert "none.pt: no such checkpoint" in capsys.readouterr().err


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"nothing")
    with pytest.raises(BundleError, match=r"not a checkpoint of octobev\.models\.topdown_train"):
        load_topdown_checkpoint(tmp_path / "checkpoint.pt")
    with pytest.raises(MissingFile, match="no such checkpoint"):
        load_topdown_checkpoint(tmp_path / "other.pt")
