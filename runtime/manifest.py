"""The manifest of a model bundle, `bundle.toml`: what each network takes and what each output means.

The structs are the file's tables under the same names, each checked on its own when it is made; what they say of each
other is checked by :mod:`octobev.runtime.references`.
"""

from __future__ import annotations

import string
from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Final, Literal

import msgspec

from ..errors import BundleError, expected
from ..fusion.grid import BevGrid

SCHEMA: Final = 1
"""Version of the manifest format that this code reads."""

_POSITIVE_IN_CASTOUT: Final = (
    "half_life_s", "range_m", "full_evidence_m", "gain", "independent_after_s", "limit", "depth_sigma_m",
)  # fmt: skip

RESERVED_NAMES: Final = frozenset({"camera", "health", "rig"})
"""Topics of the runtime itself: no output may be called so."""

_NAME_LETTERS: Final = frozenset(string.ascii_letters + string.digits + "_")
ALL_CAMERAS: Final = "*"
"""In a list of cameras: all cameras of the rig."""

Variant = Literal["fp32", "int8"]
"""In which arithmetic networks compute; `fp32` are the files that a network itself names."""

OTHER_VARIANTS: Final = ("int8",)
"""Variants that a manifest may list beside the network itself."""

_SHA256_DIGITS: Final = 64
_LARGEST_SIDE: Final = 16384
_LARGEST_STRIDE: Final = 1024
_MOST_PIXELS: Final = 1 << 25
_MOST_CELLS: Final = 1 << 24


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
        _check_positive("width", self.width, _LARGEST_SIDE)
        _check_positive("height", self.height, _LARGEST_SIDE)
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

    kind : `features` (lifted by a top-down network), `segmentation`, `depth` (metres along the optical axis) or `raw`
        (handed on as it is)
    layout : `nchw` ([batch, channels, h, w]; depth also [batch, h, w]), `nhwc`, or `rows` ([batch * h * w, channels])
    stride : network input pixels per output pixel; needed by every kind but raw
    classes : names of the channels of a segmentation, one to one
    activation : what is still to be applied to the network's numbers: `none`, `sigmoid`, `softmax` (segmentation),
        `exp` (depth)
    """

    tensor: str
    kind: Literal["features", "segmentation", "depth", "raw"]
    layout: Literal["nchw", "nhwc", "rows"] = "nchw"
    stride: int | None = None
    classes: tuple[str, ...] = ()
    activation: Literal["none", "sigmoid", "softmax", "exp"] = "none"

    def __post_init__(self) -> None:
        if self.kind == "raw":
            if self.stride is not None or self.classes:
                raise BundleError(expected("stride and classes", "left out for kind raw", "given"))
        elif self.stride is None:
            raise BundleError(expected("stride", f"given for kind {self.kind}", "nothing"))
        else:
            _check_positive("stride", self.stride, _LARGEST_STRIDE)
        _check_classes(self.classes, needed=self.kind == "segmentation", kind=self.kind)
        allowed = {"segmentation": ("none", "sigmoid", "softmax"), "depth": ("none", "exp")}
        _check_activation(self.activation, allowed, self.kind)


class NetworkVariant(msgspec.Struct, frozen=True, kw_only=True):
    """The same network in another arithmetic: `[networks.<id>.variants.int8]`."""

    file: str
    sha256: str

    def __post_init__(self) -> None:
        _check_file(self.file, self.sha256)


class CameraNetwork(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="camera"):
    """A network that runs on every camera's image: `[networks.<id>]` with kind = "camera".

    cameras : names, or `*` for all cameras of the rig
    variants : `int8` -> the file of that variant; without one the network runs as it is in every variant
    """

    file: str
    sha256: str
    cameras: tuple[str, ...]
    input: ImageInput
    outputs: dict[str, ImageOutput]
    variants: dict[Variant, NetworkVariant] = {}

    def __post_init__(self) -> None:
        _check_file(self.file, self.sha256)
        _check_variants(self.variants)
        _check_cameras(self.cameras)
        _check_not_empty("outputs", self.outputs)
        _check_unique("outputs' tensors", [output.tensor for output in self.outputs.values()])
        for name, output in self.outputs.items():
            _check_name(f"outputs.{name}", name)
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
    """

    tensor: str
    source: str
    heights_m: tuple[float, ...] = (0.0,)
    layout: Literal["nchw", "rows"] = "nchw"
    weighting: Literal["uniform", "resolution"] = "resolution"
    border_px: float = 0.0

    def __post_init__(self) -> None:
        _check_not_empty("heights_m", self.heights_m)
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
        _check_classes(self.classes, needed=self.kind == "road_layout", kind=self.kind)
        allowed = {"road_layout": ("none", "sigmoid", "softmax"), "occupancy": ("none", "sigmoid")}
        _check_activation(self.activation, allowed, self.kind)


