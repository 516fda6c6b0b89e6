"""Camera faults: a stream of arrivals becomes another. Pure: the same arrivals, faults and seed give the same.

What is left to chance is drawn for each frame from the seed, the fault, the camera and the capture time, so that it
does not depend on what other frames or faults there are.
"""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from ...runtime.frames import Frame
from ..arrivals import Arrival, StampedPose
from .images import corrupt_frame, noisy_frame
from .kinds import ALL, CameraFault, ClockJump, Corrupt, Delay, Fault, Freeze, Lose, Noise, Reorder, Repeat

_Draw = Callable[[Frame], np.random.Generator]


def disturb(arrivals: Iterable[Arrival], faults: Sequence[Fault], seed: int = 0) -> Iterator[Arrival]:
    """Let camera faults happen to what arrives; faults of other kinds are passed over.

    Faults work one after another, in their order: what the first loses the second does not see. A fault's window is
    about the time of arrival as the faults before it left it.

    Parameters
    ----------
    arrivals : their times never fall
    seed : of what is left to chance
    """
    stream = iter(arrivals)
    for number, fault in enumerate(faults):
        if isinstance(fault, CameraFault):
            stream = _disturbed(stream, fault, _draws(seed, number))
    return stream


def _disturbed(stream: Iterator[Arrival], fault: CameraFault, draw: _Draw) -> Iterator[Arrival]:
    if isinstance(fault, Delay):
        return _delayed(stream, fault)
    if isinstance(fault, Reorder):
        return _reordered(stream, fault, draw)
    if isinstance(fault, Freeze):
        return _frozen(stream, fault)
    if isinstance(fault, ClockJump):
        return _clock_jumped(stream, fault)
    return (changed for arrival in stream for changed in _changed(arrival, fault, draw))


def _changed(arrival: Arrival, fault: CameraFault, draw: _Draw) -> Iterator[Arrival]:
    """What becomes of an arrival under a fault that looks at nothing else."""
    frame = _concerned(arrival, fault)
    if frame is None:
        yield arrival
    elif isinstance(fault, Lose):
        if draw(frame).random() >= fault.share:
            yield arrival
    elif isinstance(fault, Repeat):
        yield from (arrival, arrival)
    elif isinstance(fault, Noise):
        yield replace(arrival, item=noisy_frame(frame, fault.deviation, draw(frame)))
    elif isinstance(fault, Corrupt):
        random = draw(frame)
        yield replace(arrival, item=corrupt_frame(frame, random)) if random.random() < fault.share else arrival


def _frozen(stream: Iterator[Arrival], fault: Freeze) -> Iterator[Arrival]:
    shown: dict[str, Frame] = {}
    for arrival in stream:
        if (frame := _concerned(arrival, fault)) is not None:
            still = shown.setdefault(frame.camera, frame)
            arrival = replace(arrival, item=replace(frame, data=still.data, pixel_format=still.pixel_format))
        elif isinstance(arrival.item, Frame) and fault.concerns(arrival.item.camera):
            shown[arrival.item.camera] = arrival.item
        yield arrival


def _clock_jumped(stream: Iterator[Arrival], fault: ClockJump) -> Iterator[Arrival]:
    for arrival in stream:
        if isinstance(arrival.item, StampedPose):
            concerned = fault.camera == ALL and fault.window.holds(arrival.at_ns)
        else:
            concerned = _concerned(arrival, fault) is not None
        if concerned:
            timestamp_ns = max(0, arrival.item.timestamp_ns + fault.jump_ns)
            arrival = replace(arrival, item=replace(arrival.item, timestamp_ns=timestamp_ns))
        yield arrival


def _delayed(stream: Iterator[Arrival], fault: Delay) -> Iterator[Arrival]:
    waiting: list[tuple[int, int, Arrival]] = []
    for number, arrival in enumerate(stream):
        while waiting and waiting[0][0] <= arrival.at_ns:
            yield heapq.heappop(waiting)[2]
        if _concerned(arrival, fault) is None:
            yield arrival
        else:
            late = replace(arrival, at_ns=arrival.at_ns + fault.delay_ns)
            heapq.heappush(waiting, (late.at_ns, number, late))
    while waiting:
        yield heapq.heappop(waiting)[2]


def _reordered(stream: Iterator[Arrival], fault: Reorder, draw: _Draw) -> Iterator[Arrival]:
    held: dict[str, Arrival] = {}
    at_ns = 0
    for arrival in stream:
        at_ns = arrival.at_ns
        item = arrival.item
        before = held.pop(item.camera, None) if isinstance(item, Frame) else None
        if before is not None:
            yield arrival
            yield replace(before, at_ns=at_ns)
        elif (frame := _concerned(arrival, fault)) is not None and draw(frame).random() < fault.share:
            held[frame.camera] = arrival
        else:
            yield arrival
    for arrival in held.values():
        yield replace(arrival, at_ns=at_ns)


def _concerned(arrival: Arrival, fault: CameraFault) -> Frame | None:
    """The frame of an arrival that a fault happens to, or None."""
    item = arrival.item
    if isinstance(item, Frame) and fault.concerns(item.camera) and fault.window.holds(arrival.at_ns):
        return item
    return None


def _draws(seed: int, number: int) -> _Draw:
    def draw(frame: Frame) -> np.random.Generator:
        return np.random.default_rng([seed, number, zlib.crc32(frame.camera.encode()), frame.timestamp_ns])

    return draw
