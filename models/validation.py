"""How good networks are on stretches that they were not trained on, image by image and set by set."""

from __future__ import annotations

import copy

import numpy as np
from numpy.typing import NDArray

from .lifting import lift_rows
from .losses import ImageScores
from .net import HydraNet, HydraOutputs, nn, torch
from .sequences import DEPTH_STRIDE, Sequences
from .topdown_losses import BevScores
from .training import Networks, camera_pixels, camera_rows, carried
from .windows import LiftPlan, Window, cut_window


def validate(
    networks: Networks, validation: list[Sequences], lift: LiftPlan, *, reset_every_set: bool = False
) -> tuple[dict[str, float], dict[str, float]]:
    """Run set by set in float32, as a runtime would.

    Parameters
    ----------
    reset_every_set : forget the state before each set

    Returns
    -------
    scores : name -> value; without what could not be measured
    frequencies : class on the ground -> share of the free ground on which the network sees it; of labelled images
    """
    networks.eval()
    hydranet, topdown = folded(networks.hydranet), networks.topdown
    ground = BevScores()
    images = _ImageMeasure(hydranet)
    for sequences in validation:
        for stretch in range(len(sequences)):
            window = cut_window(sequences, stretch, 0, sequences.sets, lift)
            states = topdown.empty_state(1)
            for t in range(sequences.sets):
                motion = None if reset_every_set else window.motions[t]
                with torch.no_grad():
                    features = hydranet.features(camera_pixels([(window, t)]))
                    if window.labelled:
                        images.add(hydranet.read(features), window, t)
                    rows = camera_rows(features, [(window, t)])
                    lifted = lift_rows(window.views[t : t + 1], rows, torch.get_num_threads())
                    outputs, states = topdown(lifted, carried(states, [motion]))
                ground.add(
                    outputs.logits.numpy(),
                    outputs.direction.numpy(),
                    window.layers[t : t + 1],
                    window.direction_rad[t : t + 1],
                )
    return ground.numbers() | images.numbers(), images.frequencies()


def folded(hydranet: HydraNet) -> HydraNet:
    """Copy of a trained image network whose batch normalisations are part of its convolutions: half the time."""
    net: HydraNet = copy.deepcopy(hydranet).eval().to(memory_format=torch.channels_last)
    for module in net.modules():
        if isinstance(module, nn.Sequential) and len(module) > 1 and isinstance(module[1], nn.BatchNorm2d):
            module[0], module[1] = torch.nn.utils.fuse_conv_bn_eval(module[0], module[1]), nn.Identity()
    net.requires_grad_(False)
    return net


class _ImageMeasure:
    """Scores in the image, and how much of the ground has which class as the network sees it."""

    def __init__(self, hydranet: HydraNet) -> None:
        self.config = hydranet.config
        self.scores = ImageScores(self.config.classes)
        self._area = np.zeros(len(self.config.classes))

    def add(self, heads: HydraOutputs, window: Window, t: int) -> None:
        """Add the images of a moment."""
        height, width = self.config.output_shape
        p = torch.softmax(heads.logits, dim=-1).numpy()
        depth: NDArray[np.float32] = heads.log_depth.exp().reshape(-1, height, width).numpy()
        step = self.config.output_stride // DEPTH_STRIDE
        true_depth = window.depth_m[t][window.active[t]][..., ::step, ::step].astype(np.float32)
        labels = window.labels[t][window.active[t]]
        self.scores.add(p.argmax(-1).reshape(-1, height, width), labels, depth, true_depth)
        # a pixel's share of the ground grows with the cube of the distance
        area = np.where((true_depth > 2.0) & (true_depth < 30.0), true_depth**3, 0.0).reshape(len(p), -1)
        self._area += np.einsum("bp,bpc->c", area, p)

    def numbers(self) -> dict[str, float]:
        """All figures by name."""
        named = {f"image_iou_{name}": value for name, value in self.scores.iou().items()}
        median, p90 = self.scores.depth_error()
        named |= {"depth_error_median": median, "depth_error_p90": p90}
        return {name: round(value, 4) for name, value in named.items() if not np.isnan(value)}

    def frequencies(self) -> dict[str, float]:
        """Shares of the free ground; nothing when no image was added."""
        if not self._area.any():
            return {}
        shares = dict(zip(self.config.classes, (self._area / max(self._area.sum(), 1e-9)).tolist(), strict=True))
        free = max(1.0 - shares["obstacle"] - shares["vehicle"], 1e-6)
        return {
            "drivable": (shares["drivable"] + shares["lane_marking"] + shares["crosswalk"]) / free,
            "lane_divider": shares["lane_marking"] / free,
            "road_edge": shares["road_edge"] / free,
            "crosswalk": shares["crosswalk"] / free,
        }