class TopDownNetwork(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="topdown"):
    """A network that works on the grid: `[networks.<id>]` with kind = "topdown"."""

    file: str
    sha256: str
    cameras: tuple[str, ...]
    lifts: tuple[Lift, ...]
    outputs: dict[str, TopDownOutput]
    states: tuple[State, ...] = ()
    variants: dict[Variant, NetworkVariant] = {}

    def __post_init__(self) -> None:
        _check_file(self.file, self.sha256)
        _check_variants(self.variants)
        _check_cameras(self.cameras)
        _check_not_empty("lifts", self.lifts)
        _check_not_empty("outputs", self.outputs)
        _check_unique("outputs' tensors", [output.tensor for output in self.outputs.values()])
        for name in self.outputs:
            _check_name(f"outputs.{name}", name)
        _check_unique("input tensors", [lift.tensor for lift in self.lifts] + [state.input for state in self.states])
        _check_unique("states' output tensors", [state.output for state in self.states])


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
        _check_not_empty("heights_m", self.heights_m)
        _check_positive("subsamples", self.subsamples, 8)
        if unknown := [name for name in self.thin if name not in self.classes]:
            raise BundleError(expected("thin", f"among {', '.join(self.classes)}", unknown[0]))
        if self.kind == "road_layout":
            _check_not_empty("classes", self.classes)
            for name, sources in self.classes.items():
                _check_name(f"classes.{name}", name)
                _check_not_empty(f"classes.{name}", sources)
            if self.occupied_by:
                raise BundleError(expected("occupied_by", "left out for kind road_layout", list(self.occupied_by)))
        else:
            _check_not_empty("occupied_by", self.occupied_by)
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
    """One ONNX Runtime execution provider and its options."""

    name: str
    options: dict[str, str] = {}


class RuntimeOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How networks are run: `[runtime]`.

    providers : execution providers in order of preference
    graph_optimization : ONNX Runtime's level; results are bit-equal within one level only
    """

    providers: tuple[Provider, ...] = (Provider(name="CPUExecutionProvider"),)
    graph_optimization: Literal["disabled", "basic", "extended", "all"] = "all"

    def __post_init__(self) -> None:
        _check_not_empty("providers", self.providers)


NetworkSpec = CameraNetwork | TopDownNetwork


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The whole of `bundle.toml`."""

    schema: int
    name: str
    version: str
    grid: BevGrid
    networks: dict[str, NetworkSpec]
    description: str = ""
    license: str = ""
    castouts: dict[str, CastOut] = {}
    runtime: RuntimeOptions = msgspec.field(default_factory=RuntimeOptions)

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise BundleError(expected("schema", str(SCHEMA), self.schema))
        if self.grid.cells > _MOST_CELLS:
            raise BundleError(expected("grid: cells", f"at most {_MOST_CELLS}", self.grid.cells))
        _check_not_empty("networks", self.networks)
        _check_not_empty("name", self.name)
        for name in self.networks:
            _check_name(f"networks.{name}", name, reserved=False)
        for name in self.castouts:
            _check_name(f"castouts.{name}", name)

    @property
    def camera_networks(self) -> dict[str, CameraNetwork]:
        """The networks that run on images."""
        return {name: n for name, n in self.networks.items() if isinstance(n, CameraNetwork)}

    @property
    def topdown_networks(self) -> dict[str, TopDownNetwork]:
        """The networks that run on the grid."""
        return {name: n for name, n in self.networks.items() if isinstance(n, TopDownNetwork)}


def _check_positive(what: str, value: int, most: int) -> None:
    if not 1 <= value <= most:
        raise BundleError(expected(what, f"1..{most}", value))


def _check_not_empty(what: str, values: Sized) -> None:
    if not len(values):
        raise BundleError(expected(what, "not empty", "nothing"))


def _check_unique(what: str, values: Sequence[str]) -> None:
    if twice := sorted({value for value in values if values.count(value) > 1}):
        raise BundleError(expected(what, "unique", f"{', '.join(twice)} more than once"))


def _check_name(what: str, name: str, *, reserved: bool = True) -> None:
    if not name or not set(name) <= _NAME_LETTERS:
        raise BundleError(expected(what, "named with letters, digits and '_' only", repr(name)))
    if reserved and name in RESERVED_NAMES:
        raise BundleError(expected(what, f"named other than {', '.join(sorted(RESERVED_NAMES))}", repr(name)))


def _check_classes(classes: Sequence[str], *, needed: bool, kind: str) -> None:
    if needed != bool(classes):
        wanted = "one name per channel" if needed else "left out"
        raise BundleError(expected("classes", f"{wanted} for kind {kind}", list(classes)))
    _check_unique("classes", classes)
    for name in classes:
        _check_name("classes", name, reserved=False)


def _check_activation(activation: str, allowed: Mapping[str, Sequence[str]], kind: str) -> None:
    choices = allowed.get(kind, ("none",))
    if activation not in choices:
        raise BundleError(expected("activation", f"{' or '.join(choices)} for kind {kind}", activation))


def _check_variants(names: Collection[str]) -> None:
    if unknown := sorted(set(names) - set(OTHER_VARIANTS)):
        raise BundleError(expected("variants", f"among {', '.join(OTHER_VARIANTS)}", ", ".join(unknown)))


def _check_cameras(cameras: Sequence[str]) -> None:
    _check_not_empty("cameras", cameras)
    _check_unique("cameras", cameras)
    if ALL_CAMERAS in cameras and len(cameras) > 1:
        raise BundleError(expected("cameras", f'names, or "{ALL_CAMERAS}" alone', list(cameras)))


def _check_file(file: str, sha256: str) -> None:
    parts = file.split("/")
    if "\\" in file or ":" in file or "\0" in file or any(part in ("", ".", "..") for part in parts):
        raise BundleError(expected("file", "a relative path inside the bundle", repr(file)))
    if len(sha256) != _SHA256_DIGITS or not set(sha256) <= set("0123456789abcdef"):
        raise BundleError(expected("sha256", f"{_SHA256_DIGITS} hexadecimal digits in lower case", repr(sha256)))
