"""What the per-camera network is trained on, and how it is measured in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..replay.bodies import VEHICLE
from .net import HydraNetConfig, HydraOutputs, Tensor, functional, torch
from .template import FEATURE_STRIDE

CLASS_WEIGHTS = (1.0, 1.0, 3.0, 2.5, 1.5, 2.0, 1.5)
"""Weights in the cross entropy, in the order of the classes: thin ones count more."""

DEPTH_WEIGHT = 0.8
DICE_WEIGHT = 0.3
HEAT_WEIGHT = 0.3
BOX_WEIGHT = 0.3

_LEAST_SIDE_PX = 0.5
_CORE = 0.5


@dataclass(frozen=True, slots=True)
class ImageTerms:
    """One batch's losses, each a scalar tensor.

    segmentation : cross entropy
    dice : soft dice of the segmentation
    depth : mean absolute error of the logarithm
    heat : focal loss of the objects' centres
    box : mean absolute error of the logarithms of the boxes' sides
    """

    segmentation: Tensor
    dice: Tensor
    depth: Tensor
    heat: Tensor
    box: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        objects = HEAT_WEIGHT * self.heat + BOX_WEIGHT * self.box
        return self.segmentation + DICE_WEIGHT * self.dice + DEPTH_WEIGHT * self.depth + objects


def class_fractions(labels: Tensor, classes: int, stride: int) -> Tensor:
    """Fraction of each class in each block of `stride` x `stride` pixels.

    Parameters
    ----------
    labels : uint8 [B, H, W], class numbers

    Returns
    -------
    float32 [B, H / stride * W / stride, classes]
    """
    batch, height, width = labels.shape
    blocks = labels.reshape(batch, height // stride, stride, width // stride, stride)
    blocks = blocks.permute(0, 1, 3, 2, 4).reshape(batch, -1, stride * stride)
    numbers = torch.arange(classes, dtype=torch.uint8)
    return (blocks[..., None] == numbers).to(torch.float32).mean(dim=2)


def image_terms(
    outputs: HydraOutputs, labels: Tensor, depth_m: Tensor, objects: NDArray[np.float32], config: HydraNetConfig
) -> ImageTerms:
    """Compare a batch with its truth.

    Parameters
    ----------
    labels : uint8 [B, height, width], class numbers
    depth_m : float32 [B, output height, output width], metres; 0 where there is none (sky)
    objects : float32 [B, n, 5], kind, x_min, y_min, x_max, y_max in pixels; kind 0: none
    """
    target = class_fractions(labels, len(config.classes), config.output_stride)
    log_p = functional.log_softmax(outputs.logits.float(), dim=-1)
    weights = torch.tensor(CLASS_WEIGHTS[: len(config.classes)])
    segmentation = -(target * weights * log_p).sum(-1).mean()
    depth = _depth_loss(outputs.log_depth.float(), depth_m, config)
    heat, log_box, shares = (torch.from_numpy(array) for array in object_targets(objects, config))
    box = ((outputs.log_box.float() - log_box).abs().mean(-1) * shares).sum() / shares.sum().clamp(min=1.0)
    return ImageTerms(segmentation, _dice(log_p.exp(), target), depth, _focal(outputs.heat.float(), heat), box)


def object_targets(
    objects: NDArray[np.float32], config: HydraNetConfig
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """What the heads of the objects should say: a bell around each centre, and boxes in the middle of each bell.

    The bells are as wide as their boxes, as in TTFNet (Liu et al. 2020).

    Parameters
    ----------
    objects : float32 [B, n, 5], see :func:`image_terms`

    Returns
    -------
    heat : float32 [B, feature pixels, object classes], 0..1, 1 at the pixel of each centre
    log_box : float32 [B, feature pixels, 4]
    shares : float32 [B, feature pixels], how much a pixel's box counts, 0 where there is none
    """
    height, width = config.feature_shape
    batch = len(objects)
    heat = np.zeros((batch, len(config.object_classes), height, width), np.float32)
    log_box = np.zeros((batch, height, width, 4), np.float32)
    shares = np.zeros((batch, height, width), np.float32)
    u, v = (FEATURE_STRIDE * (np.arange(size) + 0.5) - 0.5 for size in (width, height))
    for image, index in zip(*np.nonzero(objects[..., 0]), strict=True):
        kind, x_min, y_min, x_max, y_max = objects[image, index]
        bells = []
        for places, low, high in ((u, x_min, x_max), (v, y_min, y_max)):
            nearest = places[np.argmin(np.abs(places - 0.5 * (low + high)))]
            sigma = max((high - low) / 6.0, 0.6 * FEATURE_STRIDE)
            bells.append(np.exp(-0.5 * ((places - nearest) / sigma) ** 2))
        bell = np.outer(bells[1], bells[0]).astype(np.float32)
        of_class = heat[image, int(kind) - VEHICLE]
        np.maximum(of_class, bell, out=of_class)
        core = (bell > _CORE) & (bell > shares[image])
        row, column = np.nonzero(core)
        sides = np.stack((u[column] - x_min, v[row] - y_min, x_max - u[column], y_max - v[row]), axis=1)
        log_box[image, row, column] = np.log(np.maximum(sides, _LEAST_SIDE_PX))
        shares[image, row, column] = bell[core]
    pixels = height * width
    flat = np.ascontiguousarray(heat.reshape(batch, -1, pixels).transpose(0, 2, 1))
    return flat, log_box.reshape(batch, pixels, 4), shares.reshape(batch, pixels)


def _focal(logits: Tensor, heat: Tensor) -> Tensor:
    """Penalty-reduced focal loss (Law and Deng 2018), per object."""
    p = torch.sigmoid(logits)
    centre = (heat == 1.0).to(torch.float32)
    hit = centre * (1.0 - p) ** 2 * functional.logsigmoid(logits)
    miss = (1.0 - heat) ** 4 * p**2 * functional.logsigmoid(-logits)
    return -(hit + (1.0 - centre) * miss).sum() / centre.sum().clamp(min=1.0)


def _dice(p: Tensor, target: Tensor) -> Tensor:
    """Soft dice over the batch, mean over the classes (Milletari et al. 2016)."""
    overlap = (p * target).sum((0, 1))
    return 1.0 - ((2.0 * overlap + 1.0) / ((p * p).sum((0, 1)) + (target * target).sum((0, 1)) + 1.0)).mean()


def _depth_loss(log_depth: Tensor, depth_m: Tensor, config: HydraNetConfig) -> Tensor:
    depth = depth_m.flatten(1)[..., None]
    known = (depth > 0).to(torch.float32)
    target = depth.clamp(*config.depth_range_m).log()
    return ((log_depth - target).abs() * known).sum() / known.sum().clamp(min=1.0)


@dataclass(slots=True)
class ImageScores:
    """Segmentation IoU per class and depth error, pooled over every pixel that was added.

    Classes are compared at full resolution: each output pixel stands for its whole block.
    """

    classes: Sequence[str]
    confusion: NDArray[np.int64] = field(init=False)
    depth_errors: list[NDArray[np.float32]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.confusion = np.zeros((len(self.classes), len(self.classes)), dtype=np.int64)

    def add(
        self,
        predicted: NDArray[np.integer],
        labels: NDArray[np.uint8],
        depth_m: NDArray[np.float32],
        true_depth_m: NDArray[np.float32],
    ) -> None:
        """Add images.

        Parameters
        ----------
        predicted : integers [B, h, w], class numbers at the output's stride
        labels : uint8 [B, H, W], class numbers
        depth_m, true_depth_m : float32 [B, h, w], metres; the truth is 0 where there is none
        """
        stride = labels.shape[1] // predicted.shape[1]
        full = predicted.repeat(stride, axis=1).repeat(stride, axis=2).astype(np.int64)
        n = len(self.classes)
        self.confusion += np.bincount((labels.astype(np.int64) * n + full).ravel(), minlength=n * n).reshape(n, n)
        near = (true_depth_m > 0) & (true_depth_m < 40.0)
        error = np.abs(depth_m[near] - true_depth_m[near]) / true_depth_m[near]
        self.depth_errors.append(error[::7].astype(np.float32))

    def iou(self) -> dict[str, float]:
        """Intersection over union of each class; NaN for a class that is nowhere."""
        hit = np.diag(self.confusion)
        union = self.confusion.sum(0) + self.confusion.sum(1) - hit
        with np.errstate(invalid="ignore", divide="ignore"):
            return {name: float(value) for name, value in zip(self.classes, hit / union, strict=True)}

    def depth_error(self) -> tuple[float, float]:
        """Relative depth error below 40 m: median and 90th percentile; NaN when nothing was added."""
        errors = np.concatenate(self.depth_errors) if self.depth_errors else np.zeros(0, np.float32)
        if len(errors) == 0:
            return float("nan"), float("nan")
        return float(np.median(errors)), float(np.quantile(errors, 0.9))
