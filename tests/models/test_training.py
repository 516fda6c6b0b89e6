import contextlib
import json

import numpy as np
import pytest
from octobev.errors import BundleError, InvalidArgument, MissingFile
from octobev.models import train as command
from octobev.models.material import Material
from octobev.models.plan import TrainingPlan
from octobev.models.sequences import read_sequences, write_sequences
from octobev.models.shelf import Shelf, town_path
from octobev.replay.drive import UNKNOWN
from octobev.replay.recorder import record_drive
from octobev.replay.rigs import reference_rig
from octobev.replay.synthetic import SyntheticDrive

torch = pytest.importorskip("torch")

from octobev.models.checkpoint import load_checkpoint  # noqa: E402
from octobev.models.training import Training, Validation, camera_rows, step_terms  # noqa: E402
from octobev.models.validation import folded, validate  # noqa: E402
from octobev.models.windows import Source, Views, WindowSampler, cut_window  # noqa: E402
from octobev.runtime.bundle import open_bundle  # noqa: E402
from small_networks import HYDRANET, TOPDOWN, plain_road, unlabelled  # noqa: E402

RIG = reference_rig().select(("front_main", "rear"))
OTHER_RIG = reference_rig().select(("front_wide", "left_pillar", "rear"))


def train(folder, plan, *, watch=lambda progress: None, labelled=True, drives=(), **origin):
    """Train on two stretches, as of drives when they are not `labelled`; measure on a third one and on `drives`."""
    folder.mkdir(exist_ok=True)
    for town, rig in enumerate((RIG, OTHER_RIG)):
        road = plain_road(rig, seed=town)
        write_sequences(road if labelled else unlabelled(road), town_path(folder, town))
    training = Training(HYDRANET, TOPDOWN, plan, folder, **origin)
    files = [town_path(folder, town) for town in (0, 1)]
    shelf = Shelf(files, read_sequences, steps_per_file=8, window=2, wait=lambda: None)
    sampler = WindowSampler([Source(shelf, labelled=labelled)], training.lift, seed=0, lanes=2, sets=2, windows=2)
    training.run(sampler, Validation([plain_road(RIG, seed=2)], list(drives)), watch)
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


def test_without_views_the_images_have_no_losses(untrained):
    networks = untrained.networks
    window = cut_window(unlabelled(plain_road(RIG)), 0, 0, 2, untrained.lift)
    networks.eval()
    with torch.no_grad():
        ground, image, _ = step_terms(networks, [window], None, networks.topdown.empty_state(1))
        same, known, _ = step_terms(networks, [window], views(), networks.topdown.empty_state(1))
    assert image is None
    assert known is not None
    assert ground.total.item() == pytest.approx(same.total.item(), rel=1e-3)


def test_training_on_drives_alone_leaves_the_heads_as_they_are(tmp_path):
    plan = TrainingPlan(steps=2, threads=1)
    before = dict(train(tmp_path / "a", TrainingPlan(steps=0, threads=1)).networks.named_parameters())
    trained = train(tmp_path / "b", plan, labelled=False, drives=[unlabelled(plain_road(OTHER_RIG, seed=5))])
    after = dict(trained.networks.named_parameters())
    moved = {name for name, value in before.items() if not torch.equal(value, after[name])}
    heads = {name for name in before if name.split(".")[1] in ("segmentation", "depth", "heat", "box")}
    assert heads
    assert moved == before.keys() - heads


def test_drives_are_measured_apart_from_towns(tmp_path):
    drive = unlabelled(plain_road(OTHER_RIG, seed=5))
    drive.layers[:, :, 1] = UNKNOWN
    trained = train(tmp_path, TrainingPlan(steps=0, threads=1), drives=[drive])
    assert {"iou_drivable", "drive_iou_drivable", "image_iou_drivable"} <= trained.scores.keys()
    assert not [name for name in trained.scores if name.startswith(("drive_image", "drive_iou_lane", "drive_depth"))]
    assert trained.frequencies


def test_drives_alone_say_nothing_of_classes_in_images(untrained):
    scores, frequencies = validate(untrained.average, [unlabelled(plain_road(RIG))], untrained.lift)
    assert "iou_drivable" in scores
    assert frequencies == {}


