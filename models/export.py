"""From a training checkpoint to a model bundle: `python -m octobev.models.export CHECKPOINT --out DIR`."""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import math
import sys
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, InvalidArgument, MissingFile, NetworkError, OctobevError, expected
from .template import HORIZON, OUTPUTS, castout_manifest_text, manifest_text

if TYPE_CHECKING:
    from .checkpoint import Checkpoint
    from .horizon import HorizonHead
    from .net import HydraNet, Tensor, nn
    from .topdown_net import TopDownNet

OPSET = 17
TOLERANCE = 1e-3
"""Largest accepted difference from PyTorch: of probabilities absolute, of depths and features relative."""

ONNX_FILE = "hydranet.onnx"


TOPDOWN_FILE = "topdown.onnx"
TOPDOWN_OUTPUTS = ("road_layout", "occupancy", "direction", "next_state")
PROBABILITIES = frozenset({"segmentation", "object_heat", "road_layout", "occupancy"})


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written: sizes of the files, parameters, and how far each output is from PyTorch's."""

    folder: Path
    sizes_bytes: dict[str, int]
    parameters: int
    differences: dict[str, float]


def export_bundle(
    checkpoint: Checkpoint,
    folder: Path,
    version: str,
    *,
    cast_out: bool = False,
    thresholds: Mapping[str, float] = MappingProxyType({}),
) -> ExportReport:
    """Write the ONNX models and `bundle.toml`.

    Parameters
    ----------
    folder : made if it is not there; files of the same names are replaced
    version : version of the bundle
    cast_out : the per-camera network alone, what it sees cast out onto the ground; otherwise both networks
    thresholds : layer of the top-down network -> probability that shall read 0.5, see :func:`shift_probabilities`

    Raises
    ------
    NetworkError
        ONNX Runtime computes something else than PyTorch.
    BundleError
        A cast-out of a checkpoint that was never validated: nobody knows how often each class is on the ground.
    """
    from .horizon import HORIZON_STRIDE
    from .net import parameter_count

    if cast_out and not checkpoint.frequencies:
        raise BundleError(expected("class frequencies of a checkpoint", "known", "none; train for a step at least"))
    hydranet, topdown = checkpoint.networks()
    shift_probabilities(topdown, thresholds)
    horizon = checkpoint.horizon_head()
    graphs = {ONNX_FILE: hydranet_bytes(hydranet, horizon)}
    differences = compare_hydranet(hydranet, graphs[ONNX_FILE], horizon)
    parameters = parameter_count(hydranet) + (0 if horizon is None else parameter_count(horizon))
    if not cast_out:
        graphs[TOPDOWN_FILE] = topdown_bytes(topdown)
        differences |= compare_topdown(topdown, graphs[TOPDOWN_FILE])
        parameters += parameter_count(topdown)
    check_differences(differences)
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph)
    files = {name: hashlib.sha256(graph).hexdigest() for name, graph in graphs.items()}
    configs = checkpoint.hydranet_config, checkpoint.topdown_config
    told: dict[str, Any] = {"files": files, "version": version}
    told["horizon_stride"] = None if horizon is None else HORIZON_STRIDE
    text = (
        castout_manifest_text(configs[0], frequencies=checkpoint.frequencies, **told)
        if cast_out
        else manifest_text(*configs, **told)
    )
    (folder / "bundle.toml").write_text(text, encoding="utf-8")
    sizes = {name: len(graph) for name, graph in graphs.items()}
    return ExportReport(folder, sizes, parameters, differences)


def shift_probabilities(net: TopDownNet, thresholds: Mapping[str, float]) -> None:
    """Shift the logits of layers so that a probability of `thresholds` becomes 0.5, in place.

    Weighted losses make rare classes look more likely than they are; where the best threshold is, validation says.

    Raises
    ------
    InvalidArgument
        A layer that the network does not have, or a threshold that is not within 0..1.
    """
    from .net import torch

    layers = (*net.config.classes, "occupancy")
    for name, threshold in thresholds.items():
        if name not in layers:
            raise InvalidArgument(expected("layer of a threshold", f"one of {', '.join(layers)}", name))
        if not 0.0 < threshold < 1.0:
            raise InvalidArgument(expected(f"threshold of {name}", "between 0 and 1", threshold))
        with torch.no_grad():
            net.decoder.layers.bias[layers.index(name)] -= math.log(threshold / (1.0 - threshold))


def hydranet_bytes(net: HydraNet, horizon: HorizonHead | None = None) -> bytes:
    """Serialise the per-camera network, with the head that sees the horizon if there is one.

    Opset :data:`OPSET`, batch 1, batch normalisation folded; neither is changed.
    """
    from .net import torch
    from .onnx_forms import HydraNetForOnnx

    image = torch.zeros((1, 3, net.config.height, net.config.width), dtype=torch.uint8)
    return traced(HydraNetForOnnx(copy.deepcopy(net), horizon).eval(), {"image": image}, _outputs(horizon))


def topdown_bytes(net: TopDownNet) -> bytes:
    """Serialise the top-down network: opset :data:`OPSET`, one set, batch normalisation folded; it is not changed."""
    from .net import torch
    from .onnx_forms import TopDownNetForOnnx

    config = net.config
    lifted = torch.zeros((config.nx * config.ny, config.lifted_channels))
    inputs = {"lifted": lifted, "state": net.empty_state(1)}
    return traced(TopDownNetForOnnx(copy.deepcopy(net)).eval(), inputs, TOPDOWN_OUTPUTS)


