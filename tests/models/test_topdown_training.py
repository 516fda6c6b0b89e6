import contextlib
import json
import sys

import numpy as np
import pytest
from octobev.models import topdown_train
from octobev.models.sequences import GRID, LAYERS, VISIBLE, Sequences, lens_numbers, write_sequences
from octobev.models.shards import shard_path
from octobev.replay.rigs import reference_rig

torch = pytest.importorskip("torch")

from octobev.models.checkpoint import Checkpoint, save_checkpoint  # noqa: E402
from octobev.models.mountings import network_intrinsics  # noqa: E402
from octobev.models.net import HydraNet, HydraNetConfig  # noqa: E402
from octobev.models.topdown_checkpoint import load_topdown_checkpoint  # noqa: E402
from octobev.models.topdown_net import TopDownConfig  # noqa: E402
from octobev.models.topdown_training import TopDownTraining, folded, validate  # noqa: E402
from octobev.models.training import TrainingPlan  # noqa: E402
from octobev.models.windows import WindowSampler  # noqa: E402
from octobev.runtime.bundle import open_bundle  # noqa: E402

HYDRANET = HydraNetConfig(
    width=64, height=32, stage_channels=(16, 16, 16, 16), stage_blocks=(1, 1, 1, 1), feature_channels=16
)
TOPDOWN = TopDownConfig(
    feature_channels=16, heights_m=(0.0,), fine_channels=16, state_channels=16, coarse_channels=(16, 16)
)
SETS = 4


def plain_road(seed=0):
    """Two stretches on a straight road: drivable within six metres of the ego's line, whatever the images show."""
    rig = reference_rig().select(("front_main", "rear"))
    random = np.random.default_rng(seed)
    layers = np.zeros((2, SETS, len(LAYERS) + 1, *GRID.shape), np.uint8)
    layers[:, :, 0, :, 36:60] = 1
    layers[:, :, VISIBLE] = 1
    poses = np.stack([np.eye(4)] * SETS)
    poses[:, 0, 3] = np.arange(SETS)
    lenses = np.stack([lens_numbers(network_intrinsics(camera.intrinsics, 64, 32)) for camera in rig])
    return Sequences(
        random.integers(0, 256, (2, SETS, 2, 32, 64, 3), dtype=np.uint8),
        layers,
        np.where(layers[:, :, 0] > 0, np.float16(0), np.float16(np.nan)),
        np.stack([lenses] * 2),
        np.stack([np.stack([camera.ego_from_camera.matrix for camera in rig])] * 2),
        np.stack([poses] * 2),
        np.stack([np.stack([poses] * 2, axis=1)] * 2),
    )


@pytest.fixture(scope="module")
def hydranet():
    torch.manual_seed(0)
    return HydraNet(HYDRANET).eval()


def train(folder, hydranet, plan, *, resume=False, watch=lambda progress: None):
    folder.mkdir(exist_ok=True)
    write_sequences(plain_road(), shard_path(folder, 0))
    training = TopDownTraining(TOPDOWN, hydranet, plan, folder, resume=resume)
    sampler = WindowSampler(
        folder,
        [0],
        training.lift,
        seed=0,
        lanes=2,
        sets=2,
        windows=SETS // 2,
        steps_per_town=8,
        window=1,
        wait=lambda: None,
    )
    training.run(sampler, [plain_road(1)], watch)
    return training


def test_training_learns_and_validates(tmp_path, hydranet):
    reports = []
    training = train(tmp_path, hydranet, TrainingPlan(steps=24, validate_every=12, threads=1), watch=reports.append)
    lines = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [12, 24, 24]
    assert lines[1]["total"] < 0.9 * lines[0]["total"]
    assert lines[-1]["iou_visible_drivable"] == reports[-1].scores["iou_visible_drivable"]
    assert reports[-1].done == 1.0
    assert all(torch.isfinite(value).all() for value in training.net.state_dict().values())


def test_resumed_training_is_the_uninterrupted_one(tmp_path, hydranet):
    plan = TrainingPlan(steps=4, validate_every=2, threads=1)

    def stop(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole", hydranet, plan)
    with contextlib.suppress(KeyboardInterrupt):
        train(tmp_path / "parts", hydranet, plan, watch=stop)
    parts = train(tmp_path / "parts", hydranet, plan, resume=True)
    assert parts.step == 4
    assert torch.equal(whole.states, parts.states)
    for name, value in whole.net.state_dict().items():
        assert torch.equal(value, parts.net.state_dict()[name]), name


def test_folding_changes_no_feature(hydranet):
    image = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    for value in hydranet.state_dict().values():
        if value.dtype.is_floating_point and value.dim() == 1:
            value.add_(0.05)
    with torch.no_grad():
        torch.testing.assert_close(folded(hydranet).features(image), hydranet(image).features, atol=1e-4, rtol=1e-4)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in hydranet.modules())


def test_forgetting_before_every_set_is_measured_too(tmp_path, hydranet):
    training = train(tmp_path, hydranet, TrainingPlan(steps=0, threads=1))
    for name, value in training.average.state_dict().items():
        if name.startswith("cell"):
            value.mul_(8.0)
    with_memory, without = (
        validate(hydranet, training.average, [plain_road(1)], training.lift, reset_every_set=reset)
        for reset in (False, True)
    )
    first, later = slice(0, 1), slice(1, None)
    assert np.array_equal(with_memory.direction_errors[first], without.direction_errors[first])
    assert not np.array_equal(with_memory.direction_errors[later], without.direction_errors[later])


def test_command_trains_from_sequences_to_a_bundle(tmp_path, hydranet, capsys, monkeypatch):
    monkeypatch.setattr(topdown_train, "SETS_PER_WINDOW", 2)
    monkeypatch.setattr("octobev.models.sequences.SETS_PER_SEQUENCE", SETS)
    weights = hydranet.state_dict()
    save_checkpoint(Checkpoint(HYDRANET, weights, weights, {}, 1, 1.0, 0), tmp_path / "hydranet.pt")
    out = tmp_path / "out"
    (out / "sequences").mkdir(parents=True)
    for town in (0, 1, 10_000):
        write_sequences(plain_road(town), shard_path(out / "sequences", town))
    options = ["--out", str(out), "--towns", "2", "--validation-towns", "1", "--threads", "1"]
    assert topdown_train.main([*options, "--hydranet", str(tmp_path / "hydranet.pt"), "--steps", "2"]) == 0
    assert load_topdown_checkpoint(out / "checkpoint.pt").step == 2
    assert "iou_visible_drivable" in capsys.readouterr().out
    bundle = open_bundle(out / "bundle")
    assert set(bundle.outputs) >= {"road_layout", "occupancy", "corridor_direction"}
    assert topdown_train.main([*options, "--resume", "--steps", "3"]) == 0
    assert load_topdown_checkpoint(out / "checkpoint.pt").step == 3


def test_without_torch_it_is_said_what_to_install(tmp_path, capsys, monkeypatch):
    for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("octobev.models.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert topdown_train.main(["--out", str(tmp_path / "out"), "--hydranet", "x"]) == 1
    assert "pip install 'octobev[train]'" in capsys.readouterr().err


def test_image_network_or_resume_is_needed(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        topdown_train.main(["--out", str(tmp_path)])
    assert "--hydranet --resume is required" in capsys.readouterr().err
    assert topdown_train.main(["--out", str(tmp_path), "--resume"]) == 1
    assert "no such checkpoint" in capsys.readouterr().err
