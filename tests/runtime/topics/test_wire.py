from __future__ import annotations

import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from octobev import CameraOutput, Predictions, Rig
from octobev.errors import InvalidArgument, TopicError, WireError
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.topics.encode import Stamp, encode_output, encode_rig
from octobev.runtime.topics.header import (
    ArrayHeader,
    CameraHeader,
    GridHeader,
    Header,
    LensHeader,
    RigHeader,
    StateHeader,
)
from octobev.runtime.topics.message import Message
from octobev.runtime.topics.outlets import topics_of
from octobev.runtime.topics.wire import Buffer, decode, pack, seal

Make = Callable[..., Predictions]
SESSION = "0123456789abcdef" * 2


def messages(predictions: Predictions) -> dict[str, list[Buffer]]:
    stamp = Stamp(SESSION, 5, 1_700_000_000_050_000_000)
    return {
        topic: encode_output(topic, output, predictions, stamp, kind="unknown")
        for topic, output in topics_of(predictions).items()
    }


def forged(parts: list[Buffer], change: Callable[[dict[str, Any]], None]) -> list[Buffer]:
    """The same message with another header and a right checksum: what an attacker would send."""
    header = msgspec.msgpack.decode(parts[1])
    change(header)
    header["crc32"] = header.pop("crc32") | 0xFFFFFFFF  # last, and four bytes long
    return seal([parts[0], msgspec.msgpack.encode(header), *parts[2:]])


def same(a: Message, b: Message) -> bool:
    return (
        a.header == b.header
        and a.arrays.keys() == b.arrays.keys()
        and all(a.arrays[k].dtype == b.arrays[k].dtype and np.array_equal(a.arrays[k], b.arrays[k]) for k in a.arrays)
    )


def test_topics_of_predictions(make_predictions: Make) -> None:
    assert set(topics_of(make_predictions())) == {
        "road_layout",
        "road_layout_geometry",
        "occupancy",
        "heat",
        "lanes",
        "corridor",
        "camera/front/lines",
        "camera/front/depth",
        "camera/front_left/depth",
        "camera/front/trunk",
        "camera/front/objects",
        "camera/front_left/objects",
        "camera/front_left/lines",
    }


def test_road_layout_round_trip(make_predictions: Make) -> None:
    predictions = make_predictions()
    message = decode(messages(predictions)["road_layout"])
    before, after = predictions.road_layout, message.road_layout()
    assert before is not None
    assert after.grid == before.grid
    assert after.classes == before.classes
    np.testing.assert_array_equal(after.probability, before.probability)  # made of 255ths
    np.testing.assert_array_equal(after.observed, before.observed)
    np.testing.assert_array_equal(after.seen_by, before.seen_by)
    assert message.arrays["probability"].dtype == np.uint8
    header = message.header
    assert (header.kind, header.frame_id, header.step, header.sequence) == ("road_layout", "ego", 0, 5)
    assert [(c.name, c.used, c.age_ns, c.reason) for c in header.cameras] == [
        ("front", True, 0, None),
        ("front_left", True, -12_000_000, None),
        ("rear", False, None, "no frame"),
    ]
    assert (header.bundle_sha256, header.rig_sha256) == ("ab" * 32, "cd" * 32)
    assert header.state is not None
    assert header.state.reset_reason == "first set"


def test_occupancy_round_trip(make_predictions: Make) -> None:
    predictions = make_predictions()
    message = decode(messages(predictions)["occupancy"])
    before, after = predictions.occupancy, message.occupancy()
    assert before is not None
    np.testing.assert_array_equal(after.log_odds, before.log_odds)
    assert after.half_life_s == 2.5
    np.testing.assert_array_equal(message.arrays["probability"], np.rint(before.probability * 255))


def test_infinite_half_life_is_null_on_the_wire(make_predictions: Make) -> None:
    predictions = make_predictions()
    grid = predictions.occupancy
    assert grid is not None
    endless = type(grid)(grid.grid, grid.log_odds, grid.observed, grid.seen_by, float("inf"))
    message = decode(messages(make_predictions(bev={"occupancy": endless}))["occupancy"])
    assert message.header.half_life_s is None
    assert message.occupancy().half_life_s == float("inf")


