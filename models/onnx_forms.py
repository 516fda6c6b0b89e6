"""The trained networks in forms that ONNX Runtime runs faster; they compute the same, see `compare_*` of the export.

- A softmax over seven neighbouring numbers is slow there; exponentials, sums by a matrix of ones, a division are not.
- The four output pixels of a feature pixel are put in place as two pieces a row, by a split and a concatenation; a
  transposition moves them one block after the other.
- Two convolutions of half the channels cost what one of all does, and nothing has to take the gates apart.
- One narrow last layer costs little more than each of two.
"""

from __future__ import annotations

from .horizon import HorizonHead
from .net import ExportedHydraNet, Head, HydraNet, PixelPosition, Tensor, nn, torch
from .topdown_net import DIRECTION_CHANNELS, ConvGru, ExportedTopDownNet, TopDownNet

LARGEST_LOGIT = 80.0
"""Logits are clipped to this, either side, so that float32 holds their exponentials and the sums of these. It changes
something only where a class is e^80 times as likely as a logit of 0 says; then another class does not matter."""


class HydraNetForOnnx(ExportedHydraNet):
    """A HydraNet as it is written to ONNX.

    Parameters
    ----------
    net, horizon : see :class:`~octobev.models.net.ExportedHydraNet`
    """

    def __init__(self, net: HydraNet, horizon: HorizonHead | None = None) -> None:
        super().__init__(net, None if horizon is None else HorizonOfMap(horizon, net.position))
        self.probabilities = PixelSoftmax(net.segmentation)

    def segmentation(self, features: Tensor) -> Tensor:
        """Probability of each class, [output pixels, classes]."""
        probabilities: Tensor = self.probabilities(features)
        return probabilities


class PixelSoftmax(nn.Module):  # type: ignore[misc, unused-ignore]
    """A head and the softmax of what it gives.

    Parameters
    ----------
    head : kept, not copied
    """

    def __init__(self, head: Head) -> None:
        super().__init__()
        self.head = head
        ones = torch.ones((head.channels, head.channels))
        self.register_buffer("same_pixel", torch.block_diag(*[ones] * head.blocks), persistent=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[feature pixels, feature_channels] -> [output pixels, channels]."""
        (height, width), n, channels = self.head.shape, self.head.blocks, self.head.channels
        lines = self.head.of_blocks(rows).split(n * channels, dim=1)  # of n output pixels each
        x = torch.cat([line.reshape(height, 1, width * n * channels) for line in lines], dim=1)
        odds = torch.exp(x.reshape(-1, n * channels).clamp(-LARGEST_LOGIT, LARGEST_LOGIT))
        sums = odds @ self.same_pixel
        return odds.reshape(-1, channels) / sums.reshape(-1, channels)


class HorizonOfMap(nn.Module):  # type: ignore[misc, unused-ignore]
    """A :class:`~octobev.models.horizon.HorizonHead` that reads the feature map, before it is made rows.

    The means over blocks of pixels and the first layer are one convolution with steps as large as the blocks; what rows
    know of their place is a constant then, and so is the unit of what is given.

    Parameters
    ----------
    head, position : not changed
    """

    def __init__(self, head: HorizonHead, position: PixelPosition) -> None:
        super().__init__()
        n, first, last = head.per_side, head.first, head.last
        gain = head.scale.weight / torch.sqrt(head.scale.running_var + head.scale.eps)
        matrix = first.weight.flatten(1) * gain
        bias = first.bias + first.weight.flatten(1) @ (head.scale.bias - head.scale.running_mean * gain)
        self.first = nn.Conv2d(first.in_channels, first.out_channels, n, stride=n, bias=False)
        self.blocks = head.blocks
        self.last = nn.Conv2d(last.in_channels, last.out_channels, 1)
        with torch.no_grad():
            self.first.weight.copy_((matrix / n**2)[:, :, None, None].expand_as(self.first.weight))
            place = head.coarse(position.weights(position.terms))  # [1, C, h, w]
            self.register_buffer("place", torch.einsum("oc,bchw->bohw", matrix, place) + bias[:, None, None])
            units = head.units
            self.last.weight.copy_(last.weight * units[0][:, None, None, None])
            self.last.bias.copy_(last.bias * units[0] + units[1])

    def forward(self, feature_map: Tensor) -> Tensor:
        """[1, C, feature height, feature width] -> [map pixels, 2], as the head gives it."""
        x = torch.relu(self.first(feature_map) + self.place)
        for block in self.blocks:
            x = block(x)
        rows: Tensor = self.last(x).permute(0, 2, 3, 1).flatten(0, 2)
        return rows


class TopDownNetForOnnx(ExportedTopDownNet):
    """A top-down network as it is written to ONNX.

    Parameters
    ----------
    net : changed: its cell is replaced
    """

    def __init__(self, net: TopDownNet) -> None:
        super().__init__(net)
        net.cell = TwoGates(net.cell)
        layers, direction = net.decoder.layers, net.decoder.direction
        self.last = nn.Conv2d(layers.in_channels, layers.out_channels + DIRECTION_CHANNELS, 1)
        with torch.no_grad():
            self.last.weight.copy_(torch.cat((layers.weight, direction.weight)))
            self.last.bias.copy_(torch.cat((layers.bias, direction.bias)))

    def forward(self, lifted: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """See :meth:`~octobev.models.topdown_net.ExportedTopDownNet.forward`."""
        encoded = self.net.encode(lifted)
        after = self.net.cell(encoded.half, state)
        maps = self.last(self.net.decoder.finest(encoded.fine, after))
        sizes = (len(self.net.config.classes), 1, DIRECTION_CHANNELS)
        layout, occupancy, direction = maps.split(sizes, dim=1)
        return torch.sigmoid(layout), torch.sigmoid(occupancy), direction, after


class TwoGates(nn.Module):  # type: ignore[misc, unused-ignore]
    """A :class:`~octobev.models.topdown_net.ConvGru` with one convolution for each of its gates.

    Parameters
    ----------
    cell : not changed
    """

    def __init__(self, cell: ConvGru) -> None:
        super().__init__()
        channels = cell.candidate.out_channels
        self.update, self.keep = (nn.Conv2d(2 * channels, channels, 3, padding=1) for _ in range(2))
        self.candidate = cell.candidate
        with torch.no_grad():
            for gate, weight, bias in zip(
                (self.update, self.keep), cell.gates.weight.chunk(2), cell.gates.bias.chunk(2), strict=True
            ):
                gate.weight.copy_(weight)
                gate.bias.copy_(bias)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """[B, C, h, w] and the state of the same shape -> the next state."""
        both = torch.cat((x, state), 1)
        keep = torch.sigmoid(self.keep(both))
        candidate = torch.tanh(self.candidate(torch.cat((x, keep * state), 1)))
        return state + torch.sigmoid(self.update(both)) * (candidate - state)
