"""The cast-outs of a bundle: from the image outputs of its networks to stitched road layout and occupancy."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..fusion.castout import (
    GroundStitcher,
    ImageEvidence,
    OccupancyCastOut,
    RoadLayoutCastOut,
    Stitching,
    above_centre,
    class_votes,
    default_prior,
    spread_in_cell,
)
from ..fusion.layout import RoadLayout
from ..fusion.occupancy import OccupancyGrid
from ..fusion.pose import Pose
from ..fusion.rig import Rig
from .bundle import Bundle, CastOut
from .camera_run import CameraResults
from .hydranet import HydraNet
from .memory import Continuity, Motion
from .predictions import BevOutput, StateStatus

Mapper = Callable[[Callable[[str], RoadLayout | OccupancyGrid], Sequence[str]], list[RoadLayout | OccupancyGrid]]


class CastOuts:
    """Runs the wanted cast-outs of a bundle, each with a stitched map of its own."""

    def __init__(
        self, bundle: Bundle, names: Sequence[str], hydranets: Mapping[str, HydraNet], rig: Rig, max_gap_s: float
    ) -> None:
        self._specs = {name: bundle.manifest.castouts[name] for name in names}
        self._network_of = {name: bundle.source_of(spec.source)[0] for name, spec in self._specs.items()}
        self._hydranets = hydranets
        self._rig = rig
        self._castouts = {
            name: _make(bundle, spec, hydranets[self._network_of[name]]) for name, spec in self._specs.items()
        }

        self._continuities = {name: Continuity(name, max_gap_s) for name in names}

    def warm(self) -> None:
        """Do beforehand what the first step would do for the first time."""
        for castout in self._castouts.values():
            castout.stitcher.warm()

    def take_over(self, before: CastOuts) -> None:
        """Go on with the maps of others, which are not to be used any more."""
        for name in self._castouts.keys() & before._castouts.keys():
            self._castouts[name].stitcher.take_over(before._castouts[name].stitcher)
            self._continuities[name].take_over(before._continuities[name])

    def carry(self, timestamp_ns: int, whole: StateStatus, motion: Motion | None) -> dict[str, StateStatus]:
        """Follow the ego with every map, or begin it anew where it cannot be carried.

        Parameters
        ----------
        timestamp_ns, whole, motion : the step, and what :class:`octobev.runtime.memory.Memory` says about it

        Returns
        -------
        Name -> how it went.
        """
        statuses = {}
        for name, castout in self._castouts.items():
            status = self._continuities[name].follow(timestamp_ns, whole)
            if status.carried and motion is not None:
                castout.stitcher.move(motion.before_from_now, motion.elapsed_s)
            else:
                castout.stitcher.reset()
            statuses[name] = status
        return statuses

    def step(
        self, results: Mapping[str, CameraResults], fired_from_ego: Mapping[str, Pose], mapper: Mapper
    ) -> dict[str, BevOutput]:
        """Stitch one set.

        Parameters
        ----------
        results : network id -> what it gave
        fired_from_ego : camera -> `ego_when_it_fired_from_ego_now`, for the cameras that have a frame
        mapper : does independent pieces of work side by side
        """
        for continuity in self._continuities.values():
            continuity.take_in()

        def work(name: str) -> RoadLayout | OccupancyGrid:
            output = self._castouts[name].step(self._evidence(name, results, fired_from_ego))
            names = self._hydranets[self._network_of[name]].cameras
            return dataclasses.replace(output, seen_by=self._rig.bits_of(names, output.seen_by))

        names = list(self._castouts)
        return dict(zip(names, mapper(work, names), strict=True))

    def _evidence(
        self, name: str, results: Mapping[str, CameraResults], fired_from_ego: Mapping[str, Pose]
    ) -> ImageEvidence:
        spec, network = self._specs[name], self._network_of[name]
        net, result = self._hydranets[network], results[network]
        read = [spec.source] if spec.depth is None else [spec.source, spec.depth]
        depth_m = None if spec.depth is None else net.rows(spec.depth)[:, 0]
        return ImageEvidence(
            net.rows(spec.source),
            depth_m,
            usable(net, result, read),
            [fired_from_ego.get(camera, Pose.identity()) for camera in net.cameras],
        )


def usable(net: HydraNet, result: CameraResults, outputs: Sequence[str]) -> NDArray[np.uint8]:
    """Which of a network's cameras have all these outputs, uint8 [cameras]."""
    return np.array([result.valid(camera, outputs) for camera in net.cameras], dtype=np.uint8)


def _make(bundle: Bundle, spec: CastOut, net: HydraNet) -> RoadLayoutCastOut | OccupancyCastOut:
    image_classes = net.spec.outputs[spec.source].classes
    groups = list(spec.classes.values()) if spec.kind == "road_layout" else [spec.occupied_by]
    features = net.features(spec.source)
    stitcher = GroundStitcher(
        bundle.manifest.grid,
        features.cameras,
        features.shape,
        features.stride,
        offsets_m=above_centre(spec.heights_m)
        if spec.kind == "occupancy"
        else spread_in_cell(spec.subsamples, bundle.manifest.grid.resolution_m),
        votes=class_votes(image_classes, groups),
        blockers=class_votes(image_classes, [spec.blocked_by])[:, 0],
        prior=default_prior(spec.prior, spec.bev_classes),
        stitching=Stitching(**{field.name: getattr(spec, field.name) for field in dataclasses.fields(Stitching)}),
    )
    if spec.kind == "occupancy":
        return OccupancyCastOut(stitcher)
    return RoadLayoutCastOut(spec.bev_classes, stitcher, spec.thin)