@pytest.mark.parametrize("name", ["lines", "depth", "trunk"])
def test_camera_output_round_trip(make_predictions: Make, name: str) -> None:
    predictions = make_predictions()
    before = predictions.camera_outputs[name]["front"]
    message = decode(messages(predictions)[f"camera/front/{name}"])
    after = message.camera_output()
    assert (after.camera, after.kind, after.classes) == ("front", before.kind, before.classes)
    assert message.header.frame_id == "front"
    assert after.values.dtype == before.values.dtype
    np.testing.assert_array_equal(after.values, before.values)
    np.testing.assert_array_equal(after.pixels_from_image, before.pixels_from_image)


@pytest.mark.parametrize("camera", ["front", "front_left"])
def test_detections_round_trip(make_predictions: Make, camera: str) -> None:
    """Of the second camera nothing was found: the message is valid, its arrays are empty."""
    predictions = make_predictions()
    before = predictions.camera_outputs["objects"][camera]
    message = decode(messages(predictions)[f"camera/{camera}/objects"])
    after = message.detections()
    assert (message.kind, message.valid, message.header.frame_id) == ("detections", True, camera)
    assert message.header.pixels_from_image is None
    assert (after.camera, after.classes, list(message.arrays)) == (camera, before.classes, list(before.arrays()))
    for name, array in before.arrays().items():
        assert after.arrays()[name].dtype == array.dtype
        np.testing.assert_array_equal(after.arrays()[name], array)
    with pytest.raises(InvalidArgument, match="must be segmentation or depth or features or raw, got detections"):
        message.camera_output()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"camera": None}, "header of detections must be one with camera, got none"),
        ({"classes": ["car"]}, "class_ids must be below 1, got 1"),
        ({"kind": "depth"}, "header of a camera output must be"),
    ],
)
def test_forged_detections(make_predictions: Make, change: dict[str, Any], match: str) -> None:
    parts = messages(make_predictions())["camera/front/objects"]
    with pytest.raises(WireError, match=match):
        decode(forged(parts, lambda header: header.update(change)))


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("boxes", None, "arrays of detections must be with boxes, got scores, class_ids"),
        ("boxes", np.zeros((2, 4)), r"boxes must be float32 \[2, 4\], got float64"),
        ("boxes", np.array([[3, 0, 2, 1], [0, 0, 1, 1]], np.float32), "boxes must be x_min <= x_max"),
        ("boxes", np.full((2, 4), np.inf, np.float32), "boxes must be finite"),
        ("scores", np.array([0.5, 1.5], np.float32), "scores must be 0..1"),
        ("scores", np.array(0.5, np.float32), r"boxes must be float32 \[1, 4\], got float32 \[2, 4\]"),
        ("class_ids", np.zeros(3, np.uint16), r"class_ids must be uint16 \[2\], got uint16 \[3\]"),
    ],
)
def test_detections_that_cannot_be(make_predictions: Make, name: str, array: Any, match: str) -> None:
    message = decode(messages(make_predictions())["camera/front/objects"])
    arrays = {key: value for key, value in {**message.arrays, name: array}.items() if value is not None}
    with pytest.raises(WireError, match=match):
        decode(pack(message.header, arrays))


def test_raw_top_down_round_trip(make_predictions: Make) -> None:
    predictions = make_predictions()
    after = decode(messages(predictions)["heat"]).bev_tensor()
    np.testing.assert_array_equal(after.values, predictions.bev["heat"].arrays()["values"])


def test_direction_round_trip(make_predictions: Make) -> None:
    predictions = make_predictions()
    message = decode(messages(predictions)["lanes"])
    assert message.kind == "direction"
    before, after = predictions.bev["lanes"], message.direction()
    for name, array in before.arrays().items():
        np.testing.assert_array_equal(after.arrays()[name], array)


def test_direction_that_is_not_on_the_grid_is_refused(make_predictions: Make) -> None:
    def flatten(header: dict[str, Any]) -> None:
        header["arrays"][0]["shape"] = [24]

    with pytest.raises(WireError, match=r"array direction_rad must be float32 \(6, 4\), got float32 \(24,\)"):
        decode(forged(messages(make_predictions())["lanes"], flatten))


