"""Whole steps glued together from known parts: what a competent user writes today, and the best of them.

Both run the reference bundle's ONNX files, lift with a matrix or table worked out once, and send all that the networks
give. They do less than the runtime besides: no compensation of each camera's own time, no masks, no objects from heat
maps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import onnx
import onnxruntime
import zmq
from numpy.typing import NDArray
from onnx import numpy_helper

from ...fusion.grid import BevGrid
from ...fusion.pose import Pose
from ...fusion.state import planar_motion, source_from_target_cells
from ...runtime.bundle import Bundle
from ...runtime.frames import FrameSet
from ...runtime.manifest import Variant
from ..material import HYDRANET, TOPDOWN, Material
from ..spread import take_turns, wall_ms
from .lifts import Lift, csr_lift_torch, grid_sample_lift, load_torch
from .warps import warp_affine_planes

Arrays = dict[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
"""A network: inputs by name to outputs by name."""

_STATE: Final = ("state", "next_state")


@dataclass(slots=True)
class GluedStep:
    """A step made of exchangeable parts.

    Parameters
    ----------
    prepare : JPEG of all cameras to uint8 [cameras, 3, height, width] RGB
    run_cameras : the same to the outputs of each camera
    lift : features of all cameras to points
    run_topdown : the top-down network
    grid : of the carried state
    state : float32 [1, C, nx, ny]
    send : publishes named arrays
    """

    prepare: Callable[[Sequence[Any]], NDArray[np.uint8]]
    run_cameras: Callable[[NDArray[np.uint8]], list[Arrays]]
    lift: Lift
    run_topdown: Run
    grid: BevGrid
    state: NDArray[np.float32]
    send: Callable[[Arrays], object]
    before: Pose | None = None

    def step(self, frame_set: FrameSet) -> Arrays:
        """Predict for one set and publish; returns what the top-down network gives."""
        images = self.prepare([frame.array for frame in frame_set.frames])
        cameras = self.run_cameras(images)
        features = np.concatenate([outputs.pop("features") for outputs in cameras])
        now = frame_set.world_from_ego
        if self.before is not None and now is not None:
            self.state = warp_affine_planes(self.state[0], self._motion(self.before.inverse() @ now))[None]
        self.before = now
        lifted = self.lift(features).reshape(self.grid.cells * 4, -1)
        ground = self.run_topdown({"lifted": lifted, _STATE[0]: self.state})
        self.state = ground.pop(_STATE[1])
        named = {f"{number}/{name}": array for number, one in enumerate(cameras) for name, array in one.items()}
        self.send(ground | named)
        return ground

    def _motion(self, before_from_now: Pose) -> NDArray[np.float64]:
        origin = (self.grid.x_min_m, self.grid.y_min_m)
        return source_from_target_cells(origin, origin, self.grid.resolution_m, planar_motion(before_from_now))


def usual_step(material: Material, socket: zmq.Socket[bytes]) -> GluedStep:
    """What a competent user writes today: float32, OpenCV, ONNX Runtime with its defaults, grid_sample, pyzmq."""
    cv2.setNumThreads(material.threads)
    width, height = _network_size(material)

    def prepare(images: Sequence[Any]) -> NDArray[np.uint8]:
        prepared = np.empty((len(images), 3, height, width), np.uint8)
        for encoded, target in zip(images, prepared, strict=True):
            used = _cropped(cv2.imdecode(encoded, cv2.IMREAD_COLOR))
            small = cv2.resize(used, (width, height), interpolation=cv2.INTER_AREA)
            target[:] = cv2.cvtColor(small, cv2.COLOR_BGR2RGB).transpose(2, 0, 1)
        return prepared

    per_camera, topdown = (_onnxruntime(material, name) for name in (HYDRANET, TOPDOWN))
    lift = grid_sample_lift(
        material.view,
        material.points,
        material.feature_cameras,
        material.feature_shape,
        material.stride,
        material.threads,
    )

    def send(arrays: Arrays) -> None:
        for name, array in arrays.items():  # as the pyzmq guide sends arrays
            header = {"name": name, "dtype": str(array.dtype), "shape": array.shape}
            socket.send_json(header, zmq.SNDMORE)
            socket.send(array.data, copy=False)

    return _glued(
        material, prepare, lambda images: [per_camera({"image": image[None]}) for image in images], lift, topdown, send
    )


def best_known_step(
    material: Material, socket: zmq.Socket[bytes], pool: ThreadPoolExecutor, variant: Variant = "fp32"
) -> GluedStep:
    """The best known part for each piece of work.

    JPEG decoded at a quarter of its size on threads, blobFromImages, OpenVINO at its default precision in the faster of
    two arrangements, torch's CSR product, one multipart message.
    """
    cv2.setNumThreads(material.threads)
    load_torch(material.threads)
    width, height = _network_size(material)

    def decode(encoded: Any) -> Any:
        return _cropped(cv2.imdecode(encoded, cv2.IMREAD_REDUCED_COLOR_4))

    def prepare(images: Sequence[Any]) -> NDArray[np.uint8]:
        small = list(pool.map(decode, images))
        blob: Any = cv2.dnn.blobFromImages(small, 1.0, (width, height), swapRB=True, ddepth=cv2.CV_8U)
        return np.asarray(blob, np.uint8)

    candidates = [_openvino_cameras(material, variant, throughput) for throughput in (False, True)]
    images = np.zeros((len(material.rig), 3, height, width), np.uint8)
    trial = take_turns({str(n): wall_ms(lambda run=run: run(images)) for n, run in enumerate(candidates)}, 5)  # type: ignore[misc]
    run_cameras = candidates[int(trial.fastest())]

    def send(arrays: Arrays) -> None:
        header = {name: [str(array.dtype), array.shape] for name, array in arrays.items()}
        socket.send_json(header, zmq.SNDMORE)
        socket.send_multipart([array.data for array in arrays.values()], copy=False)

    lift = csr_lift_torch(material.view, material.threads)
    return _glued(material, prepare, run_cameras, lift, _openvino_topdown(material, variant), send)


def _glued(
    material: Material,
    prepare: Callable[[Sequence[Any]], NDArray[np.uint8]],
    run_cameras: Callable[[NDArray[np.uint8]], list[Arrays]],
    lift: Lift,
    run_topdown: Run,
    send: Callable[[Arrays], object],
) -> GluedStep:
    grid = material.bundle.manifest.grid.scaled(2)
    state = np.zeros((1, 64, *grid.shape), np.float32)
    return GluedStep(prepare, run_cameras, lift, run_topdown, grid, state, send)


def _network_size(material: Material) -> tuple[int, int]:
    given = material.bundle.manifest.camera_networks[HYDRANET].input
    return given.width, given.height


def _cropped(image: Any) -> Any:
    """The middle, as wide as the image and 3/5 of that high, which is what the reference network sees."""
    height, width = image.shape[:2]
    used = width * 3 // 5
    top = (height - used) // 2
    return image[top : top + used]


def _onnxruntime(material: Material, network: str) -> Run:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = material.threads
    model = material.bundle.model_bytes(network, "fp32")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda inputs: dict(zip(names, session.run(None, inputs), strict=True))


def taking_numbers(bundle: Bundle, network: str, variant: Variant) -> bytes:
    """A network's file, with lifted numbers rounded inside, as is usual, where ours leaves that to the lift."""
    content = bundle.model_bytes(network, variant)
    spec = bundle.manifest.networks[network]
    levels = spec.variants[variant].levels if variant in spec.variants else {}
    if not levels:
        return content
    model = onnx.load_model_from_string(content)
    graph = model.graph
    for tensor, level in levels.items():
        for node in graph.node:
            node.input[:] = [f"{tensor}/levels_inside" if name == tensor else name for name in node.input]
        scale, zero = f"{tensor}/step_inside", f"{tensor}/zero_inside"
        graph.initializer.append(numpy_helper.from_array(np.array(level.scale, np.float32), scale))
        graph.initializer.append(numpy_helper.from_array(np.array(level.zero_point, np.uint8), zero))
        rounding = onnx.helper.make_node("QuantizeLinear", [tensor, scale, zero], [f"{tensor}/levels_inside"])
        graph.node.insert(0, rounding)
        value = next(value for value in graph.input if value.name == tensor)
        value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    return bytes(model.SerializeToString())


