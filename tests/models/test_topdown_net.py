import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid

torch = pytest.importorskip("torch")

from octobev.models.net import parameter_count  # noqa: E402
from octobev.models.topdown_net import ConvGru, ExportedTopDownNet, TopDownConfig, TopDownNet  # noqa: E402

SMALL = TopDownConfig(
    nx=16, ny=8, feature_channels=4, heights_m=(0.0, 1.0), fine_channels=16, state_channels=16, coarse_channels=(16, 16)
)


def test_shapes_are_those_of_the_grid():
    net = TopDownNet(SMALL).eval()
    outputs, state = net(torch.randn(3, 16 * 8, 8), net.empty_state(3))
    assert outputs.logits.shape == (3, len(SMALL.classes) + 1, 16, 8)
    assert outputs.direction.shape == (3, 2, 16, 8)
    assert state.shape == (3, 16, 8, 4)


def test_row_of_a_cell_is_its_place_on_the_grid():
    net = TopDownNet(SMALL).eval()
    rows = torch.zeros(1, 16 * 8, 8)
    rows[0, 5 * 8 + 3] = 10.0
    fine = net.encode(rows).fine - net.encode(torch.zeros_like(rows)).fine
    assert fine[0, :, 5, 3].abs().max() > 0
    fine[0, :, 5, 3] = 0
    assert fine.abs().max() == 0


def test_parts_together_are_the_whole():
    net = TopDownNet(SMALL).eval()
    rows, state = torch.randn(2, 16 * 8, 8), torch.rand(2, 16, 8, 4)
    whole, after = net(rows, state)
    encoded = net.encode(rows)
    next_state = net.cell(encoded.half, state)
    torch.testing.assert_close(next_state, after)
    torch.testing.assert_close(net.decode(encoded.fine, next_state).logits, whole.logits)


def test_gate_that_is_shut_keeps_the_state():
    cell = ConvGru(4)
    with torch.no_grad():
        cell.gates.weight.zero_()
        cell.gates.bias[:4] = -100.0
    state = torch.rand(1, 4, 6, 6)
    torch.testing.assert_close(cell(torch.randn(1, 4, 6, 6), state), state)


def test_one_set_needs_no_batch_axis():
    net = TopDownNet(SMALL).eval()
    rows = torch.randn(16 * 8, 8)
    for alone, batched in zip(net.encode(rows), net.encode(rows[None]), strict=True):
        torch.testing.assert_close(alone, batched)


@torch.no_grad()
def test_exported_gives_probabilities():
    net = TopDownNet(SMALL).eval()
    layout, occupancy, direction, state = ExportedTopDownNet(net)(torch.randn(128, 8), net.empty_state(1))
    assert layout.shape == (1, 5, 16, 8)
    assert occupancy.shape == (1, 1, 16, 8)
    assert direction.shape == (1, 2, 16, 8)
    assert state.shape == (1, *SMALL.state_shape)
    assert 0 <= float(layout.min()) <= float(layout.max()) <= 1


def test_size_of_the_reference_network():
    assert 0.5e6 < parameter_count(TopDownNet(TopDownConfig())) < 2e6


def test_grid_is_checked():
    with pytest.raises(InvalidArgument, match="cells of the grid must be multiples of 8, got 20x8"):
        TopDownConfig(nx=20, ny=8)
    with pytest.raises(InvalidArgument, match=r"cells of the grid must be 16x8, got \(4, 4\)"):
        SMALL.check_grid(BevGrid(0.0, 4.0, 0.0, 4.0, 1.0))
    SMALL.check_grid(BevGrid(0.0, 16.0, 0.0, 8.0, 1.0))
    assert SMALL.state_shape == (16, 8, 4)


@pytest.mark.parametrize("widths", [{"fine_channels": 8}, {"state_channels": 40}, {"coarse_channels": (0, 16)}])
def test_channels_are_multiples_of_what_kernels_work_in(widths):
    with pytest.raises(InvalidArgument, match=r"channels of each level must be multiples of 16, got \("):
        TopDownConfig(**widths)
