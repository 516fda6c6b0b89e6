"""Rows about the whole way from JPEG to published predictions, against steps that are glued together by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import zmq

from ..errors import BenchError, expected
from ..replay.open import open_drive
from ..replay.player import play
from ..runtime.engine import Runtime
from ..runtime.frames import Frame, FrameSet, PixelFormat
from ..runtime.images import pixels_of
from ..runtime.manifest import Variant
from ..runtime.topics.publisher import Publisher
from .agreement import check_close
from .drain import drained
from .material import HYDRANET, Material
from .networks import NetworksAlone
from .peers.glued import GluedStep, best_known_step, usual_step
from .row import Figures
from .spread import take_turns, wall_ms

OWN_TOPICS: Final = ("road_layout/", "occupancy/", "corridor_direction/", "camera/")
"""The bundle's default outputs; not the geometry and the beliefs, which nobody else computes."""

Maker = Callable[[Material, "zmq.Socket[bytes]"], GluedStep]
"""Makes a peer that publishes on a socket."""

_WAIT_S: Final = 20.0
_CHECKED_SETS: Final = 4
_SAME: Final = 0.1
_SHARE: Final = 0.95
"""Probabilities within 0.1 for 95 % of the cells: other JPEG scales and bf16 differ by less, other work by more."""


def step_vs_user_fp32(material: Material) -> Figures:
    """In float32, against what a competent user writes today."""
    return _against(material, "fp32", {"user": usual_step})


def step_vs_user_int8(material: Material) -> Figures:
    """In int8, against what a competent user writes today."""
    return _against(material, "int8", {"user": usual_step})


def step_vs_best_user(material: Material) -> Figures:
    """In int8, against the best of known parts."""
    with ThreadPoolExecutor(material.threads) as pool:
        peers: dict[str, Maker] = {
            "best user": lambda own, socket: best_known_step(own, socket, pool),
            "best user, int8 files in OpenVINO": lambda own, socket: best_known_step(own, socket, pool, "int8"),
        }
        return _against(material, "int8", peers)


def replay_vs_limit(material: Material) -> Figures:
    """Replay of a drive of JPEG frames against their decoding and the networks alone."""
    alone = NetworksAlone.of(material)
    drive = open_drive(material.drive)
    jpegs = [step.frame_set.frames for step in drive.steps()]
    size = (drive.rig.cameras[0].intrinsics.width, drive.rig.cameras[0].intrinsics.height)

    with ThreadPoolExecutor(material.threads) as pool, material.runtime() as runtime:
        net = runtime._graph.hydranets[HYDRANET]
        reduction = next(iter(net.plans.values())).reduction(PixelFormat.JPEG)

        def decode(frame: Frame) -> object:
            return pixels_of(frame, size, reduction)

        def limit() -> None:
            for frames in jpegs:
                list(pool.map(decode, frames))
                alone.run()

        def per_set(run: Callable[[], object]) -> Callable[[], float]:
            sample = wall_ms(run)
            return lambda: sample() / len(jpegs)

        sides = {
            "replay": per_set(lambda: play(drive, runtime)),
            "decode and networks": per_set(limit),
            "decode alone": per_set(lambda: [list(pool.map(decode, frames)) for frames in jpegs]),
        }
        turns = take_turns(sides, material.rounds(12), warm_up=1, steady_s=0.0)
    note = f"{len(jpegs)} sets of an MCAP file, decoded at 1/{reduction}; {alone.arrangement}"
    return Figures(turns.ratio("replay", "decode and networks"), turns.spreads("ms a set"), (note,))


def _against(material: Material, variant: Variant, peers: Mapping[str, Maker]) -> Figures:
    """Step and publish in turns with peers, from the same JPEG frames; the first of them counts."""
    counts, *others = peers
    with ExitStack() as stack:
        runtime = stack.enter_context(material.runtime(variant))
        publisher = stack.enter_context(publishing(material, "octobev"))
        own_sets = material.frame_sets(encoded=True)
        sides = {"octobev": _each(own_sets, lambda given: publisher.publish(runtime.step(given)))}
        notes = [f"JPEG to published, octobev in {variant}"]
        for number, (name, make) in enumerate(peers.items()):
            socket = stack.enter_context(_published(material, f"peer{number}"))
            agreed = _check_agreement(material, runtime, make(material, socket), name)
            notes.append(f"{name}: {agreed:.1%} of the layout's values agree")
            sides[name] = _each(material.frame_sets(encoded=True), make(material, socket).step)
        runtime.reset()
        turns = take_turns(sides, material.rounds(20))
    spreads = turns.spreads() | {f"{name}, x": turns.ratio(name, "octobev") for name in others}
    return Figures(turns.ratio(counts, "octobev"), spreads, tuple(notes))


def _each(sets: Iterator[FrameSet], do: Callable[[FrameSet], object]) -> Callable[[], float]:
    def sample() -> float:
        given = next(sets)
        return wall_ms(lambda: do(given))()

    return sample


def _check_agreement(material: Material, runtime: Runtime, peer: GluedStep, name: str) -> float:
    """Both on the same sets, whose cameras fire at once, as the peer believes; share of values that agree."""
    runtime.reset()
    sets = material.frame_sets(encoded=True, staggered=False)
    for _ in range(_CHECKED_SETS):
        frame_set = next(sets)
        layout, theirs = runtime.step(frame_set).road_layout, peer.step(frame_set)["road_layout"][0]
    if layout is None or layout.belief is None:
        raise BenchError(expected("road layout of the reference bundle", "with what the network says", "without"))
    return check_close(name, theirs, layout.belief, _SAME, share=_SHARE)


@contextmanager
def publishing(material: Material, name: str, topics: tuple[str, ...] = OWN_TOPICS) -> Iterator[Publisher]:
    """A publisher with a subscriber to these topics in another process."""
    with Publisher(f"ipc://{material.folder}/{name}") as publisher, drained(publisher.endpoint, list(topics)):
        known: frozenset[str] = frozenset()
        while not set(topics) <= known:
            if known == (known := publisher.wait_for_change(known, _WAIT_S)):
                raise BenchError(expected("subscriber", f"there within {_WAIT_S:g} s", "none"))
        yield publisher


@contextmanager
def _published(material: Material, name: str) -> Iterator[Any]:
    """A bare socket to publish on, with a subscriber to everything in another process."""
    context = zmq.Context()
    with context.socket(zmq.XPUB) as socket:
        socket.linger = 0
        socket.bind(f"ipc://{material.folder}/{name}")
        with drained(f"ipc://{material.folder}/{name}", [""]):
            if not socket.poll(int(_WAIT_S * 1e3)):
                raise BenchError(expected("subscriber", f"there within {_WAIT_S:g} s", "none"))
            socket.recv()
            yield socket
    context.term()