def test_rig_round_trip(rig: Rig) -> None:
    message = decode(encode_rig(rig, "cd" * 32, Stamp(SESSION, 0, 12)))
    after = message.rig()
    assert (after.name, after.names, message.timestamp_ns) == ("car 7", ("front", "rear"), 12)
    for camera in rig:
        assert after[camera.name].intrinsics == camera.intrinsics
        np.testing.assert_array_equal(after[camera.name].ego_from_camera.matrix, camera.ego_from_camera.matrix)


def test_the_rig_of_a_synthetic_drive_can_be_published() -> None:
    rig = SyntheticDrive(20_003, 0.25).rig
    after = decode(encode_rig(rig, "cd" * 32, Stamp(SESSION, 0, 0))).rig()
    assert [camera.intrinsics for camera in after] == [camera.intrinsics for camera in rig]


def test_invalid_outputs_carry_a_reason_and_nothing_else(make_predictions: Make) -> None:
    parts = messages(make_predictions())
    message = decode(parts["corridor"])
    assert (message.valid, message.reason, message.kind) == (False, "NaN in 3 of 9 values", "unknown")
    assert not message.arrays
    assert decode(parts["camera/front_left/lines"]).header.camera == "front_left"
    with pytest.raises(InvalidArgument, match="kind of corridor must be road_layout, got unknown"):
        message.road_layout()


@pytest.mark.parametrize(
    ("output", "bad", "reason"),
    [
        ("road_layout", np.nan, "probability holds NaN or infinity"),
        ("road_layout", 1.01, "probability leaves 0..1: 0"),
        ("occupancy", np.inf, "log_odds holds NaN or infinity"),
    ],
)
def test_numbers_that_cannot_be_are_never_published(
    make_predictions: Make, output: str, bad: float, reason: str
) -> None:
    predictions = make_predictions()
    arrays = predictions.bev[output].arrays()
    values = arrays["probability" if output == "road_layout" else "log_odds"]
    values.flat[:2] = 0, bad
    message = decode(messages(predictions)[output])
    assert not message.valid
    assert (message.reason or "").startswith(reason)
    assert message.kind == output
    with pytest.raises(InvalidArgument, match=f"message of {output} must be valid, got one that is not: {reason}"):
        getattr(message, output)()


def test_probabilities_are_rounded_to_the_nearest(make_predictions: Make) -> None:
    values = np.array([[[0.0, 0.4999 / 255, 0.5001 / 255, 1.0, 1.0005, -0.0005]]], dtype=np.float32)
    output = CameraOutput("front", "segmentation", values, ("x",), np.eye(3))
    predictions = make_predictions(camera_outputs={"lines": {"front": output}})
    message = decode(messages(predictions)["camera/front/lines"])
    assert message.arrays["values"].tolist() == [[[0, 0, 1, 255, 255, 0]]]


def test_arrays_are_read_only_views_of_the_buffer(make_predictions: Make) -> None:
    parts = messages(make_predictions())["occupancy"]
    received = [bytes(part) for part in parts]
    arrays = decode(received).arrays
    for name, part in zip(("probability", "log_odds", "observed", "seen_by"), received[2:], strict=True):
        assert np.shares_memory(arrays[name], np.frombuffer(part, np.uint8))
        with pytest.raises(ValueError, match="read-only"):
            arrays[name][0, 0] = 1


def test_memory_that_is_not_aligned_is_copied(make_predictions: Make) -> None:
    parts = messages(make_predictions())["occupancy"]
    shifted = [memoryview(b"x" + bytes(part))[1:] for part in parts]
    assert all(array.flags.aligned for array in decode(shifted).arrays.values())
    assert same(decode(shifted), decode(parts))


def test_checksum_by_the_documented_rule(make_predictions: Make) -> None:
    parts = messages(make_predictions())["heat"]
    header = bytes(parts[1])
    assert header[-5] == 0xCE
    (stored,) = struct.unpack(">I", header[-4:])
    assert stored == zlib.crc32(bytes(parts[0]) + header[:-4] + bytes(parts[2]))
    assert msgspec.msgpack.decode(header)["crc32"] == stored
    assert parts[0] == b"heat/"


