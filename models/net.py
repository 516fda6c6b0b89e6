"""The reference HydraNet: one residual backbone, a top-down path to stride 4, and heads that are small matrices.

Dense 3x3 convolutions on channels in multiples of 16 are what ONNX Runtime's blocked CPU kernels run best, so the
network has nothing else where the work is; heads multiply feature rows `[pixels, channels]`, which is also the layout
that the view transform reads.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from ..errors import InvalidArgument, MissingDependency, expected
from .template import FEATURE_STRIDE

try:
    import torch as torch
    from torch import Tensor as Tensor
    from torch import nn as nn
    from torch.nn import functional as functional
except ImportError as error:
    raise MissingDependency(
        "training and export need PyTorch, which is not installed: pip install 'octobev[train]'"
    ) from error


@dataclass(frozen=True, slots=True)
class HydraNetConfig:
    """Sizes of a :class:`HydraNet`.

    Parameters
    ----------
    width, height : network input in pixels, multiples of 32
    classes : names of the segmentation classes, one per channel
    object_classes : names of what is detected
    stem_channels : channels after the first convolution (stride 2)
    stage_channels, stage_blocks : channels and residual blocks of the stages at stride 4, 8, 16, 32
    feature_channels : channels of the top-down path and of the `features` output
    head_channels : hidden channels of each head
    output_stride : stride of segmentation and depth, 2 or 4; objects are at the features' stride
    depth_range_m : depths are clipped to this range, metres
    """

    width: int = 320
    height: int = 192
    classes: tuple[str, ...] = ("other", "drivable", "lane_marking", "road_edge", "obstacle", "crosswalk", "vehicle")
    object_classes: tuple[str, ...] = ("vehicle", "pedestrian")
    stem_channels: int = 16
    stage_channels: tuple[int, int, int, int] = (48, 64, 96, 128)
    stage_blocks: tuple[int, int, int, int] = (1, 2, 2, 2)
    feature_channels: int = 48
    head_channels: int = 48
    output_stride: int = 2
    depth_range_m: tuple[float, float] = (0.5, 80.0)

    def __post_init__(self) -> None:
        if self.width % 32 or self.height % 32 or min(self.width, self.height) < 32:
            raise InvalidArgument(expected("network input", "multiples of 32 pixels", f"{self.width}x{self.height}"))
        if self.output_stride not in (2, 4):
            raise InvalidArgument(expected("output stride", "2 or 4", self.output_stride))

    @property
    def feature_shape(self) -> tuple[int, int]:
        """Height and width of the feature map."""
        return self.height // FEATURE_STRIDE, self.width // FEATURE_STRIDE

    @property
    def output_shape(self) -> tuple[int, int]:
        """Height and width of segmentation and depth."""
        return self.height // self.output_stride, self.width // self.output_stride


class HydraOutputs(NamedTuple):
    """What the heads give; rows are pixels in row-major order.

    logits : [B, output pixels, classes], before the softmax
    log_depth : [B, output pixels, 1], natural logarithm of metres along the optical axis
    heat : [B, feature pixels, object classes], before the sigmoid: whether an object's box has its centre there
    log_box : [B, feature pixels, 4], natural logarithm of the pixels to the left, top, right and bottom of the box
    """

    logits: Tensor
    log_depth: Tensor
    heat: Tensor
    log_box: Tensor


class HydraNet(nn.Module):  # type: ignore[misc, unused-ignore]
    """Images to features, segmentation, depth and objects.

    Parameters
    ----------
    config : the sizes
    """

    def __init__(self, config: HydraNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _convolution(3, config.stem_channels, stride=2)
        self.pixel_scale = 1.0 / 255.0
        stages, channels = [], config.stem_channels
        for wide, blocks in zip(config.stage_channels, config.stage_blocks, strict=True):
            first = ResidualBlock(channels, wide, stride=2)
            stages.append(nn.Sequential(first, *(ResidualBlock(wide, wide) for _ in range(blocks - 1))))
            channels = wide
        stages[-1].insert(1, ImageContext(channels))
        self.stages = nn.ModuleList(stages)
        self.top_down = TopDownPath(config.stage_channels, config.feature_channels)
        self.position = PixelPosition(config)
        per_side = FEATURE_STRIDE // config.output_stride
        self.segmentation = Head(config, len(config.classes), per_side)
        self.depth = Head(config, 1, per_side, bias=math.log(10.0))
        self.heat = Head(config, len(config.object_classes), bias=-4.0)
        self.box = Head(config, 4, bias=math.log(10.0))

    def forward(self, image: Tensor) -> tuple[Tensor, HydraOutputs]:
        """Run on images uint8 [B, 3, height, width], RGB; returns the features and what the heads give."""
        features = self.features(image)
        return features, self.read(features)

    def read(self, features: Tensor) -> HydraOutputs:
        """Run the heads alone."""
        return HydraOutputs(self.segmentation(features), self.depth(features), self.heat(features), self.box(features))

    def features(self, image: Tensor) -> Tensor:
        """Run without the heads: feature rows [B, feature pixels, feature_channels]."""
        return self.rows(self.feature_map(image))

    def feature_map(self, image: Tensor) -> Tensor:
        """Run as far as :meth:`rows` begins: [B, feature_channels, feature height, feature width]."""
        x = image.to(torch.float32)
        if self.pixel_scale != 1.0:
            x = x * self.pixel_scale
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        joined: Tensor = self.top_down(maps)
        return joined

    def rows(self, feature_map: Tensor) -> Tensor:
        """Features as rows, which know where in the image they are."""
        rows: Tensor = self.position(feature_map.permute(0, 2, 3, 1).flatten(1, 2))
        return rows

    def fold_pixel_scale(self) -> None:
        """Move the scaling of pixel values into the first convolution (before export; the outputs stay the same)."""
        with torch.no_grad():
            self.stem[0].weight.mul_(self.pixel_scale)
        self.pixel_scale = 1.0


class ResidualBlock(nn.Module):  # type: ignore[misc, unused-ignore]
    """Two 3x3 convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, channels: int, wide: int, stride: int = 1) -> None:
        super().__init__()
        self.first = _convolution(channels, wide, stride=stride)
        self.second = _convolution(wide, wide, activation=False)
        same = channels == wide and stride == 1
        self.shortcut = nn.Identity() if same else _convolution(channels, wide, 1, stride, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w] -> [B, wide, h / stride, w / stride]."""
        return functional.relu(self.second(self.first(x)) + self.shortcut(x))


class ImageContext(nn.Module):  # type: ignore[misc, unused-ignore]
    """Adds to every pixel what the image as a whole is like: which lens, where its horizon is, what light."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Linear(channels, channels)
        self.second = nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """[B, channels, h, w], unchanged in shape."""
        context = self.second(functional.relu(self.first(x.mean((2, 3)))))
        return x + context[:, :, None, None]


