"""Give a bundle int8 networks: `python -m octobev.models.quantize BUNDLE --drives DRIVE...`.

The drives run through the bundle as in a replay. On the way the range of every layer's numbers is noted, on the
networks' real inputs: images as they are decoded and cropped, features as they are lifted, states as they are carried.
With these ranges each network is written once more, its layers in int8 (NAME.int8.onnx), and bundle.toml gets a table
[networks.<id>.variants.int8]; the float32 networks stay. `octobev replay --variant auto` then takes int8 where the
processor has 8-bit dot products.

Three quarters of each drive give the ranges, the last quarter shows how far the int8 outputs are off; too far is an
error, and nothing is written. Choose drives like those that the networks are meant for, by day and by night, with every
camera; `synth:SEED` is a synthetic one. Seeds from 20000 are for tests: do not calibrate on what is measured there.

  python -m octobev.models.quantize models/reference --drives synth:1 synth:2 synth:3 --out /tmp/int8
  octobev evaluate synth:20001 --bundle /tmp/int8 --variant int8

The same command writes the same bytes. Interrupted, it has written nothing, or a bundle that opens.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..errors import BundleError, DriveError, NetworkError, OctobevError, expected
from ..replay.drive import Drive
from ..runtime.bundle import Bundle, open_bundle
from ..runtime.engine import Runtime
from ..runtime.frames import FrameSet
from ..runtime.subgraph import parse_model
from ..runtime.variants import is_quantised
from .calibration import Comparison, Inputs, OutputDifference, RangeProbe
from .int8_choice import PRODUCTS, check_patterns
from .lifted_levels import lifted_as_levels
from .qdq import chosen, quantised, quantised_tensors
from .variant_files import write_variants

CALIBRATING_SHARE: Final = 0.75
"""Of each drive's time; the rest is held out."""

LIMIT: Final = 0.1
"""Largest accepted relative difference of an output, see :class:`OutputDifference`."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sets of each drive are used.

    seconds : only so much of a drive
    frames : so many sets, spread evenly over three quarters of it, calibrate; and at most so many of the rest check
    """

    seconds: float = 8.0
    frames: int = 12


@dataclass(frozen=True, slots=True)
class QuantisedNetwork:
    """What became of one ONNX file.

    networks : ids of the networks that it belongs to
    layers : layers (convolutions, matrix products) that compute in int8
    kept : layers that stay in float32 -> why
    sizes : bytes before and after
    differences : output tensor -> how far it is off on the held-out sets
    milliseconds : of the processor for one run, float32 and int8
    """

    networks: tuple[str, ...]
    layers: int
    kept: Mapping[str, str]
    sizes: tuple[int, int]
    differences: Mapping[str, OutputDifference]
    milliseconds: tuple[float, float]


def quantise_bundle(
    bundle: Bundle,
    drives: Iterable[Drive],
    out: Path,
    *,
    selection: Selection = Selection(),
    keep: Collection[str] = (),
    limit: float = LIMIT,
    progress: Callable[[Drive, float], None] | None = None,
) -> dict[str, QuantisedNetwork]:
    """Calibrate, quantise, check and write the int8 variants of all networks.

    Parameters
    ----------
    out : directory of the bundle with the variants: the bundle's own, or another one
    keep : nodes that stay in float32, by name or pattern
    limit : largest accepted relative difference of any output
    progress : called with the drive and the share of it that is done, 0..1

    Returns
    -------
    File of a network -> what became of it.

    Raises
    ------
    BundleError
        A network that computes in int8 already, or cannot be quantised.
    DriveError
        The drives do not run every network, or are too short to hold anything out.
    NetworkError
        An output is off by more than `limit`; nothing was written.
    InvalidArgument
        No network has a node of a name in `keep`.
    """
    forms = {file: _Form(bundle, file, ids, keep) for file, ids in _files(bundle).items()}
    check_patterns([node.name for form in forms.values() for node in form.graph.nodes], keep)
    held_out: list[tuple[Drive, list[FrameSet]]] = []
    for drive in drives:
        held_out.append((drive, _calibrate(bundle, drive, forms, selection, progress)))
    for form in forms.values():
        form.quantise()
    for drive, sets in held_out:
        _run(
            bundle, drive, sets, {network: form.comparison.show for form in forms.values() for network in form.networks}
        )
    results = {file: form.result() for file, form in forms.items()}
    _check(bundle, results, limit)
    models, levels = lifted_as_levels(bundle, {file: form.int8 for file, form in forms.items()})
    write_variants(bundle, models, out, levels=levels)
    return results


