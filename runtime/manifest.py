"""The manifest of a model bundle, `bundle.toml`: what each network takes and what each output means.

The structs are the file's tables under the same names, each checked on its own when it is made; what they say of each
other is checked by :mod:`octobev.runtime.references`.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from ..errors import BundleError, expected
from ..fusion.grid import BevGrid
from ..fusion.levels import Levels
from .manifest_checks import (
    check_activation,
    check_cameras,
    check_classes,
    check_file,
    check_levels,
    check_name,
    check_not_empty,
    check_positive,
    check_provider_options,
    check_unique,
    check_variants,
)

SCHEMA: Final = 1
"""Version of the manifest format that this code reads."""

_POSITIVE_IN_CASTOUT: Final = (
    "half_life_s", "range_m", "full_evidence_m", "gain", "independent_after_s", "limit", "depth_sigma_m",
)  # fmt: skip

Variant = Literal["fp32", "int8"]
"""In which arithmetic networks compute; `fp32` are the files that a network itself names."""

_LARGEST_SIDE: Final = 16384
_LARGEST_STRIDE: Final = 1024
_MOST_PIXELS: Final = 1 << 25
_MOST_CELLS: Final = 1 << 24
_MOST_DETECTIONS: Final = 4096
_SCORE_THRESHOLD: Final = 0.4
_MAX_DETECTIONS: Final = 64
_MAX_OVERLAP: Final = 0.5


class ImageInput(msgspec.Struct, frozen=True, kw_only=True):
    """The image that a per-camera network takes: `[networks.<id>.input]`.

    tensor : name of the ONNX graph input
    width, height : size of the network's image, pixels
    dtype : `uint8` or `float32`; a float32 pixel is `(pixel * scale - mean) / std`, pixel 0..255
    layout : `nchw` or `nhwc`
    colour : order of the channels, or one grey channel
    mean, std : one number per channel, in the order of the tensor's channels; empty: 0 and 1
    fit : how an image of another shape is made to fit: `stretch` (both axes scaled on their own), `crop` (scaled to
        cover, the middle taken), `letterbox` (scaled to fit inside, centred, the rest filled with `fill`)
    sampling : `bilinear` (cv2.INTER_LINEAR) or `area` (cv2.INTER_AREA)
    decode : `smallest`: compressed images are decoded at the smallest of 1/1, 1/2, 1/4, 1/8 that is not smaller than
        what the network takes; `full`: always at full size, for networks that insist on one exact sampling
    undistort : whether the lens distortion is removed, so that the network sees a pinhole camera
    fill : raw value 0..255 of pixels that no source pixel falls on
    """

    tensor: str
    width: int
    height: int
    dtype: Literal["uint8", "float32"]
    layout: Literal["nchw", "nhwc"]
    colour: Literal["rgb", "bgr", "mono"]
    scale: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    fit: Literal["stretch", "crop", "letterbox"] = "stretch"
    sampling: Literal["bilinear", "area"] = "bilinear"
    decode: Literal["smallest", "full"] = "smallest"
    undistort: bool = False
    fill: float = 0.0

    def __post_init__(self) -> None:
        check_positive("width", self.width, _LARGEST_SIDE)
        check_positive("height", self.height, _LARGEST_SIDE)
        if self.width * self.height > _MOST_PIXELS:
            raise BundleError(expected("width * height", f"at most {_MOST_PIXELS}", self.width * self.height))
        for name, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, self.channels):
                raise BundleError(expected(name, f"{self.channels} numbers for {self.colour}", len(values)))
        if 0 in self.std:
            raise BundleError(expected("std", "without zeros", list(self.std)))
        if not 0 <= self.fill <= 255:
            raise BundleError(expected("fill", "0..255", self.fill))
        if self.dtype == "uint8" and (self.scale != 1.0 or self.mean or self.std):
            raise BundleError(expected("scale, mean and std", "left out for a uint8 input", "given"))
        if self.undistort and self.sampling == "area":
            raise BundleError(expected("sampling", '"bilinear" where undistort = true', '"area"'))

    @property
    def channels(self) -> int:
        """Channels of the tensor: 1 or 3."""
        return 1 if self.colour == "mono" else 3


class ImageOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a per-camera network: `[networks.<id>.outputs.<name>]`.

    kind : `features` (lifted by a top-down network), `segmentation`, `depth` (metres along the optical axis),
        `horizon` (two channels: where the ground's plane ends at infinity, see :mod:`octobev.fusion.levelling`),
        `detections` (2-D objects) or `raw` (handed on as it is)
    layout : `nchw` ([batch, channels, h, w]; depth also [batch, h, w]), `nhwc`, or `rows` ([batch * h * w, channels])
    stride : network input pixels per output pixel; needed by every kind but raw
    classes : names of the channels of a segmentation, or of a detection's heat map, one to one
    activation : what is still to be applied to the network's numbers: `none`, `sigmoid`, `softmax` (segmentation),
        `exp` (depth)
    boxes : detections: `tensor` is the heat map of object centres, and this one, of the same layout and stride, has
        four channels: distances from the pixel's centre to the left, top, right and bottom side of the box, network
        pixels
    score_threshold, max_detections : detections: only scores above it, and only so many of the best in an image
    max_overlap : detections: of two boxes of a class whose IoU is larger, the better stays; 1: all stay
    """

    tensor: str
    kind: Literal["features", "segmentation", "depth", "horizon", "detections", "raw"]
    layout: Literal["nchw", "nhwc", "rows"] = "nchw"
    stride: int | None = None
    classes: tuple[str, ...] = ()
    activation: Literal["none", "sigmoid", "softmax", "exp"] = "none"
    boxes: str | None = None
    score_threshold: float = _SCORE_THRESHOLD
    max_detections: int = _MAX_DETECTIONS
    max_overlap: float = _MAX_OVERLAP

    def __post_init__(self) -> None:
        if self.kind == "raw":
            if self.stride is not None or self.classes:
                raise BundleError(expected("stride and classes", "left out for kind raw", "given"))
        elif self.stride is None:
            raise BundleError(expected("stride", f"given for kind {self.kind}", "nothing"))
        else:
            check_positive("stride", self.stride, _LARGEST_STRIDE)
        check_classes(self.classes, needed=self.kind in ("segmentation", "detections"), kind=self.kind)
        allowed = {"segmentation": ("none", "sigmoid", "softmax"), "depth": ("none", "exp")}
        check_activation(self.activation, allowed | {"detections": ("none", "sigmoid")}, self.kind)
        self._check_detections()

    def _check_detections(self) -> None:
        if (self.kind == "detections") != (self.boxes is not None):
            wanted, actual = ("given", "nothing") if self.boxes is None else ("left out", self.boxes)
            raise BundleError(expected("boxes", f"{wanted} for kind {self.kind}", actual))
        limits = (self.score_threshold, self.max_detections, self.max_overlap)
        if self.kind != "detections" and limits != (_SCORE_THRESHOLD, _MAX_DETECTIONS, _MAX_OVERLAP):
            wanted = f"left out for kind {self.kind}"
            raise BundleError(expected("score_threshold, max_detections and max_overlap", wanted, "given"))
        if not 0 <= self.score_threshold < 1:
            raise BundleError(expected("score_threshold", "at least 0 and below 1", self.score_threshold))
        if not 0 <= self.max_overlap <= 1:
            raise BundleError(expected("max_overlap", "0..1", self.max_overlap))
        check_positive("max_detections", self.max_detections, _MOST_DETECTIONS)

    @property
    def tensors(self) -> dict[str, str]:
        """The graph outputs that it takes, by their keys in the manifest."""
        return {"tensor": self.tensor} | ({} if self.boxes is None else {"boxes": self.boxes})