class PixelPosition(nn.Module):  # type: ignore[misc, unused-ignore]
    """Adds a learned polynomial of the pixel's position: the ground is nearer the lower it is in the image."""

    def __init__(self, config: HydraNetConfig) -> None:
        super().__init__()
        height, width = config.feature_shape
        v, u = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
        terms = torch.stack((v, v**2, v**3, u, u**2, u * v), dim=-1).reshape(height * width, 6)
        self.register_buffer("terms", terms, persistent=False)
        self.weights = nn.Linear(6, config.feature_channels, bias=False)

    def forward(self, rows: Tensor) -> Tensor:
        """[B, feature pixels, feature_channels], unchanged in shape."""
        return rows + self.weights(self.terms)


class TopDownPath(nn.Module):  # type: ignore[misc, unused-ignore]
    """Coarse maps added to fine ones, then smoothed by one convolution (feature pyramid, Lin et al. 2017)."""

    def __init__(self, stage_channels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList([_convolution(wide, channels, 1, activation=False) for wide in stage_channels])
        self.smooth = _convolution(channels, channels)

    def forward(self, maps: list[Tensor]) -> Tensor:
        """Join the stages' maps, fine to coarse, into [B, channels, h, w] at the finest one's size."""
        x = functional.relu(self.lateral[-1](maps[-1]))
        for index in range(len(maps) - 2, -1, -1):
            coarse = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = functional.relu(self.lateral[index](maps[index]) + coarse)
        return self.smooth(x)


class Head(nn.Module):  # type: ignore[misc, unused-ignore]
    """Two matrices per feature row; a row predicts the block of `per_side` x `per_side` output pixels below it."""

    def __init__(self, config: HydraNetConfig, channels: int, per_side: int = 1, bias: float = 0.0) -> None:
        super().__init__()
        self.blocks = per_side
        self.shape = config.feature_shape
        self.channels = channels
        self.hidden = nn.Linear(config.feature_channels, config.head_channels)
        self.last = nn.Linear(config.head_channels, self.blocks**2 * channels)
        nn.init.constant_(self.last.bias, bias)

    def forward(self, rows: Tensor) -> Tensor:
        """[..., feature pixels, feature_channels] -> [..., output pixels, channels]."""
        (height, width), n = self.shape, self.blocks
        x = self.of_blocks(rows)
        if n == 1:
            return x
        x = x.reshape(-1, height, width, n, n, self.channels).permute(0, 1, 3, 2, 4, 5)
        return x.reshape(*rows.shape[:-2], height * n * width * n, self.channels)

    def of_blocks(self, rows: Tensor) -> Tensor:
        """[..., feature pixels, feature_channels] -> [..., feature pixels, per_side * per_side * channels]."""
        blocks: Tensor = self.last(functional.relu(self.hidden(rows)))
        return blocks


class ExportedHydraNet(nn.Module):  # type: ignore[misc, unused-ignore]
    """A HydraNet as it is deployed: one image, probabilities, metres; everything in rows.

    Parameters
    ----------
    net : changed: the scaling of pixel values is folded into its first convolution
    horizon : what reads the horizon out of its feature map; None: nothing does
    """

    def __init__(self, net: HydraNet, horizon: nn.Module | None = None) -> None:
        super().__init__()
        net.fold_pixel_scale()
        self.net = net
        self.horizon = horizon

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Run on one image, uint8 [1, 3, height, width], RGB.

        Returns features, segmentation (softmax), depth (metres), heat (0..1), boxes (pixels left, top, right and
        bottom of the pixel) and the horizon, if there is something that reads it.
        """
        feature_map = self.net.feature_map(image)
        # a matrix on two axes becomes one node, which is quantised as a whole
        features = self.net.rows(feature_map).flatten(0, 1)
        low, high = self.net.config.depth_range_m
        heads = (
            features,
            self.segmentation(features),
            torch.exp(self.net.depth(features)).clamp(low, high),
            torch.sigmoid(self.net.heat(features)),
            torch.exp(self.net.box(features)).clamp(0.0, float(self.net.config.width)),
        )
        return heads if self.horizon is None else (*heads, self.horizon(feature_map))

    def segmentation(self, features: Tensor) -> Tensor:
        """Probability of each class, [output pixels, classes]."""
        return torch.softmax(self.net.segmentation(features), dim=-1)


def _convolution(channels: int, wide: int, size: int = 3, stride: int = 1, *, activation: bool = True) -> nn.Sequential:
    layers = [nn.Conv2d(channels, wide, size, stride, size // 2, bias=False), nn.BatchNorm2d(wide)]
    return nn.Sequential(*layers, *([nn.ReLU(inplace=True)] if activation else []))


def parameter_count(net: nn.Module) -> int:
    """Count the trainable numbers."""
    return sum(parameter.numel() for parameter in net.parameters())
