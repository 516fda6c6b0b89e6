"""The manifests of the bundles that are trained here, as text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .net import HydraNetConfig
    from .topdown_net import TopDownConfig

OUTPUTS = ("features", "segmentation", "depth", "object_heat", "object_boxes")
"""Output tensors of the exported network, in order."""

HORIZON = "horizon"
"""Output tensor of the head that sees the horizon, last where there is one; and its name in the manifest."""

FEATURE_STRIDE = 4
"""Network input pixels per feature pixel."""

FIT: Final = "crop"
SAMPLING: Final = "area"
"""How camera images are brought to the size of the network's input, in words of the manifest."""

CASTOUT_DESCRIPTION = (
    "A small HydraNet trained on synthetic towns: image segmentation and depth, cast out onto the ground and stitched."
)

PRIOR_FACTORS = {"drivable": 1.0, "lane_divider": 5.0, "road_edge": 2.5, "crosswalk": 6.0}
"""How often the ground shows a class, times this, is its prior. The loss weights thin classes up, so they are seen more
often than they are there; chosen on validation drives for the best IoU at a threshold of 0.5."""

OCCUPIED_PRIOR = 0.3
"""Chosen on the same drives; obstacles stand on 0.15 of the visible ground."""

DESCRIPTION = (
    "A HydraNet and a recurrent top-down network trained together on synthetic towns: road layout, occupancy, corridor "
    "direction and objects. See docs/model-card.md."
)

FRONT_CAMERAS = ("*front*",)
"""Cameras of `front_layout`, by what rigs commonly call those that look ahead."""

_HEAD = """\
schema = 1
name = "{name}"
version = "{version}"
description = "{description}"
license = "MIT"{level_by}

[grid]
x_min_m = -24.0
x_max_m = 40.0
y_min_m = -24.0
y_max_m = 24.0
resolution_m = 0.5
"""

_HYDRANET = """
[networks.hydranet]
kind = "camera"
file = "{file}"
sha256 = "{sha256}"
cameras = ["*"]

[networks.hydranet.input]
tensor = "image"
width = {width}
height = {height}
dtype = "uint8"
layout = "nchw"
colour = "rgb"
fit = "{fit}"
sampling = "{sampling}"

[networks.hydranet.outputs.features]
tensor = "features"
kind = "features"
layout = "rows"
stride = {feature_stride}

[networks.hydranet.outputs.segmentation]
tensor = "segmentation"
kind = "segmentation"
layout = "rows"
stride = {stride}
classes = [{classes}]

[networks.hydranet.outputs.depth]
tensor = "depth"
kind = "depth"
layout = "rows"
stride = {stride}

[networks.hydranet.outputs.objects]
tensor = "object_heat"
boxes = "object_boxes"
kind = "detections"
layout = "rows"
stride = {feature_stride}
classes = [{object_classes}]
"""
_HORIZON = """
[networks.hydranet.outputs.{name}]
tensor = "{name}"
kind = "horizon"
layout = "rows"
stride = {stride}
"""

_CASTOUTS = """
[castouts.road_layout]
kind = "road_layout"
source = "segmentation"
depth = "depth"
blocked_by = ["obstacle", "vehicle"]
thin = ["lane_divider", "road_edge"]
half_life_s = 4.0
range_m = 45.0
depth_sigma_m = 0.5
depth_sigma_relative = 0.15

[castouts.road_layout.classes]
drivable = ["drivable", "lane_marking", "crosswalk"]
lane_divider = ["lane_marking"]
road_edge = ["road_edge"]
crosswalk = ["crosswalk"]

[castouts.road_layout.prior]
drivable = {drivable:.3f}
lane_divider = {lane_divider:.3f}
road_edge = {road_edge:.3f}
crosswalk = {crosswalk:.3f}

[castouts.occupancy]
kind = "occupancy"
source = "segmentation"
depth = "depth"
occupied_by = ["obstacle", "vehicle"]
heights_m = [0.0]
half_life_s = 1.5
range_m = 40.0
depth_sigma_m = 0.5
depth_sigma_relative = 0.05

[castouts.occupancy.prior]
occupied = {occupied:.3f}
"""


