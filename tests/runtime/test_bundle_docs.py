import re
from pathlib import Path

from octobev.runtime.bundle import decode_manifest

DOCS = Path(__file__).parents[2] / "docs" / "bundles.md"


def test_example_of_the_documentation_is_a_valid_manifest():
    (example,) = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    manifest = decode_manifest(example.encode())
    assert list(manifest.castouts) == ["road_layout", "occupancy"]
    assert manifest.camera_networks["segmenter"].input.mean == (0.485, 0.456, 0.406)
