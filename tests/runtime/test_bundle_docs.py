import re
from pathlib import Path

from octobev.runtime.bundle import decode_manifest

DOCS = Path(__file__).parents[2] / "docs" / "bundles.md"


def test_example_of_the_documentation_is_a_valid_manifest():
    example, variant = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    manifest = decode_manifest(f"{example}\n{variant}".encode())
    assert manifest.networks["segmenter"].variants["int8"].file == "segmenter.int8.onnx"
    assert list(manifest.castouts) == ["road_layout", "occupancy"]
    assert manifest.camera_networks["segmenter"].input.mean == (0.485, 0.456, 0.406)
