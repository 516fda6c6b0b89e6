"""What a training run leaves behind, and takes up again."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError, MissingFile
from .net import HydraNet, HydraNetConfig, torch


@dataclass(slots=True)
class Checkpoint:
    """State of a training run.

    weights, average : state dicts of the network and of its moving average
    optimiser : state dict
    step, elapsed_s : how far it is
    seed : seed of the run
    frequencies : class on the ground -> share of the free ground on which the network sees it, 0..1
    scores : latest validation, name -> value
    """

    config: HydraNetConfig
    weights: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]
    step: int
    elapsed_s: float
    seed: int
    frequencies: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write atomically: a run that is killed leaves the checkpoint before."""
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__} | {"config": asdict(checkpoint.config)}
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote.

    Raises
    ------
    MissingFile, BundleError
        Not there; not a checkpoint.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        config = HydraNetConfig(**content.pop("config"))
        return Checkpoint(config=config, **content)
    except Exception as error:  # torch raises pickle, zip, key and runtime errors for files that are none
        reason = str(error).split("\n")[0]
        raise BundleError(f"{path}: not a checkpoint of octobev.models.train: {reason}") from error


def trained_net(checkpoint: Checkpoint) -> HydraNet:
    """Build the network with the averaged weights, in evaluation mode."""
    net = HydraNet(checkpoint.config)
    net.load_state_dict(checkpoint.average)
    net.eval()
    return net
