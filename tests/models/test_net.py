import math

import numpy as np
import pytest
from octobev.errors import InvalidArgument

torch = pytest.importorskip("torch")

from octobev.models.net import ExportedHydraNet, Head, HydraNet, HydraNetConfig, parameter_count  # noqa: E402

SMALL = {"width": 64, "height": 32, "stage_channels": (16, 16, 16, 16), "stage_blocks": (1, 1, 1, 1)}


def images(batch=2):
    return torch.randint(0, 256, (batch, 3, 32, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("stride", [2, 4])
def test_outputs_are_rows_of_pixels(stride):
    net = HydraNet(HydraNetConfig(**SMALL, output_stride=stride)).eval()
    features, heads = net(images())
    pixels = (32 // stride) * (64 // stride)
    assert features.shape == (2, 8 * 16, 48)
    assert heads.logits.shape == (2, pixels, 7)
    assert heads.log_depth.shape == (2, pixels, 1)
    assert heads.heat.shape == (2, 8 * 16, 2)
    assert heads.log_box.shape == (2, 8 * 16, 4)


def test_rows_of_a_head_are_in_image_order():
    config = HydraNetConfig(**SMALL, feature_channels=16)
    head = Head(config, 1, per_side=2)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
        head.hidden.weight.copy_(torch.eye(config.head_channels, 16))
        head.last.weight[:, 0] = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    rows = torch.zeros(1, 8 * 16, 16)
    rows[0, 16 + 2, 0] = 1.0  # feature pixel v = 1, u = 2: output pixels (2..3, 4..5)
    picture = head(rows).detach().numpy().reshape(16, 32)
    expected = np.zeros((16, 32))
    expected[2:4, 4:6] = [[1, 10], [100, 1000]]
    np.testing.assert_array_equal(picture, expected)


def test_exported_network_gives_probabilities_and_metres():
    net = HydraNet(HydraNetConfig(**SMALL)).eval()
    with torch.no_grad():
        rows, want = net(images(1))
        features, segmentation, depth, heat, boxes = ExportedHydraNet(net)(images(1))
    np.testing.assert_allclose(features, rows[0], atol=1e-5)
    np.testing.assert_allclose(segmentation.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(depth, want.log_depth[0].exp(), rtol=1e-4)
    np.testing.assert_allclose(heat, torch.sigmoid(want.heat[0]), atol=1e-5)
    np.testing.assert_allclose(boxes, want.log_box[0].exp(), rtol=1e-4)


def test_depth_starts_near_ten_metres():
    net = HydraNet(HydraNetConfig(**SMALL)).eval()
    assert abs(net(images())[1].log_depth.mean().item() - math.log(10.0)) < 1.0


def test_reference_network_has_its_declared_size():
    assert 500_000 <= parameter_count(HydraNet(HydraNetConfig())) <= 2_000_000


def test_input_must_halve_five_times():
    with pytest.raises(InvalidArgument, match="network input must be multiples of 32 pixels, got 320x180"):
        HydraNetConfig(height=180)


def test_output_stride_is_bounded():
    with pytest.raises(InvalidArgument, match="output stride must be 2 or 4, got 3"):
        HydraNetConfig(output_stride=3)
