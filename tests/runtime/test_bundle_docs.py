import re
from pathlib import Path

from octobev.runtime.bundle import decode_manifest

DOCS = Path(__file__).parents[2] / "docs" / "bundles.md"


def test_examples_of_the_documentation_are_a_valid_manifest():
    example, detections = re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    manifest = decode_manifest(example.encode())
    assert list(manifest.castouts) == ["road_layout", "occupancy"]
    assert manifest.camera_networks["segmenter"].input.mean == (0.485, 0.456, 0.406)
    outputs = decode_manifest(f"{example}\n{detections}".encode()).camera_networks["segmenter"].outputs
    assert outputs["objects"].tensors == {"tensor": "object_heat", "boxes": "object_boxes"}
    left_out = re.sub(r"(score_threshold|max_detections).*\n", "", detections)
    defaults = decode_manifest(f"{example}\n{left_out}".encode()).camera_networks["segmenter"].outputs["objects"]
    assert outputs["objects"] == defaults
