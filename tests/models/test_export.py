"""The same sequence through the training code and through the runtime, on networks with random weights."""

import numpy as np
import pytest
from octobev.errors import BundleError, InvalidArgument, NetworkError
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.models.mountings import network_intrinsics
from octobev.replay.rigs import reference_rig
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

torch = pytest.importorskip("torch")

from octobev.models import export  # noqa: E402
from octobev.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from octobev.models.lifting import lift_rows  # noqa: E402
from octobev.models.net import HydraNet  # noqa: E402
from octobev.models.topdown_net import TopDownNet  # noqa: E402
from octobev.models.training import camera_pixels, camera_rows, carried  # noqa: E402
from octobev.models.windows import LiftPlan, cut_window  # noqa: E402
from small_networks import HYDRANET, TOPDOWN, plain_road  # noqa: E402

CAMERAS = ("front_main", "front_wide", "rear")
SETS = 3
FREQUENCIES = {"drivable": 0.5, "lane_divider": 0.05, "road_edge": 0.04, "crosswalk": 0.02}


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
    weights = {
        "hydranet": random_weights(HydraNet(HYDRANET)).state_dict(),
        "topdown": random_weights(TopDownNet(TOPDOWN)).state_dict(),
    }
    return Checkpoint(HYDRANET, TOPDOWN, weights, weights, {}, None, 7, 1.0, 0, FREQUENCIES)


@pytest.fixture(scope="module")
def bundle(checkpoint, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    report = export.export_bundle(checkpoint, folder, "0.0.1")
    assert max(report.differences.values()) < 1e-4
    assert "next_state: at most" in export.describe(report)
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
    return plain_road(rig, stretches=1, sets=SETS, seed=1)


def in_torch(checkpoint, sequences, active=None):
    """Road layout, occupancy and direction of each set."""
    hydranet, net = checkpoint.networks()
    lift = LiftPlan(TOPDOWN.heights_m, TOPDOWN.border_px, HYDRANET.feature_shape)
    window = cut_window(sequences, 0, 0, SETS, lift, active)
    state, results = net.empty_state(1), []
    with torch.no_grad():
        for t in range(SETS):
            features = hydranet.features(camera_pixels([(window, t)]))
            rows = camera_rows(features, [(window, t)])
            outputs, state = net(lift_rows([window.views[t]], rows), carried(state, [window.motions[t]]))
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
    other = export.topdown_bytes(TopDownNet(TOPDOWN).eval())
    monkeypatch.setattr(export, "topdown_bytes", lambda net: other)
    with pytest.raises(NetworkError, match=r"exported output .* must be within 0\.001 of PyTorch"):
        export.export_bundle(checkpoint, tmp_path / "bundle", "0.0.1")
    assert not (tmp_path / "bundle").exists()


def test_probability_of_a_threshold_reads_a_half(checkpoint):
    net, shifted = (checkpoint.networks()[1] for _ in range(2))
    export.shift_probabilities(shifted, {"road_edge": 0.7, "occupancy": 0.2})
    rows = torch.rand(TOPDOWN.nx * TOPDOWN.ny, TOPDOWN.lifted_channels)
    with torch.no_grad():
        plain, moved = (torch.sigmoid(each(rows, each.empty_state(1))[0].logits)[0] for each in (net, shifted))
    for name, threshold in (("road_edge", 0.7), ("occupancy", 0.2)):
        layer = [*TOPDOWN.classes, "occupancy"].index(name)
        assert ((plain[layer] > threshold) == (moved[layer] > 0.5)).all()
        assert (plain[layer] != moved[layer]).any()
    torch.testing.assert_close(plain[0], moved[0])


@pytest.mark.parametrize(
    ("thresholds", "message"),
    [
        ({"lane": 0.5}, "layer of a threshold must be one of drivable, .*occupancy, got lane"),
        ({"drivable": 1.0}, "threshold of drivable must be between 0 and 1, got 1.0"),
    ],
)
def test_wrong_thresholds_are_refused(checkpoint, thresholds, message):
    with pytest.raises(InvalidArgument, match=message):
        export.shift_probabilities(checkpoint.networks()[1], thresholds)


def test_checkpoint_round_trip_and_export_command(checkpoint, tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint, path)
    again = load_checkpoint(path)
    assert (again.topdown_config, again.hydranet_config, again.step) == (TOPDOWN, HYDRANET, 7)
    assert export.main([str(path), "--out", str(tmp_path / "bundle"), "--threshold", "crosswalk=0.4"]) == 0
    assert "topdown.onnx" in capsys.readouterr().out
    assert export.main([str(tmp_path / "none.pt"), "--out", str(tmp_path)]) == 1
    assert "none.pt: no such checkpoint" in capsys.readouterr().err


def test_per_camera_network_alone_is_cast_out(checkpoint, tmp_path, capsys):
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(checkpoint, path)
    assert export.main([str(path), "--out", str(tmp_path / "bundle"), "--cast-out", "--version", "2.0.1"]) == 0
    manifest = open_bundle(tmp_path / "bundle").manifest
    assert set(manifest.networks) == {"hydranet"}
    assert manifest.version == "2.0.1"
    assert manifest.castouts["road_layout"].prior["drivable"] == 0.5


def test_cast_out_needs_class_frequencies(checkpoint, tmp_path):
    checkpoint.frequencies = {}
    with pytest.raises(BundleError, match="class frequencies of a checkpoint must be known"):
        export.export_bundle(checkpoint, tmp_path / "bundle", "0.0.1", cast_out=True)