def compare_hydranet(
    net: HydraNet, graph: bytes, horizon: HorizonHead | None = None, images: int = 4, seed: int = 0
) -> dict[str, float]:
    """Run both on images of blurred noise; return the largest difference of each output."""
    from .net import ExportedHydraNet

    random = np.random.default_rng(seed)
    feeds = [{"image": _blurred_noise(random, net.config.height, net.config.width)} for _ in range(images)]
    module = ExportedHydraNet(copy.deepcopy(net), None if horizon is None else horizon.on(net)).eval()
    return largest_differences(module, graph, feeds, _outputs(horizon))


def _outputs(horizon: HorizonHead | None) -> tuple[str, ...]:
    return OUTPUTS if horizon is None else (*OUTPUTS, HORIZON)


def compare_topdown(net: TopDownNet, graph: bytes, sets: int = 3, seed: int = 0) -> dict[str, float]:
    """Run both on random features and states; return the largest difference of each output."""
    from .topdown_net import ExportedTopDownNet

    config = net.config
    random = np.random.default_rng(seed)
    feeds = [
        {
            "lifted": random.gamma(1.0, 1.0, (config.nx * config.ny, config.lifted_channels)).astype(np.float32),
            "state": random.uniform(-1.0, 1.0, (1, *config.state_shape)).astype(np.float32),
        }
        for _ in range(sets)
    ]
    return largest_differences(ExportedTopDownNet(copy.deepcopy(net)).eval(), graph, feeds, TOPDOWN_OUTPUTS)


def traced(module: nn.Module, inputs: Mapping[str, Tensor], outputs: Sequence[str]) -> bytes:
    """Serialise a module as an ONNX model of opset :data:`OPSET` with these named inputs, in order, and outputs."""
    from .net import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the TorchScript exporter says that it is the older one
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=list(inputs),
            output_names=list(outputs),
        )
    return buffer.getvalue()


def largest_differences(
    module: nn.Module,
    graph: bytes,
    feeds: Iterable[Mapping[str, NDArray[Any]]],
    outputs: Sequence[str],
) -> dict[str, float]:
    """Run a module and its graph on the same inputs; return the largest difference of each output.

    Probabilities are compared as they are, others relative to 1 + |value|.
    """
    import onnxruntime

    from .net import torch

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    differences = dict.fromkeys(outputs, 0.0)
    for feed in feeds:
        with torch.no_grad():
            wanted = [tensor.numpy() for tensor in module(*(torch.from_numpy(array) for array in feed.values()))]
        for name, got, want in zip(outputs, session.run(list(outputs), dict(feed)), wanted, strict=True):
            scale = 1.0 if name in PROBABILITIES else 1.0 + np.abs(want)
            differences[name] = max(differences[name], float((np.abs(got - want) / scale).max()))
    return differences


def check_differences(differences: Mapping[str, float]) -> None:
    """Refuse an export that computes something else than PyTorch.

    Raises
    ------
    NetworkError
    """
    for name, difference in differences.items():
        if not difference <= TOLERANCE:
            raise NetworkError(expected(f"exported output {name}", f"within {TOLERANCE:g} of PyTorch", difference))


def _blurred_noise(random: np.random.Generator, height: int, width: int) -> NDArray[np.uint8]:
    coarse = random.integers(0, 256, (1, 3, height // 16, width // 16))
    fine = coarse.repeat(16, axis=2).repeat(16, axis=3) + random.integers(-20, 21, (1, 3, height, width))
    image: NDArray[np.uint8] = np.clip(fine, 0, 255).astype(np.uint8)
    return image


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m octobev.models.export`."""
    parser = argparse.ArgumentParser(prog="python -m octobev.models.export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt, as octobev.models.train writes it")
    parser.add_argument("--out", type=Path, required=True, help="directory of the bundle")
    parser.add_argument("--version", default="1.0.0", help="version written into the bundle (default: %(default)s)")
    parser.add_argument(
        "--cast-out", action="store_true", help="the per-camera network alone, cast out onto the ground and stitched"
    )
    parser.add_argument(
        "--threshold",
        metavar="LAYER=P",
        type=_threshold,
        action="append",
        default=[],
        help="probability of a layer that shall read 0.5: the threshold_best of octobev evaluate on validation drives",
    )
    options = parser.parse_args(arguments)
    try:
        if not options.checkpoint.is_file():
            raise MissingFile(f"{options.checkpoint}: no such checkpoint")
        from .checkpoint import load_checkpoint

        checkpoint = load_checkpoint(options.checkpoint)
        report = export_bundle(
            checkpoint, options.out, options.version, cast_out=options.cast_out, thresholds=dict(options.threshold)
        )
    except OctobevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(report))
    return 0


def _threshold(text: str) -> tuple[str, float]:
    name, _, value = text.partition("=")
    return name, float(value)


def describe(report: ExportReport) -> str:
    """Put a report into lines for people."""
    lines = [f"{report.folder / name}: {size:,} bytes, opset {OPSET}" for name, size in report.sizes_bytes.items()]
    lines += [f"{report.parameters:,} parameters"]
    lines += [f"{name}: at most {value:.1e} from PyTorch" for name, value in report.differences.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
