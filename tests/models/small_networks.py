"""Small networks, and sequences that fit them."""

from dataclasses import replace

import numpy as np
import pytest
from octobev.fusion.pose import Pose
from octobev.models.mountings import network_intrinsics
from octobev.models.sequences import GRID, LAYERS, MOST_OBJECTS, VISIBLE, Sequences, lens_numbers

torch = pytest.importorskip("torch")

from octobev.models.net import HydraNetConfig  # noqa: E402
from octobev.models.topdown_net import TopDownConfig  # noqa: E402

HYDRANET = HydraNetConfig(
    width=64, height=32, stage_channels=(16, 16, 16, 16), stage_blocks=(1, 1, 1, 1), feature_channels=16
)
TOPDOWN = TopDownConfig(
    feature_channels=16, heights_m=(0.0, 1.5), fine_channels=16, state_channels=16, coarse_channels=(16, 16)
)


def plain_road(rig, stretches=2, sets=4, seed=0):
    """Noise on a way with a bend; what lies within six metres is drivable, the upper half of each view is obstacle."""
    random = np.random.default_rng(seed)
    size = HYDRANET.width, HYDRANET.height
    shape = (stretches, sets, len(rig))
    labels = np.ones((*shape, size[1], size[0]), np.uint8)
    labels[..., : size[1] // 2, :] = 4
    objects = np.zeros((*shape, MOST_OBJECTS, 5), np.float32)
    objects[..., 0, :] = 2, 10, 8, 30, 20
    layers = np.zeros((stretches, sets, len(LAYERS) + 1, *GRID.shape), np.uint8)
    layers[:, :, 0, :, 36:60] = 1
    layers[:, :, VISIBLE] = 1
    there = [Pose.planar(1.3 * t, 0.1 * t * t, 0.08 * t) for t in range(sets)]
    fired = [[pose @ Pose.planar(-0.1 * camera, 0.0, 0.0) for camera in range(len(rig))] for pose in there]
    world_from_fired = np.stack([np.array([[pose.matrix for pose in poses] for poses in fired])] * stretches)
    lenses = [lens_numbers(network_intrinsics(camera.intrinsics, *size)) for camera in rig]
    mountings = np.stack([np.stack([camera.ego_from_camera.matrix for camera in rig])] * stretches)
    return Sequences(
        random.integers(0, 256, (*shape, size[1], size[0], 3), dtype=np.uint8),
        labels,
        np.full((*shape, size[1] // 2, size[0] // 2), 12.0, np.float16),
        objects,
        layers,
        np.where(layers[:, :, 0] > 0, np.float16(0), np.float16(np.nan)),
        np.stack([np.stack(lenses)] * stretches),
        mountings,
        np.stack([np.stack([pose.matrix for pose in there])] * stretches),
        world_from_fired,
        mountings,
        world_from_fired,
    )


def unlabelled(sequences):
    """The same as of a recorded drive: nobody knows what is in the images."""
    return replace(
        sequences,
        labels=sequences.labels[..., :0, :0],
        depth_m=sequences.depth_m[..., :0, :0],
        objects=sequences.objects[..., :0, :],
    )
