import contextlib
import json

import numpy as np
import pytest
from octobev.errors import BundleError, InvalidArgument, MissingFile
from octobev.models import train as command
from octobev.models.sequences import write_sequences
from octobev.models.shelf import town_path
from octobev.replay.rigs import reference_rig

torch = pytest.importorskip("torch")

from octobev.models.checkpoint import load_checkpoint  # noqa: E402
from octobev.models.training import Training, TrainingPlan, camera_rows, step_terms  # noqa: E402
from octobev.models.validation import folded, validate  # noqa: E402
from octobev.models.windows import Views, WindowSampler, cut_window  # noqa: E402
from octobev.runtime.bundle import open_bundle  # noqa: E402
from small_networks import HYDRANET, TOPDOWN, plain_road  # noqa: E402

RIG = reference_rig().select(("front_main", "rear"))
OTHER_RIG = reference_rig().select(("front_wide", "left_pillar", "rear"))


def train(folder, plan, *, resume=False, watch=lambda progress: None):
    folder.mkdir(exist_ok=True)
    for town, rig in enumerate((RIG, OTHER_RIG)):
        write_sequences(plain_road(rig, seed=town), town_path(folder, town))
    training = Training(HYDRANET, TOPDOWN, plan, folder, resume=resume)
    sampler = WindowSampler(
        folder,
        [0, 1],
        training.lift,
        seed=0,
        lanes=2,
        sets=2,
        windows=2,
        steps_per_town=8,
        window=2,
        wait=lambda: None,
    )
    training.run(sampler, [plain_road(RIG, seed=2)], watch)
    return training


def views():
    """Four views of the road."""
    road = plain_road(RIG, sets=2)
    return Views(*(getattr(road, name)[0, :, :].reshape(4, *getattr(road, name).shape[3:]) for name in Views.__slots__))


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    return train(tmp_path_factory.mktemp("untrained"), TrainingPlan(steps=0, threads=1))


def test_training_learns_and_validates(tmp_path):
    reports = []
    training = train(tmp_path, TrainingPlan(steps=24, validate_every=12, threads=1), watch=reports.append)
    lines = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [12, 24, 24]
    for term in ("total", "layers", "segmentation", "depth", "heat"):
        assert lines[1][term] < 0.95 * lines[0][term], term
    assert lines[-1]["iou_visible_drivable"] == reports[-1].scores["iou_visible_drivable"]
    assert {"image_iou_drivable", "depth_error_median"} <= set(lines[-1])
    assert reports[-1].done == 1.0
    assert all(torch.isfinite(value).all() for value in training.networks.state_dict().values())


def test_both_networks_learn(tmp_path):
    before = {
        name: value.clone() for name, value in train(tmp_path / "a", TrainingPlan(steps=0)).networks.named_parameters()
    }
    after = dict(train(tmp_path / "b", TrainingPlan(steps=2, threads=1)).networks.named_parameters())
    still = [name for name, value in before.items() if torch.equal(value, after[name])]
    assert not still


def test_heads_learn_from_the_views_alone(untrained):
    networks = untrained.networks
    window = cut_window(plain_road(RIG), 0, 0, 2, untrained.lift)
    networks.train()
    state = networks.topdown.empty_state(1)
    image = step_terms(networks, [window], views(), state)[1]
    networks.zero_grad()
    image.segmentation.backward()
    assert networks.hydranet.segmentation.last.weight.grad.abs().max() > 0
    assert networks.topdown.encoder.mix.weight.grad is None
    other = views()
    other.labels[:] = 6
    assert step_terms(networks, [window], other, state)[1].segmentation > image.segmentation


def test_what_the_ground_asks_for_reaches_the_images(untrained):
    networks = untrained.networks
    window = cut_window(plain_road(RIG), 0, 0, 2, untrained.lift)
    networks.train()
    ground, _, _ = step_terms(networks, [window], views(), networks.topdown.empty_state(1))
    networks.zero_grad()
    ground.layers.backward()
    assert networks.hydranet.stem[0].weight.grad.abs().max() > 0


