"""The bytes of a ring are those of docs/frame-ring.md."""

from __future__ import annotations

import re
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from octobev.errors import FrameRingError, ImageError, InvalidArgument
from octobev.fusion.pose import Pose
from octobev.runtime.frames import Frame, PixelFormat
from octobev.runtime.ring import layout
from octobev.runtime.ring.layout import RingHeader, SlotHeader

DOCUMENT = (Path(__file__).parents[3] / "docs" / "frame-ring.md").read_text(encoding="utf-8")
RING = RingHeader("front", 4, 5000, 1_700_000_000_000_000_123, 77)
POSE = Pose.from_quaternion((1.25, -2.5, 0.125), (0.5, -0.5, 0.1, 0.7))


def table(title: str) -> dict[str, tuple[int, str]]:
    """Name -> (offset, type) of a table of the document."""
    section = DOCUMENT.split(f"### {title}\n")[1].split("###")[0]
    rows = re.findall(r"^\| (\d+) \| (\S+) \| (\w+) \|", section, re.MULTILINE)
    return {name: (int(offset), kind) for offset, kind, name in rows}


def field(packed: bytes, title: str, name: str) -> Any:
    offset, kind = table(title)[name]
    if kind.startswith("char"):
        return packed[offset : offset + int(kind[5:-1])].rstrip(b"\0").decode()
    code = {"u32": "I", "u64": "Q", "i64": "q", "f64[12]": "12d"}[kind]
    values = struct.unpack_from(f"<{code}", packed, offset)
    return values if len(values) > 1 else values[0]


def test_the_ring_header_is_where_the_document_says() -> None:
    packed = layout.MAGIC + RING.pack()
    found = {name: field(packed, "Ring header", name) for name in table("Ring header") if name != "head"}
    assert found == {
        "magic": 0x474E49524F54434F,
        "version": 1,
        "header_bytes": 4096,
        "epoch": 1_700_000_000_000_000_123,
        "file_bytes": 4096 + 4 * (4096 + 8192),
        "slot_bytes": 4096 + 8192,
        "payload_bytes": 5000,
        "slots": 4,
        "slot_header_bytes": 4096,
        "writer_pid": 77,
        "reserved": 0,
        "camera": "front",
    }
    assert table("Ring header")["head"] == (layout.HEAD_OFFSET, "u64")
    assert RingHeader.unpack(packed, RING.file_bytes, "ring") == RING


def test_the_slot_header_is_where_the_document_says() -> None:
    header = SlotHeader(9, -5, PixelFormat.RGB8, 640, 480, 2048, 983_000, POSE)
    packed = bytes(8) + header.pack()
    found = {name: field(packed, "Slot header", name) for name in table("Slot header") if name != "payload"}
    assert found == {
        "lock": 0,
        "timestamp_ns": -5,
        "sequence": 9,
        "pixel_format": 2,
        "flags": 1,
        "width": 640,
        "height": 480,
        "stride_bytes": 2048,
        "payload_bytes": 983_000,
        "world_from_ego": tuple(POSE.matrix[:3].ravel()),
    }
    assert table("Slot header")["payload"][0] == layout.PAGE_BYTES
    again = SlotHeader.unpack(packed, 9, 983_000)
    assert replace(again, world_from_ego=None) == replace(header, world_from_ego=None)
    assert again.world_from_ego is not None
    np.testing.assert_array_equal(again.world_from_ego.matrix, POSE.matrix)


def test_the_pixel_formats_are_those_of_the_document() -> None:
    section = DOCUMENT.split("### Pixel formats\n")[1].split("###")[0]
    rows = re.findall(r"^\| (\d+) \| (\w+) \| (\S+)", section, re.MULTILINE)
    assert {int(code): name for code, name, _ in rows} == layout.PIXEL_FORMATS
    assert {name for _, name, size in rows if size == "encoded"} == {f for f in PixelFormat if f.encoded}


