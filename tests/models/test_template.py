from types import SimpleNamespace

import pytest
from octobev.models.template import castout_manifest_text, manifest_text
from octobev.runtime.bundle import decode_manifest

FREQUENCIES = {"drivable": 0.5, "lane_divider": 0.05, "road_edge": 0.04, "crosswalk": 0.02}


def config(output_stride):
    return SimpleNamespace(
        width=320,
        height=192,
        output_stride=output_stride,
        classes=("other", "drivable", "lane_marking", "road_edge", "obstacle", "crosswalk", "vehicle"),
        object_classes=("vehicle", "pedestrian"),
    )


def decoded(output_stride=2, frequencies=FREQUENCIES):
    text = castout_manifest_text(
        config(output_stride), files={"a.onnx": "0" * 64}, frequencies=frequencies, version="1.2.3"
    )
    return decode_manifest(text.encode())


@pytest.mark.parametrize("stride", [2, 4])
def test_manifest_declares_the_strides_of_the_network(stride):
    outputs = decoded(stride).networks["hydranet"].outputs
    assert {name: output.stride for name, output in outputs.items()} == {
        "features": 4,
        "segmentation": stride,
        "depth": stride,
        "objects": 4,
    }


def test_manifest_takes_over_file_and_version():
    manifest = decoded()
    assert manifest.version == "1.2.3"
    assert manifest.networks["hydranet"].file == "a.onnx"


def test_priors_are_frequencies_corrected_for_what_the_loss_weights_up():
    manifest = decoded()
    prior = manifest.castouts["road_layout"].prior
    assert prior == pytest.approx({"drivable": 0.5, "lane_divider": 0.25, "road_edge": 0.1, "crosswalk": 0.12})
    assert manifest.castouts["occupancy"].prior == {"occupied": 0.3}


def test_priors_of_classes_never_or_always_seen_stay_probabilities():
    manifest = decoded(frequencies=dict.fromkeys(FREQUENCIES, 0.0) | {"drivable": 1.0})
    prior = manifest.castouts["road_layout"].prior
    assert prior == {"drivable": 0.9, "lane_divider": 0.01, "road_edge": 0.01, "crosswalk": 0.01}


def test_topdown_manifest_has_the_network_for_all_cameras_and_on_demand_for_those_in_front():
    topdown = SimpleNamespace(heights_m=(0.0, 1.5), border_px=8.0, classes=("drivable", "road_edge"))
    files = {"hydranet.onnx": "0" * 64, "topdown.onnx": "1" * 64}
    networks = decode_manifest(
        manifest_text(config(2), topdown, files=files, version="1.2.3").encode()
    ).topdown_networks
    surround, front = networks["topdown"], networks["front_layout"]
    assert (surround.cameras, surround.on_demand) == (("*",), False)
    assert (front.cameras, front.on_demand) == (("*front*",), True)
    assert (front.file, front.sha256, front.lifts, front.states) == (
        surround.file,
        surround.sha256,
        surround.lifts,
        surround.states,
    )
    assert list(front.outputs) == [f"front_{name}" for name in surround.outputs]
    assert list(front.outputs.values()) == list(surround.outputs.values())
