from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from octobev import Publisher, Subscriber
from octobev.errors import InvalidArgument, TopicTimeout, WireError
from octobev.runtime.live.health import CameraHealth, Health, OutputHealth, Spread
from octobev.runtime.topics.encode import Stamp, encode_health
from octobev.runtime.topics.header import (
    CameraHealthHeader,
    HealthHeader,
    OutputHealthHeader,
    SpreadHeader,
    StageHeader,
)
from octobev.runtime.topics.wire import Buffer, decode, seal

Make = Callable[..., Health]
STAMP = Stamp("0123456789abcdef" * 2, 5, 1_700_000_000_050_000_000)
WAIT_S = 20.0
DOCUMENT = Path(__file__).parents[3] / "docs" / "topics.md"


def forged(parts: list[Buffer], change: Callable[[dict[str, Any]], None]) -> list[Buffer]:
    header = msgspec.msgpack.decode(parts[1])
    change(header)
    header["crc32"] = header.pop("crc32") | 0xFFFFFFFF
    return seal([parts[0], msgspec.msgpack.encode(header)])


@pytest.mark.parametrize("cameras", [1, 8, 16])
def test_round_trip(make_health: Make, cameras: int) -> None:
    before = make_health(cameras)
    parts = encode_health(before, STAMP)
    message = decode(parts)
    assert message.health() == before
    assert list(message.health().cameras) == list(before.cameras)
    header = message.header
    assert (header.kind, header.topic, header.valid, header.timestamp_ns) == (
        "health",
        "health",
        True,
        before.timestamp_ns,
    )
    assert (header.rig_sha256, header.bundle_sha256, header.arrays) == (before.rig_sha256, before.bundle_sha256, ())
    assert len(parts) == 2


def test_round_trip_of_a_runtime_that_has_just_started(make_health: Make) -> None:
    before = make_health(
        0, valid=False, reason="no camera delivers", stages={}, latency=None, outputs={}, resets={}, queues={},
        errors={}, rss_bytes=None, threads=None, descriptors=None, subscriptions=(), stalled={"network": 3.25},
    )  # fmt: skip
    message = decode(encode_health(before, STAMP))
    assert message.health() == before
    assert message.valid  # the report is, what it reports is not


def test_long_texts_and_lists_are_cut(make_health: Make) -> None:
    camera = replace(make_health(1).cameras["front_main"], reason="x" * 5000, dropped={str(i): 1 for i in range(100)})
    health = make_health(
        cameras={f"camera_{i}_{'n' * 40}": camera for i in range(64)},
        reason="half a pair: \ud800",
        resets={"r" * 300: 2, "r" * 299: 3},
        subscriptions=("y" * 4000, *(f"{i:03d}/" for i in range(500))),
    )
    after = decode(encode_health(health, STAMP)).health()
    assert after.cameras[f"camera_3_{'n' * 40}"].reason == "x" * 197 + "..."
    dropped = after.cameras[f"camera_3_{'n' * 40}"].dropped
    assert (len(dropped), dropped["other"], sum(dropped.values())) == (32, 69, 100)
    assert after.reason == "half a pair: ?"
    assert after.resets == {"r" * 64: 5}
    assert after.subscriptions == tuple(f"{i:03d}/" for i in range(32))


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sets": -1}, r"health: Expected `int` >= 0 - at `\$.sets`"),
        ({"latency": Spread(1, float("nan"), 1.0, 1.0)}, r"health: Expected `float` .* at `\$.latency.p50_ms`"),
        ({"stalled": {"step": float("inf")}}, r"health: Expected `float` <= .* at `\$.stalled"),
        ({"outputs": {f"{i}": OutputHealth(True, True, None, 0) for i in range(1025)}}, "length <= 1024"),
        ({"outputs": {f"{i}": OutputHealth(True, False, "x" * 150, 0) for i in range(1024)}}, "at most 65536 bytes"),
    ],
)
def test_what_no_reader_would_take_is_not_sent(make_health: Make, changes: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidArgument, match=match):
        encode_health(make_health(**changes), STAMP)


def test_keys_of_later_versions_are_ignored(make_health: Make) -> None:
    def extend(header: dict[str, Any]) -> None:
        state = header["health"]
        for entry in (state, *state["cameras"], *state["stages"], *state["outputs"], state["latency"]):
            entry["tomorrow"] = {"x": [1, 2]}

    before = make_health()
    assert decode(forged(encode_health(before, STAMP), extend)).health() == before


def _of(header: dict[str, Any], path: tuple[Any, ...]) -> Any:
    for step in path:
        header = header[step]
    return header