def _compiled(material: Material, network: str, variant: Variant, hint: str) -> Any:
    import openvino

    core = openvino.Core()
    model = core.read_model(taking_numbers(material.bundle, network, variant))
    return core.compile_model(model, "CPU", {"PERFORMANCE_HINT": hint, "INFERENCE_NUM_THREADS": material.threads})


def _openvino_cameras(
    material: Material, variant: Variant, throughput: bool
) -> Callable[[NDArray[np.uint8]], list[Arrays]]:
    """All cameras: several at a time, one thread each; or one after another on all threads."""
    import openvino

    compiled = _compiled(material, HYDRANET, variant, "THROUGHPUT" if throughput else "LATENCY")
    names = [output.get_any_name() for output in compiled.outputs]
    queue = openvino.AsyncInferQueue(compiled)
    results: dict[int, Arrays] = {}

    def keep(request: Any, camera: int) -> None:
        results[camera] = {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(names)}

    queue.set_callback(keep)

    def run(images: NDArray[np.uint8]) -> list[Arrays]:
        for camera, image in enumerate(images):
            queue.start_async({0: image[None]}, camera)
        queue.wait_all()
        return [results[camera] for camera in range(len(images))]

    return run


def _openvino_topdown(material: Material, variant: Variant) -> Run:
    compiled = _compiled(material, TOPDOWN, variant, "LATENCY")
    names = [output.get_any_name() for output in compiled.outputs]
    request = compiled.create_infer_request()

    def run(inputs: Arrays) -> Arrays:
        request.infer(inputs, share_inputs=True)
        return {name: request.get_output_tensor(i).data.copy() for i, name in enumerate(names)}

    return run
