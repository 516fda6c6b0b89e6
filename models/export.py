"""From a training checkpoint to a model bundle: `python -m octobev.models.export CHECKPOINT --out DIR`."""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import sys
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import BundleError, MissingFile, NetworkError, OctobevError, expected
from .template import OUTPUTS, manifest_text

if TYPE_CHECKING:
    from .net import HydraNet, Tensor, nn

OPSET = 17
TOLERANCE = 1e-3
"""Largest accepted difference from PyTorch: of probabilities absolute, of depths and features relative."""

ONNX_FILE = "hydranet.onnx"


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written, and how far ONNX Runtime's numbers are from PyTorch's (output -> largest difference)."""

    folder: Path
    sha256: str
    size_bytes: int
    parameters: int
    differences: dict[str, float]


def export_bundle(net: HydraNet, folder: Path, frequencies: dict[str, float], version: str) -> ExportReport:
    """Write `hydranet.onnx` and `bundle.toml`.

    Parameters
    ----------
    net : the trained network, batch normalisation still apart; it is not changed
    folder : made if it is not there; files of the same names are replaced
    frequencies : class on the ground -> share of the free ground on which the network sees it, 0..1
    version : version of the bundle

    Raises
    ------
    NetworkError
        ONNX Runtime computes something else than PyTorch.
    """
    from .net import parameter_count

    graph = onnx_bytes(net)
    differences = compare_with_torch(net, graph)
    check_differences(differences)
    sha256 = hashlib.sha256(graph).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ONNX_FILE).write_bytes(graph)
    text = manifest_text(net.config, file=ONNX_FILE, sha256=sha256, frequencies=frequencies, version=version)
    (folder / "bundle.toml").write_text(text, encoding="utf-8")
    return ExportReport(folder, sha256, len(graph), parameter_count(net), differences)


def onnx_bytes(net: HydraNet) -> bytes:
    """Serialise the network as one ONNX model of opset :data:`OPSET`, batch 1, batch normalisation folded."""
    from .net import ExportedHydraNet, torch

    image = torch.zeros((1, 3, net.config.height, net.config.width), dtype=torch.uint8)
    return traced(ExportedHydraNet(copy.deepcopy(net)).eval(), {"image": image}, OUTPUTS)


def compare_with_torch(net: HydraNet, graph: bytes, images: int = 4, seed: int = 0) -> dict[str, float]:
    """Run both on images of blurred noise; return the largest difference of each output.

    Probabilities are compared absolutely, features and depths relative to 1 + |value|.
    """
    from .net import ExportedHydraNet

    random = np.random.default_rng(seed)
    feeds = [{"image": _blurred_noise(random, net.config.height, net.config.width)} for _ in range(images)]
    reference = ExportedHydraNet(copy.deepcopy(net)).eval()
    return largest_differences(reference, graph, feeds, OUTPUTS, absolute=("segmentation",))


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
    absolute: Collection[str],
) -> dict[str, float]:
    """Run a module and its graph on the same inputs; return the largest difference of each output.

    Outputs in `absolute` are compared as they are, others relative to 1 + |value|.
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
            scale = 1.0 if name in absolute else 1.0 + np.abs(want)
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
    options = parser.parse_args(arguments)
    try:
        if not options.checkpoint.is_file():
            raise MissingFile(f"{options.checkpoint}: no such checkpoint")
        from .checkpoint import load_checkpoint, trained_net

        checkpoint = load_checkpoint(options.checkpoint)
        if not checkpoint.frequencies:
            raise BundleError(expected("class frequencies of a checkpoint", "known", "none; train for a step at least"))
        report = export_bundle(trained_net(checkpoint), options.out, checkpoint.frequencies, options.version)
    except OctobevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(report))
    return 0


def describe(report: ExportReport) -> str:
    """Put a report into lines for people."""
    lines = [
        f"{report.folder / ONNX_FILE}: {report.parameters:,} parameters, {report.size_bytes:,} bytes, opset {OPSET}",
        f"sha256 {report.sha256}",
    ]
    lines += [f"{name}: at most {value:.1e} from PyTorch" for name, value in report.differences.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
