import contextlib
import json

import numpy as np
import pytest
from octobev.errors import BundleError, InvalidArgument, MissingFile
from octobev.models.shards import Shard, ShardSampler, shard_path, write_shard

torch = pytest.importorskip("torch")

from octobev.models.checkpoint import load_checkpoint, trained_net  # noqa: E402
from octobev.models.export import export_bundle  # noqa: E402
from octobev.models.net import HydraNetConfig  # noqa: E402
from octobev.models.training import Training, TrainingPlan, ground_frequencies  # noqa: E402
from octobev.runtime.bundle import open_bundle  # noqa: E402

CONFIG = HydraNetConfig(
    width=64, height=32, stage_channels=(16, 16, 16, 16), stage_blocks=(1, 1, 1, 1), feature_channels=16
)


def stripes(views=6):
    """Images whose brightness is their class."""
    labels = np.broadcast_to(np.arange(32, dtype=np.uint8)[:, None] // 7, (views, 32, 64)).copy()
    images = np.repeat(labels[..., None] * 50, 3, axis=-1)
    return Shard(images, labels, (5.0 + labels[:, ::2, ::2] * 4).astype(np.float16))


def train(folder, steps, *, resume=False, reports=None):
    write_shard(stripes(), shard_path(folder, 0))
    sampler = ShardSampler(folder, [0], seed=0, batch=4, steps_per_town=8, window=1, wait=lambda: None)
    training = Training(CONFIG, TrainingPlan(steps=steps, validate_every=10, threads=1), folder, resume=resume)
    training.run(sampler, [stripes(2)], (lambda _: None) if reports is None else reports.append)
    return training


def test_training_learns_and_leaves_a_bundle(tmp_path):
    reports = []
    train(tmp_path, 30, reports=reports)
    lines = [json.loads(line) for line in (tmp_path / "curves.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20, 30, 30]
    assert lines[2]["total"] < 0.9 * lines[0]["total"]
    assert reports[-1].done == 1.0
    checkpoint = load_checkpoint(tmp_path / "checkpoint.pt")
    report = export_bundle(trained_net(checkpoint), tmp_path / "bundle", checkpoint.frequencies, "0.0.1")
    assert max(report.differences.values()) < 1e-4
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.manifest.networks["hydranet"].sha256 == report.sha256


def test_resumed_training_is_the_uninterrupted_one(tmp_path):
    (tmp_path / "whole").mkdir()
    (tmp_path / "parts").mkdir()
    plan = TrainingPlan(steps=8, validate_every=4, threads=1)

    def run(folder, stop, resume):
        write_shard(stripes(), shard_path(folder, 0))
        sampler = ShardSampler(folder, [0], seed=0, batch=4, steps_per_town=8, window=1, wait=lambda: None)
        training = Training(CONFIG, plan, folder, resume=resume)

        def watch(progress):
            if progress.step == stop:
                raise KeyboardInterrupt

        with contextlib.suppress(KeyboardInterrupt):
            training.run(sampler, [stripes(1)], watch)
        return training.net.state_dict()

    whole = run(tmp_path / "whole", None, resume=False)
    run(tmp_path / "parts", 4, resume=False)
    parts = run(tmp_path / "parts", None, resume=True)
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name


def test_resuming_nothing_says_so(tmp_path):
    with pytest.raises(MissingFile, match=r"checkpoint\.pt: no such checkpoint"):
        Training(CONFIG, TrainingPlan(steps=1, threads=1), tmp_path, resume=True)


def test_resuming_rubbish_says_so(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"rubbish")
    with pytest.raises(BundleError, match=r"not a checkpoint of octobev\.models\.train"):
        Training(CONFIG, TrainingPlan(steps=1, threads=1), tmp_path, resume=True)


@pytest.mark.parametrize("arguments", [{}, {"steps": 1, "minutes": 1.0}])
def test_length_is_given_once(arguments):
    with pytest.raises(InvalidArgument, match="length of a training must be steps or minutes"):
        TrainingPlan(**arguments)


def test_length_is_not_negative():
    with pytest.raises(InvalidArgument, match="at least 0, got -1"):
        TrainingPlan(steps=-1)


def test_frequencies_on_the_ground_leave_obstacles_out():
    classes = ("other", "drivable", "lane_marking", "road_edge", "obstacle", "crosswalk")
    shares = ground_frequencies(dict(zip(classes, (0.3, 0.27, 0.05, 0.1, 0.2, 0.08), strict=True)))
    assert shares["drivable"] == pytest.approx(0.5)
    assert shares["lane_divider"] == pytest.approx(0.0625)
    assert shares["road_edge"] == pytest.approx(0.125)
    assert shares["crosswalk"] == pytest.approx(0.1)