def test_training_starts_with_the_average_of_another(tmp_path):
    first = train(tmp_path / "first", TrainingPlan(steps=2, threads=1))
    checkpoint = load_checkpoint(tmp_path / "first" / "checkpoint.pt")
    plan = TrainingPlan(steps=0, seed=7, threads=1)
    second = train(tmp_path / "second", plan, start=checkpoint)
    assert second.step == 0
    for name, value in first.average.state_dict().items():
        assert torch.equal(value, second.networks.state_dict()[name]), name


def test_learning_rate_is_the_plans(tmp_path):
    slow, fast = (
        train(tmp_path / name, TrainingPlan(steps=1, threads=1, learning_rate=rate)).optimiser.param_groups[0]["lr"]
        for name, rate in (("slow", 1e-4), ("fast", 1e-3))
    )
    assert fast == pytest.approx(10 * slow)


def test_learning_rate_must_be_positive():
    with pytest.raises(InvalidArgument, match=r"learning rate must be above 0, got 0\.0"):
        TrainingPlan(steps=1, learning_rate=0.0)


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


@pytest.fixture
def small_command(monkeypatch):
    monkeypatch.setattr(command, "SETS_PER_WINDOW", 2)
    monkeypatch.setattr("octobev.models.sequences.SETS_PER_SEQUENCE", 4)
    monkeypatch.setattr("octobev.models.net.HydraNetConfig", lambda: HYDRANET)
    monkeypatch.setattr("octobev.models.topdown_net.TopDownConfig", lambda feature_channels: TOPDOWN)


def test_command_trains_from_sequences_to_a_bundle(tmp_path, capsys, small_command):
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


@pytest.fixture(scope="module")
def drives(tmp_path_factory):
    """Two short synthetic drives in MCAP."""
    folder = tmp_path_factory.mktemp("drives")
    for seed in (1, 2):
        record_drive(SyntheticDrive(seed, 1.0, 4.0, (64, 32), rig=RIG), folder / f"{seed}.mcap")
    return [str(folder / f"{seed}.mcap") for seed in (1, 2)]


def test_command_learns_from_recorded_drives(tmp_path, capsys, small_command, drives):
    out = tmp_path / "out"
    options = ["--out", str(out), "--threads", "1", "--validation-towns", "0", "--towns", "0", "--drive", drives[0]]
    assert command.main([*options, "--validation-drive", drives[1], "--steps", "2"]) == 0
    shown = capsys.readouterr()
    assert "drive_iou_visible_drivable" in shown.out
    assert "1.mcap: 1 stretches out of 4 sets" in shown.err
    start = ["--start", str(out / "checkpoint.pt"), "--learning-rate", "1e-4"]
    options[1] = str(tmp_path / "fine")
    assert command.main([*options, *start, "--steps", "1"]) == 0
    assert load_checkpoint(tmp_path / "fine" / "checkpoint.pt").step == 1


def test_command_mixes_drives_with_towns_of_a_rig(tmp_path, capsys, small_command, drives):
    out = tmp_path / "out"
    towns = Material((0, 1), rigs=(reference_rig(),)).town_folder(out / "sequences")
    towns.mkdir(parents=True)
    for town in (0, 1, 10_000):
        write_sequences(plain_road(OTHER_RIG, seed=town), town_path(towns, town))
    options = ["--out", str(out), "--towns", "2", "--validation-towns", "1", "--threads", "1", "--rig", "reference"]
    assert command.main([*options, "--drive", drives[0], "--validation-drive", drives[1], "--steps", "3"]) == 0
    assert {"iou_drivable", "drive_iou_drivable"} <= load_checkpoint(out / "checkpoint.pt").scores.keys()


def test_command_says_how_to_go_on_when_it_is_stopped(tmp_path, capsys, small_command, drives, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("octobev.models.material.drive_files", stop)
    options = ["--out", str(tmp_path / "out"), "--towns", "0", "--validation-towns", "0", "--drive", drives[0]]
    assert command.main([*options, "--steps", "1"]) == 130
    assert "go on with the same command; no checkpoint yet" in capsys.readouterr().err
