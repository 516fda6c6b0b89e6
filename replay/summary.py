"""The summary at the end of an MCAP file: which channels, how many messages, where the chunks are.

Format: https://mcap.dev/spec
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, ChunkIndex, Schema, Statistics

MAGIC: Final = bytes((0x89, 0x4D, 0x43, 0x41, 0x50, 0x30, 0x0D, 0x0A))
HEAD: Final = struct.Struct("<BQ")
"""What every record begins with: opcode and length of the body."""

MALFORMED: Final = (
    McapError, zstandard.ZstdError, struct.error, RuntimeError, ValueError, OverflowError, EOFError, MemoryError
)  # fmt: skip
"""What the parsers and decompressors raise on bytes that are not what they should be."""

_FOOTER: Final = struct.Struct("<QQI")
_MAX_RECORD_BYTES: Final = 1 << 26


@dataclass(slots=True)
class Summary:
    """What the summary of a file tells; empty when the file has none that can be read.

    schemas, channels : by id, as in the file
    message_counts : channel id -> messages; None without statistics
    start_ns, end_ns : log time of the first and the last message; None without statistics
    chunk_offsets, chunk_bytes, chunk_ends_ns : per chunk in file order: where it begins, its length, its latest log
        time. Empty unless the CRC of the summary was there and right.
    verified : whether that CRC was there and right
    """

    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    message_counts: dict[int, int] | None = None
    start_ns: int | None = None
    end_ns: int | None = None
    chunk_offsets: array[int] = field(default_factory=lambda: array("Q"))
    chunk_bytes: array[int] = field(default_factory=lambda: array("Q"))
    chunk_ends_ns: array[int] = field(default_factory=lambda: array("Q"))
    verified: bool = False


def read_summary(path: Path) -> Summary:
    """Read the summary of a file, record by record; damage gives an empty one."""
    summary = Summary()
    try:
        with open(path, "rb") as file:
            verified = _read(file, summary)
    except MALFORMED:
        return Summary()
    if verified is False:
        return Summary()
    summary.verified = bool(verified) and _sort_chunks(summary)
    if not summary.verified:
        summary.chunk_offsets, summary.chunk_bytes, summary.chunk_ends_ns = array("Q"), array("Q"), array("Q")
    return summary


def _read(file: BinaryIO, summary: Summary) -> bool | None:
    """Fill the summary; True: its CRC was right, False: it was wrong or there is no summary, None: it has no CRC."""
    footer_bytes = HEAD.size + _FOOTER.size
    size = file.seek(0, os.SEEK_END)
    if size < 2 * len(MAGIC) + footer_bytes:
        return False
    footer_at = size - len(MAGIC) - footer_bytes
    file.seek(footer_at)
    footer, magic = file.read(footer_bytes), file.read()
    if magic != MAGIC or HEAD.unpack(footer[: HEAD.size]) != (Opcode.FOOTER, _FOOTER.size):
        return False
    start, _, expected_crc = _FOOTER.unpack(footer[HEAD.size :])
    if not len(MAGIC) <= start < footer_at:
        return False
    crc = 0
    for head, body in _records(file, start, footer_at):
        crc = zlib.crc32(body, zlib.crc32(head, crc))
        _take(summary, head[0], body)
    crc = zlib.crc32(footer[:-4], crc)
    return None if expected_crc == 0 else crc == expected_crc


def _records(file: BinaryIO, start: int, end: int) -> Iterator[tuple[bytes, bytes]]:
    position = start
    file.seek(start)
    while position < end:
        head = file.read(HEAD.size)
        _, length = HEAD.unpack(head)
        position += HEAD.size + length
        if position > end or length > _MAX_RECORD_BYTES:
            raise ValueError("record beyond the end of the summary")
        yield head, file.read(length)


def _take(summary: Summary, opcode: int, body: bytes) -> None:
    stream = ReadDataStream(BytesIO(body))
    if opcode == Opcode.SCHEMA:
        schema = Schema.read(stream)
        summary.schemas[schema.id] = schema
    elif opcode == Opcode.CHANNEL:
        channel = Channel.read(stream)
        summary.channels[channel.id] = channel
    elif opcode == Opcode.STATISTICS:
        statistics = Statistics.read(stream)
        summary.message_counts = dict(statistics.channel_message_counts)
        summary.start_ns, summary.end_ns = statistics.message_start_time, statistics.message_end_time
    elif opcode == Opcode.CHUNK_INDEX:
        index = ChunkIndex.read(stream)
        summary.chunk_offsets.append(index.chunk_start_offset)
        summary.chunk_bytes.append(index.chunk_length)
        summary.chunk_ends_ns.append(index.message_end_time)


def _sort_chunks(summary: Summary) -> bool:
    """Put the chunks in file order; whether they lie one after another."""
    rows = sorted(zip(summary.chunk_offsets, summary.chunk_bytes, summary.chunk_ends_ns, strict=True))
    for number, name in enumerate(("chunk_offsets", "chunk_bytes", "chunk_ends_ns")):
        setattr(summary, name, array("Q", (row[number] for row in rows)))
    return all(a[0] + a[1] <= b[0] for a, b in pairwise(rows))
