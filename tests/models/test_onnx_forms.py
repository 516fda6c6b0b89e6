"""What is written to ONNX computes what the trained networks do."""

import copy

import pytest
from small_networks import HYDRANET, TOPDOWN

torch = pytest.importorskip("torch")

from octobev.models.net import ExportedHydraNet, Head, HydraNet, HydraNetConfig  # noqa: E402
from octobev.models.onnx_forms import HydraNetForOnnx, PixelSoftmax, TopDownNetForOnnx, TwoGates  # noqa: E402
from octobev.models.topdown_net import ConvGru, ExportedTopDownNet, TopDownNet  # noqa: E402


@torch.no_grad()
@pytest.mark.parametrize("stride", [2, 4])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_softmax_of_every_pixel(stride, scale):
    config = HydraNetConfig(width=64, height=32, feature_channels=16, head_channels=16, output_stride=stride)
    head = Head(config, 7, 4 // stride)
    rows = scale * torch.randn(8 * 16, 16)
    wanted = torch.softmax(head(rows), -1)
    assert wanted.std() > 0.01
    torch.testing.assert_close(PixelSoftmax(head)(rows), wanted)


@torch.no_grad()
def test_softmax_of_any_logits_is_finite():
    head = Head(HydraNetConfig(width=64, height=32, feature_channels=16, head_channels=16), 7, 2)
    head.last.weight.zero_()
    for bias in (-500.0, 500.0):
        head.last.bias.fill_(bias)
        torch.testing.assert_close(PixelSoftmax(head)(torch.zeros(128, 16)), torch.full((512, 7), 1 / 7))


@torch.no_grad()
def test_two_gates_are_those_of_the_cell():
    cell = ConvGru(16)
    cell.gates.weight.mul_(10.0)
    x, state = torch.randn(2, 2, 16, 8, 6).unbind()
    torch.testing.assert_close(TwoGates(cell)(x, state), cell(x, state))


@torch.no_grad()
def test_networks_compute_the_same():
    hydranet, topdown = HydraNet(HYDRANET).eval(), TopDownNet(TOPDOWN).eval()
    image = torch.randint(0, 256, (1, 3, HYDRANET.height, HYDRANET.width), dtype=torch.uint8)
    lifted = torch.rand(TOPDOWN.nx * TOPDOWN.ny, TOPDOWN.lifted_channels)
    state = 2 * torch.rand(1, *TOPDOWN.state_shape) - 1
    for plain, net, form, inputs in (
        (ExportedHydraNet, hydranet, HydraNetForOnnx, (image,)),
        (ExportedTopDownNet, topdown, TopDownNetForOnnx, (lifted, state)),
    ):
        wanted = plain(copy.deepcopy(net))(*inputs)
        for got, want in zip(form(copy.deepcopy(net))(*inputs), wanted, strict=True):
            torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
