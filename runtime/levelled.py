"""Keeps the cameras of a rig level by the horizons that a network sees, see :mod:`octobev.fusion.levelling`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..fusion.levelling import Levelling, tilts_in_degrees
from ..fusion.pose import Pose
from .camera_run import CameraResults
from .castouts import usable
from .hydranet import HydraNet

_STANDING: Final = Pose.identity()


class LevelledCameras:
    """Tilts of the cameras that a network runs on.

    Parameters
    ----------
    net : gives the horizons
    output : their name
    """

    def __init__(self, net: HydraNet, output: str) -> None:
        self._net, self._output = net, output
        maps = net.features(output)
        self._levelling = Levelling(maps.cameras, maps.shape, maps.stride)

    def tilts_deg(self) -> dict[str, tuple[float, float]]:
        """Camera -> pitch and roll by which it is corrected, see :func:`octobev.fusion.levelling.tilts_in_degrees`."""
        return tilts_in_degrees(self._net.cameras, self._levelling.tilts_rad)

    def reset(self) -> None:
        """Forget everything."""
        self._levelling.reset()

    def take_over(self, before: LevelledCameras) -> None:
        """Go on with what another one knows, if its cameras are the same; it is not to be used any more."""
        if self._net.cameras == before._net.cameras:
            self._levelling.take_over(before._levelling)

    def corrected(self, fired_from_ego: Mapping[str, Pose]) -> dict[str, Pose]:
        """Give the poses that views are to be built of: camera -> pose, for the cameras that have one."""
        corrected = dict(zip(self._net.cameras, self._levelling.corrected(self._poses(fired_from_ego)), strict=True))
        return {name: corrected.get(name, pose) for name, pose in fired_from_ego.items()}

    def observe(
        self, timestamp_ns: int, results: Mapping[str, CameraResults], fired_from_ego: Mapping[str, Pose]
    ) -> None:
        """Take in the horizons of the latest run; its rows are still there.

        Parameters
        ----------
        timestamp_ns : of the set
        results : network id -> how it went
        fired_from_ego : camera -> `ego_when_it_fired_from_ego_now`, not corrected
        """
        active = usable(self._net, results[self._net.name], [self._output])
        self._levelling.observe(timestamp_ns, self._net.rows(self._output), active, self._poses(fired_from_ego))

    def _poses(self, fired_from_ego: Mapping[str, Pose]) -> list[Pose]:
        """Of each camera; of those that have none it does not matter which."""
        return [fired_from_ego.get(name, _STANDING) for name in self._net.cameras]