class NetworkVariant(msgspec.Struct, frozen=True, kw_only=True):
    """The same network in another arithmetic: `[networks.<id>.variants.int8]`.

    levels : lifted tensor that is uint8 in this variant -> what its levels stand for; others are float32
    """

    file: str
    sha256: str
    levels: dict[str, Levels] = {}

    def __post_init__(self) -> None:
        check_file(self.file, self.sha256)


class CameraNetwork(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="camera"):
    """A network that runs on every camera's image: `[networks.<id>]` with kind = "camera".

    cameras : names, or patterns such as `front*`; `*` alone: all cameras of the rig
    on_demand : its outputs are given only to whoever names them
    variants : `int8` -> the file of that variant; without one the network runs as it is in every variant
    """

    file: str
    sha256: str
    cameras: tuple[str, ...]
    input: ImageInput
    outputs: dict[str, ImageOutput]
    on_demand: bool = False
    variants: dict[Variant, NetworkVariant] = {}

    def __post_init__(self) -> None:
        check_file(self.file, self.sha256)
        check_variants(self.variants)
        check_levels({name: variant.levels for name, variant in self.variants.items()}, ())
        check_cameras(self.cameras)
        check_not_empty("outputs", self.outputs)
        check_unique("outputs' tensors", [name for out in self.outputs.values() for name in out.tensors.values()])
        for name, output in self.outputs.items():
            check_name(f"outputs.{name}", name)
            stride = output.stride or 1
            if self.input.width % stride or self.input.height % stride:
                size = f"{self.input.width}x{self.input.height}"
                raise BundleError(expected(f"outputs.{name}.stride", f"a divisor of the input size {size}", stride))


