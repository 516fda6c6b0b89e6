"""What the reference HydraNet is trained on, and how it is measured in the image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from .net import HydraNetConfig, HydraOutputs, Tensor, functional, torch

CLASS_WEIGHTS = (1.0, 1.0, 3.0, 2.5, 1.5, 2.0)
"""Weights in the cross entropy, in the order of the classes: thin ones count more."""

DEPTH_WEIGHT = 0.8
DICE_WEIGHT = 0.3


@dataclass(frozen=True, slots=True)
class LossTerms:
    """One batch's losses, each a scalar tensor: segmentation (cross entropy), dice, depth and their weighted sum."""

    segmentation: Tensor
    dice: Tensor
    depth: Tensor

    @property
    def total(self) -> Tensor:
        """What is minimised."""
        return self.segmentation + DICE_WEIGHT * self.dice + DEPTH_WEIGHT * self.depth


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


def loss_terms(outputs: HydraOutputs, labels: Tensor, depth_m: Tensor, config: HydraNetConfig) -> LossTerms:
    """Compare a batch with its truth.

    Parameters
    ----------
    labels : uint8 [B, height, width], class numbers
    depth_m : float32 [B, output height, output width], metres; 0 where there is none (sky)
    """
    target = class_fractions(labels, len(config.classes), config.output_stride)
    logits = outputs.logits.float()
    log_p = functional.log_softmax(logits, dim=-1)
    weights = torch.tensor(CLASS_WEIGHTS[: len(config.classes)])
    segmentation = -(target * weights * log_p).sum(-1).mean()
    return LossTerms(segmentation, _dice(log_p.exp(), target), _depth_loss(outputs.log_depth.float(), depth_m, config))


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
