"""A per-camera network: one shared backbone with many heads, run on every camera's image."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, InvalidArgument, expected
from ..fusion.levels import Levels
from ..fusion.rig import Rig
from ..fusion.view import FeatureCamera
from .arrangement import Arrangement
from .bundle import Bundle
from .camera_images import CameraImages, ImagePreparation
from .camera_outputs import DenseOutput, RawLayout, RawOutput, free_batch
from .camera_run import AnyOutput, CameraRun, Group, Perception
from .detection_output import DetectionOutput
from .frames import Frame, PixelFormat
from .level_output import LevelOutput
from .manifest import CameraNetwork, ImageInput, ImageOutput
from .packed_outputs import PackedOutput, PackedOutputs
from .predictions import CameraOutput, CameraPrediction
from .preprocess import InputPlan
from .session import Network, TensorSpec
from .sessions import Sessions
from .stages import StageTimes
from .workers import Workers

_LOG: Final = logging.getLogger("octobev.runtime.hydranet")
_NOTABLE_UNSEEN_SHARE: Final = 0.01
_DENSE: Final = (DenseOutput, LevelOutput)
_SIDE_BY_SIDE: Final = Arrangement.side_by_side(1)


@dataclass(frozen=True, slots=True)
class FeatureMaps:
    """What an output's pixels look at.

    cameras : each camera as the network sees it, in the order of :attr:`HydraNet.cameras`
    shape : height and width of one camera's map
    stride : network pixels per map pixel
    channels : length of the vector at each pixel
    levels : what the levels are that the vectors are of; None: they are of numbers
    """

    cameras: tuple[FeatureCamera, ...]
    shape: tuple[int, int]
    stride: float
    channels: int
    levels: Levels | None = None


class HydraNet:
    """A per-camera network of a bundle with its buffers for the cameras of a rig.

    Work is done in pieces, see :class:`~octobev.runtime.camera_run.CameraRun`; results do not depend on how many
    threads do it. A network that takes several images at once takes cameras in groups, in the rig's order. One run at a
    time.

    Parameters
    ----------
    name : id of the network in the manifest
    spec : its declaration
    network : the loaded network, with the tensors of `outputs` only
    rig : the cameras to run on, all of which the network is meant for
    outputs : names of the outputs to give
    cast_down : those of them whose rows are wanted
    plans : camera -> how its images become the network's, taken where the lens is still the same; others are made
    images : of other networks; those that are what this one takes are read by it, too
    arrangement : how many images in one run where that is free

    Raises
    ------
    BundleError
        The network is not what the manifest declares; names both.
    """

    def __init__(
        self,
        name: str,
        spec: CameraNetwork,
        network: Network,
        rig: Rig,
        outputs: Sequence[str],
        cast_down: Collection[str],
        plans: Mapping[str, InputPlan] | None = None,
        images: Iterable[CameraImages] = (),
        arrangement: Arrangement = _SIDE_BY_SIDE,
    ) -> None:
        self.name = name
        self.spec = spec
        self.cameras = rig.names
        self._network = network
        tensor = _input_tensor(f"networks.{name}.input", spec.input, network)
        first = tensor.shape[0]
        raw = [network.output_specs[tensor] for tensor in _raw_tensors(spec, outputs) if tensor in network.output_specs]
        batch = first if isinstance(first, int) else free_batch(first, arrangement.batch, len(rig), raw)
        self._batch = batch
        groups = -(-len(rig) // batch)
        shared = next((others for others in images if others.serves(rig, spec.input, groups * batch)), None)
        self.images = CameraImages(rig, spec.input, groups * batch, plans) if shared is None else shared
        self._plans = self.images.plans
        self._cast_down = frozenset(cast_down) & frozenset(outputs)
        self._pixels_from_image = {
            name: [_pixels_from_image(plan, spec.outputs[name].stride or 1) for plan in self._plans] for name in outputs
        }
        layouts = {key: self._raw_layout(key, first) for key in outputs if spec.outputs[key].kind == "raw"}
        self._packed = self._pack({key: layout for key, layout in layouts.items() if PackedOutputs.fits(layout)})
        self._outputs: dict[str, AnyOutput] = {}
        for key in outputs:
            if key not in self._packed.names:
                self._outputs[key] = self._make_output(key, layouts.get(key), cast_down)
        self._names = tuple(outputs)
        self._feature_cameras = tuple(
            FeatureCamera(plan.intrinsics, camera.ego_from_camera)
            for plan, camera in zip(self._plans, rig, strict=True)
        )
        self._groups = [self._group(number) for number in range(groups)]
        self._warn_of_unseen(cast_down)

    @classmethod
    def load(
        cls,
        bundle: Bundle,
        name: str,
        rig: Rig,
        outputs: Sequence[str],
        cameras: Sequence[str] | None = None,
        sessions: Sessions | None = None,
        plans: Mapping[str, InputPlan] | None = None,
        images: Iterable[CameraImages] = (),
        arrangement: Arrangement = _SIDE_BY_SIDE,
        as_levels: Collection[str] = (),
    ) -> HydraNet:
        """Load a network of a bundle, cut down to the wanted outputs, for the cameras of a rig.

        Parameters
        ----------
        cameras : run on these only; None: on all that the network is meant for
        sessions : where the network is loaded; None: by itself
        plans, images, arrangement : see :class:`HydraNet`
        as_levels : feature outputs whose rows are wanted in levels of 8 bits, where the network makes them of such

        Raises
        ------
        BundleError, RigError
            The network is not what the manifest declares; the manifest names a camera that the rig lacks.
        """
        spec = bundle.manifest.camera_networks[name]
        selected = rig.select(bundle.cameras(name, rig) if cameras is None else cameras)
        tensors = [tensor for key in outputs for tensor in _known(spec, key).tensors.values()]
        declared = {key: spec.outputs[key] for key in outputs if key in as_levels}
        levels = [output.tensor for output in declared.values() if _in_rows(output)]
        network = (Sessions(bundle) if sessions is None else sessions).load(name, tensors, as_levels=levels)
        cast_down = bundle.plan(bundle.outputs).cast_down & set(outputs)
        return cls(name, spec, network, selected, outputs, cast_down, plans, images, arrangement)

    @property
    def providers(self) -> tuple[str, ...]:
        """Names of the execution providers in use, in order."""
        return self._network.providers

    @property
    def network(self) -> Network:
        """The loaded network."""
        return self._network

    @property
    def batch(self) -> int:
        """Images in one run."""
        return self._batch

    @property
    def plans(self) -> dict[str, InputPlan]:
        """Camera -> how its images become the network's."""
        return dict(zip(self.cameras, self._plans, strict=True))

    @property
    def output_names(self) -> tuple[str, ...]:
        """Names of the outputs that it gives."""
        return self._names

    def warm(self, pixel_formats: Iterable[PixelFormat]) -> None:
        """Do beforehand what the first run would do for the first time, for images of these formats."""
        for plan in self._plans:
            plan.warm(pixel_formats)
        self._groups[0].bindings[0].warm()

    def begin(self, images: ImagePreparation, stages: StageTimes) -> CameraRun:
        """Begin a run on the frames of one instant; nothing is done before its pieces are.

        Parameters
        ----------
        images : begun with :attr:`images`; networks that read the same images share one
        stages : gets `network`, `activation` and `collect`
        """
        return CameraRun(
            images,
            self._names,
            self._outputs,
            self._packed,
            self._cast_down,
            self._camera_output,
            self._groups,
            stages,
        )

    def run(
        self, frames: Mapping[str, Frame], workers: Workers | None = None, stages: StageTimes | None = None
    ) -> CameraRun:
        """Run on the frames of one instant, and collect all outputs.

        Parameters
        ----------
        frames : camera name -> frame; cameras without one are left out, other cameras' frames are not looked at
        stages : gets `decode`, `preprocess`, `network`, `activation` and `collect`
        workers : do the cameras' work side by side; None: one after another on this thread

        Returns
        -------
        The run that is done. Images that cannot be used and numbers that are not finite are told by its results, not
        raised.
        """
        stages = StageTimes() if stages is None else stages
        run = self.begin(self.images.begin(frames, stages), stages)
        Perception({self.name: run}, self.output_names).run(Workers(1) if workers is None else workers)
        return run

    def rows(self, output: str) -> NDArray[Any]:
        """All cameras' vectors of a dense output that is cast to the ground.

        Returns
        -------
        float32, or uint8 where :meth:`features` has levels, [cameras * h * w, channels], cameras in the order of
        :attr:`cameras`; zero where a camera gave nothing valid. Segmentation: probabilities; depth: one channel,
        metres. The network's own memory: overwritten by the next run.
        """
        dense = self._dense(output)
        if dense.rows is None:
            raise InvalidArgument(expected(f"output {output}", "one that is cast to the ground", "another"))
        return dense.rows

    def keep(self) -> dict[str, NDArray[Any]]:
        """Copy the rows of every output that is cast to the ground, by output."""
        return {name: rows.copy() for name, rows in self._cast_rows().items()}

    def put_back(self, kept: Mapping[str, NDArray[Any]]) -> None:
        """Make rows that were kept those of the latest run.

        Raises
        ------
        InvalidArgument
            They are those of other outputs, or of other cameras.
        """
        rows = self._cast_rows()
        shapes = {name: (array.dtype.name, array.shape) for name, array in rows.items()}
        given = {name: (array.dtype.name, array.shape) for name, array in kept.items()}
        if given != shapes:
            raise InvalidArgument(expected(f"rows kept for network {self.name}", f"{shapes}", given))
        for name, array in rows.items():
            array[:] = kept[name]

    def features(self, output: str) -> FeatureMaps:
        """Describe what the pixels of a dense output look at."""
        dense = self._dense(output)
        levels = dense.levels if isinstance(dense, LevelOutput) else None
        return FeatureMaps(self._feature_cameras, dense.shape, float(dense.spec.stride or 1), dense.channels, levels)

    def _camera_output(self, name: str, camera: int) -> CameraPrediction:
        output, spec = self._outputs[name], self.spec.outputs[name]
        if isinstance(output, DetectionOutput):
            return output.detections(camera)
        matrix = self._pixels_from_image[name][camera]
        return CameraOutput(self.cameras[camera], spec.kind, output.values(camera), spec.classes, matrix)

    def _tensor(self, key: str) -> TensorSpec:
        """Find the tensor of an output; the ONNX file must have it, and the others that the output takes."""
        spec, tensors = _known(self.spec, key), self._network.output_specs
        for path, name in spec.tensors.items():
            if name not in tensors:
                wanted = f"an output of the ONNX file ({', '.join(tensors)})"
                raise BundleError(expected(f"{self._where(key)}.{path}", wanted, name))
        return tensors[spec.tensor]

    def _where(self, key: str) -> str:
        return f"networks.{self.name}.outputs.{key}"

    def _raw_layout(self, key: str, batch_name: int | str | None) -> RawLayout:
        return RawLayout.of(self._where(key), self._tensor(key), batch=self._batch, batch_name=batch_name)

    def _pack(self, layouts: Mapping[str, RawLayout]) -> PackedOutputs:
        outputs = {
            key: PackedOutput(layout, self.spec.outputs[key].classes, self._pixels_from_image[key])
            for key, layout in layouts.items()
        }
        return PackedOutputs(outputs, self.cameras, self._batch)

    def _make_output(self, key: str, raw: RawLayout | None, cast_down: Collection[str]) -> AnyOutput:
        cameras, batch = len(self.cameras), self._batch
        if raw is not None:
            return RawOutput(raw, cameras=cameras, batch=batch)
        where, spec, tensor = self._where(key), self.spec.outputs[key], self._tensor(key)
        stride = spec.stride or 1
        shape = (self.spec.input.height // stride, self.spec.input.width // stride)
        if spec.kind == "detections":
            tensors, plans = self._network.output_specs, dict(zip(self.cameras, self._plans, strict=True))
            return DetectionOutput(where, spec, tensors, shape=shape, plans=plans, batch=batch)
        if tensor.levels is not None:
            return LevelOutput(where, spec, tensor, tensor.levels, shape=shape, cameras=cameras, batch=batch)
        return DenseOutput(where, spec, tensor, shape=shape, cameras=cameras, batch=batch, cast_down=key in cast_down)

    def _group(self, number: int) -> Group:
        members = slice(number * self._batch, (number + 1) * self._batch)
        cameras = self.cameras[members]
        bound = self._packed.bound(number)
        for output in self._outputs.values():
            bound |= output.bound(number)
        bindings = [
            self._network.bind({self.spec.input.tensor: array[members]}, bound, network_id=self.name, cameras=cameras)
            for array in self.images.arrays
        ]
        return Group(range(len(self.cameras))[members], cameras, bindings)

    def _cast_rows(self) -> dict[str, NDArray[Any]]:
        dense = {name: output.rows for name, output in self._outputs.items() if isinstance(output, _DENSE)}
        return {name: rows for name, rows in dense.items() if rows is not None}

    def _dense(self, output: str) -> DenseOutput | LevelOutput:
        found = self._outputs.get(output)
        if not isinstance(found, _DENSE):
            dense = [key for key, value in self._outputs.items() if isinstance(value, _DENSE)]
            raise InvalidArgument(expected(f"output of network {self.name}", f"one of {', '.join(dense)}", output))
        return found

    def _warn_of_unseen(self, cast_down: Collection[str]) -> None:
        for camera, plan in zip(self.cameras, self._plans, strict=True):
            if cast_down and plan.unseen_share > _NOTABLE_UNSEEN_SHARE:
                _LOG.warning(
                    "network %s, camera %s: %.0f %% of the undistorted image show nothing, yet are cast down",
                    self.name,
                    camera,
                    100 * plan.unseen_share,
                )


def _pixels_from_image(plan: InputPlan, stride: int) -> NDArray[np.float64]:
    """Homogeneous matrix [3, 3], read-only: pixels of a camera's full image to those of an output of this stride."""
    offset = 0.5 / stride - 0.5
    output_from_network = np.array([[1 / stride, 0, offset], [0, 1 / stride, offset], [0, 0, 1]])
    matrix: NDArray[np.float64] = output_from_network @ plan.network_from_image
    matrix.flags.writeable = False
    return matrix


def _raw_tensors(spec: CameraNetwork, outputs: Iterable[str]) -> list[str]:
    declared = [_known(spec, key) for key in outputs]
    return [output.tensor for output in declared if output.kind == "raw"]


def _in_rows(output: ImageOutput) -> bool:
    """Whether these are features of which the rows are what the network gives."""
    return output.kind == "features" and output.layout != "nchw" and output.activation == "none"


def _known(spec: CameraNetwork, output: str) -> ImageOutput:
    if output not in spec.outputs:
        raise InvalidArgument(expected("output", f"one of {', '.join(spec.outputs)}", output))
    return spec.outputs[output]


def _input_tensor(where: str, spec: ImageInput, network: Network) -> TensorSpec:
    """Look up the ONNX graph input of a network, which must be what the manifest declares."""
    known = ", ".join(network.input_specs)
    if spec.tensor not in network.input_specs:
        raise BundleError(expected(f"{where}.tensor", f"an input of the ONNX file ({known})", spec.tensor))
    if len(network.input_specs) > 1:
        raise BundleError(expected(f"{where}: inputs of the ONNX file", f"{spec.tensor} alone", known))
    tensor = network.input_specs[spec.tensor]
    channels, height, width = spec.channels, spec.height, spec.width
    one = (channels, height, width) if spec.layout == "nchw" else (height, width, channels)
    batch = tensor.shape[0] if tensor.shape and isinstance(tensor.shape[0], int) else 1
    if tensor.dtype != np.dtype(spec.dtype) or batch < 1 or not tensor.admits((batch, *one)):
        wanted = f"{spec.dtype} {['batch', *one]} as declared".replace("'", "")
        raise BundleError(expected(f"{where}: tensor {spec.tensor}", wanted, str(tensor)))
    return tensor
