"""From a checkpoint to a bundle of both networks: `python -m octobev.models.topdown_export CHECKPOINT --out DIR`."""

from __future__ import annotations

import argparse
import copy
import hashlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import OctobevError
from .export import ONNX_FILE, OPSET, check_differences, compare_with_torch, largest_differences, onnx_bytes, traced
from .template import topdown_manifest_text

if TYPE_CHECKING:
    from .topdown_checkpoint import TopDownCheckpoint
    from .topdown_net import TopDownNet

TOPDOWN_FILE = "topdown.onnx"
TOPDOWN_OUTPUTS = ("road_layout", "occupancy", "direction", "next_state")


@dataclass(frozen=True, slots=True)
class TopDownReport:
    """What was written: sizes of the files, parameters, and how far each output is from PyTorch's."""

    folder: Path
    sizes_bytes: dict[str, int]
    parameters: int
    differences: dict[str, float]


def export_topdown_bundle(checkpoint: TopDownCheckpoint, folder: Path, version: str) -> TopDownReport:
    """Write both ONNX models and `bundle.toml`.

    Parameters
    ----------
    folder : made if it is not there; files of the same names are replaced
    version : version of the bundle

    Raises
    ------
    NetworkError
        ONNX Runtime computes something else than PyTorch.
    """
    from .net import parameter_count

    hydranet, topdown = checkpoint.hydranet_net(), checkpoint.topdown_net()
    graphs = {ONNX_FILE: onnx_bytes(hydranet), TOPDOWN_FILE: topdown_bytes(topdown)}
    differences = compare_with_torch(hydranet, graphs[ONNX_FILE])
    differences |= compare_topdown_with_torch(topdown, graphs[TOPDOWN_FILE])
    check_differences(differences)
    folder.mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        (folder / name).write_bytes(graph)
    files = {name: hashlib.sha256(graph).hexdigest() for name, graph in graphs.items()}
    text = topdown_manifest_text(checkpoint.hydranet_config, checkpoint.config, files=files, version=version)
    (folder / "bundle.toml").write_text(text, encoding="utf-8")
    sizes = {name: len(graph) for name, graph in graphs.items()}
    return TopDownReport(folder, sizes, parameter_count(hydranet) + parameter_count(topdown), differences)


def topdown_bytes(net: TopDownNet) -> bytes:
    """Serialise the network as one ONNX model of opset :data:`OPSET`: one set, batch normalisation folded."""
    from .net import torch
    from .topdown_net import ExportedTopDownNet

    config = net.config
    lifted = torch.zeros((config.nx * config.ny, config.lifted_channels))
    inputs = {"lifted": lifted, "state": net.empty_state(1)}
    return traced(ExportedTopDownNet(copy.deepcopy(net)).eval(), inputs, TOPDOWN_OUTPUTS)


def compare_topdown_with_torch(net: TopDownNet, graph: bytes, sets: int = 3, seed: int = 0) -> dict[str, float]:
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
    reference = ExportedTopDownNet(copy.deepcopy(net)).eval()
    return largest_differences(reference, graph, feeds, TOPDOWN_OUTPUTS, absolute=("road_layout", "occupancy"))


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m octobev.models.topdown_export`."""
    parser = argparse.ArgumentParser(prog="python -m octobev.models.topdown_export", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="checkpoint.pt, as octobev.models.topdown_train writes it")
    parser.add_argument("--out", type=Path, required=True, help="directory of the bundle")
    parser.add_argument("--version", default="1.0.0", help="version written into the bundle (default: %(default)s)")
    options = parser.parse_args(arguments)
    try:
        from .topdown_checkpoint import load_topdown_checkpoint

        report = export_topdown_bundle(load_topdown_checkpoint(options.checkpoint), options.out, options.version)
    except OctobevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(describe(report))
    return 0


def describe(report: TopDownReport) -> str:
    """Put a report into lines for people."""
    lines = [f"{report.folder / name}: {size:,} bytes, opset {OPSET}" for name, size in report.sizes_bytes.items()]
    lines += [f"{report.parameters:,} parameters"]
    lines += [f"{name}: at most {value:.1e} from PyTorch" for name, value in report.differences.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
