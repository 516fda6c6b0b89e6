"""What a training run of the top-down network leaves behind, and takes up again."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError, MissingFile
from .net import HydraNet, HydraNetConfig, torch
from .topdown_net import TopDownConfig, TopDownNet


@dataclass(slots=True)
class TopDownCheckpoint:
    """State of a training run: everything that a bundle or the next step needs.

    hydranet_config, hydranet : the image network that the features come from, its averaged weights
    weights, average : state dicts of the top-down network and of its moving average
    optimiser : state dict
    states : what each lane remembers
    step, elapsed_s : how far it is
    seed : seed of the run
    scores : latest validation, name -> value
    """

    config: TopDownConfig
    hydranet_config: HydraNetConfig
    hydranet: dict[str, Any]
    weights: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]
    states: Any
    step: int
    elapsed_s: float
    seed: int
    scores: dict[str, float] = field(default_factory=dict)

    def hydranet_net(self) -> HydraNet:
        """The image network, in evaluation mode."""
        net = HydraNet(self.hydranet_config)
        net.load_state_dict(self.hydranet)
        net.eval()
        return net

    def topdown_net(self) -> TopDownNet:
        """The top-down network with the averaged weights, in evaluation mode."""
        net = TopDownNet(self.config)
        net.load_state_dict(self.average)
        net.eval()
        return net


def save_topdown_checkpoint(checkpoint: TopDownCheckpoint, path: Path) -> None:
    """Write atomically: a run that is killed leaves the checkpoint before."""
    content = {name: getattr(checkpoint, name) for name in TopDownCheckpoint.__slots__}
    content |= {"config": asdict(checkpoint.config), "hydranet_config": asdict(checkpoint.hydranet_config)}
    partial = path.with_suffix(".partial")
    torch.save(content, partial)
    os.replace(partial, path)


def load_topdown_checkpoint(path: Path) -> TopDownCheckpoint:
    """Read what :func:`save_topdown_checkpoint` wrote.

    Raises
    ------
    MissingFile, BundleError
        Not there; not a checkpoint.
    """
    if not path.is_file():
        raise MissingFile(f"{path}: no such checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        config = TopDownConfig(**content.pop("config"))
        hydranet_config = HydraNetConfig(**content.pop("hydranet_config"))
        return TopDownCheckpoint(config=config, hydranet_config=hydranet_config, **content)
    except Exception as error:  # torch raises pickle, zip, key and runtime errors for files that are none
        reason = str(error).split("\n")[0]
        raise BundleError(f"{path}: not a checkpoint of octobev.models.topdown_train: {reason}") from error
