"""The cameras' images as networks read them: made once a set for all networks that take the same."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial

import numpy as np
from msgspec.structs import replace

from ..errors import ImageError
from ..fusion.lens import Intrinsics
from ..fusion.rig import Camera, Rig
from .frames import Frame
from .manifest import ImageInput
from .preprocess import InputPlan
from .stages import StageTimes
from .workers import Piece


class CameraImages:
    """Images of a rig's cameras, in the memory from which networks read them.

    Sets take turns with two arrays, so that the next one's images are made while networks still read this one's.

    Parameters
    ----------
    rig : the cameras, in the order of the images
    spec : the networks' input; the name of its tensor does not matter
    count : images that there is room for, at least one a camera; where no camera is they stay zero
    plans : camera -> how its images become the networks', taken where the lens is still the same; others are made

    Attributes
    ----------
    plans : of every camera: how its frame becomes an image
    arrays : two of [count, ...] as the input declares it
    """

    def __init__(self, rig: Rig, spec: ImageInput, count: int, plans: Mapping[str, InputPlan] | None = None) -> None:
        self._lenses = _lenses(rig)
        self._spec = _nameless(spec)
        self.plans = [_plan_for(camera, self._spec, plans or {}) for camera in rig]
        shape = (count, *self.plans[0].shape)
        self.arrays = tuple(np.zeros(shape, dtype=self.plans[0].dtype) for _ in range(2))
        self._turn = 0

    def serves(self, rig: Rig, spec: ImageInput, count: int) -> bool:
        """Whether those made of these would be the same."""
        return len(self.arrays[0]) == count and self._spec == _nameless(spec) and self._lenses == _lenses(rig)

    def begin(self, frames: Mapping[str, Frame], stages: StageTimes) -> ImagePreparation:
        """Begin to make the images of one instant; nothing is done before its pieces are.

        Those of the instant before stay as they are, those before them do not.
        """
        self._turn = 1 - self._turn
        return ImagePreparation(self, tuple(name for name, _ in self._lenses), frames, stages, self._turn)


class ImagePreparation:
    """Making the images of one instant, in pieces of work that may each be done on any thread.

    Parameters
    ----------
    images : what is filled, with zeros where a camera's frame cannot be used
    cameras : names, in the order of the images
    frames : camera name -> frame; cameras without one are left out, other cameras' frames are not looked at
    stages : gets `decode` and `preprocess`
    turn : which of the two arrays is filled

    Attributes
    ----------
    absences : of every camera why its frame could not be used, None where it could
    """

    def __init__(
        self,
        images: CameraImages,
        cameras: tuple[str, ...],
        frames: Mapping[str, Frame],
        stages: StageTimes,
        turn: int,
    ) -> None:
        self.turn = turn
        self._plans, self._array = images.plans, images.arrays[turn]
        self._cameras = cameras
        self._frames = frames
        self._stages = stages
        self.absences: list[str | None] = [None] * len(cameras)

    def pieces(self) -> list[Piece]:
        """Return the work; not kept here, as pieces hold the preparation, and that holds frames."""
        return [partial(self._prepare, number, name) for number, name in enumerate(self._cameras)]

    @cached_property
    def used(self) -> frozenset[str]:
        """The cameras whose frame could be used; to be asked for when the pieces are done."""
        pairs = zip(self._cameras, self.absences, strict=True)
        return frozenset(name for name, absence in pairs if absence is None)

    @cached_property
    def unusable(self) -> Mapping[str, str]:
        """Camera -> why its frame could not be used, without those that have none; to be asked for as :attr:`used`."""
        pairs = zip(self._cameras, self.absences, strict=True)
        return {name: absence for name, absence in pairs if absence is not None and name in self._frames}

    def _prepare(self, number: int, name: str) -> None:
        frame, absence = self._frames.get(name), None
        if frame is None:
            absence = "no frame"
        else:
            try:
                self._plans[number].run(frame, self._array[number], self._stages)
            except ImageError as error:
                absence = str(error)
        if absence is not None:
            self._array[number] = 0
            self.absences[number] = absence


def _lenses(rig: Rig) -> list[tuple[str, Intrinsics]]:
    """What images depend on: how cameras are mounted is no part of it."""
    return [(camera.name, camera.intrinsics) for camera in rig]


def _nameless(spec: ImageInput) -> ImageInput:
    return replace(spec, tensor="")


def _plan_for(camera: Camera, spec: ImageInput, plans: Mapping[str, InputPlan]) -> InputPlan:
    known = plans.get(camera.name)
    return known if known is not None and known.fits(camera.intrinsics, spec) else InputPlan(camera.intrinsics, spec)
