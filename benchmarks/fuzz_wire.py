"""Damaged and forged messages against the decoder: typed errors only, no crash, no hang, bounded memory.

    python benchmarks/fuzz_wire.py --messages 1000000 --seed 1

Real messages of every kind are mutated, up to three times each: bits, lengths, parts, fields of the header, claimed
shapes, contents of arrays, nesting, msgpack bytes. The checksum of three in four is made right again, so that the
checks behind it are reached. What is accepted is taken apart by its accessor, too. Exit code 1 when anything but an
Octobev error came out, a warning among them, when a hundred messages took longer than a second of the processor, or
when memory grew by more than 64 MB.
"""

from __future__ import annotations

import argparse
import faulthandler
import itertools
import json
import math
import random
import re
import resource
import signal
import struct
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
import numpy as np
from octobev.errors import OctobevError
from octobev.fusion.geometry import Arm, Corridor, Intersection, LayoutGeometry, Polyline
from octobev.fusion.grid import BevGrid
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.runtime.live.health import CameraCondition, CameraHealth, Health, OutputHealth, Spread
from octobev.runtime.predictions import (
    BevTensor,
    CameraOutput,
    CorridorDirection,
    Detections,
    OccupancyGrid,
    Predictions,
    Provenance,
    RoadLayout,
    StateStatus,
)
from octobev.runtime.topics import geometry
from octobev.runtime.topics.encode import Stamp, encode_health, encode_output, encode_rig
from octobev.runtime.topics.message import Message
from octobev.runtime.topics.outlets import kind_of, topics_of
from octobev.runtime.topics.wire import decode, pack, seal

Parts = list[bytes]

HANG_S = 60
SLOW_S = 1.0
HUNDRED = 100
GROWTH_BYTES = 64 << 20
WARM_UP = 5000

READ: dict[str, Callable[[Message], object]] = {
    "road_layout": Message.road_layout,
    "layout_geometry": Message.layout_geometry,
    "belief": Message.belief,
    "occupancy": Message.occupancy,
    "direction": Message.direction,
    "bev_raw": Message.bev_tensor,
    "segmentation": Message.camera_output,
    "depth": Message.camera_output,
    "features": Message.camera_output,
    "raw": Message.camera_output,
    "detections": Message.detections,
    "rig": Message.rig,
    "health": Message.health,
}
"""Kind -> how its content is taken out."""


@dataclass
class FuzzResult:
    """What came of the messages."""

    messages: int = 0
    accepted: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    untyped: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    """Time of the processor for the slowest hundred messages."""


def real_messages() -> dict[str, Parts]:
    """One message of every kind, and one that is not valid."""
    predictions, rig = _predictions(), _rig()
    stamp = Stamp("a" * 32, 7, 1_700_000_000_100_000_000)
    found: dict[str, Parts] = {
        "rig": list(map(bytes, encode_rig(rig, "cd" * 32, stamp))),
        "health": list(map(bytes, encode_health(_health(), stamp))),
    }
    for topic, output in topics_of(predictions).items():
        kind = "unknown" if isinstance(output, str) else kind_of(output)
        found[kind] = list(map(bytes, encode_output(topic, output, predictions, stamp, kind=kind)))
    assert set(READ) <= set(found), set(READ) - set(found)
    found["layout_geometry"] = list(
        map(bytes, pack(decode(found["layout_geometry"]).header, geometry.to_arrays(_geometry())))
    )
    return found


def fuzz(messages: int, seed: int) -> FuzzResult:
    """Decode so many mutated messages."""
    result = FuzzResult()
    begin = time.thread_time()
    for parts in itertools.islice(mutated_messages(seed), messages):
        try:
            _take_apart(decode(parts))
            result.accepted += 1
        except OctobevError as error:
            result.errors[type(error).__name__] += 1
            result.reasons[_reason(error)] += 1
        except Exception:
            if len(result.untyped) < 20:
                result.untyped.append(f"{[part[:4096].hex() for part in parts]}\n{traceback.format_exc()}")
        result.messages += 1
        if result.messages % HUNDRED == 0:
            now = time.thread_time()
            result.slowest_s = max(result.slowest_s, now - begin)
            begin = now
    return result


def mutated_messages(seed: int) -> Iterator[Parts]:
    """Mutated messages, for ever; the same for the same seed."""
    chance = random.Random(seed)
    pool = list(real_messages().values())
    while True:
        parts = list(chance.choice(pool))
        for _ in range(chance.choice((1, 1, 1, 2, 3))):
            parts = list(map(bytes, chance.choice(MUTATIONS)(chance, parts, pool)))
        if chance.random() < 0.75 and len(parts) > 1 and len(parts[1]) > 4:
            header = parts[1] if chance.random() < 0.1 else parts[1][:-5] + b"\xce" + parts[1][-4:]
            parts = list(map(bytes, seal([parts[0], header, *parts[2:]])))
        yield parts