def test_resumed_training_is_the_uninterrupted_one(tmp_path):
    plan = TrainingPlan(steps=4, validate_every=2, threads=1)

    def stop(progress):
        if progress.step == 2:
            raise KeyboardInterrupt

    whole = train(tmp_path / "whole", plan)
    with contextlib.suppress(KeyboardInterrupt):
        train(tmp_path / "parts", plan, watch=stop)
    parts = train(tmp_path / "parts", plan, resume=True)
    assert parts.step == 4
    assert torch.equal(whole.states, parts.states)
    for name, value in whole.networks.state_dict().items():
        assert torch.equal(value, parts.networks.state_dict()[name]), name


def test_resuming_nothing_says_so(tmp_path):
    with pytest.raises(MissingFile, match=r"checkpoint\.pt: no such checkpoint"):
        Training(HYDRANET, TOPDOWN, TrainingPlan(steps=1, threads=1), tmp_path, resume=True)


def test_resuming_rubbish_says_so(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(BundleError, match=r"not a checkpoint of octobev\.models\.train"):
        Training(HYDRANET, TOPDOWN, TrainingPlan(steps=1, threads=1), tmp_path, resume=True)


@pytest.mark.parametrize("arguments", [{}, {"steps": 1, "minutes": 1.0}])
def test_length_is_given_once(arguments):
    with pytest.raises(InvalidArgument, match="length of a training must be steps or minutes"):
        TrainingPlan(**arguments)


def test_length_is_not_negative():
    with pytest.raises(InvalidArgument, match="at least 0, got -1"):
        TrainingPlan(steps=-1)


def test_missing_cameras_have_no_features(untrained):
    active = np.array([True, False, True])
    window = cut_window(plain_road(OTHER_RIG), 0, 0, 1, untrained.lift, active)
    features = torch.arange(2 * 128 * 16, dtype=torch.float32).reshape(2, 128, 16)
    rows = camera_rows(features, [(window, 0)]).reshape(3, 128, 16)
    assert torch.equal(rows[[0, 2]], features)
    assert not rows[1].any()


def test_folding_changes_no_feature(untrained):
    hydranet = untrained.average.hydranet
    image = torch.randint(0, 256, (2, 3, 32, 64), dtype=torch.uint8)
    for value in hydranet.state_dict().values():
        if value.dtype.is_floating_point and value.dim() == 1:
            value.add_(0.05)
    with torch.no_grad():
        torch.testing.assert_close(folded(hydranet).features(image), hydranet.features(image), atol=1e-4, rtol=1e-4)
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in hydranet.modules())


def test_forgetting_before_every_set_is_measured_too(untrained):
    for name, value in untrained.average.topdown.state_dict().items():
        if name.startswith("cell"):
            value.mul_(8.0)
    drives = [plain_road(RIG, seed=1)]
    with_memory, _ = validate(untrained.average, drives, untrained.lift)
    without, frequencies = validate(untrained.average, drives, untrained.lift, reset_every_set=True)
    assert with_memory["image_iou_drivable"] == without["image_iou_drivable"]
    assert with_memory["direction_deg_median"] != without["direction_deg_median"]
    assert 0.0 < frequencies["drivable"] < 1.0


def test_command_trains_from_sequences_to_a_bundle(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "SETS_PER_WINDOW", 2)
    monkeypatch.setattr("octobev.models.sequences.SETS_PER_SEQUENCE", 4)
    monkeypatch.setattr("octobev.models.net.HydraNetConfig", lambda: HYDRANET)
    monkeypatch.setattr("octobev.models.topdown_net.TopDownConfig", lambda feature_channels: TOPDOWN)
    out = tmp_path / "out"
    (out / "sequences").mkdir(parents=True)
    for town in (0, 1, 10_000):
        write_sequences(plain_road(RIG, seed=town), town_path(out / "sequences", town))
    options = ["--out", str(out), "--towns", "2", "--validation-towns", "1", "--threads", "1"]
    assert command.main([*options, "--steps", "2"]) == 0
    assert load_checkpoint(out / "checkpoint.pt").step == 2
    assert "iou_visible_drivable" in capsys.readouterr().out
    bundle = open_bundle(out / "bundle")
    assert set(bundle.outputs) >= {"road_layout", "occupancy", "corridor_direction", "segmentation", "objects"}
    assert command.main([*options, "--resume", "--steps", "3"]) == 0
    assert load_checkpoint(out / "checkpoint.pt").step == 3
