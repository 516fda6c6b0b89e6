"""`octobev bundle`: look into a model bundle, check it, and find out how it runs fastest here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from ..errors import OctobevError
from ..runtime.bundle import REFERENCE_BUNDLE, Bundle, CameraNetwork, open_bundle
from ..runtime.profile import Profile, find_profile
from ..runtime.settle import settle
from ..runtime.variants import variants_of
from . import EXIT_ERROR
from .bundle_tune import choice_words, tune

app = typer.Typer(
    no_args_is_help=True, help="Look into a model bundle, check it, and find out how it runs fastest on this machine."
)
PathArgument = Annotated[
    Path,
    typer.Argument(
        metavar="PATH",
        help="The bundle's directory, or the bundle.toml in it. Default: the one that is shipped.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command()
def info(path: PathArgument = REFERENCE_BUNDLE, as_json: JsonOption = False) -> None:
    """Print what a bundle is, which networks it has and which outputs it gives.

    The manifest and the hashes of the models are checked; no network is loaded. `variants` names first the one that
    `--variant auto` takes on this machine; `profile` says what `octobev bundle tune` found here.
    """
    bundle = settle(open_bundle(path)).bundle
    profile = find_profile(bundle)
    if as_json:
        print(json.dumps(_description(bundle, profile)))
        return
    manifest = bundle.manifest
    grid = manifest.grid
    print(f"{manifest.name} {manifest.version}  {manifest.description}".rstrip())
    print(f"licence   {manifest.license or 'not stated'}")
    print(f"sha256    {bundle.sha256}")
    others = [name for name in variants_of(bundle) if name != bundle.variant]
    print(f"variants  {', '.join([f'{bundle.variant} (runs here)', *others])}")
    print(f"profile   {profile_words(profile)}")
    extent = f"x {grid.x_min_m:g}..{grid.x_max_m:g} m, y {grid.y_min_m:g}..{grid.y_max_m:g} m"
    print(f"grid      {extent}, {grid.shape[0]} x {grid.shape[1]} cells of {grid.resolution_m:g} m")
    if manifest.level_by:
        print(f"levelled  by {manifest.level_by}: cameras' pitch and roll are found while driving")
    print("networks")
    for name, network in manifest.networks.items():
        if isinstance(network, CameraNetwork):
            image = network.input
            what = f"camera   {image.width}x{image.height} {image.colour} {image.dtype}"
        else:
            what = f"topdown  lifts {', '.join(lift.source for lift in network.lifts)}"
        files = ", ".join([network.file, *(variant.file for variant in network.variants.values())])
        when = "; on demand" if network.on_demand else ""
        print(f"  {name:20} {what}; cameras {', '.join(network.cameras)}; {files}{when}")
    print("outputs")
    for name, kind in bundle.outputs.items():
        print(f"  {name:20} {kind:13} {_origin(bundle, name)}")


@app.command()
def verify(path: PathArgument = REFERENCE_BUNDLE, as_json: JsonOption = False) -> None:
    """Check a bundle: manifest, hashes, every network against its declaration, and one dry run of everything."""
    from ..runtime.verification import verify_bundle

    try:
        bundle = open_bundle(path)
        verification = verify_bundle(bundle)
    except OctobevError as error:
        if not as_json:
            raise
        print(json.dumps({"ok": False, "path": str(path), "error": str(error)}))
        raise typer.Exit(EXIT_ERROR) from error
    if as_json:
        found = msgspec.to_builtins(verification)
        print(json.dumps({"ok": True, "path": str(path), "sha256": bundle.sha256, **found}))
        return
    print(f"variants  {', '.join(verification.variants)}")
    for network, providers in verification.providers.items():
        print(f"network   {network:20} {', '.join(providers)}")
    for output in verification.outputs:
        arrays = ", ".join(f"{name} {dtype} {list(shape)}" for name, (dtype, shape) in output.arrays.items())
        print(f"output    {output.topic:20} {output.kind:13} {arrays}")
    print(f"{bundle.manifest.name} {bundle.manifest.version} is a good bundle")


app.command("tune")(tune)


def profile_words(profile: Profile | None) -> str:
    """Say what was measured on this machine."""
    if profile is None:
        return "none for this machine; octobev bundle tune measures it"
    measured = profile.measured
    return f"{choice_words(profile.choice)}; {measured.step_ms:g} ms a set of {measured.cameras}, {measured.when}"


def _description(bundle: Bundle, profile: Profile | None) -> dict[str, Any]:
    return {
        "path": str(bundle.path),
        "sha256": bundle.sha256,
        "variant": bundle.variant,
        "variants": variants_of(bundle),
        "profile": None if profile is None else msgspec.to_builtins(profile),
        "outputs": bundle.outputs,
        "default_outputs": bundle.default_outputs,
        "manifest": msgspec.to_builtins(bundle.manifest),
    }


def _origin(bundle: Bundle, name: str) -> str:
    manifest = bundle.manifest
    if name in manifest.castouts:
        castout = manifest.castouts[name]
        return f"cast out of {castout.source}: {', '.join(castout.bev_classes)}"
    for network_id, network in manifest.networks.items():
        if name in network.outputs:
            classes = network.outputs[name].classes
            return f"of {network_id}" + (f": {', '.join(classes)}" if classes else "")
    return ""