def test_strided_and_big_endian_arrays_are_packed_in_order() -> None:
    header = Header(
        topic="x", kind="later", session=SESSION, sequence=0, timestamp_ns=0, published_ns=0, frame_id="ego"
    )
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    message = decode(pack(header, {"t": base.T[::2], "b": base.astype(">f4"), "empty": np.zeros((0, 3))}))
    np.testing.assert_array_equal(message.arrays["t"], base.T[::2])
    np.testing.assert_array_equal(message.arrays["b"], base)
    assert message.arrays["b"].dtype == np.dtype("<f4")
    assert message.arrays["empty"].shape == (0, 3)


def test_arrays_that_the_wire_does_not_take() -> None:
    header = Header(
        topic="x", kind="later", session=SESSION, sequence=0, timestamp_ns=0, published_ns=0, frame_id="ego"
    )
    with pytest.raises(InvalidArgument, match=r"array a of x must be one of bool, .*, got complex128"):
        pack(header, {"a": np.zeros(2, complex)})
    with pytest.raises(InvalidArgument, match="arrays of x must be at most 16, got 17"):
        pack(header, {str(i): np.zeros(1) for i in range(17)})
    with pytest.raises(InvalidArgument, match="header of x must be at most 65536 bytes"):
        pack(msgspec.structs.replace(header, classes=("k" * 1000,) * 100), {})
    with pytest.raises(TopicError, match="topic must be"):
        pack(msgspec.structs.replace(header, topic="a b"), {})


def test_unknown_keys_and_kinds_are_accepted(make_predictions: Make) -> None:
    parts = forged(messages(make_predictions())["heat"], lambda h: h.update(kind="heat_map", colour="red"))
    message = decode(parts)
    assert message.kind == "heat_map"
    assert message.arrays["values"].shape == (3, 2)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"schema": 2}, "header: schema must be 1, got 2"),
        ({"schema": 2, "topic": 5}, "header: schema must be 1, got 2"),
        ({"topic": "occupancy"}, "topic part must be occupancy/, got b'road_layout/'"),
        ({"topic": "a b"}, "topic must be components"),
        ({"session": "x"}, "Expected `str` matching regex"),
        ({"sequence": -1}, "Expected `int` >= 0 - at `\\$.sequence`"),
        ({"timestamp_ns": 2**63}, "at `\\$.timestamp_ns`"),
        ({"arrays": []}, "array parts must be 0, one per array, got 3"),
        ({"valid": False}, "valid without a reason"),
        ({"reason": "because"}, "valid without a reason"),
        ({"valid": False, "reason": "because"}, "valid without a reason"),
        ({"grid": None}, "header of a road_layout must be one with a grid"),
        ({"classes": ["drivable"]}, r"array probability must be uint8 \(1, 6, 4\), got uint8 \(2, 6, 4\)"),
        ({"half_life_s": -1.0}, "half_life_s must be positive"),
        ({"cameras": 3}, "at `\\$.cameras`"),
        ({"frame_id": b"\xff"}, "frame_id"),
    ],
)
def test_forged_headers(make_predictions: Make, change: dict[str, Any], match: str) -> None:
    parts = messages(make_predictions())["road_layout"]
    with pytest.raises(WireError, match=match):
        decode(forged(parts, lambda header: header.update(change)))


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"dtype": "object"}, "dtype of probability must be one of"),
        ({"dtype": "float32"}, r"must be 192 bytes for float32 \(2, 6, 4\), got 48 bytes"),
        ({"dtype": ">u1"}, "dtype of probability must be one of"),
        ({"shape": [2, 6, -4]}, "Expected `int` >= 0"),
        ({"shape": [2**31 - 1] * 8}, "got 48 bytes"),
        ({"shape": [2**31]}, "Expected `int` <= 2147483647"),
        ({"shape": [1] * 9}, "length <= 8"),
        ({"shape": [48]}, r"array probability must be uint8 \(2, 6, 4\), got uint8 \(48,\)"),
        ({"name": "observed"}, "array names must be unique, got observed twice"),
        ({"name": "other"}, "arrays of a road_layout must be with probability"),
        ({"name": ""}, "length >= 1"),
    ],
)
def test_forged_arrays(make_predictions: Make, entry: dict[str, Any], match: str) -> None:
    parts = messages(make_predictions())["road_layout"]
    with pytest.raises(WireError, match=match):
        decode(forged(parts, lambda header: header["arrays"][0].update(entry)))


