import re
from pathlib import Path

from octobev.runtime.bundle import decode_manifest

DOCS = Path(__file__).parents[2] / "docs" / "bundles.md"


RECURRENT = Path(__file__).parents[2] / "models" / "reference" / "bundle.toml"


def examples():
    return re.findall(r"```toml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)


def test_example_of_the_documentation_is_a_valid_manifest():
    manifest = decode_manifest(examples()[0].encode())
    assert list(manifest.castouts) == ["road_layout", "occupancy"]
    assert manifest.camera_networks["segmenter"].input.mean == (0.485, 0.456, 0.406)


def test_example_of_detections_fits_to_the_first():
    example, detections = examples()[:2]
    outputs = decode_manifest(f"{example}\n{detections}".encode()).camera_networks["segmenter"].outputs
    assert outputs["objects"].tensors == {"tensor": "object_heat", "boxes": "object_boxes"}
    left_out = re.sub(r"(score_threshold|max_detections|max_overlap).*\n", "", detections)
    defaults = decode_manifest(f"{example}\n{left_out}".encode()).camera_networks["segmenter"].outputs["objects"]
    assert outputs["objects"] == defaults


def test_example_of_a_second_entry_fits_to_a_recurrent_bundle():
    example = examples()[2]
    first_entry, found, _ = RECURRENT.read_text(encoding="utf-8").partition("[networks.front_layout]")
    assert found
    network = decode_manifest((first_entry + example).encode()).topdown_networks["front_layout"]
    assert network.on_demand
    assert list(network.outputs) == ["front_road_layout"]


def test_example_of_a_variant_fits_to_the_first():
    example, variant = examples()[0], examples()[3]
    manifest = decode_manifest(f"{example}\n{variant}".encode())
    assert manifest.networks["segmenter"].variants["int8"].file == "segmenter.int8.onnx"


def test_example_of_lifted_levels_fits_to_a_recurrent_bundle():
    head, found, _ = RECURRENT.read_text(encoding="utf-8").partition("[networks.hydranet.variants.int8]")
    assert found
    variant = decode_manifest((head + examples()[4]).encode()).topdown_networks["topdown"].variants["int8"]
    assert variant.levels["lifted"].zero_point == 44