class _Form:
    """One ONNX file on its way to int8."""

    def __init__(self, bundle: Bundle, file: str, networks: tuple[str, ...], keep: Collection[str]) -> None:
        self.networks = networks
        self.content = bundle.model_bytes(networks[0], "fp32")
        if is_quantised(parse_model(self.content, networks[0])):
            raise BundleError(expected(f"{bundle.path / file}", "a float32 network", "one that computes in int8"))
        self.model, self.graph, self.choice = chosen(self.content, networks[0], keep)
        self.probe = RangeProbe(networks[0], self.model, quantised_tensors(self.graph, self.choice))

    def quantise(self) -> None:
        """Make the int8 network with the ranges found so far."""
        if not self.probe.runs:
            raise DriveError(
                f"network {self.networks[0]}: " + expected("calibration drives", "drives that run it", "none")
            )
        self.int8 = quantised(self.model, self.choice, self.probe.ranges).SerializeToString(deterministic=True)
        self.comparison = Comparison(self.content, self.int8)

    def result(self) -> QuantisedNetwork:
        """Say what became of it."""
        runs = max(self.comparison.runs, 1)
        right_s, other_s = self.comparison.seconds["right"], self.comparison.seconds["other"]
        return QuantisedNetwork(
            self.networks,
            sum(node.op_type in PRODUCTS and node.name in self.choice.int8 for node in self.graph.nodes),
            self.choice.reasons,
            (len(self.content), len(self.int8)),
            self.comparison.differences,
            (1e3 * right_s / runs, 1e3 * other_s / runs),
        )


def _files(bundle: Bundle) -> dict[str, tuple[str, ...]]:
    """ONNX file -> ids of the networks that it is; one file may serve several, with other cameras."""
    files: dict[str, tuple[str, ...]] = {}
    for network_id, spec in bundle.manifest.networks.items():
        files[spec.file] = (*files.get(spec.file, ()), network_id)
    return files


def _calibrate(
    bundle: Bundle,
    drive: Drive,
    forms: Mapping[str, _Form],
    selection: Selection,
    progress: Callable[[Drive, float], None] | None,
) -> list[FrameSet]:
    """Show the probes the first part of a drive; returns the sets of the rest."""
    probes = {network: form.probe.show for form in forms.values() for network in form.networks}
    held_out: list[FrameSet] = []
    every_s = CALIBRATING_SHARE * selection.seconds / selection.frames

    def first_part() -> Iterator[tuple[FrameSet, bool]]:
        due_s = start_ns = 0.0
        for index, step in enumerate(drive.steps(duration_s=selection.seconds)):
            start_ns = step.frame_set.timestamp_ns if index == 0 else start_ns
            at_s = (step.frame_set.timestamp_ns - start_ns) / 1e9
            if progress is not None:
                progress(drive, at_s / selection.seconds)
            if at_s >= CALIBRATING_SHARE * selection.seconds:
                if len(held_out) == selection.frames:
                    return
                held_out.append(step.frame_set)
                continue
            yield step.frame_set, at_s >= due_s
            due_s += every_s * (at_s >= due_s)

    with _runtime(bundle, drive) as runtime:
        for frame_set, counts in first_part():
            runtime.watch_inputs((lambda network, inputs: probes[network](inputs)) if counts else None)
            runtime.step(frame_set)
    if not held_out:
        least = f"longer than {CALIBRATING_SHARE * selection.seconds:g} s, three quarters of --seconds"
        raise DriveError(f"{drive.name}: " + expected("a drive for calibration", least, "shorter"))
    return held_out