def test_an_empty_array_with_sides_that_no_array_has(make_predictions: Make) -> None:
    topic, header, *_ = messages(make_predictions())["heat"]
    sides = [0, *[2**31 - 1] * 3]
    with pytest.raises(WireError, match=r"shape of values must be one that an array can have, got \(0, 2147483647, "):
        decode(forged([topic, header, b""], lambda h: h["arrays"][0].update(shape=sides)))
    decode(forged([topic, header, b""], lambda h: h["arrays"][0].update(shape=[0, 2**31 - 1])))


@pytest.mark.parametrize(
    "grid",
    [
        {"resolution_m": 0.0},
        {"resolution_m": float("nan")},
        {"resolution_m": 5e-324},
        {"x_max_m": 1e308, "x_min_m": -1e308},
        {"x_max_m": -2.0},
        {"y_max_m": 1.1},
        {"y_max_m": 101.0},
    ],
)
def test_forged_grids(make_predictions: Make, grid: dict[str, float]) -> None:
    parts = messages(make_predictions())["road_layout"]
    with pytest.raises(WireError, match="topic road_layout, sequence 5: "):
        decode(forged(parts, lambda header: header["grid"].update(grid)))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"fx": 0.0}, "focal lengths must be positive"),
        ({"fx": float("nan")}, "intrinsics must be finite"),
        ({"model": "mirror"}, "lens model of front must be one of"),
        ({"width": 0}, "width"),
        ({"name": "a b"}, "camera name must be"),
        ({"name": "rear"}, "camera names must be unique"),
        ({"ego_from_camera": [0.0] * 15}, "length >= 16"),
        ({"ego_from_camera": [1e300] * 16}, "last row of a transform must be"),
        ({"ego_from_camera": [1e300] * 12 + [0.0, 0.0, 0.0, 1.0]}, "rotation must be orthonormal"),
    ],
)
def test_forged_rigs(rig: Rig, change: dict[str, Any], match: str) -> None:
    parts = encode_rig(rig, "cd" * 32, Stamp(SESSION, 0, 12))
    with pytest.raises(WireError, match=match):
        decode(forged(parts, lambda header: header["rig"]["cameras"][0].update(change)))


def test_forged_camera_outputs(make_predictions: Make) -> None:
    parts = messages(make_predictions())["camera/front/lines"]
    for change in ({"camera": None}, {"pixels_from_image": None}, {"pixels_from_image": [float("inf")] * 9}):
        with pytest.raises(WireError, match="header of a camera output must be"):
            decode(forged(parts, lambda header, change=change: header.update(change)))  # type: ignore[misc]
    with pytest.raises(WireError, match="shape of values must be that of a segmentation"):
        decode(forged(parts, lambda header: header.update(classes=["a"])))
    with pytest.raises(WireError, match="array values must be float32"):
        decode(forged(parts, lambda header: header.update(kind="depth")))


def test_a_bool_is_0_or_1(make_predictions: Make) -> None:
    parts = messages(make_predictions())["road_layout"]
    octets = bytearray(parts[3])
    octets[3] = 2
    with pytest.raises(WireError, match="elements of observed must be 0 or 1, got 2"):
        decode(seal([*parts[:3], octets, parts[4]]))


def test_parts_and_sizes(make_predictions: Make) -> None:
    parts = messages(make_predictions())["road_layout"]
    for wrong in ([], parts[:1], [*parts[:2], *([b""] * 17)]):
        with pytest.raises(WireError, match="number of parts must be 2 to 18"):
            decode(wrong)
    with pytest.raises(WireError, match="topic part must be 2 to 256 bytes, got 1"):
        decode([b"x", *parts[1:]])
    for length in (0, 4, 65537):
        with pytest.raises(WireError, match="header must be 5 to 65536 bytes"):
            decode([parts[0], bytes(length), *parts[2:]])
    for cut in (parts[:-1], [*parts, b""], [*parts[:-1], parts[-1][:-1]]):
        if len(cut) != len(parts) + 1:
            with pytest.raises(WireError, match="crc32 must be that of the parts"):
                decode(cut)
    with pytest.raises(WireError, match="array parts must be 3, one per array, got 4"):
        decode([*parts, b""])  # an empty part changes no checksum


