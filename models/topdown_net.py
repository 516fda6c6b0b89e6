"""The recurrent top-down network: lifted features in, road layout, occupancy and direction out, a state carried along.

Its state lies on the grid at half resolution; the caller warps it by the ego-motion. The first layer is a matrix over
the lifted rows `[cells, heights * channels]`, which is what the lift writes fastest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InvalidArgument, expected
from ..fusion.grid import BevGrid
from .net import ResidualBlock, Tensor, functional, nn, torch

DIRECTION_CHANNELS = 2
"""cos 2t and sin 2t: a direction that has no sign."""

CHANNEL_STEP = 16
"""What blocked kernels work in; with 8 channels PyTorch 2.13 corrupts memory in the backward pass on CPUs."""

STATE_FACTOR = 2
"""Grid cells per cell of the state, along each axis."""


@dataclass(frozen=True, slots=True)
class TopDownConfig:
    """Sizes of a :class:`TopDownNet`.

    Parameters
    ----------
    nx, ny : cells of the grid, multiples of 8
    feature_channels : channels of a lifted feature
    heights_m : heights above the ground at which features are lifted, metres
    border_px : over how many network pixels a camera's share fades out towards its image border
    classes : names of the layers of the road layout
    fine_channels : at grid resolution
    state_channels : of the recurrent state, at half resolution
    coarse_channels : at a quarter and an eighth; these four are multiples of :data:`CHANNEL_STEP`
    """

    nx: int = 128
    ny: int = 96
    feature_channels: int = 48
    heights_m: tuple[float, ...] = (0.0, 0.6, 1.5, 3.0)
    border_px: float = 8.0
    classes: tuple[str, ...] = ("drivable", "lane_divider", "road_edge", "crosswalk", "intersection")
    fine_channels: int = 48
    state_channels: int = 64
    coarse_channels: tuple[int, int] = (96, 128)

    def __post_init__(self) -> None:
        if self.nx % 8 or self.ny % 8 or min(self.nx, self.ny) < 8:
            raise InvalidArgument(expected("cells of the grid", "multiples of 8", f"{self.nx}x{self.ny}"))
        widths = (self.fine_channels, self.state_channels, *self.coarse_channels)
        if min(widths) < CHANNEL_STEP or any(width % CHANNEL_STEP for width in widths):
            raise InvalidArgument(expected("channels of each level", f"multiples of {CHANNEL_STEP}", widths))

    @property
    def lifted_channels(self) -> int:
        """Length of a lifted row: heights * channels."""
        return len(self.heights_m) * self.feature_channels

    @property
    def state_shape(self) -> tuple[int, int, int]:
        """Channels and cells of the state."""
        return self.state_channels, self.nx // STATE_FACTOR, self.ny // STATE_FACTOR

    def check_grid(self, grid: BevGrid) -> None:
        """Refuse a grid of another shape."""
        if grid.shape != (self.nx, self.ny):
            raise InvalidArgument(expected("cells of the grid", f"{self.nx}x{self.ny}", grid.shape))


class Encoded(NamedTuple):
    """What one set says: fine [B, fine_channels, nx, ny], half [B, state_channels, nx / 2, ny / 2]."""

    fine: Tensor
    half: Tensor


class TopDownOutputs(NamedTuple):
    """Logits [B, classes + 1, nx, ny], occupancy last; direction [B, 2, nx, ny], cos 2t and sin 2t."""

    logits: Tensor
    direction: Tensor


class TopDownNet(nn.Module):  # type: ignore[misc, unused-ignore]
    """Lifted features and a state to outputs and the next state.

    Training runs its three parts apart: :meth:`encode` and :meth:`decode` on any number of sets at once, :attr:`cell`
    on one after another.

    Parameters
    ----------
    config : the sizes
    """

    def __init__(self, config: TopDownConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = Encoder(config)
        self.cell = ConvGru(config.state_channels)
        self.decoder = Decoder(config)

    def encode(self, lifted: Tensor) -> Encoded:
        """[B, nx * ny, heights * channels] of single sets, without memory."""
        encoded: Encoded = self.encoder(lifted)
        return encoded

    def decode(self, fine: Tensor, state: Tensor) -> TopDownOutputs:
        """Read the state, with the fine detail of its set."""
        outputs: TopDownOutputs = self.decoder(fine, state)
        return outputs

    def forward(self, lifted: Tensor, state: Tensor) -> tuple[TopDownOutputs, Tensor]:
        """Run one step; returns the outputs and the next state."""
        encoded = self.encode(lifted)
        state = self.cell(encoded.half, state)
        return self.decode(encoded.fine, state), state

    def empty_state(self, batch: int) -> Tensor:
        """Return the state that knows nothing, float32 [B, C, nx / 2, ny / 2]."""
        return torch.zeros((batch, *self.config.state_shape))


class Encoder(nn.Module):  # type: ignore[misc, unused-ignore]
    """Mixes the heights of each cell, then looks at its surroundings at half resolution."""

    def __init__(self, config: TopDownConfig) -> None:
        super().__init__()
        self.shape = (config.nx, config.ny)
        self.mix = nn.Linear(config.lifted_channels, config.fine_channels)
        self.down = ResidualBlock(config.fine_channels, config.state_channels, stride=STATE_FACTOR)

    def forward(self, lifted: Tensor) -> Encoded:
        """[B, nx * ny, heights * channels], or one set's [nx * ny, heights * channels] -> fine and half."""
        rows = functional.relu(self.mix(lifted))
        fine = rows.reshape(-1, *self.shape, rows.shape[-1]).permute(0, 3, 1, 2).contiguous()
        return Encoded(fine, self.down(fine))


