"""Rows about `Runtime.step` and what it adds to the networks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..fusion.lens import Intrinsics
from ..fusion.rig import Camera, Rig
from ..replay.rigs import optical_mounting
from ..runtime.engine import Runtime
from ..runtime.frames import Frame, FrameSet
from .bundles import STACK_IMAGE, STACK_OUTPUTS, eight_heads, full_stack
from .material import Material
from .networks import BoundRun, NetworksAlone, session
from .row import Bar, Figures
from .spread import Sample, Spread, take_turns, wall_ms

_ROUNDS = 30
_STEP_NS = 83_333_333


def overhead(material: Material) -> Figures:
    """Steps on decoded frames against the networks alone."""
    alone = NetworksAlone.of(material)
    stages: list[dict[str, float]] = []
    with material.runtime() as runtime:
        sample = stepping(runtime, material.frame_sets(), stages)
        turns = take_turns({"step": sample, "networks": wall_ms(alone.run)}, material.rounds(_ROUNDS))
    spreads = turns.spreads() | stage_spreads(stages)
    return Figures(turns.ratio("step", "networks"), spreads, (f"{runtime.bundle.variant}; {alone.arrangement}",))


def head_subset(material: Material) -> Figures:
    """One head of eight against all; the bar is its share of the nodes and a tenth."""
    bundle, share = eight_heads(material.folder / "eight_heads")
    image = (bundle.manifest.camera_networks["net"].input.width, bundle.manifest.camera_networks["net"].input.height)
    rig = ring_rig(len(material.rig), image)
    with (
        Runtime(bundle, rig, ["head0"], material.threads) as one,
        Runtime(bundle, rig, None, material.threads) as all_heads,
    ):
        sides = {"one head": stepping(one, grey_sets(rig)), "eight heads": stepping(all_heads, grey_sets(rig))}
        turns = take_turns(sides, material.rounds(_ROUNDS))
    note = f"one head needs {share:.0%} of the nodes; a made-up network, eight cameras of 320x192"
    return Figures(turns.ratio("one head", "eight heads"), turns.spreads(), (note,), bar=Bar(share + 0.1, False))


def cameras_linear(material: Material) -> Figures:
    """What a camera costs among sixteen against among four."""
    counts, size = (4, 16), (1280, 960)
    wanted = {"whole step": None, "per-camera outputs": ("segmentation", "depth", "objects")}
    sides: dict[str, Sample] = {}
    runtimes = []
    for (what, outputs), count in itertools.product(wanted.items(), counts):
        rig = ring_rig(count, size)
        runtimes.append(Runtime(material.bundle, rig, outputs, material.threads))
        sides[f"{what}, {count} cameras"] = _per_camera(stepping(runtimes[-1], _town_sets(material, rig)), count)
    turns = take_turns(sides, material.rounds(16))
    for runtime in runtimes:
        runtime.close()
    ratios = {what: turns.ratio(f"{what}, 16 cameras", f"{what}, 4 cameras") for what in wanted}
    spreads = turns.spreads("ms a camera") | {f"{what}, x": ratio for what, ratio in ratios.items()}
    worse = max(ratios.values(), key=lambda ratio: ratio.median)
    return Figures(worse, spreads, ("the worse of the whole step and of per-camera outputs alone counts",))


def many_outputs(material: Material) -> Figures:
    """What the runtime adds to 48 networks, for each of their 1,000 outputs."""
    bundle = full_stack(material.folder / "full_stack")
    rig = ring_rig(1, STACK_IMAGE)
    image = np.full((1, 3, STACK_IMAGE[1], STACK_IMAGE[0]), 99, np.uint8)
    models = [bundle.model_bytes(name) for name in bundle.manifest.networks]
    runs = [BoundRun(session(model, 1, spinning=False), {"image": image}) for model in models]
    with (
        ThreadPoolExecutor(material.threads) as pool,
        Runtime(bundle, rig, None, material.threads) as runtime,
    ):
        sides = {
            "step": stepping(runtime, grey_sets(rig)),
            "step, every output asked for": stepping(runtime, grey_sets(rig), ask=True),
            "networks in a row": wall_ms(lambda: [run() for run in runs]),
            "networks side by side": wall_ms(lambda: list(pool.map(BoundRun.__call__, runs))),
        }
        turns = take_turns(sides, material.rounds(80))
    best = min(list(sides)[2:], key=lambda side: turns[side].median)
    alone = turns.samples[best]
    added = {
        side: Spread.of([1e3 * (a - b) / STACK_OUTPUTS for a, b in zip(turns.samples[side], alone, strict=True)])
        for side in list(sides)[:2]
    }
    note = f"{len(models)} networks, {STACK_OUTPUTS} outputs of 192 bytes, one camera; {best} count"
    spreads = turns.spreads() | {"step, every output asked for, us an output": added["step, every output asked for"]}
    return Figures(added["step"], spreads, (note,))


def stepping(
    runtime: Runtime, sets: Iterator[FrameSet], stages: list[dict[str, float]] | None = None, *, ask: bool = False
) -> Sample:
    """Make a sample of a step, milliseconds; each run steps the next set, which is made beforehand.

    Parameters
    ----------
    stages : gets the stages of every step
    ask : also ask for every output, as whoever publishes them all does: some are made only then
    """

    def sample() -> float:
        frame_set = next(sets)

        def step() -> None:
            predictions = runtime.step(frame_set)
            if ask:
                list(predictions.outputs())
            if stages is not None:
                stages.append(dict(predictions.stages_ms))

        return wall_ms(step)()

    return sample


def stage_spreads(stages: list[dict[str, float]], warm_up: int = 2) -> dict[str, Spread]:
    """Say where steps spent their time, summed over threads."""
    counted = stages[warm_up:]
    names = dict.fromkeys(name for step in counted for name in step)
    return {f"stage {name}, ms": Spread.of([step.get(name, 0.0) for step in counted]) for name in names}


def ring_rig(cameras: int, size: tuple[int, int]) -> Rig:
    """Cameras that look outwards, evenly spread, 1.6 m above the ground."""
    width, height = size
    lens = Intrinsics(width, height, 0.6 * width, 0.6 * width, (width - 1) / 2, (height - 1) / 2)
    yaws = [360.0 * number / cameras for number in range(cameras)]
    mounted = [Camera(f"camera{i}", lens, optical_mounting(1.0, 0.0, 1.6, yaw, 3.0)) for i, yaw in enumerate(yaws)]
    return Rig(tuple(mounted), "ring")


def grey_sets(rig: Rig) -> Iterator[FrameSet]:
    """Sets of grey images of a car that stands, without end."""
    lens = rig.cameras[0].intrinsics
    image = np.full((lens.height, lens.width, 3), 99, np.uint8)
    for number in itertools.count():
        frames = tuple(Frame(name, number * _STEP_NS, image) for name in rig.names)
        yield FrameSet(number * _STEP_NS, frames)


def _town_sets(material: Material, rig: Rig) -> Iterator[FrameSet]:
    """The material's images, again and again, as images of another rig."""
    for town in material.frame_sets():
        images = itertools.cycle(town.frames)
        frames = [
            Frame(name, town.timestamp_ns, next(images).data, world_from_ego=town.world_from_ego) for name in rig.names
        ]
        yield FrameSet(town.timestamp_ns, tuple(frames), town.world_from_ego)


def _per_camera(sample: Sample, cameras: int) -> Sample:
    return lambda: sample() / cameras