def test_a_header_of_another_encoding(make_predictions: Make) -> None:
    parts = messages(make_predictions())["road_layout"]
    for header in (b"\xc1" * 20, b"\x91" * 60_000 + b"\x00", b"{}", b"\x81\xa6schema\x02"):
        with pytest.raises(WireError, match=r"header: |crc32"):
            decode(seal([parts[0], header + b"\xce\0\0\0\0", *parts[2:]]))


def test_every_flipped_bit_is_noticed(make_predictions: Make) -> None:
    parts = [bytes(part) for part in messages(make_predictions())["heat"]]
    for index, part in enumerate(parts):
        for bit in range(0, 8 * len(part), 5):
            damaged = bytearray(part)
            damaged[bit // 8] ^= 1 << bit % 8
            with pytest.raises(WireError, match="message: crc32 must be that of the parts"):
                decode([*parts[:index], bytes(damaged), *parts[index + 1 :]])


def mutate(rng: random.Random, parts: list[bytes]) -> list[bytes]:
    parts = list(parts)
    for _ in range(rng.randint(1, 3)):
        index = rng.choice((0, 1, 1, 1, 1, rng.randrange(len(parts))))
        part = bytearray(parts[index])
        at = rng.randrange(len(part) + 1)
        match rng.randrange(7):
            case 0 if part:
                part[at % len(part)] = rng.randrange(256)
            case 1:
                part[at:at] = rng.randbytes(rng.randint(1, 9))
            case 2:
                del part[at : at + rng.randint(1, 9)]
            case 3:
                part[at : at + 9] = b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff"
            case 4:
                part = part[:at]
            case 5:
                parts.insert(index, bytes(part))
            case _:
                other = rng.randrange(len(parts))
                parts[other], part = bytes(part), bytearray(parts[other])
        parts[index] = bytes(part)
    return parts


def test_mutated_messages_give_wire_errors_or_nothing_else(make_predictions: Make, rig: Rig) -> None:
    rng = random.Random(20)
    originals = [list(map(bytes, parts)) for parts in messages(make_predictions()).values()]
    originals.append(list(map(bytes, encode_rig(rig, "cd" * 32, Stamp(SESSION, 0, 12)))))
    accepted = 0
    for _ in range(6000):
        original = rng.choice(originals)
        changed = mutate(rng, original)
        try:
            message = decode(changed)
        except WireError:
            pass
        else:
            assert same(message, decode(original))
        try:
            sealed = decode(seal(changed)) if len(changed) > 1 and len(changed[1]) > 3 else None
        except WireError:
            continue
        if sealed is not None:
            accepted += 1
            again = decode(pack(sealed.header, sealed.arrays))  # what was accepted is whole and consistent
            assert msgspec.structs.replace(again.header, crc32=0) == msgspec.structs.replace(sealed.header, crc32=0)
    assert accepted > 50


def test_headers_are_read_in_the_documented_order() -> None:
    assert Header.__struct_fields__[0] == "schema"
    assert Header.__struct_fields__[-1] == "crc32"
    assert ArrayHeader.__struct_fields__ == ("name", "dtype", "shape")


DOCUMENT = Path(__file__).parents[3] / "docs" / "topics.md"


def test_the_documented_vector_is_what_is_packed() -> None:
    header = Header(
        topic="x", kind="test", session="0" * 32, sequence=0, timestamp_ns=0, published_ns=0, frame_id="ego"
    )
    packed = [bytes(part).hex() for part in pack(header, {"a": np.array([1, 2, 3], np.uint8)})]
    assert "".join(f"    {line}\n" for line in packed) in DOCUMENT.read_text(encoding="utf-8")


def test_every_key_is_documented() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    structs = (Header, ArrayHeader, GridHeader, CameraHeader, StateHeader, LensHeader, RigHeader)
    keys = {name for struct_type in structs for name in struct_type.__struct_fields__}
    assert {key for key in keys if f"`{key}`" not in text} == set()
    example = text.split("```json\n")[1].split("```")[0]
    header = msgspec.json.decode(example, type=Header)
    assert set(msgspec.json.decode(example)) == set(Header.__struct_fields__)
    assert header.kind == "road_layout"
    rig_example = text.split("```json\n")[2].split("```")[0]
    assert msgspec.json.decode(rig_example, type=RigHeader).name == "car 7"
