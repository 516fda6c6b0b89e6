import numpy as np
import pytest

torch = pytest.importorskip("torch")

from octobev.models.losses import ImageScores, class_fractions, loss_terms  # noqa: E402
from octobev.models.net import HydraNetConfig, HydraOutputs  # noqa: E402

CONFIG = HydraNetConfig(width=32, height=32)


def outputs(labels, depth_m, certainty=20.0):
    fractions = class_fractions(labels, len(CONFIG.classes), 2)
    return HydraOutputs(torch.zeros(1, 64, 32), certainty * fractions, depth_m.flatten(1)[..., None].log())


def test_fractions_of_a_block():
    labels = torch.tensor([[[0, 1, 4, 4], [1, 1, 4, 4]]], dtype=torch.uint8)
    np.testing.assert_array_equal(class_fractions(labels, 5, 2)[0].numpy(), [[0.25, 0.75, 0, 0, 0], [0, 0, 0, 0, 1]])


def test_right_answers_cost_nothing():
    labels = torch.arange(4, dtype=torch.uint8).repeat_interleave(8).reshape(1, 1, 32).repeat(1, 32, 1)
    depth = torch.full((1, 16, 16), 7.0)
    terms = loss_terms(outputs(labels, depth), labels, depth, CONFIG)
    assert terms.total.item() < 0.3 * 0.2 + 1e-3  # a class that is nowhere leaves the smoothing of dice
    assert terms.depth.item() == pytest.approx(0.0, abs=1e-6)


def test_wrong_answers_cost_more():
    labels = torch.ones(1, 32, 32, dtype=torch.uint8)
    depth = torch.full((1, 16, 16), 7.0)
    right = loss_terms(outputs(labels, depth), labels, depth, CONFIG)
    wrong = loss_terms(outputs(labels + 1, depth * 2), labels, depth, CONFIG)
    assert wrong.segmentation > right.segmentation + 5
    assert wrong.dice > right.dice
    assert wrong.depth.item() == pytest.approx(np.log(2.0), rel=1e-5)


def test_unknown_depth_is_not_compared():
    labels = torch.ones(1, 32, 32, dtype=torch.uint8)
    depth = torch.full((1, 16, 16), 7.0)
    given = outputs(labels, depth * 3)
    assert loss_terms(given, labels, depth * 0, CONFIG).depth.item() == 0.0


def test_iou_counts_every_pixel_of_a_block():
    scores = ImageScores(("a", "b", "c"))
    labels = np.array([[[0, 0, 1, 1], [0, 0, 1, 0]]], np.uint8)
    depth = np.array([[[10.0, 10.0]]], np.float32)
    scores.add(np.array([[[0, 1]]]), labels, depth, depth * 2)
    iou = scores.iou()
    assert iou["a"] == pytest.approx(4 / 5)
    assert iou["b"] == pytest.approx(3 / 4)
    assert np.isnan(iou["c"])
    assert scores.depth_error() == pytest.approx((0.5, 0.5))