def flip_bits(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Flip one to eight bits of a part."""
    index = chance.randrange(len(parts))
    part = bytearray(parts[index])
    for _ in range(chance.randint(1, 8) if part else 0):
        part[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
    return _with(parts, index, bytes(part))


def cut(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Cut a part short."""
    index = chance.randrange(len(parts))
    return _with(parts, index, parts[index][: chance.randint(0, len(parts[index]))])


def grow(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Append to a part, or repeat it."""
    index = chance.randrange(len(parts))
    tail = (
        chance.randbytes(chance.choice((1, 4, 100))) if chance.random() < 0.5 else parts[index] * chance.randint(1, 9)
    )
    return _with(parts, index, (parts[index] + tail)[:200_000])


def rearrange(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Drop, repeat, swap or add parts."""
    parts = list(parts)
    what = chance.randrange(4)
    if what == 0:
        del parts[chance.randrange(len(parts))]
    elif what == 1:
        parts += [chance.choice(parts)] * chance.choice((1, 2, 20))
    elif what == 2:
        chance.shuffle(parts)
    else:
        parts.insert(chance.randint(0, len(parts)), chance.randbytes(chance.randint(0, 64)))
    return parts or [b""]


def splice(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Header of one message, arrays of another; or its topic; or one array."""
    other = chance.choice(pool)
    what = chance.randrange(3)
    if what == 0:
        return [*parts[:2], *other[2:]]
    if what == 1:
        return [other[0], *parts[1:]]
    return _with(parts, chance.randrange(len(parts)), chance.choice(other))


def forge_field(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Put something else in the place of a value of the header, however deep."""
    header = _map(parts)
    if header is None:
        return parts
    holder: Any = header
    while True:
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        key = chance.choice(list(keys))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or chance.random() < 0.3:
            break
        holder = inner
    what = chance.random()
    if what < 0.1 and isinstance(holder, dict):
        del holder[key]
    elif what < 0.2 and isinstance(holder, list):
        holder.extend([inner] * chance.choice((1, 3, 100)))
    elif what < 0.4 and isinstance(inner, int | float) and not isinstance(inner, bool):
        holder[key] = chance.choice((inner + 1, inner - 1, -inner, inner * 2, inner / 2, float(inner)))
    else:
        holder[key] = _evil(chance)
    return _with_map(parts, header)


def forge_array(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Claim another shape or type for an array, with or without bytes to match."""
    header = _map(parts)
    entries = header.get("arrays") if header else None
    if not isinstance(entries, list) or not entries or not isinstance(entries[-1], dict):
        return parts
    index = chance.randrange(len(entries))
    entry = entries[index] if isinstance(entries[index], dict) else {}
    sizes = (0, 1, 2, 7, 2**16, 2**31 - 1, 2**31, 2**63, -1)
    if chance.random() < 0.5:
        entry["shape"] = [chance.choice(sizes) for _ in range(chance.randint(0, 9))]
    if chance.random() < 0.3:
        entry["dtype"] = chance.choice(("bool", "uint8", "float16", "float64", "object", "uint64", "S1", "<f4", ""))
    changed = _with_map(parts, header)
    if chance.random() < 0.5 and index + 2 < len(changed):
        shape = entry.get("shape")
        wanted = math.prod(max(0, n) for n in shape if isinstance(n, int)) if isinstance(shape, list) else 0
        changed = _with(changed, index + 2, bytes(min(wanted * chance.choice((0, 1, 2, 4, 8)), 100_000)))
    return changed


def forge_content(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Fill an array, or some of its elements, with numbers that should not be there."""
    if len(parts) < 3:
        return parts
    index = chance.randrange(2, len(parts))
    part = bytearray(parts[index])
    numbers = [math.nan, math.inf, -math.inf, 1e38, -1.0, 0.0]
    element = chance.choice(
        [struct.pack("<f", n) for n in numbers] + [struct.pack("<I", n) for n in (2**32 - 1, 2**31, 1, 5)]
    )
    for _ in range(chance.choice((1, 3, len(part) // 4))):
        if len(part) >= 4:
            at = chance.randrange(len(part) // 4) * 4
            part[at : at + 4] = element
    return _with(parts, index, bytes(part))


def nest(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Put lists in lists, or maps in maps, up to the size that a header may have."""
    depth = chance.choice((10, 200, 1000, 20_000, 65_000))
    one = chance.choice((b"\x91", b"\x81\xa0", b"\xdc\x00\x01"))
    deep = one * (depth // len(one)) + b"\xc0"
    if chance.random() < 0.5:
        return _with(parts, 1, deep + bytes(5)) if len(parts) > 1 else parts
    return _insert(chance, parts, deep)


def forge_msgpack(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Insert msgpack that claims what does not follow, or text that is none."""
    claims = [code + struct.pack(">I", 2**32 - 1) for code in (b"\xdb", b"\xc6", b"\xdd", b"\xdf", b"\xc9")]
    claims += [
        b"\xa4\xff\xfe\xfd\xfc",
        b"\xc1",
        b"\xd6\xff\x00\x00\x00\x00",
        b"\xcb\x7f\xf8" + bytes(6),
        b"\xdc\xff\xff",
    ]
    return _insert(chance, parts, chance.choice(claims))


def noise(chance: random.Random, parts: Parts, pool: list[Parts]) -> Parts:
    """Random bytes in the place of a part."""
    return _with(parts, chance.randrange(len(parts)), chance.randbytes(chance.choice((0, 5, 100, 3000))))


MUTATIONS = (
    flip_bits, cut, grow, rearrange, splice, forge_field, forge_field, forge_field, forge_array, forge_array,
    forge_content, nest, forge_msgpack, noise,
)  # fmt: skip


def _take_apart(message: Message) -> None:
    """Everything that a subscriber may ask of a message."""
    _ = message.grid
    if message.valid and message.kind in READ:
        READ[message.kind](message)


def _reason(error: OctobevError) -> str:
    """What an error complains about, without the numbers of the case."""
    text = re.sub(r"^topic .{1,300}?, sequence \d+: ", "", str(error), flags=re.DOTALL)
    return re.sub(r"[\d.]+", "#", text.partition(" must be ")[0].partition(" - at ")[0])[:60]


def _with(parts: Parts, index: int, part: bytes) -> Parts:
    return [*parts[:index], part, *parts[index + 1 :]]


def _insert(chance: random.Random, parts: Parts, inserted: bytes) -> Parts:
    if len(parts) < 2:
        return parts
    header = parts[1]
    at = chance.randint(0, len(header))
    return _with(parts, 1, header[:at] + inserted + header[at + chance.choice((0, 0, 1, 5)) :])


def _map(parts: Parts) -> dict[str, Any] | None:
    try:
        header = msgspec.msgpack.decode(parts[1])
    except Exception:  # another mutation was here before
        return None
    return header if isinstance(header, dict) and header else None


def _with_map(parts: Parts, header: dict[Any, Any]) -> Parts:
    crc = header.pop("crc32", 0) if len(header) > 1 else 0
    try:
        packed = msgspec.msgpack.encode({**header, "crc32": 0xFFFFFFFF if isinstance(crc, int) else crc})
    except Exception:  # msgpack has no integers that large
        return parts
    return _with(parts, 1, packed)


def _evil(chance: random.Random) -> Any:
    return chance.choice(
        (
            None, True, False, 0, -1, 1, 2**31, 2**32, 2**63 - 1, -(2**63), 2**64 - 1, 0.0, -0.0, 1e308, -1e308, 5e-324,
            math.nan, math.inf, "", "a", "a" * 2000, "a/b", "..", "\0", "ä" * 300, "road_layout", "rig", "detections",
            "layout_geometry", b"", b"\xff", [], [[]] * 50, {}, {"": {}}, [0] * 20, [math.nan] * 9, [1.0] * 16,
            [2**31 - 1] * 8,
        )
    )  # fmt: skip


def _rig() -> Rig:
    lens = Intrinsics(640, 480, 500.0, 500.0, 319.5, 239.5)
    fisheye = Intrinsics(640, 480, 300.0, 300.0, 320.0, 240.0, LensModel.KANNALA_BRANDT, (0.1, -0.01, 0.001, 0.0))
    pose = Pose.from_quaternion((1.5, 0.0, 1.2), (-0.5, 0.5, -0.5, 0.5))
    return Rig((Camera("front", lens, pose), Camera("rear", fisheye, pose)), "fuzzed")


def _geometry() -> LayoutGeometry:
    line = np.array([[-8.0, 0.25], [1.875, 0.25], [3.0, 2.0]])
    width, along = np.array([6.0, 6.5, 7.0]), np.array([0.0, 0.1, 1.0])
    crossing = Intersection(line + 4.0, (Arm(2.0, 1.0, 0.5, 6.0), Arm(9.0, 1.0, -3.0, 6.0)), True, 0.75)
    return LayoutGeometry(
        lane_dividers=(Polyline(line, 0.5), Polyline(line + 1.0, 1.0)),
        road_edges=(Polyline(line - 1.0, 0.25),),
        corridors=(Corridor(line, width, along, 0.5),),
        intersections=(crossing, Intersection(line - 4.0, (), False, 0.5)),
    )


def _health() -> Health:
    camera = CameraHealth(CameraCondition.OK, 5, 9.5, 80, None, 100, 90, {"late": 3}, 1, 2)
    return Health(
        timestamp_ns=1_700_000_000_000_000_000,
        uptime_ns=5_000_000_000,
        valid=True,
        reason=None,
        cameras={"front": camera, "rear": replace(camera, condition=CameraCondition.MISSING, reason="no frame")},
        stages={"networks": Spread(50, 20.0, 30.0, 31.0)},
        latency=Spread(50, 60.0, 80.0, 90.0),
        outputs={"road_layout": OutputHealth(True, True, None, 0)},
        sets=50,
        incomplete=1,
        overrun=0,
        deadline_misses=2,
        resets={"gap": 1},
        queues={"results": 2},
        stalled={},
        errors={},
        rss_bytes=300_000_000,
        bundle_sha256="ab" * 32,
        rig_sha256="cd" * 32,
    )


def _predictions() -> Predictions:
    grid = BevGrid(-8.0, 16.0, -8.0, 8.0, 0.5)
    random = np.random.default_rng(0)
    observed = np.ones(grid.shape, np.bool_)
    seen_by = np.full(grid.shape, 3, np.uint64)
    probability = random.random((2, *grid.shape), np.float32)
    layout = RoadLayout(grid, ("drivable", "edge"), probability, observed, seen_by, belief=probability)
    log_odds = random.normal(0, 3, grid.shape).astype(np.float32)
    angle = random.uniform(-1.5, 1.5, grid.shape).astype(np.float32)
    values = random.random((3, 12, 20), np.float32)
    boxes = np.array([[1, 2, 30, 40], [5, 5, 60, 75]], np.float32)
    camera_outputs: dict[str, dict[str, Any]] = {
        kind: {"front": CameraOutput("front", kind, array, names, np.eye(3))}
        for kind, array, names in (
            ("segmentation", values, ("a", "b", "c")),
            ("depth", values[0] + 1, ()),
            ("features", values.astype(np.float16), ()),
            ("raw", values[:2], ()),
        )
    }
    camera_outputs["objects"] = {
        "front": Detections(
            "front", ("car", "person"), boxes, np.array([0.9, 0.4], np.float32), np.array([1, 0], np.uint16)
        )
    }
    return Predictions(
        timestamp_ns=1_700_000_000_000_000_000,
        sequence=7,
        cameras=("front", "rear"),
        camera_mask=np.array([True, False]),
        camera_age_ns=np.array([0, 0]),
        absences={"rear": "no frame"},
        bev={
            "road_layout": layout,
            "occupancy": OccupancyGrid(grid, log_odds, observed, seen_by, 2.5),
            "heat": BevTensor(grid, random.normal(size=(3, 2))),
            "lanes": CorridorDirection(grid, angle, np.abs(angle) / 2, observed, seen_by),
        },
        camera_outputs=camera_outputs,
        invalid={"corridor": "NaN in 3 of 9 values"},
        state=StateStatus(True, None, 10_000_000),
        provenance=Provenance("fuzzed", "ab" * 32, "cd" * 32, (), (), 1),
    )


def _resident_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Run and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    faulthandler.register(signal.SIGVTALRM, chain=True)  # says where it hangs, also in C, and ends the process
    warnings.simplefilter("error")
    fuzz(WARM_UP, arguments.seed + 1)
    before = _resident_bytes()
    total = FuzzResult()
    begin = time.perf_counter()
    batch = 10_000
    for first in range(0, arguments.messages, batch):
        signal.setitimer(signal.ITIMER_VIRTUAL, HANG_S)
        part = fuzz(min(batch, arguments.messages - first), arguments.seed * 1_000_003 + first)
        total.messages += part.messages
        total.accepted += part.accepted
        total.errors += part.errors
        total.reasons += part.reasons
        total.untyped += part.untyped
        total.slowest_s = max(total.slowest_s, part.slowest_s)
    seconds = time.perf_counter() - begin
    grown = _resident_bytes() - before
    good = not total.untyped and total.slowest_s < SLOW_S and grown < GROWTH_BYTES
    figures = {
        "messages": total.messages,
        "seed": arguments.seed,
        "accepted": total.accepted,
        "errors": dict(total.errors),
        "untyped": len(total.untyped),
        "slowest_hundred_ms": round(total.slowest_s * 1e3, 2),
        "memory_growth_mb": round(grown / 1e6, 1),
        "messages_per_s": round(total.messages / seconds),
        "good": good,
    }
    if arguments.json:
        print(json.dumps(figures | {"reasons": dict(total.reasons.most_common(80))}))
    else:
        for name, value in figures.items():
            print(f"{name:18} {value}")
        print("complaints, the commonest:")
        for reason, count in total.reasons.most_common(40):
            print(f"{count:9}  {reason!a}")
    for text in total.untyped:
        print(text, file=sys.stderr)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
