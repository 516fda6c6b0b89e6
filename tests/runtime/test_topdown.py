"""What a top-down output means: the tiny network gives the vector (s, -s), s being the sum of what it saw so far."""

import hashlib

import numpy as np
import pytest
from octobev.errors import BundleError
from octobev.fusion.pose import Pose
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.predictions import CorridorDirection

LAYOUT = 'kind = "road_layout"\nclasses = ["drivable", "edge"]\nactivation = "sigmoid"'


@pytest.fixture
def compass(write_bundle, manifest_text):
    assert LAYOUT in manifest_text
    return open_bundle(write_bundle(manifest_text.replace(LAYOUT, 'kind = "direction"')))


def step(runtime, red=255, number=0):
    image = np.full((16, 32, 3), (0, 0, red), np.uint8)
    time_ns = number * 100_000_000
    frame = Frame("front", time_ns, image, world_from_ego=Pose.identity())
    return runtime.step(FrameSet(time_ns, (frame,), Pose.identity()))


def test_direction_is_half_the_angle_of_the_vector(compass, make_rig):
    with Runtime(compass, make_rig("front"), {"layout"}, threads=1) as runtime:
        direction = step(runtime).bev["layout"]
    assert isinstance(direction, CorridorDirection)
    seen = direction.observed
    assert seen.any()
    assert not seen.all()
    np.testing.assert_array_equal(seen, direction.seen_by == 1)
    inner = direction.confidence > 0
    np.testing.assert_allclose(direction.direction_rad[inner], -np.pi / 8, rtol=1e-6)
    assert (direction.direction_rad[~seen] == 0).all()
    assert (direction.confidence[~seen] == 0).all()


def test_confidence_is_the_length_of_the_vector_at_most_one(compass, make_rig):
    with Runtime(compass, make_rig("front"), {"layout"}, threads=1) as runtime:
        confidence = [step(runtime, number=number).bev["layout"].confidence.max() for number in range(3)]
    assert confidence[0] == pytest.approx(np.sqrt(2) * 0.5, rel=1e-5)  # red: one of the two features is 1
    assert confidence[1:] == [1.0, 1.0]


def test_direction_is_part_of_the_digest(compass, make_rig):
    def digest(red):
        with Runtime(compass, make_rig("front"), {"layout"}, threads=1) as runtime:
            sha256 = hashlib.sha256()
            step(runtime, red).digest_into(sha256)
            return sha256.hexdigest()

    assert digest(255) == digest(255)
    assert digest(255) != digest(200)


def test_direction_takes_two_channels(write_bundle, manifest_text, make_rig):
    text = manifest_text.replace(LAYOUT, 'kind = "direction"').replace('tensor = "layout"', 'tensor = "state_out"')
    with pytest.raises(BundleError, match=r"outputs\.layout: shape of tensor state_out must be \(1, 2, 8, 6\), got"):
        Runtime(open_bundle(write_bundle(text)), make_rig("front"), {"layout"}, threads=1)


@pytest.mark.parametrize("extra", ['classes = ["a", "b"]', 'activation = "sigmoid"'])
def test_direction_has_neither_classes_nor_activation(write_bundle, manifest_text, extra):
    what = extra.split(" ", maxsplit=1)[0]
    with pytest.raises(BundleError, match=rf"{what} must be .* for kind direction"):
        open_bundle(write_bundle(manifest_text.replace(LAYOUT, f'kind = "direction"\n{extra}')))