class ConvGru(nn.Module):  # type: ignore[misc, unused-ignore]
    """A gated recurrent unit whose matrices are 3x3 convolutions (Ballas et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1)
        self.candidate = nn.Conv2d(2 * channels, channels, 3, padding=1)

    def forward(self, x: Tensor, state: Tensor) -> Tensor:
        """[B, C, h, w] and the state of the same shape -> the next state."""
        update, keep = torch.sigmoid(self.gates(torch.cat((x, state), 1))).chunk(2, 1)
        candidate = torch.tanh(self.candidate(torch.cat((x, keep * state), 1)))
        return state + update * (candidate - state)


class Decoder(nn.Module):  # type: ignore[misc, unused-ignore]
    """Down to an eighth of the resolution and up again, skips at every level (Ronneberger et al. 2015)."""

    def __init__(self, config: TopDownConfig) -> None:
        super().__init__()
        state, fine, (quarter, eighth) = config.state_channels, config.fine_channels, config.coarse_channels
        self.down_4 = ResidualBlock(state, quarter, stride=2)
        self.down_8 = ResidualBlock(quarter, eighth, stride=2)
        self.middle = ResidualBlock(eighth, eighth)
        self.lateral_4 = nn.Conv2d(eighth, quarter, 1)
        self.up_4 = _smooth(quarter, quarter)
        self.lateral_2 = nn.Conv2d(quarter, state, 1)
        self.up_2 = ResidualBlock(state, state)
        self.lateral_1 = nn.Conv2d(state, fine, 1)
        self.up_1 = ResidualBlock(fine, fine)
        self.layers = nn.Conv2d(fine, len(config.classes) + 1, 1)
        self.direction = nn.Conv2d(fine, DIRECTION_CHANNELS, 1)

    def forward(self, fine: Tensor, state: Tensor) -> TopDownOutputs:
        """Fine detail [B, fine_channels, nx, ny] and the state -> outputs."""
        x1 = self.finest(fine, state)
        return TopDownOutputs(self.layers(x1), self.direction(x1))

    def finest(self, fine: Tensor, state: Tensor) -> Tensor:
        """Give what the outputs are read from, [B, fine_channels, nx, ny]."""
        x4 = self.down_4(state)
        x8 = self.middle(self.down_8(x4))
        x4 = self.up_4(functional.relu(x4 + _twice(self.lateral_4(x8))))
        x2 = self.up_2(functional.relu(state + _twice(self.lateral_2(x4))))
        x1: Tensor = self.up_1(functional.relu(fine + _twice(self.lateral_1(x2))))
        return x1


class ExportedTopDownNet(nn.Module):  # type: ignore[misc, unused-ignore]
    """A top-down network as it is deployed: one set, probabilities; see the manifest for the names.

    Parameters
    ----------
    net : in evaluation mode
    """

    def __init__(self, net: TopDownNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, lifted: Tensor, state: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Road layout, occupancy, direction and next state; rows [nx * ny, heights * C], state [1, C, h, w]."""
        outputs, after = self.net(lifted, state)
        p = torch.sigmoid(outputs.logits)
        return p[:, :-1], p[:, -1:], outputs.direction, after


def _smooth(channels: int, wide: int) -> nn.Sequential:
    layers = [nn.Conv2d(channels, wide, 3, padding=1, bias=False), nn.BatchNorm2d(wide), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def _twice(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")
