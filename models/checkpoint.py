"""What a training run leaves behind, and takes up again."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BundleError, MissingFile
from ..fusion.whole_file import whole_file
from .horizon import HorizonHead
from .net import HydraNet, HydraNetConfig, torch
from .topdown_net import TopDownConfig, TopDownNet


@dataclass(slots=True)
class Checkpoint:
    """State of a training run: everything that a bundle or the next step needs.

    hydranet_config, topdown_config : sizes of both networks
    weights, average : state dicts of both networks and of their moving averages
    optimiser : state dict
    states : what each lane remembers, [lanes, C, nx / 2, ny / 2]; None before the first step
    step, elapsed_s : how far it is
    seed : seed of the run
    frequencies : class on the ground -> share of the free ground on which the network sees it, 0..1
    scores : latest validation, name -> value
    horizon : state dict of the head that sees the horizon, see :mod:`octobev.models.horizon_training`; empty: there is
        none. It is trained last, so a training that goes on leaves it out
    """

    hydranet_config: HydraNetConfig
    topdown_config: TopDownConfig
    weights: dict[str, Any]
    average: dict[str, Any]
    optimiser: dict[str, Any]
    states: Any
    step: int
    elapsed_s: float
    seed: int
    frequencies: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)
    horizon: dict[str, Any] = field(default_factory=dict)

    def networks(self) -> tuple[HydraNet, TopDownNet]:
        """Both networks with the averaged weights, in evaluation mode."""
        hydranet, topdown = HydraNet(self.hydranet_config), TopDownNet(self.topdown_config)
        hydranet.load_state_dict(self.average["hydranet"])
        topdown.load_state_dict(self.average["topdown"])
        return hydranet.eval(), topdown.eval()

    def horizon_head(self) -> HorizonHead | None:
        """The head that sees the horizon, in evaluation mode; None: it was not trained."""
        if not self.horizon:
            return None
        head = HorizonHead(self.hydranet_config)
        head.load_state_dict(self.horizon)
        head.eval()
        return head


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write atomically: a run that is killed leaves the checkpoint before."""
    content = {name: getattr(checkpoint, name) for name in Checkpoint.__slots__}
    for name in ("hydranet_config", "topdown_config"):
        content[name] = asdict(content[name])
    with whole_file(path) as part:
        torch.save(content, part)


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
        content["hydranet_config"] = HydraNetConfig(**content["hydranet_config"])
        content["topdown_config"] = TopDownConfig(**content["topdown_config"])
        return Checkpoint(**content)
    except Exception as error:  # torch raises pickle, zip, key and runtime errors for files that are none
        reason = str(error).split("\n")[0]
        raise BundleError(f"{path}: not a checkpoint of octobev.models.train: {reason}") from error
