"""A dry run of a bundle: every network loaded, every output made once, without a rig or a drive at hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from ..errors import BundleError, expected
from ..fusion.lens import Intrinsics
from ..fusion.pose import Pose
from ..fusion.rig import Camera, Rig
from .bundle import Bundle
from .camera_names import ANY
from .engine import Runtime
from .frames import Frame, FrameSet
from .manifest import Variant
from .predictions import Predictions
from .variants import variants_of

_GREY: Final = 128
_HEIGHT_M: Final = 1.5
_EGO_FROM_LEVEL_CAMERA: Final = np.array(
    [[0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, _HEIGHT_M], [0, 0, 0, 1]], dtype=np.float64
)


@dataclass(frozen=True, slots=True)
class VerifiedOutput:
    """An output as it came out of the dry run: name -> type and shape of each of its arrays."""

    topic: str
    kind: str
    arrays: dict[str, tuple[str, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Verification:
    """What the dry run of a bundle found.

    variants : which ones the bundle has; each was run
    providers : network -> execution providers in use
    versions : package -> version
    outputs : what came out
    """

    variants: tuple[Variant, ...]
    providers: dict[str, tuple[str, ...]]
    versions: dict[str, str]
    outputs: tuple[VerifiedOutput, ...]


def verify_bundle(bundle: Bundle) -> Verification:
    """Load every network of a bundle, check it against the manifest, and run everything once on a grey image.

    Every variant is run; what they have in common is reported once.

    The cameras are stand-ins: those that the manifest names (one for a pattern), level, looking ahead. Networks that
    run on demand are run too.

    Raises
    ------
    BundleError
        A network that is not as declared, cannot run, or gives NaN or Inf.
    """
    variants = variants_of(bundle)
    predictions, *_ = [_dry_run(bundle, variant) for variant in variants]
    kinds = bundle.outputs
    outputs = tuple(
        VerifiedOutput(
            topic,
            kinds[topic.rpartition("/")[2]],
            {name: (array.dtype.name, array.shape) for name, array in output.arrays().items()},
        )
        for topic, output in predictions.outputs()
    )
    provenance = predictions.provenance
    return Verification(variants, dict(provenance.providers), dict(provenance.versions), outputs)


def _dry_run(bundle: Bundle, variant: Variant) -> Predictions:
    rig = _stand_in_rig(bundle)
    with Runtime(bundle, rig, outputs=bundle.outputs, threads=1, variant=variant, profile=None) as runtime:
        first = rig.cameras[0].intrinsics
        grey = np.full((first.height, first.width, 3), _GREY, dtype=np.uint8)
        frames = tuple(Frame(name, 0, grey) for name in rig.names)
        predictions = runtime.step(FrameSet(0, frames, Pose.identity()))
    if predictions.invalid:
        failures = "; ".join(f"{name}: {why}" for name, why in predictions.invalid.items())
        what = f"bundle {bundle.manifest.name}, {variant}: outputs of a grey image"
        raise BundleError(expected(what, "valid", failures))
    return predictions


def _stand_in_rig(bundle: Bundle) -> Rig:
    networks = bundle.manifest.networks.values()
    meant = {name.replace(ANY, "") for network in networks for name in network.cameras}
    names = sorted(meant - {""}) or ["camera"]
    size = max(
        ((network.input.width, network.input.height) for network in bundle.manifest.camera_networks.values()),
        default=(640, 480),
    )
    lens = Intrinsics(*size, size[0] / 2, size[0] / 2, (size[0] - 1) / 2, (size[1] - 1) / 2)
    return Rig(tuple(Camera(name, lens, Pose(_EGO_FROM_LEVEL_CAMERA)) for name in names), "stand-in")
