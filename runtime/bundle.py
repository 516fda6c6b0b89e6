"""A model bundle: a directory with `bundle.toml` and single-file ONNX models, pinned by their SHA-256."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from ..errors import BundleError, InvalidArgument, MissingFile, expected
from ..fusion.rig import Rig
from ..fusion.toml_text import LARGEST_FILE, parse_toml
from .camera_names import select_cameras
from .manifest import (
    CameraNetwork,
    CastOut,
    ImageInput,
    ImageOutput,
    Lift,
    Manifest,
    NetworkSpec,
    NetworkVariant,
    Provider,
    RuntimeOptions,
    State,
    TopDownNetwork,
    TopDownOutput,
    Variant,
)
from .references import check_references, image_output
from .strict_toml import build

__all__ = [
    "REFERENCE_BUNDLE",
    "Bundle",
    "CameraNetwork",
    "CastOut",
    "ImageInput",
    "ImageOutput",
    "Lift",
    "Manifest",
    "Plan",
    "Provider",
    "RuntimeOptions",
    "State",
    "TopDownNetwork",
    "TopDownOutput",
    "Variant",
    "open_bundle",
]

MANIFEST_NAME: Final = "bundle.toml"

REFERENCE_BUNDLE: Final = Path(__file__).parent.parent / "models" / "reference"
"""The bundle that is shipped in the package."""

_READ_HERE: Final = ("features", "horizon")
"""Kinds of outputs that the runtime itself reads."""

_LARGEST_MODEL: Final = (1 << 31) - 1  # one protobuf message holds no more


@dataclass(frozen=True, slots=True)
class Plan:
    """What must run for some wanted outputs, everything in the order of the manifest.

    outputs : the wanted outputs
    networks : id of a per-camera network -> its outputs that somebody needs
    topdown : id of a top-down network -> its wanted outputs
    castouts : wanted cast-outs
    cast_down : per-camera outputs that a cast-out or a top-down network reads, or that cameras are levelled by
    horizon : network that cameras are levelled by, and its output; None: they are not
    """

    outputs: tuple[str, ...]
    networks: dict[str, tuple[str, ...]]
    topdown: dict[str, tuple[str, ...]]
    castouts: tuple[str, ...]
    cast_down: frozenset[str]
    horizon: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Bundle:
    """An opened bundle. Its models were there and matched their hashes; no network is loaded yet.

    Parameters
    ----------
    path : the directory
    sha256 : of the bytes of `bundle.toml`, which pins the models
    manifest : what the file says
    variant : which files of its networks are read; see :func:`octobev.runtime.variants.select_variant`
    preferred : execution providers in place of those of the manifest; empty: the manifest's
    """

    path: Path
    sha256: str
    manifest: Manifest
    variant: Variant = "fp32"
    preferred: tuple[Provider, ...] = ()

    @property
    def providers(self) -> tuple[Provider, ...]:
        """The execution providers that its networks run on, in order of preference."""
        return self.preferred or self.manifest.runtime.providers

    @property
    def outputs(self) -> dict[str, str]:
        """Output name -> kind: per-camera outputs, top-down outputs, cast-outs."""
        networks: list[NetworkSpec] = [*self.manifest.camera_networks.values()]
        networks += self.manifest.topdown_networks.values()
        kinds: dict[str, str] = {name: str(out.kind) for network in networks for name, out in network.outputs.items()}
        return kinds | {name: str(castout.kind) for name, castout in self.manifest.castouts.items()}

    @property
    def default_outputs(self) -> tuple[str, ...]:
        """Names of the outputs that are given when nobody asks for certain ones.

        All but those of networks `on_demand`, and features and horizons, which the runtime itself reads.
        """
        networks = self.manifest.networks.values()
        on_demand = {name for network in networks if network.on_demand for name in network.outputs}
        return tuple(name for name, kind in self.outputs.items() if kind not in _READ_HERE and name not in on_demand)

    def plan(self, outputs: Iterable[str] | None = None, *, level: bool = True) -> Plan:
        """Find out what must run.

        Parameters
        ----------
        outputs : names of wanted outputs; None: :attr:`default_outputs`
        level : find the cameras' tilts, where the bundle says by what, and that network runs for the ground anyway

        Raises
        ------
        InvalidArgument
            An unknown name.
        """
        kinds = self.outputs
        if isinstance(outputs, str):
            raise InvalidArgument(expected("outputs", "a collection of names", repr(outputs)))
        wanted = set(self.default_outputs if outputs is None else outputs)
        if unknown := sorted(wanted - set(kinds)):
            raise InvalidArgument(
                expected(f"outputs of bundle {self.manifest.name}", f"among {', '.join(kinds)}", ", ".join(unknown))
            )
        topdown = {
            network_id: tuple(name for name in network.outputs if name in wanted)
            for network_id, network in self.manifest.topdown_networks.items()
            if wanted & set(network.outputs)
        }
        castouts = tuple(name for name in self.manifest.castouts if name in wanted)
        read = {lift.source for network_id in topdown for lift in self.manifest.topdown_networks[network_id].lifts}
        for name in castouts:
            castout = self.manifest.castouts[name]
            read |= {castout.source} | ({castout.depth} if castout.depth is not None else set())
        horizon = self._horizon(read) if level else None
        if horizon is not None:
            read.add(horizon[1])
        networks = {
            network_id: tuple(name for name in network.outputs if name in wanted | read)
            for network_id, network in self.manifest.camera_networks.items()
            if (wanted | read) & set(network.outputs)
        }
        chosen = tuple(name for name in kinds if name in wanted)
        return Plan(chosen, networks, topdown, castouts, frozenset(read), horizon)

    def _horizon(self, read: Collection[str]) -> tuple[str, str] | None:
        """The network and output that cameras are levelled by, if that network gives something else that is read."""
        if not self.manifest.level_by:
            return None
        network_id, _ = self.source_of(self.manifest.level_by)
        given = self.manifest.camera_networks[network_id].outputs
        return (network_id, self.manifest.level_by) if any(name in given for name in read) else None

    def source_of(self, output: str) -> tuple[str, ImageOutput]:
        """Find the per-camera network that gives an output, and the output's declaration."""
        found = image_output(self.manifest, output)
        if found is None:
            raise InvalidArgument(expected("per-camera output", "one of the bundle's", output))
        return found

    def cameras(self, network_id: str, rig: Rig) -> tuple[str, ...]:
        """Select the cameras of the rig that a network is meant for, in the rig's order.

        Raises
        ------
        RigError
            The rig lacks a camera that the network names, or has none that a pattern of it matches.
        """
        where = f"bundle {self.manifest.name}, networks.{network_id}.cameras"
        return select_cameras(rig, self._network(network_id).cameras, where)

    def needed_cameras(self, plan: Plan, network_id: str, rig: Rig) -> tuple[str, ...]:
        """Select the cameras that a per-camera network must run on for a plan, in the rig's order.

        Those that it is meant for; only those that the top-down networks of the plan look at where nobody else reads
        what it gives.
        """
        meant = self.cameras(network_id, rig)
        given = plan.networks[network_id]
        castouts = [self.manifest.castouts[name] for name in plan.castouts]
        if set(given) & {*plan.outputs, *(c.source for c in castouts), *(c.depth for c in castouts)}:
            return meant
        readers = [
            reader
            for reader in plan.topdown
            if any(lift.source in given for lift in self.manifest.topdown_networks[reader].lifts)
        ]
        looked_at = {name for reader in readers for name in self.cameras(reader, rig)}
        return tuple(name for name in meant if name in looked_at)

    def model_bytes(self, network_id: str, variant: Variant | None = None) -> bytes:
        """Read the ONNX file of a network and check its hash again: what is loaded is what was checked.

        Parameters
        ----------
        variant : whose file; a network that does not list it has one file for all. None: :attr:`variant`

        Raises
        ------
        BundleError
            The file is missing, not a plain file inside the bundle, too large, or not the one that the manifest pins.
        """
        spec = self._network(network_id)
        where = f"{self.path / MANIFEST_NAME}: networks.{network_id}"
        chosen = self.variant if variant is None else variant
        if chosen in spec.variants:
            return _read_model(self.path, spec.variants[chosen], f"{where}.variants.{chosen}")
        return _read_model(self.path, spec, where)

    def check_models(self) -> None:
        """Check the hash of every model, without holding one in memory.

        Raises
        ------
        BundleError
            As :meth:`model_bytes`.
        """
        for network_id, network in self.manifest.networks.items():
            where = f"{self.path / MANIFEST_NAME}: networks.{network_id}"
            files = {where: network} | {f"{where}.variants.{name}": file for name, file in network.variants.items()}
            for place, spec in files.items():
                with _open_model(self.path, spec, place) as file:
                    _check_hash(hashlib.file_digest(file, "sha256").hexdigest(), spec, place)

    def _network(self, network_id: str) -> NetworkSpec:
        if network_id not in self.manifest.networks:
            raise InvalidArgument(expected("network", f"one of {', '.join(self.manifest.networks)}", network_id))
        return self.manifest.networks[network_id]


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle: read the manifest, check everything in it, and check the hash of every model.

    Parameters
    ----------
    path : the bundle's directory, or the `bundle.toml` in it

    Raises
    ------
    MissingFile
        There is no such directory or no `bundle.toml` in it.
    BundleError
        Anything wrong inside, with the path in the manifest.
    """
    path = Path(path)
    directory = path.parent if path.name == MANIFEST_NAME else path
    file = directory / MANIFEST_NAME
    if directory.is_file():
        raise BundleError(expected(f"{path}", f"a directory with {MANIFEST_NAME} in it, or that file", "another file"))
    if not directory.is_dir():
        raise MissingFile(f"{directory}: no such bundle directory")
    if not file.is_file():
        raise MissingFile(f"{file}: no such file; a bundle is a directory with {MANIFEST_NAME} in it")
    if file.stat().st_size > LARGEST_FILE:
        raise BundleError(expected(f"{file}: size", f"at most {LARGEST_FILE} bytes", file.stat().st_size))
    content = file.read_bytes()
    bundle = Bundle(directory, hashlib.sha256(content).hexdigest(), decode_manifest(content, str(file)))
    bundle.check_models()
    return bundle


def decode_manifest(content: bytes, where: str = MANIFEST_NAME) -> Manifest:
    """Decode and check the bytes of a `bundle.toml`; `where` names the file in messages."""
    try:
        document = parse_toml(content)
    except ValueError as error:
        raise BundleError(f"{where}: not a TOML file: {error}") from error
    try:
        manifest = build(Manifest, document)
        check_references(manifest)
    except BundleError as error:
        raise BundleError(f"{where}: {error}") from error
    return manifest


def _read_model(directory: Path, spec: NetworkSpec | NetworkVariant, where: str) -> bytes:
    with _open_model(directory, spec, where) as file:
        content = file.read(_LARGEST_MODEL)
    _check_hash(hashlib.sha256(content).hexdigest(), spec, where)
    return content


@contextlib.contextmanager
def _open_model(directory: Path, spec: NetworkSpec | NetworkVariant, where: str) -> Iterator[BufferedReader]:
    """Open a plain file inside the bundle, of a size that a model can have."""
    try:
        path = (directory / spec.file).resolve(strict=True)
        if not path.is_relative_to(directory.resolve()):
            raise BundleError(expected(f"{where}.file", "a file inside the bundle", f"{spec.file}, a link to {path}"))
        # not blocking: somebody might have put a pipe there; the checks are of what was opened
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | getattr(os, "O_NONBLOCK", 0))) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise BundleError(expected(f"{where}.file", "a plain file", spec.file))
            if not 0 < status.st_size <= _LARGEST_MODEL:
                raise BundleError(expected(f"{where}.file: size", f"1..{_LARGEST_MODEL} bytes", status.st_size))
            yield file
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise BundleError(expected(f"{where}.file", "a file in the bundle", f"{spec.file} ({error})")) from error


def _check_hash(actual: str, spec: NetworkSpec | NetworkVariant, where: str) -> None:
    if actual != spec.sha256:
        raise BundleError(expected(f"{where}.sha256", f"that of {spec.file} ({actual})", spec.sha256))