@pytest.mark.parametrize(
    ("path", "value", "match"),
    [
        (("health",), None, "header of a health must be one with health"),
        (("rig_sha256",), None, "one with health, rig_sha256 and bundle_sha256"),
        (("bundle_sha256",), None, "one with health, rig_sha256 and bundle_sha256"),
        (("health", "cameras", 0, "condition"), "happy", "Invalid enum value"),
        (("health", "cameras", 0, "rate_hz"), float("nan"), "Expected `float`"),
        (("health", "cameras", 0, "age_ns"), -1, "Expected `int` >= 0"),
        (("health", "cameras", 0, "name"), "front_narrow", "names of cameras must be unique, got front_narrow, front_"),
        (("health", "stages", 0, "name"), "step", "names of stages must be unique"),
        (("health", "outputs", 0, "name"), "occupancy", "names of outputs must be unique"),
        (("health", "stages", 0, "spread", "p50_ms"), "fast", "Expected `float`, got `str`"),
        (("health", "cameras", 0, "dropped"), {str(i): 1 for i in range(33)}, "length <= 32"),
        (("health", "sets"), 2**63, "Expected `int`"),
        (("health", "stalled"), {"x": float("inf")}, "Expected `float`"),
    ],
)
def test_forged_health(make_health: Make, path: tuple[Any, ...], value: Any, match: str) -> None:
    def change(header: dict[str, Any]) -> None:
        _of(header, path[:-1])[path[-1]] = value

    with pytest.raises(WireError, match=match):
        decode(forged(encode_health(make_health(), STAMP), change))


def test_every_key_must_be_there(make_health: Make) -> None:
    parts = encode_health(make_health(), STAMP)
    header = msgspec.msgpack.decode(parts[1])
    for path in ((), ("cameras", 0), ("stages", 0), ("outputs", 0), ("latency",)):
        for key in _of(header["health"], path):
            with pytest.raises(WireError, match=f"missing required field `{key}`"):
                decode(forged(parts, lambda header, path=path, key=key: _of(header["health"], path).pop(key)))


def test_mutated_health_gives_wire_errors_or_a_health(make_health: Make) -> None:
    rng = random.Random(5)
    whole = encode_health(make_health(), STAMP)
    odd = [0, 1, 0x7F, 0x80, 0xC0, 0xCB, 0xFF, *range(256)]
    accepted = 0
    for _ in range(3000):
        header = bytearray(whole[1])
        for _ in range(rng.randint(1, 3)):
            header[rng.randrange(len(header) - 5)] = rng.choice(odd)
        try:
            message = decode(seal([whole[0], bytes(header)]))
        except WireError:
            continue
        if message.kind == "health":
            assert isinstance(message.health(), Health)
            accepted += 1
    assert accepted > 50


def test_only_a_health_has_it(make_health: Make) -> None:
    def rename(header: dict[str, Any]) -> None:
        header["kind"] = "tomorrow"

    message = decode(forged(encode_health(make_health(), STAMP), rename))
    with pytest.raises(InvalidArgument, match="kind of health must be health, got tomorrow"):
        message.health()


def test_publish_health_reaches_subscribers_and_late_joiners(make_health: Make, tmp_path: Path) -> None:
    with Publisher(f"ipc://{tmp_path}/t") as publisher, Subscriber(publisher.endpoint, "health") as early:
        assert publisher.wait_for_subscription("health", WAIT_S)
        for sets in (1, 2):
            publisher.publish_health(make_health(sets=sets))
            assert early.receive(WAIT_S).health().sets == sets
        with Subscriber(publisher.endpoint, "health") as late:
            message = late.receive(WAIT_S)
            assert (message.health().sets, message.sequence) == (2, 1)
        publisher.publish_health(make_health(sets=3))
        assert early.receive(WAIT_S).health().sets == 3  # the latest came again meanwhile, and was dropped as a repeat
        assert (early.malformed, dict(early.lost)) == (0, {})


def test_who_wants_the_rig_gets_no_health(make_health: Make, make_rig: Callable[..., Any], tmp_path: Path) -> None:
    with Publisher(f"ipc://{tmp_path}/t") as publisher:
        publisher.publish_health(make_health())
        publisher.set_rig(make_rig(), "cd" * 32)
        with Subscriber(publisher.endpoint, "rig") as subscriber:
            assert subscriber.receive(WAIT_S).kind == "rig"
            publisher.publish_health(make_health())
            with pytest.raises(TopicTimeout, match="no message of rig"):
                subscriber.receive(0.05)


def test_a_closed_publisher_takes_no_health(make_health: Make, tmp_path: Path) -> None:
    with Publisher(f"ipc://{tmp_path}/t") as publisher:
        pass
    with pytest.raises(InvalidArgument, match="publisher must be open, got a closed one"):
        publisher.publish_health(make_health())


def test_every_field_is_on_the_wire_and_documented() -> None:
    assert {f.name for f in fields(CameraHealth)} | {"name"} == set(CameraHealthHeader.__struct_fields__)
    assert {f.name for f in fields(Spread)} == set(SpreadHeader.__struct_fields__)
    assert {f.name for f in fields(OutputHealth)} | {"name"} == set(OutputHealthHeader.__struct_fields__)
    in_the_header = {"timestamp_ns", "rig_sha256", "bundle_sha256"}
    assert {f.name for f in fields(Health)} == set(HealthHeader.__struct_fields__) | in_the_header
    text = DOCUMENT.read_text(encoding="utf-8")
    section = text.split("## Health\n")[1].split("\n## ")[0]
    structs = (HealthHeader, CameraHealthHeader, StageHeader, SpreadHeader, OutputHealthHeader)
    keys = {name for struct_type in structs for name in struct_type.__struct_fields__}
    assert {key for key in keys if f"`{key}`" not in section} == set()
    example = section.split("```json\n")[1].split("```")[0]
    assert list(msgspec.json.decode(example)) == list(HealthHeader.__struct_fields__)
    assert msgspec.json.decode(example, type=HealthHeader).cameras[1].condition == "missing"
