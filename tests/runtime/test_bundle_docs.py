import re
from pathlib import Path

from octobev.runtime.bundle import decode_manifest

DOCS = Path(__file__).parents[2] / "docs" / "bundles.md"


RECURRENT = Path(__file__).parents[2] / "models" / "recurrent" / "bundle.toml"


def examples():
    return re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_example_of_the_documentation_is_a_valid_manifest():
    manifest = decode_manifest(examples()[0].encode())
    assert list(manifest.castouts) == ["road_layout", "occupancy"]
    assert manifest.camera_networks["segmenter"].input.mean == (0.485, 0.456, 0.406)


def test_example_of_a_second_entry_fits_to_a_recurrent_bundle():
    (_, example) = examples()
    first_entry, found, _ = RECURRENT.read_text(encoding="utf-8").partition("[networks.front_layout]")
    assert found
    network = decode_manifest((first_entry + example).encode()).topdown_networks["front_layout"]
    assert network.on_demand
    assert list(network.outputs) == ["front_road_layout"]
