"""What the tables of a manifest say of each other: sources exist, are of the right kind and fit together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..errors import BundleError, expected
from .camera_names import covers
from .manifest import CameraNetwork, CastOut, ImageOutput, Lift, Manifest, TopDownNetwork


def check_references(manifest: Manifest) -> None:
    """Check every reference inside a manifest.

    Raises
    ------
    BundleError
        Naming the path of the reference.
    """
    _check_output_names(manifest)
    for network_id, network in manifest.topdown_networks.items():
        for index, lift in enumerate(network.lifts):
            _check_lift(manifest, network, lift, f"networks.{network_id}.lifts[{index}]")
    for name, castout in manifest.castouts.items():
        _check_castout(manifest, castout, f"castouts.{name}")
    if manifest.level_by:
        _find(manifest, manifest.level_by, "horizon", "level_by")


def image_output(manifest: Manifest, name: str) -> tuple[str, ImageOutput] | None:
    """Find the per-camera output of a name, with the id of its network."""
    for network_id, network in manifest.camera_networks.items():
        if name in network.outputs:
            return network_id, network.outputs[name]
    return None


def _check_output_names(manifest: Manifest) -> None:
    homes: dict[str, str] = {}
    tables = [(f"networks.{network_id}.outputs", network.outputs) for network_id, network in manifest.networks.items()]
    for table, names in [*tables, ("castouts", manifest.castouts)]:
        for name in names:
            if name in homes:
                raise BundleError(expected(f"{table}.{name}", "named once in the bundle", f"also {homes[name]}.{name}"))
            homes[name] = table


def _check_lift(manifest: Manifest, network: TopDownNetwork, lift: Lift, where: str) -> None:
    source_id, _ = _find(manifest, lift.source, "features", f"{where}.source")
    source = manifest.camera_networks[source_id]
    if extra := [name for name in network.cameras if not covers(source.cameras, name)]:
        wanted = f"among those of networks.{source_id} ({', '.join(source.cameras)})"
        raise BundleError(expected(f"{where}.source: cameras", wanted, ", ".join(extra)))


def _check_castout(manifest: Manifest, castout: CastOut, where: str) -> None:
    source_id, source = _find(manifest, castout.source, "segmentation", f"{where}.source")
    paths = {f"{where}.classes.{name}": names for name, names in castout.classes.items()}
    paths |= {f"{where}.occupied_by": castout.occupied_by, f"{where}.blocked_by": castout.blocked_by}
    for path, names in paths.items():
        _check_known(names, source.classes, path)
    if castout.depth is None:
        return
    depth_id, depth = _find(manifest, castout.depth, "depth", f"{where}.depth")
    if (depth_id, depth.stride) != (source_id, source.stride):
        raise BundleError(
            expected(
                f"{where}.depth",
                f"an output of networks.{source_id} with stride {source.stride}, as {castout.source}",
                f"networks.{depth_id} with stride {depth.stride}",
            )
        )


def _find(manifest: Manifest, name: str, kind: str, where: str) -> tuple[str, ImageOutput]:
    """Find a per-camera output that is used on the ground."""
    found = image_output(manifest, name)
    candidates = [
        key for network in manifest.camera_networks.values() for key, out in network.outputs.items() if out.kind == kind
    ]
    if found is None or found[1].kind != kind:
        actual = name if found is None else f"{name} of kind {found[1].kind}"
        listed = ", ".join(candidates) or "the bundle has none"
        raise BundleError(expected(where, f"an output of kind {kind} ({listed})", actual))
    _check_no_bars(manifest.camera_networks[found[0]], found[0], where)
    return found


def _check_no_bars(network: CameraNetwork, network_id: str, where: str) -> None:
    """Refuse letterboxes: bars lie inside the network's image but show nothing, no ground may be read from them."""
    if network.input.fit == "letterbox":
        raise BundleError(
            expected(f"{where}: networks.{network_id}.input.fit", "stretch or crop for what is cast down", "letterbox")
        )


def _check_known(names: Iterable[str], classes: Sequence[str], where: str) -> None:
    if unknown := [name for name in names if name not in classes]:
        raise BundleError(expected(where, f"classes of the source ({', '.join(classes)})", ", ".join(unknown)))