def _run(bundle: Bundle, drive: Drive, sets: list[FrameSet], watches: Mapping[str, Callable[[Inputs], None]]) -> None:
    with _runtime(bundle, drive) as runtime:
        runtime.watch_inputs(lambda network, inputs: watches[network](inputs))
        for frame_set in sets:
            runtime.step(frame_set)


def _runtime(bundle: Bundle, drive: Drive) -> Runtime:
    """Run all networks of a bundle in float32, the calibration as it is."""
    return Runtime(bundle, drive.rig, bundle.outputs, 1, variant="fp32", profile=None, level=False)


def _check(bundle: Bundle, results: Mapping[str, QuantisedNetwork], limit: float) -> None:
    for result in results.values():
        for tensor, difference in result.differences.items():
            if not difference.relative <= limit:
                what = f"bundle {bundle.manifest.name}, network {result.networks[0]}: int8 output {tensor}"
                raise NetworkError(
                    expected(what, f"within {limit:g} of float32 (relative)", f"{difference.relative:.3f} off")
                    + "; nothing was written. Keep layers before it in float32 (--keep), or calibrate on more drives"
                )


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m octobev.models.quantize`."""
    options = _parser().parse_args(arguments)
    try:
        return _quantise(options)
    except OctobevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; the bundle is as it was, or has lost its int8 variants: run the command again", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m octobev.models.quantize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("bundle", type=Path, help="directory of the bundle")
    add(
        "--drives",
        nargs="+",
        required=True,
        metavar="DRIVE",
        help="MCAP files, folders, or synth:SEED; several are better",
    )
    add("--out", type=Path, help="directory to write the bundle with its variants to (default: the bundle itself)")
    add("--frames", type=_positive, default=12, help="sets of each drive that calibrate (default: %(default)s)")
    add("--seconds", type=float, default=8.0, help="use only so much of each drive (default: %(default)s)")
    add("--rate", type=float, default=5.0, help="sets per second of synthetic drives (default: %(default)s)")
    keep = "node that stays in float32: its name in the ONNX file, or a pattern ('/cell/*'); repeatable"
    add("--keep", action="append", default=[], metavar="NAME", help=keep)
    limit = "refuse when an output is off by more: root mean square over that of the output (default: %(default)s)"
    add("--limit", type=float, default=LIMIT, help=limit)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number of at least 1, got {text!r}")
    return int(text)


def _quantise(options: argparse.Namespace) -> int:
    from rich.console import Console
    from rich.progress import Progress

    from ..cli.source import open_source

    bundle = open_bundle(options.bundle)
    out: Path = options.out or bundle.path
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)

        def drives() -> Iterator[Drive]:
            """One at a time: a synthetic town takes hundreds of megabytes."""
            for name in options.drives:
                bar.reset(task, description=f"calibrating on {name}", total=1.0)
                yield open_source(name, seconds=options.seconds, rate_hz=options.rate)

        results = quantise_bundle(
            bundle,
            drives(),
            out,
            selection=Selection(options.seconds, options.frames),
            keep=options.keep,
            limit=options.limit,
            progress=lambda drive, share: bar.update(task, completed=share),
        )
    _print(results)
    print(f"written: {out} (octobev bundle verify {out})")
    return 0


def _print(results: Mapping[str, QuantisedNetwork]) -> None:
    for file, result in results.items():
        before, after = result.sizes
        fp32_ms, int8_ms = result.milliseconds
        print(f"{file}: {result.layers} layers in int8, {before / 1e6:.2f} -> {after / 1e6:.2f} MB,", end=" ")
        print(f"{fp32_ms:.2f} -> {int8_ms:.2f} ms of one processor a run")
        for name, why in result.kept.items():
            print(f"  float32  {name}: {why}")
        for tensor, off in result.differences.items():
            print(f"  {tensor:20} off by {off.relative:.4f} (relative), mean {off.mean:.3g}, largest {off.largest:.3g}")


if __name__ == "__main__":
    sys.exit(main())
