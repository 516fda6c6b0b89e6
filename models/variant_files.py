"""Variants written into a bundle: their files beside the networks' own, and their tables into `bundle.toml`.

Whenever this is interrupted the directory holds a bundle that opens: with the new variants, or without any.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from ..errors import BundleError, expected
from ..fusion.levels import Levels
from ..fusion.whole_file import whole_file
from ..runtime.bundle import MANIFEST_NAME, Bundle, decode_manifest, open_bundle
from ..runtime.manifest import NetworkVariant, Variant


def variant_file(file: str, variant: Variant) -> str:
    """Name of a network's file in a variant: `net.onnx` -> `net.int8.onnx`."""
    path = PurePosixPath(file)
    return str(path.with_name(f"{path.stem}.{variant}{path.suffix}"))


def write_variants(
    bundle: Bundle,
    models: Mapping[str, bytes],
    out: Path,
    variant: Variant = "int8",
    levels: Mapping[str, Mapping[str, Levels]] | None = None,
) -> Bundle:
    """Write networks of a variant and the manifest that pins them.

    Everything else in the manifest stays as it is, byte for byte.

    Parameters
    ----------
    models : file of a network, as the manifest names it -> the ONNX file of its variant
    out : the bundle's own directory, or another one, which then gets the whole bundle
    levels : file of a network -> lifted tensor that is uint8 in the variant -> what its levels stand for

    Raises
    ------
    BundleError
        The manifest is written in a way that cannot be added to (its networks are inline tables).
    """
    text = (bundle.path / MANIFEST_NAME).read_bytes().decode("utf-8")
    bare = without_variant(text, variant)
    known = {} if levels is None else levels
    tables = {
        network_id: NetworkVariant(
            file=variant_file(spec.file, variant),
            sha256=hashlib.sha256(models[spec.file]).hexdigest(),
            levels=dict(known.get(spec.file, {})),
        )
        for network_id, spec in bundle.manifest.networks.items()
        if spec.file in models
    }
    ended = bare if bare.endswith("\n") else f"{bare}\n"
    full = ended + "".join(_table(network_id, variant, table) for network_id, table in tables.items())
    _check(full, bundle, tables, variant)
    in_place = out.is_dir() and out.samefile(bundle.path)
    if in_place and bare != text:
        _write(out / MANIFEST_NAME, bare.encode())  # until the new files are there, nothing may pin the old ones
    elif not in_place:
        (out / MANIFEST_NAME).unlink(missing_ok=True)
        for network_id, spec in bundle.manifest.networks.items():
            _write(out / spec.file, bundle.model_bytes(network_id, "fp32"))
    for file, content in models.items():
        _write(out / variant_file(file, variant), content)
    _write(out / MANIFEST_NAME, full.encode())
    return open_bundle(out)


def without_variant(text: str, variant: Variant) -> str:
    """Take the tables of a variant out of the text of a manifest; all else stays as it is."""
    table = rf"\n\[networks\.[A-Za-z0-9_]+\.variants\.{variant}\][^\n]*\n(?:[^\[\s][^\n]*(?:\n|\Z))*"
    return re.sub(table, "", text)


def _table(network_id: str, variant: Variant, table: NetworkVariant) -> str:
    text = f'\n[networks.{network_id}.variants.{variant}]\nfile = "{table.file}"\nsha256 = "{table.sha256}"\n'
    levels = [
        f"{_key(tensor)} = {{ scale = {levels.scale!r}, zero_point = {levels.zero_point} }}"
        for tensor, levels in table.levels.items()
    ]
    return text + (f"levels = {{ {', '.join(levels)} }}\n" if levels else "")


def _key(name: str) -> str:
    """A name as a key of a TOML table, quoted where it has to be."""
    return name if re.fullmatch("[A-Za-z0-9_-]+", name) else json.dumps(name, ensure_ascii=False)


def _check(text: str, bundle: Bundle, tables: Mapping[str, NetworkVariant], variant: Variant) -> None:
    """Refuse a text that does not say what the bundle's manifest says and the variants."""
    where = f"{bundle.path / MANIFEST_NAME}"
    try:
        manifest = decode_manifest(text.encode(), where)
    except BundleError as error:
        wanted = f"a file to which tables [networks.<id>.variants.{variant}] can be added"
        raise BundleError(expected(where, wanted, error)) from error
    for network_id, network in manifest.networks.items():
        found = network.variants.get(variant)
        if found != tables.get(network_id):
            raise BundleError(expected(f"{where}: networks.{network_id}.variants", "a table of its own", found))


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_bytes(content)
