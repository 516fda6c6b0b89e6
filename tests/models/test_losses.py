import numpy as np
import pytest

torch = pytest.importorskip("torch")

from octobev.models.losses import ImageScores, class_fractions, image_terms, object_targets  # noqa: E402
from octobev.models.net import HydraNetConfig, HydraOutputs  # noqa: E402

CONFIG = HydraNetConfig(width=32, height=32)


NOTHING = np.zeros((1, 2, 5), np.float32)
CAR = np.array([[[2, 1.5, 9.5, 25.5, 17.5], [0, 0, 0, 0, 0]]], np.float32)
"""Kind vehicle; its centre (13.5, 13.5) is the centre of the feature pixel in row 3 and column 3."""


def outputs(labels, depth_m, certainty=20.0, objects=NOTHING):
    fractions = class_fractions(labels, len(CONFIG.classes), 2)
    heat, log_box, _ = (torch.from_numpy(array) for array in object_targets(objects, CONFIG))
    sure = certainty * (2.0 * (heat == 1.0).float() - 1.0)
    return HydraOutputs(certainty * fractions, depth_m.flatten(1)[..., None].log(), sure, log_box)


def loss_terms(given, labels, depth_m, config, objects=NOTHING):
    return image_terms(given, labels, depth_m, objects, config)


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


def test_right_boxes_cost_nothing_and_wrong_ones_their_logarithm():
    labels, depth = torch.ones(1, 32, 32, dtype=torch.uint8), torch.full((1, 16, 16), 7.0)
    right = outputs(labels, depth, objects=CAR)
    terms = loss_terms(right, labels, depth, CONFIG, CAR)
    assert terms.box.item() == pytest.approx(0.0, abs=1e-6)
    assert terms.heat.item() == pytest.approx(0.0, abs=1e-3)
    wrong = loss_terms(right._replace(log_box=right.log_box + 0.5), labels, depth, CONFIG, CAR)
    assert wrong.box.item() == pytest.approx(0.5, rel=1e-5)
    missed = loss_terms(right._replace(heat=-right.heat.abs()), labels, depth, CONFIG, CAR)
    assert missed.heat.item() > 10.0
    assert loss_terms(right, labels, depth, CONFIG, NOTHING).heat.item() > 10.0


def test_targets_of_a_box():
    heat, log_box, shares = object_targets(CAR, CONFIG)
    assert heat.shape == (1, 64, 2)
    assert np.unravel_index(heat[0, :, 0].argmax(), (8, 8)) == (3, 3)
    assert heat[0, 3 * 8 + 3, 0] == 1.0
    assert not heat[..., 1].any()
    np.testing.assert_allclose(np.exp(log_box[0, 3 * 8 + 3]), (12.0, 4.0, 12.0, 4.0), rtol=1e-6)
    np.testing.assert_allclose(np.exp(log_box[0, 3 * 8 + 4]), (16.0, 4.0, 8.0, 4.0), rtol=1e-6)
    assert shares[0, 3 * 8 + 3] == 1.0
    assert shares[0, 0] == 0.0


def test_of_two_boxes_a_pixel_belongs_to_the_nearer_centre():
    both = np.array([[[2, 1.5, 9.5, 25.5, 17.5], [3, 13.5, 9.5, 21.5, 17.5]]], np.float32)
    heat, log_box, _ = object_targets(both, CONFIG)
    assert heat[0, 3 * 8 + 4, 1] == 1.0
    assert np.exp(log_box[0, 3 * 8 + 4, 0]) == pytest.approx(4.0)
    assert np.exp(log_box[0, 3 * 8 + 3, 0]) == pytest.approx(12.0)


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