class Lift(msgspec.Struct, frozen=True, kw_only=True):
    """One input of a top-down network: image features carried to the ground, `[[networks.<id>.lifts]]`.

    source : name of an output of kind features
    heights_m : heights above the ground at which features are sampled, metres
    layout : `nchw` ([1, heights * channels, nx, ny], plane = height * channels + channel) or `rows`
        ([nx * ny, heights * channels])
    weighting : how cameras that see the same point share it: `uniform`, or by `resolution` (pixels per metre)
    border_px : over how many network pixels a camera's share fades out towards its image border
    levels : what the levels of a uint8 tensor stand for; None: it is float32. A variant says it for itself
    """

    tensor: str
    source: str
    heights_m: tuple[float, ...] = (0.0,)
    layout: Literal["nchw", "rows"] = "nchw"
    weighting: Literal["uniform", "resolution"] = "resolution"
    border_px: float = 0.0
    levels: Levels | None = None

    def __post_init__(self) -> None:
        check_not_empty("heights_m", self.heights_m)
        if self.border_px < 0:
            raise BundleError(expected("border_px", "at least 0", self.border_px))


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a recurrent top-down network remembers: `[[networks.<id>.states]]`, tensors [1, channels, nx/k, ny/k].

    warp : whether it lies on the grid and is carried along under ego-motion
    """

    input: str
    output: str
    warp: bool = True


class TopDownOutput(msgspec.Struct, frozen=True, kw_only=True):
    """One output of a top-down network: `[networks.<id>.outputs.<name>]`, tensor [1, channels, nx, ny] on the grid.

    kind : `road_layout` (a channel per class), `occupancy` (one channel), `direction` (two: cos 2t and sin 2t, t the
        angle of the corridor from the ego's x axis) or `raw` (any shape, handed on as it is)
    """

    tensor: str
    kind: Literal["road_layout", "occupancy", "direction", "raw"]
    classes: tuple[str, ...] = ()
    activation: Literal["none", "sigmoid", "softmax"] = "none"

    def __post_init__(self) -> None:
        check_classes(self.classes, needed=self.kind == "road_layout", kind=self.kind)
        allowed = {"road_layout": ("none", "sigmoid", "softmax"), "occupancy": ("none", "sigmoid")}
        check_activation(self.activation, allowed, self.kind)


class TopDownNetwork(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="topdown"):
    """A network that works on the grid: `[networks.<id>]` with kind = "topdown".

    cameras : those whose features are lifted: names, or patterns such as `front*`; `*` alone: all
    on_demand : it runs only for whoever names its outputs
    """

    file: str
    sha256: str
    cameras: tuple[str, ...]
    lifts: tuple[Lift, ...]
    outputs: dict[str, TopDownOutput]
    states: tuple[State, ...] = ()
    on_demand: bool = False
    variants: dict[Variant, NetworkVariant] = {}

    def __post_init__(self) -> None:
        check_file(self.file, self.sha256)
        check_variants(self.variants)
        check_levels({name: variant.levels for name, variant in self.variants.items()}, [x.tensor for x in self.lifts])
        check_cameras(self.cameras)
        check_not_empty("lifts", self.lifts)
        check_not_empty("outputs", self.outputs)
        check_unique("outputs' tensors", [output.tensor for output in self.outputs.values()])
        for name in self.outputs:
            check_name(f"outputs.{name}", name)
        check_unique("input tensors", [lift.tensor for lift in self.lifts] + [state.input for state in self.states])
        check_unique("states' output tensors", [state.output for state in self.states])

    def levels_of(self, lift: Lift, variant: Variant) -> Levels | None:
        """What the levels of a lifted tensor stand for in a variant; None: it is float32."""
        if variant in self.variants:
            return self.variants[variant].levels.get(lift.tensor)
        return lift.levels


class CastOut(msgspec.Struct, frozen=True, kw_only=True):
    """A segmentation cast to the ground and stitched in a log-odds grid: `[castouts.<name>]`.

    kind : `road_layout` (one layer per class) or `occupancy` (one layer)
    source, depth : names of outputs of kind segmentation and depth of one network, at one stride
    classes : road_layout: class on the ground -> image classes whose probabilities are summed
    occupied_by : occupancy: image classes that stand in the way
    blocked_by : image classes that hide the ground: such pixels are no evidence
    thin : road_layout: classes thinner than a cell, which are there when any part of the cell has them
    subsamples : road_layout: points per side of a cell that are looked at
    heights_m : occupancy: heights above the ground that are looked at, the first being the ground itself, metres
    half_life_s : time in which log-odds fall to a half
    prior : class (`occupied` for occupancy) -> probability that says nothing, its log-odds are subtracted
    range_m, full_evidence_m : evidence counts `min(1, full_evidence_m / range)`, up to `range_m`
    gain, limit : factor of the evidence; log-odds are kept within +-limit
    independent_after_s : a set that follows sooner than this counts in proportion to the time between
    min_mass : smallest sum of sample weights that is evidence
    depth_sigma_m, depth_sigma_relative : spread of the depth's error, `depth_sigma_m + depth_sigma_relative * depth`
    """

    kind: Literal["road_layout", "occupancy"]
    source: str
    depth: str | None = None
    classes: dict[str, tuple[str, ...]] = {}
    occupied_by: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    thin: tuple[str, ...] = ()
    subsamples: int = 2
    heights_m: tuple[float, ...] = (0.0,)
    half_life_s: float = 2.0
    prior: dict[str, float] = {}
    range_m: float = 60.0
    full_evidence_m: float = 10.0
    gain: float = 1.0
    independent_after_s: float = 0.25
    limit: float = 6.0
    min_mass: float = 0.05
    depth_sigma_m: float = 0.5
    depth_sigma_relative: float = 0.05

    def __post_init__(self) -> None:
        for name in _POSITIVE_IN_CASTOUT:
            if getattr(self, name) <= 0:
                raise BundleError(expected(name, "positive", getattr(self, name)))
        for name in ("min_mass", "depth_sigma_relative"):
            if getattr(self, name) < 0:
                raise BundleError(expected(name, "at least 0", getattr(self, name)))
        check_not_empty("heights_m", self.heights_m)
        check_positive("subsamples", self.subsamples, 8)
        if unknown := [name for name in self.thin if name not in self.classes]:
            raise BundleError(expected("thin", f"among {', '.join(self.classes)}", unknown[0]))
        if self.kind == "road_layout":
            check_not_empty("classes", self.classes)
            for name, sources in self.classes.items():
                check_name(f"classes.{name}", name)
                check_not_empty(f"classes.{name}", sources)
            if self.occupied_by:
                raise BundleError(expected("occupied_by", "left out for kind road_layout", list(self.occupied_by)))
        else:
            check_not_empty("occupied_by", self.occupied_by)
            if self.classes:
                raise BundleError(expected("classes", "left out for kind occupancy", list(self.classes)))
        for name, probability in self.prior.items():
            if name not in self.bev_classes:
                raise BundleError(expected(f"prior.{name}", f"one of {', '.join(self.bev_classes)}", name))
            if not 0 < probability < 1:
                raise BundleError(expected(f"prior.{name}", "between 0 and 1", probability))

    @property
    def bev_classes(self) -> tuple[str, ...]:
        """Names of the layers on the ground."""
        return tuple(self.classes) if self.kind == "road_layout" else ("occupied",)

    @property
    def image_classes(self) -> tuple[str, ...]:
        """Every class of the source that is used, in order of appearance."""
        summed = [name for sources in self.classes.values() for name in sources]
        return tuple(dict.fromkeys([*summed, *self.occupied_by, *self.blocked_by]))


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """One ONNX Runtime execution provider and its options, see :data:`.manifest_checks.PROVIDER_OPTIONS`."""

    name: str
    options: dict[str, str] = {}

    def __post_init__(self) -> None:
        check_provider_options(self.options)


class RuntimeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How networks are run: `[runtime]`.

    providers : execution providers in order of preference
    graph_optimization : ONNX Runtime's level; results are bit-equal within one level only
    """

    providers: tuple[Provider, ...] = (Provider(name="CPUExecutionProvider"),)
    graph_optimization: Literal["disabled", "basic", "extended", "all"] = "all"

    def __post_init__(self) -> None:
        check_not_empty("providers", self.providers)


NetworkSpec = CameraNetwork | TopDownNetwork


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `bundle.toml`.

    level_by : name of an output of kind horizon, by which the cameras' tilts are found and corrected; empty: none is
    """

    schema: int
    name: str
    version: str
    grid: BevGrid
    networks: dict[str, NetworkSpec]
    description: str = ""
    license: str = ""
    level_by: str = ""
    castouts: dict[str, CastOut] = {}
    runtime: RuntimeOptions = msgspec.field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise BundleError(expected("schema", str(SCHEMA), self.schema))
        if self.grid.cells > _MOST_CELLS:
            raise BundleError(expected("grid: cells", f"at most {_MOST_CELLS}", self.grid.cells))
        check_not_empty("networks", self.networks)
        check_not_empty("name", self.name)
        for name in self.networks:
            check_name(f"networks.{name}", name, reserved=False)
        for name in self.castouts:
            check_name(f"castouts.{name}", name)

    @property
    def camera_networks(self) -> dict[str, CameraNetwork]:
        """The networks that run on images."""
        return {name: n for name, n in self.networks.items() if isinstance(n, CameraNetwork)}

    @property
    def topdown_networks(self) -> dict[str, TopDownNetwork]:
        """The networks that run on the grid."""
        return {name: n for name, n in self.networks.items() if isinstance(n, TopDownNetwork)}