def test_slots_follow_each_other_and_wrap_around() -> None:
    assert [RING.slot_offset(s) for s in (0, 1, 3, 4, 2**64)] == [4096, 16384, 40960, 4096, 4096]
    assert RING.slot_offset(3) + RING.slot_bytes == RING.file_bytes
    assert RingHeader("a", 2, 4096, 0).slot_bytes == 8192
    assert RingHeader("a", 2, 4097, 0).slot_bytes == 12288


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"camera": ""}, "camera of a ring must be 1 .. 127 bytes in UTF-8, got 0"),
        ({"camera": "ö" * 64}, "camera of a ring must be 1 .. 127 bytes in UTF-8, got 128"),
        ({"camera": "a\0b"}, "camera of a ring must be"),
        ({"slots": 1}, "slots of a ring must be 2 .. 1024, got 1"),
        ({"slots": 1025}, "slots of a ring must be 2 .. 1024, got 1025"),
        ({"payload_bytes": 0}, "payload_bytes of a ring must be 1 .. 1073741824, got 0"),
        ({"payload_bytes": 2**30 + 1}, "payload_bytes of a ring must be"),
    ],
)
def test_rings_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        replace(RING, **change)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("version", 2, "ring: version of the ring must be 1, got 2"),
        ("slots", 0, "ring: damaged header: slots of a ring must be 2 .. 1024, got 0"),
        ("slots", 5, r"ring: damaged header: sizes .* must be .*, got"),
        ("slot_bytes", 8192, r"damaged header: sizes"),
        ("header_bytes", 64, r"damaged header: sizes"),
        ("slot_header_bytes", 64, r"damaged header: sizes"),
        ("file_bytes", 4096, r"damaged header: sizes"),
        ("payload_bytes", 2**40, r"damaged header: payload_bytes"),
        ("camera", 0, r"damaged header: camera of a ring"),
        ("camera", 0xFF, r"damaged header: 'utf-8' codec"),
    ],
)
def test_damaged_ring_headers(name: str, value: int, message: str) -> None:
    packed = bytearray(layout.MAGIC + RING.pack())
    offset, kind = table("Ring header")[name]
    struct.pack_into("<" + {"u32": "I", "u64": "Q", "char[128]": "Q"}[kind], packed, offset, value)
    with pytest.raises(FrameRingError, match=message):
        RingHeader.unpack(bytes(packed), RING.file_bytes, "ring")


@pytest.mark.parametrize("size", [RING.file_bytes - 1, RING.file_bytes + 4096])
def test_a_file_of_another_size_is_damaged(size: int) -> None:
    with pytest.raises(FrameRingError, match=f"damaged header: sizes .* got .* {size}"):
        RingHeader.unpack(layout.MAGIC + RING.pack(), size, "ring")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("sequence", 7, "sequence in the slot must be 9, got 7"),
        ("pixel_format", 0, "pixel format must be one of 1, 2, 3, 4, 5, 6, 7, got 0"),
        ("pixel_format", 8, "pixel format must be one of"),
        ("payload_bytes", 0, "payload must be 1 .. 1000 bytes, got 0"),
        ("payload_bytes", 1001, "payload must be 1 .. 1000 bytes, got 1001"),
        ("width", 0, "size of an image in bgr8 must be possible, got 0 x 10"),
        ("height", 0, "size of an image in bgr8 must be possible, got 20 x 0"),
        ("height", 11, "image must be within its 1000 bytes, got 20 x 11"),
        ("width", 34, "image must be within"),
        ("width", 2**32 - 1, "image must be within"),
        ("stride_bytes", 2**64 - 1, "image must be within"),
        ("stride_bytes", 59, "image must be within"),
        ("world_from_ego", float("nan"), "transform must be finite"),
        ("world_from_ego", 2.0, "rotation must be orthonormal"),
    ],
)
def test_damaged_slot_headers(name: str, value: float, message: str) -> None:
    packed = bytearray(bytes(8) + SlotHeader(9, 5, PixelFormat.BGR8, 20, 10, 100, 1000, POSE).pack())
    SlotHeader.unpack(bytes(packed), 9, 1000)
    offset, kind = table("Slot header")[name]
    struct.pack_into("<" + {"u32": "I", "u64": "Q", "f64[12]": "d"}[kind], packed, offset, value)
    with pytest.raises(ValueError, match=message):
        SlotHeader.unpack(bytes(packed), 9, 1000)