_TOPDOWN = """
[networks.{name}]
kind = "topdown"
file = "{file}"
sha256 = "{sha256}"
cameras = [{cameras}]{on_demand}

[[networks.{name}.lifts]]
tensor = "lifted"
source = "features"
heights_m = [{heights_m}]
layout = "rows"
weighting = "resolution"
border_px = {border_px}

[[networks.{name}.states]]
input = "state"
output = "next_state"

[networks.{name}.outputs.{prefix}road_layout]
tensor = "road_layout"
kind = "road_layout"
classes = [{classes}]

[networks.{name}.outputs.{prefix}occupancy]
tensor = "occupancy"
kind = "occupancy"

[networks.{name}.outputs.{prefix}corridor_direction]
tensor = "direction"
kind = "direction"
"""


def castout_manifest_text(
    config: HydraNetConfig,
    *,
    files: Mapping[str, str],
    frequencies: Mapping[str, float],
    version: str,
    horizon_stride: int | None = None,
) -> str:
    """Return the text of `bundle.toml`, what the network sees in the image cast out.

    Parameters
    ----------
    files : file name -> SHA-256 of the HydraNet
    frequencies : `drivable`, `lane_divider`, `road_edge`, `crosswalk` -> share of the ground that the network sees so
    horizon_stride : of the network's horizon map; None: it has none
    """
    ((file, sha256),) = files.items()
    priors = {name: min(max(factor * frequencies[name], 0.01), 0.9) for name, factor in PRIOR_FACTORS.items()}
    head = _head("octobev-castout", version, CASTOUT_DESCRIPTION, horizon_stride)
    return head + _hydranet(config, file, sha256, horizon_stride) + _CASTOUTS.format(occupied=OCCUPIED_PRIOR, **priors)


def manifest_text(
    hydranet: HydraNetConfig,
    topdown: TopDownConfig,
    *,
    files: Mapping[str, str],
    version: str,
    horizon_stride: int | None = None,
) -> str:
    """Return the text of `bundle.toml`, features lifted into the recurrent network.

    The network stands in it twice: for all cameras, and on demand for those that look ahead, with a state of its own.

    Parameters
    ----------
    files : file name -> SHA-256, the HydraNet first, then the top-down network
    horizon_stride : of the HydraNet's horizon map; None: it has none
    """
    (file, sha256), (topdown_file, topdown_sha256) = files.items()
    head = _head("octobev-reference", version, DESCRIPTION, horizon_stride)
    same = {
        "file": topdown_file,
        "sha256": topdown_sha256,
        "heights_m": ", ".join(f"{height}" for height in topdown.heights_m),
        "border_px": topdown.border_px,
        "classes": _quoted(topdown.classes),
    }
    surround = _TOPDOWN.format(name="topdown", prefix="", cameras=_quoted(["*"]), on_demand="", **same)
    front = _TOPDOWN.format(
        name="front_layout", prefix="front_", cameras=_quoted(FRONT_CAMERAS), on_demand="\non_demand = true", **same
    )
    return head + _hydranet(hydranet, file, sha256, horizon_stride) + surround + front


def _head(name: str, version: str, description: str, horizon_stride: int | None) -> str:
    level_by = "" if horizon_stride is None else f'\nlevel_by = "{HORIZON}"'
    return _HEAD.format(name=name, version=version, description=description, level_by=level_by)


def _hydranet(config: HydraNetConfig, file: str, sha256: str, horizon_stride: int | None) -> str:
    text = _HYDRANET.format(
        file=file,
        sha256=sha256,
        width=config.width,
        height=config.height,
        fit=FIT,
        sampling=SAMPLING,
        stride=config.output_stride,
        feature_stride=FEATURE_STRIDE,
        classes=_quoted(config.classes),
        object_classes=_quoted(config.object_classes),
    )
    return text if horizon_stride is None else text + _HORIZON.format(name=HORIZON, stride=horizon_stride)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)
