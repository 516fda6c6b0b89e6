"""The head that says where the horizon is: for parts of the image their distance from it, and how sure that is.

Every part guesses by itself, as the latitudes of perspective fields (Jin et al. 2023); what they say together is solved
for by least squares, as in GeoCalib (Veicht et al. 2024), in the runtime (:mod:`octobev.fusion.levelling`). Distances
in pixels instead of latitudes need no knowledge of the lens where they matter most, near the horizon.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..fusion.levelling import HORIZON_CHANNELS
from .net import HydraNet, HydraNetConfig, Tensor, functional, nn, torch
from .template import FEATURE_STRIDE

HORIZON_STRIDE = 16
"""Network input pixels per pixel of the map."""

BLOCKS = 2
HIDDEN_CHANNELS = 32

LOG_PRECISIONS = (-16.0, 8.0)
"""Least and largest, of the precision in 1 / pixels², where tilts are solved for."""

FARTHEST = 20.0
"""Map pixels from the horizon beyond which distances are not told apart."""


class HorizonHead(nn.Module):  # type: ignore[misc, unused-ignore]
    """Reads feature rows: means over blocks of pixels, then small convolutions over the coarse map.

    Parameters
    ----------
    config : of the network whose features it reads
    """

    def __init__(self, config: HydraNetConfig) -> None:
        super().__init__()
        self.shape = (config.height // HORIZON_STRIDE, config.width // HORIZON_STRIDE)
        self.per_side = HORIZON_STRIDE // FEATURE_STRIDE
        self.scale = nn.BatchNorm2d(config.feature_channels)
        self.first = nn.Conv2d(config.feature_channels, HIDDEN_CHANNELS, 1)
        self.blocks = nn.ModuleList([_Block() for _ in range(BLOCKS)])
        self.last = nn.Conv2d(HIDDEN_CHANNELS, HORIZON_CHANNELS, 1)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, feature pixels, feature_channels] or of one image without the B -> [B * map pixels, 2].

        Distance from the horizon in network pixels, positive above it, and the logarithm of its precision, 1 / pixels².
        """
        return self.of_means(self.coarse(rows))

    def on(self, net: HydraNet) -> nn.Module:
        """What gives the horizon by a network's feature map in place of its rows."""
        return _OnMap(self, net)

    def coarse(self, rows: Tensor) -> Tensor:
        """[B, feature pixels, C] or [feature pixels, C] -> means over the map's pixels, [B, C, h, w]."""
        (h, w), n = self.shape, self.per_side
        lines = rows.reshape(-1, n, w, n, rows.shape[-1]).mean(3).mean(1)
        return lines.reshape(-1, h, w, rows.shape[-1]).permute(0, 3, 1, 2)

    def of_means(self, means: Tensor) -> Tensor:
        """[B, C, h, w] -> rows [B * h * w, 2], see :meth:`forward`."""
        x = functional.relu(self.first(self.scale(means)))
        for block in self.blocks:
            x = block(x)
        rows: Tensor = self.last(x).permute(0, 2, 3, 1).flatten(0, 2)
        factors, offsets = self.units
        return rows * factors + offsets

    @property
    def units(self) -> tuple[Tensor, Tensor]:
        """Factors and offsets [2] from what the last layer gives, which thinks in pixels of the map."""
        size = float(HORIZON_STRIDE)
        return torch.tensor([size, 1.0]), torch.tensor([0.0, -2.0 * math.log(size)])


class _OnMap(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self, head: HorizonHead, net: HydraNet) -> None:
        super().__init__()
        self.head, self.net = head, net

    def forward(self, feature_map: Tensor) -> Tensor:
        return self.head(self.net.rows(feature_map))


class _Block(nn.Module):  # type: ignore[misc, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(HIDDEN_CHANNELS, HIDDEN_CHANNELS, 3, padding=1, bias=False)
        self.scale = nn.BatchNorm2d(HIDDEN_CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, h, w], unchanged in shape."""
        return functional.relu(self.scale(self.convolution(x)) + x)


class Horizons(NamedTuple):
    """What is known of images: n images, p map pixels.

    rays, per_pixel : float32 [n, p, 3] and [n, p], directions in the camera frame, and by how much the sine of the
        latitude changes per pixel across the horizon; zero where the lens sees nothing
    up : float32 [n, 3], the normal of the ground in the camera frame
    """

    rays: Tensor
    per_pixel: Tensor
    up: Tensor


def solve_tilts(rows: Tensor, known: Horizons, believed_up: Tensor) -> tuple[Tensor, Tensor]:
    """Solve for the tilts of cameras by weighted least squares, linear in the tilt: as the runtime does.

    Parameters
    ----------
    rows : float32 [n, p, 2], see :meth:`HorizonHead.forward`
    believed_up : float32 [n, 3], where a calibration has the ground's normal

    Returns
    -------
    tilts : [n, 2] about the camera's x axis and its optical axis, radians
    information : [n, 2, 2], inverse of their covariance
    """
    lever = known.rays @ _tangents(believed_up)
    bounded = rows[..., 1].clamp(*LOG_PRECISIONS)
    weights = torch.exp(bounded) / known.per_pixel.square().clamp(min=1e-12) * (known.per_pixel > 0)
    missing = rows[..., 0] * known.per_pixel - torch.einsum("npk,nk->np", known.rays, believed_up)
    weighted = lever * weights[..., None]
    information = torch.einsum("npi,npj->nij", weighted, lever) + torch.eye(2)
    return torch.linalg.solve(information, torch.einsum("npi,np->ni", weighted, missing)), information


def disturbed(up: Tensor, tilts: Tensor) -> Tensor:
    """The normal where a calibration has it that is wrong by tilts [n, 2], radians."""
    moved = up - torch.einsum("nkj,nj->nk", _tangents(up), tilts)
    return functional.normalize(moved, dim=1)


def horizon_loss(rows: Tensor, known: Horizons, tilts: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log likelihood of the tilts that a calibration is wrong by, and how far off single pixels are.

    Parameters
    ----------
    rows : float32 [n, p, 2]
    tilts : float32 [n, 2], radians

    Returns
    -------
    loss : scalar
    errors : [n, 2], of the tilts found, radians
    """
    found, information = solve_tilts(rows, known, disturbed(known.up, tilts))
    errors = found - tilts
    likelihood = 0.5 * torch.einsum("ni,nij,nj->n", errors, information, errors) - 0.5 * torch.logdet(information)
    distance = torch.einsum("npk,nk->np", known.rays, known.up) / known.per_pixel.clamp(min=1e-5) / HORIZON_STRIDE
    off = functional.smooth_l1_loss(
        rows[..., 0] / HORIZON_STRIDE, distance.clamp(-FARTHEST, FARTHEST), reduction="none", beta=0.05
    )
    pixels = (off * (known.per_pixel > 0)).mean()
    return likelihood.clamp(max=50.0).mean() + 3.0 * pixels, errors


def _tangents(up: Tensor) -> Tensor:
    """How the normal moves with the tilts, [n, 3, 2]."""
    x, z = (torch.tensor(axis).expand_as(up) for axis in ((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)))
    return torch.stack((torch.linalg.cross(x, up), torch.linalg.cross(z, up)), dim=-1)
