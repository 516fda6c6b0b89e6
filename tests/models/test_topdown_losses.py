import numpy as np
import pytest

torch = pytest.importorskip("torch")

from octobev.models.sequences import LAYERS, VISIBLE  # noqa: E402
from octobev.models.topdown_losses import HIDDEN_WEIGHT, BevScores, topdown_terms  # noqa: E402
from octobev.models.topdown_net import TopDownOutputs  # noqa: E402
from octobev.replay.drive import UNKNOWN  # noqa: E402

NX, NY = 6, 4


def truth(visible=1):
    layers = torch.zeros(1, VISIBLE + 1, NX, NY, dtype=torch.uint8)
    layers[:, LAYERS.index("drivable"), :3] = 1
    layers[:, VISIBLE] = visible
    return layers


def outputs(layers, sure=20.0, angle=0.0):
    logits = sure * (2.0 * layers[:, :VISIBLE].float() - 1.0)
    direction = torch.zeros(1, 2, NX, NY)
    direction[:, 0], direction[:, 1] = np.cos(2 * angle), np.sin(2 * angle)
    return TopDownOutputs(logits, direction)


def nowhere():
    return torch.full((1, NX, NY), float("nan"))


def test_the_truth_itself_costs_nothing():
    directions = nowhere()
    directions[0, 1] = 0.3
    terms = topdown_terms(outputs(truth(), angle=0.3), truth(), directions)
    for value in (terms.layers, terms.dice, terms.direction, terms.total):
        assert value.item() == pytest.approx(0.0, abs=1e-5)


def test_opposite_directions_cost_nothing():
    terms = topdown_terms(outputs(truth(), angle=0.3 - np.pi), truth(), nowhere().fill_(0.3))
    assert terms.direction.item() == pytest.approx(0, abs=1e-5)
    assert topdown_terms(outputs(truth(), angle=0.3 - np.pi / 2), truth(), nowhere().fill_(0.3)).direction > 1.0


def test_hidden_cells_count_less():
    half = truth()
    half[:, VISIBLE, :, : NY // 2] = 0
    wrong_hidden, wrong_visible = outputs(truth()), outputs(truth())
    wrong_hidden.logits[0, 0, 0, 0] = -20.0
    wrong_visible.logits[0, 0, 0, NY - 1] = -20.0
    costs = [topdown_terms(wrong, half, nowhere()).layers.item() for wrong in (wrong_hidden, wrong_visible)]
    assert costs[0] / costs[1] == pytest.approx(HIDDEN_WEIGHT, rel=1e-3)


def test_unknown_cells_cost_nothing():
    wrong = outputs(1 - truth())
    everything = topdown_terms(wrong, truth(), nowhere())
    assert everything.layers > 10.0
    unknown = truth()
    unknown[:, :VISIBLE] = UNKNOWN
    nothing = topdown_terms(wrong, unknown, nowhere())
    assert nothing.layers.item() == 0.0
    assert nothing.dice.item() == pytest.approx(0.0, abs=1e-6)


def test_a_layer_is_learned_from_the_cells_where_it_is_known():
    logits = torch.full((1, VISIBLE, NX, NY), -1.0, requires_grad=True)
    part = truth()
    part[:, 0, :, 0] = UNKNOWN
    part[:, 1] = UNKNOWN
    terms = topdown_terms(TopDownOutputs(logits, torch.zeros(1, 2, NX, NY)), part, nowhere())
    terms.total.backward()
    assert not logits.grad[0, 0, :, 0].any()
    assert logits.grad[0, 0, :, 1:].all()
    assert not logits.grad[0, 1].any()
    known = truth()[:, :, :, 1:]
    alone = topdown_terms(TopDownOutputs(logits[..., 1:], torch.zeros(1, 2, NX, NY - 1)), known, nowhere()[..., 1:])
    same = topdown_terms(
        TopDownOutputs(logits[..., 1:], torch.zeros(1, 2, NX, NY - 1)), part[..., 1:], nowhere()[..., 1:]
    )
    assert terms.layers.item() == pytest.approx(same.layers.item(), rel=1e-6)
    assert same.layers < alone.layers


def test_losses_without_any_corridor_are_finite_and_have_gradients():
    logits = torch.zeros(1, VISIBLE, NX, NY, requires_grad=True)
    direction = torch.zeros(1, 2, NX, NY, requires_grad=True)
    terms = topdown_terms(TopDownOutputs(logits, direction), truth(), nowhere())
    terms.total.backward()
    assert torch.isfinite(terms.total)
    assert logits.grad.abs().sum() > 0
    assert torch.isfinite(direction.grad).all()


def test_scores_of_hand_counted_cells():
    layers = truth().numpy()
    layers[0, VISIBLE, :, 0] = 0
    logits = np.full((1, VISIBLE, NX, NY), -1.0, np.float32)
    logits[0, 0, 1:4] = 1.0  # rows 1 to 3, the truth being 0 to 2
    direction = np.zeros((1, 2, NX, NY), np.float32)
    direction[0, 1] = 0.5  # 45 degrees, whatever the length
    angles = np.full((1, NX, NY), np.radians(40.0), np.float32)
    scores = BevScores()
    scores.add(logits, direction, layers, angles)
    assert scores.iou(visible=False)["drivable"] == pytest.approx(8 / 16)
    assert scores.iou(visible=True)["drivable"] == pytest.approx(6 / 12)
    assert np.isnan(scores.iou(visible=True)["crosswalk"])
    assert scores.direction_error_deg() == pytest.approx((5.0, 5.0), abs=1e-3)
    assert scores.numbers()["iou_visible_drivable"] == 0.5
    assert "iou_crosswalk" not in scores.numbers()


def test_scores_leave_out_unknown_cells():
    layers = truth().numpy()
    layers[0, 0, 3] = UNKNOWN
    layers[0, 1] = UNKNOWN
    logits = np.full((1, VISIBLE, NX, NY), -1.0, np.float32)
    logits[0, 0, 1:4] = 1.0
    logits[0, 1] = 1.0
    scores = BevScores()
    scores.add(logits, np.zeros((1, 2, NX, NY), np.float32), layers, np.full((1, NX, NY), np.nan, np.float32))
    assert scores.iou(visible=True)["drivable"] == pytest.approx(8 / 12)
    assert "iou_lane_divider" not in scores.numbers()


def test_direction_error_is_folded():
    scores = BevScores()
    direction = np.zeros((1, 2, NX, NY), np.float32)
    direction[0] = np.array([np.cos(np.radians(178)), np.sin(np.radians(178))]).reshape(2, 1, 1)  # 89 degrees
    angles = np.full((1, NX, NY), np.radians(-89.0), np.float32)
    scores.add(np.zeros((1, VISIBLE, NX, NY), np.float32), direction, truth().numpy(), angles)
    assert scores.direction_error_deg()[0] == pytest.approx(2.0, abs=1e-3)


def test_nothing_measured_is_nan():
    assert all(np.isnan(BevScores().direction_error_deg()))
    assert BevScores().numbers() == {}