@pytest.mark.parametrize(
    ("pixel_format", "size", "message"),
    [
        ("nv12", (20, 6), None),
        ("nv12", (100, 6), None),
        ("nv12", (20, 7), "size of an image in nv12 must be possible, got 20 x 7"),
        ("nv12", (19, 6), "size of an image in nv12 must be possible, got 19 x 6"),
        ("nv12", (20, 8), "image must be within its 1000 bytes, got 20 x 8 with a stride of 100"),
        ("nv12", (102, 6), "image must be within"),
        ("nv12", (2**32 - 2, 2**32 - 2), "image must be within"),
        ("yuyv", (20, 7), None),
        ("yuyv", (50, 10), None),
        ("yuyv", (19, 7), "size of an image in yuyv must be possible, got 19 x 7"),
        ("yuyv", (20, 11), "image must be within"),
        ("yuyv", (52, 7), "image must be within"),
    ],
)
def test_yuv_that_fits_its_slot(pixel_format: str, size: tuple[int, int], message: str | None) -> None:
    header = SlotHeader(9, 5, PixelFormat(pixel_format), *size, 100, 1000)
    packed = bytes(8) + header.pack()
    if message is not None:
        with pytest.raises(ImageError, match=message):
            SlotHeader.unpack(packed, 9, 1000)
        return
    assert SlotHeader.unpack(packed, 9, 1000) == header
    pixels = header.pixels(np.zeros(1000, np.uint8))
    assert Frame("front", 5, pixels, header.pixel_format).size == size


def test_a_format_that_slots_do_not_know_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = Frame("front", 5, b"\x89P", PixelFormat.PNG)
    monkeypatch.delitem(layout._CODES, PixelFormat.PNG)
    with pytest.raises(InvalidArgument, match=r"pixel format of a ring's frame must be one of bgr8, .*, got png"):
        SlotHeader.of(frame, 0)


def test_the_last_row_needs_no_gap() -> None:
    header = SlotHeader(9, 5, PixelFormat.BGR8, 20, 10, 100, 960)
    packed = bytes(8) + header.pack()
    assert SlotHeader.unpack(packed, 9, 960) == header
    pixels = header.pixels(np.arange(960, dtype=np.uint64).astype(np.uint8))
    assert pixels.shape == (10, 20, 3)
    assert pixels[9, 19, 2] == 959 % 256
    with pytest.raises(ImageError, match="image must be within its 959 bytes"):
        SlotHeader.unpack(bytes(8) + replace(header, payload_bytes=959).pack(), 9, 960)


@pytest.mark.parametrize(
    ("data", "pixel_format", "wanted"),
    [
        (np.zeros((4, 6, 3), np.uint8), "bgr8", (6, 4, 18, 72)),
        (np.zeros((8, 6, 3), np.uint8)[::-2], "rgb8", (6, 4, 18, 72)),
        (np.zeros((4, 6), np.uint8), "mono8", (6, 4, 6, 24)),
        (np.zeros((6, 8), np.uint8)[:, :6], "nv12", (6, 4, 6, 36)),
        (np.zeros((4, 6, 2), np.uint8), "yuyv", (6, 4, 12, 48)),
        (b"\xff\xd8\xff", "jpeg", (0, 0, 0, 3)),
    ],
)
def test_headers_of_frames(data: Any, pixel_format: str, wanted: tuple[int, ...]) -> None:
    header = SlotHeader.of(Frame("front", 5, data, PixelFormat(pixel_format)), 3)
    assert (header.width, header.height, header.stride_bytes, header.payload_bytes) == wanted
    assert SlotHeader.unpack(bytes(8) + header.pack(), 3, 100) == header
