"""Objects of per-camera networks: peaks by hand, boxes back in the camera's own image, failures as values."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import onnx
import pytest
from octobev._ext.objects import find_objects
from octobev.errors import BundleError
from octobev.fusion.rig import Rig
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.hydranet import HydraNet
from onnx import helper

RED, GREEN = (0, 0, 255), (0, 255, 0)
"""A vehicle, a pedestrian: blue, green, red."""


@pytest.fixture
def load(write_bundle, detection_manifest):
    """Load the tiny network, or another one, for a rig."""

    names = map(str, itertools.count())

    def load(rig, manifest=None, model=None, outputs=("objects",)):
        models = {} if model is None else {"objects.onnx": model}
        bundle = open_bundle(write_bundle(manifest or detection_manifest, models, next(names)))
        return HydraNet.load(bundle, "hydranet", rig, outputs)

    return load


def _image(width=32, height=16, **blocks):
    """Black, with blocks of colour: name of the colour=(left, top, size)."""
    image = np.zeros((height, width, 3), np.uint8)
    for name, (left, top, size) in blocks.items():
        image[top : top + size, left : left + size] = {"red": RED, "green": GREEN}[name]
    return image


def _objects(net, **images):
    run = net.run({name: Frame(name, 7, image) for name, image in images.items()})
    results = run.results()
    assert results.invalid == {}
    return run.predictions()["objects"]


def _heat(*rows):
    return np.array([rows], dtype=np.float32)


def _found(heat, threshold=0.5, most=10, sides=(0, 0, 0, 0), max_overlap=1.0):
    """Class, row and column of the centre, and score of what is found in heat; the same sides everywhere."""
    boxes, scores, class_ids = np.empty((most, 4)), np.empty(most, np.float32), np.empty(most, np.uint16)
    maps = np.empty((4, *heat.shape[1:]), np.float32)
    maps[:] = np.reshape(sides, (4, 1, 1))
    count = find_objects(heat, maps, 1.0, threshold, max_overlap, boxes, scores, class_ids)
    columns, rows = ((boxes[:count, :2] + boxes[:count, 2:]) / 2).T.tolist()
    return list(zip(class_ids[:count].tolist(), rows, columns, scores[:count].tolist(), strict=True))


def _places(found):
    return [place for *place, _ in found]


def test_peaks_are_the_largest_of_their_neighbours_and_above_the_threshold():
    heat = _heat([0.1, 0.5, 0.1, 0.25], [0.1, 0.1, 0.1, 0.1], [0.6, 0.625, 0.1, 0.75])
    assert _found(heat, 0.4) == [(0, 2, 3, 0.75), (0, 2, 1, 0.625), (0, 0, 1, 0.5)]


def test_neighbours_count_in_all_eight_directions():
    for place in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1), (2, 2)]:
        heat = np.zeros((1, 3, 3), np.float32)
        heat[0, 1, 1], heat[(0, *place)] = 0.8, 0.9
        assert _places(_found(heat)) == [[0, *place]]


def test_of_equal_neighbours_the_first_is_the_peak():
    assert _places(_found(_heat([0.0, 0.8, 0.8, 0.0], [0.8, 0.8, 0.0, 0.0]))) == [[0, 0, 1]]


def test_equal_peaks_are_ordered_by_class_row_and_column_and_the_best_are_kept():
    heat = np.zeros((2, 3, 5), np.float32)
    heat[1, 0, 0] = heat[0, 2, 4] = heat[0, 2, 0] = heat[0, 0, 4] = 0.5
    heat[1, 2, 2] = 0.6
    assert _places(_found(heat, 0.4, 4)) == [[1, 2, 2], [0, 0, 4], [0, 2, 0], [0, 2, 4]]


def test_classes_do_not_hide_each_other():
    heat = np.full((2, 1, 1), 0.9, np.float32)
    assert _places(_found(heat)) == [[0, 0, 0], [1, 0, 0]]


def test_the_threshold_itself_is_not_above_it():
    assert _found(_heat([0.5]), 0.5) == []


@pytest.mark.parametrize("layout", ["nchw", "nhwc", "rows"])
def test_objects_in_every_layout(load, make_rig, detection_manifest, detection_model, layout):
    """Heat pixel (row 1, column 5) has its centre at (21.5, 5.5), the sides are 4, 2, 6, 8 away."""
    manifest = detection_manifest.replace('layout = "nchw"\nstride', f'layout = "{layout}"\nstride')
    net = load(make_rig(), manifest, detection_model(layout=layout))
    found = _objects(net, front=_image(red=(20, 4, 4), green=(4, 0, 4)))["front"]
    assert (found.camera, found.classes, found.names) == (
        "front", ("vehicle", "pedestrian"), ("vehicle", "pedestrian"),
    )  # fmt: skip
    np.testing.assert_allclose(found.boxes, [[17.5, 3.5, 27.5, 13.5], [1.5, -0.5, 11.5, 9.5]])
    np.testing.assert_allclose(found.scores, 1, rtol=1e-6)


@pytest.mark.parametrize(
    ("fit", "size", "block", "box"),
    [
        ("stretch", (64, 48), (16, 12, 12), (11.5, 11.5, 31.5, 41.5)),
        ("crop", (64, 64), (16, 24, 8), (11.5, 23.5, 31.5, 43.5)),
        ("letterbox", (64, 64), (16, 16, 16), (7.5, 15.5, 47.5, 55.5)),
    ],
)
def test_boxes_are_in_pixels_of_the_camera_whatever_the_fit(load, make_rig, detection_manifest, fit, size, block, box):
    """Row 1 of the heat map, column 2 (letterbox: 3, the image begins at network pixel 8)."""
    manifest = detection_manifest.replace('colour = "rgb"', f'colour = "rgb"\nfit = "{fit}"')
    net = load(make_rig("front", width=size[0], height=size[1]), manifest)
    (found,) = _objects(net, front=_image(*size, red=block)).values()
    np.testing.assert_allclose(found.boxes[:1], [box], atol=1e-4)


def test_boxes_of_undistorted_images_are_where_the_lens_shows_the_object(load, make_rig, detection_manifest):
    """The object is at heat pixel (1, 3), its box at 9.5, 3.5, 19.5, 13.5 of the undistorted image."""
    manifest = detection_manifest.replace('colour = "rgb"', 'colour = "rgb"\nundistort = true')
    camera = make_rig("front", width=64, height=32)["front"]
    lens = replace(camera.intrinsics, model="brown_conrady", coefficients=(-0.2, 0, 0, 0, 0))
    net = load(Rig((replace(camera, intrinsics=lens),)), manifest)
    found = _objects(net, front=_image(64, 32, red=(24, 8, 8)))["front"]
    u, v = np.linspace(9.5, 19.5, 101), np.linspace(3.5, 13.5, 101)
    rays, _ = camera.intrinsics.resized(32, 16).unproject(np.stack(np.meshgrid(u, v), axis=-1).reshape(-1, 2))
    pixels, seen = lens.project(rays)
    assert seen.all()
    np.testing.assert_allclose(found.boxes, [[*pixels.min(axis=0), *pixels.max(axis=0)]], atol=0.02)
    assert np.abs(found.boxes - [[19.5, 7.5, 39.5, 27.5]]).max() > 0.3


def test_boxes_end_with_the_image(load, make_rig, detection_model):
    net = load(make_rig(), model=detection_model(sides=(100, 100, 3.4e38, 3.4e38)))
    found = _objects(net, front=_image(red=(20, 4, 4)))["front"]
    np.testing.assert_array_equal(found.boxes, [[-0.5, -0.5, 31.5, 15.5]])


def test_boxes_beside_the_image_are_left_out(load, make_rig, detection_manifest, detection_model):
    """Bars of a letterbox that look like objects: only the boxes that reach into the image are there, cut off."""
    manifest = detection_manifest.replace('colour = "rgb"', 'colour = "rgb"\nfit = "letterbox"\nfill = 255')
    net = load(make_rig("front", width=64, height=64), manifest, detection_model(sides=(1, 1, 9, 1)))
    found = _objects(net, front=_image(64, 64))["front"]
    assert set(found.names) == {"vehicle", "pedestrian"}
    np.testing.assert_allclose(found.boxes, [[-0.5, 3.5, 11.5, 11.5]] * 2)  # that of heat pixel (0, 0) alone


def test_nothing_found_is_an_output_with_empty_arrays(load, make_rig):
    net = load(make_rig())
    assert len(_objects(net, front=_image(red=(4, 4, 4)))["front"]) == 1
    found = _objects(net, front=_image())["front"]
    shapes = {name: (array.dtype.name, array.shape) for name, array in found.arrays().items()}
    assert shapes == {"boxes": ("float32", (0, 4)), "scores": ("float32", (0,)), "class_ids": ("uint16", (0,))}


def test_threshold_and_number_are_the_manifests(load, make_rig, detection_manifest):
    image = _image(red=(4, 4, 4), green=(20, 4, 4))
    image[12:16, 28:32] = (0, 0, 120)

    def names(limits):
        manifest = detection_manifest.replace('boxes = "boxes"', f'boxes = "boxes"\n{limits}')
        return _objects(load(make_rig(), manifest), front=image)["front"].names

    assert names("") == ("vehicle", "pedestrian", "vehicle")
    assert names("score_threshold = 0.5") == ("vehicle", "pedestrian")
    assert names("max_detections = 1") == ("vehicle",)


def test_sigmoid_is_applied_to_the_heat_alone(load, make_rig, detection_manifest):
    manifest = detection_manifest.replace('boxes = "boxes"', 'boxes = "boxes"\nactivation = "sigmoid"')
    found = _objects(load(make_rig(), manifest), front=_image(red=(20, 4, 4)))["front"]
    np.testing.assert_allclose(found.scores[0], 1 / (1 + np.exp(-1)), rtol=1e-5)
    np.testing.assert_allclose(found.boxes[0], [17.5, 3.5, 27.5, 13.5])


@pytest.mark.parametrize("batch", [1, 2, 3])
def test_batches_and_absent_cameras(load, make_rig, detection_model, batch):
    net = load(make_rig("front", "left", "right"), model=detection_model(batch))
    images = {"front": _image(red=(4, 4, 4)), "left": _image(green=(8, 8, 4)), "right": _image()}
    assert {name: found.names for name, found in _objects(net, **images).items()} == {
        "front": ("vehicle",), "left": ("pedestrian",), "right": (),
    }  # fmt: skip
    del images["front"]
    assert {name: found.names for name, found in _objects(net, **images).items()} == {
        "left": ("pedestrian",), "right": (),
    }  # fmt: skip


def test_detections_outlive_the_next_run(load, make_rig):
    net = load(make_rig())
    first = _objects(net, front=_image(red=(4, 4, 4)))["front"]
    kept = {name: array.copy() for name, array in first.arrays().items()}
    _objects(net, front=_image(green=(20, 8, 4)))
    for name, array in first.arrays().items():
        np.testing.assert_array_equal(array, kept[name])


@pytest.mark.parametrize(
    ("sides", "match"),
    [
        ((4, np.nan, 6, 8), "network gave NaN or Inf in 32 of 128 numbers"),
        ((4, 2, np.inf, 8), "network gave NaN or Inf in 32 of 128 numbers"),
        ((4, 2, 6, -8), "distances to the sides of boxes must be at least 0, got -8"),
    ],
)
def test_boxes_that_cannot_be_are_withheld(load, make_rig, detection_model, sides, match):
    net = load(make_rig(), model=detection_model(sides=sides))
    run = net.run({"front": Frame("front", 7, _image(red=(4, 4, 4)))})
    results = run.results()
    assert results.invalid == {"objects/front": match}
    assert run.predictions() == {"objects": {}}


def test_heat_that_is_no_probability_is_withheld_and_does_not_stay(load, make_rig, detection_manifest):
    net = load(make_rig(), detection_manifest.replace("0.00392156862745098", "0.008"))
    invalid = net.run({"front": Frame("front", 7, _image(red=(4, 4, 4)))}).results().invalid
    assert invalid["objects/front"].startswith("probabilities must be 0..1, got 0..2.04")
    assert _objects(net, front=_image())["front"].names == ()


def test_nan_of_one_camera_leaves_the_others(load, make_rig, detection_model):
    """Heat of a camera is NaN where the image is: the square root of 0.5 - red, and bright red is negative."""
    model = onnx.load_model_from_string(detection_model())
    heat = next(node for node in model.graph.node if "heat" in node.output)
    heat.output[0] = "linear"
    half = helper.make_node("Constant", [], ["half"], value_float=0.5)
    rest = [
        helper.make_node("Sub", ["half", "linear"], ["difference"]),
        helper.make_node("Sqrt", ["difference"], ["heat"]),
    ]
    model.graph.node.extend([half, *rest])
    net = load(make_rig("front", "left"), model=model.SerializeToString())
    run = net.run({"front": Frame("front", 7, _image(red=(4, 4, 4))), "left": Frame("left", 7, _image())})
    results = run.results()
    assert results.invalid == {"objects/front": "network gave NaN or Inf in 1 of 64 numbers"}
    assert list(run.predictions()["objects"]) == ["left"]


def test_both_tensors_are_loaded_and_nothing_else(load, make_rig):
    assert list(load(make_rig()).network.output_specs) == ["heat", "boxes"]
    assert list(load(make_rig(), outputs=("colours",)).network.output_specs) == ["colours"]


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ('tensor = "heat"', 'tensor = "heats"', r"output tensor must be one of colours, heat, boxes, got heats"),
        ('boxes = "boxes"', 'boxes = "box"', r"output tensor must be one of colours, heat, boxes, got box"),
        ('"vehicle", ', "", r"objects: tensor heat \(kind detections\) must be float32 \[1, 1, 4, 8\] as decl"),
        ('boxes = "boxes"', 'boxes = "colours"', r"tensor colours \(kind detections\) must be float32 \[1, 4, 4, 8\]"),
        ('layout = "nchw"\nstride', 'layout = "rows"\nstride', r"must be float32 \[32, 2\] or \[1, 32, 2\] as decl"),
        ("stride = 4", "stride = 2", r"tensor heat \(kind detections\) must be float32 \[1, 2, 8, 16\] as declared"),
    ],
)  # fmt: skip
def test_network_that_is_not_as_declared_is_refused(load, make_rig, detection_manifest, old, new, match):
    assert old in detection_manifest
    manifest = detection_manifest.partition("[networks.hydranet.outputs.colours]")[0]
    with pytest.raises(BundleError, match=match):
        load(make_rig(), manifest.replace(old, new, 1))


def test_a_runtime_gives_the_same_objects_with_any_number_of_threads(write_bundle, make_rig, detection_manifest):
    bundle = open_bundle(write_bundle(detection_manifest))
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (16, 32, 3), dtype=np.uint8) for name in ("front", "left", "right")}
    frame_set = FrameSet(7, tuple(Frame(name, 7, image) for name, image in images.items()))
    steps = []
    for threads in (1, 3):
        with Runtime(bundle, make_rig(*images), threads=threads) as runtime:
            steps.append(dict(runtime.step(frame_set).outputs()))
    assert list(steps[0]) == [f"camera/{name}/{out}" for out in ("objects", "colours") for name in images]
    assert len(steps[0]["camera/front/objects"]) > 1
    for topic, output in steps[0].items():
        for name, array in output.arrays().items():
            np.testing.assert_array_equal(array, steps[1][topic].arrays()[name])


def test_of_overlapping_boxes_of_a_class_the_best_stays():
    """Boxes of 10 x 10; the centres of those of its class are 2, 6 and 20 pixels to the right of the best one."""
    heat = np.zeros((2, 1, 21), np.float32)
    heat[0, 0, [0, 2, 6, 20]], heat[1, 0, 0] = (0.9, 0.8, 0.7, 0.6), 0.85
    columns = {
        max_overlap: [(c, u) for c, _, u, _ in _found(heat, sides=(5, 5, 5, 5), max_overlap=max_overlap)]
        for max_overlap in (0.7, 0.5, 0.2, 0.0)
    }
    assert columns[0.7] == [(0, 0), (1, 0), (0, 2), (0, 6), (0, 20)]  # 8 / 12 of the area are shared
    assert columns[0.5] == [(0, 0), (1, 0), (0, 6), (0, 20)]
    assert columns[0.2] == columns[0.0] == [(0, 0), (1, 0), (0, 20)]  # 4 / 16


def test_what_a_suppressed_box_overlaps_may_stay():
    heat = np.zeros((1, 1, 7), np.float32)
    heat[0, 0, [0, 3, 6]] = 0.9, 0.8, 0.7
    assert [u for _, _, u, _ in _found(heat, sides=(5, 5, 5, 5), max_overlap=0.5)] == [0, 6]
