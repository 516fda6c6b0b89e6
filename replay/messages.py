"""The messages of an MCAP file, each one from a chunk whose CRC was right.

Readers of the `mcap` package stop at the first damage. Here a damaged chunk is skipped and counted, a file that ends
too early gives every whole chunk, and the records are walked in file order with one chunk in memory at a time. Where
the file has an index that its own CRC vouches for, the index tells where the next chunk begins when the framing of a
record is broken, and lets a reader begin in the middle.

Messages outside of chunks have no CRC; they are read only from files that have no chunks.
"""

from __future__ import annotations

import os
import struct
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, Final

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, MessageIndex, Schema
from mcap.stream_reader import get_chunk_data_stream

from ..errors import DriveError, MissingFile, expected
from .drive import Losses
from .summary import HEAD, MAGIC, MALFORMED, read_summary

_MESSAGE: Final = struct.Struct("<HIQQ")
_CHUNK_HEAD_BYTES: Final = 40
_MAX_CHUNK_BYTES: Final = 1 << 30
_WANTED: Final = (Opcode.CHUNK, Opcode.MESSAGE, Opcode.SCHEMA, Opcode.CHANNEL)
_PASSED_OVER: Final = (Opcode.HEADER, Opcode.ATTACHMENT, Opcode.METADATA)
_ENDINGS: Final[dict[int, int]] = {Opcode.DATA_END: 4, Opcode.FOOTER: 20}
"""Records that end the data section, and the lengths of their bodies."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message: channel, topic, name of its schema, how it is encoded, when it was recorded, its bytes."""

    channel_id: int
    topic: str
    schema: str
    encoding: str
    log_time_ns: int
    data: bytes


@dataclass(slots=True)
class _Names:
    """Schemas and channels known so far."""

    schemas: dict[int, Schema]
    channels: dict[int, Channel]

    def schema_of(self, channel: Channel) -> str:
        schema = self.schemas.get(channel.schema_id)
        return schema.name if schema else ""


class MessageFile:
    """An MCAP file, read in order.

    Memory is bounded by the largest chunk and a few bytes of index for each; a chunk above 1 GiB counts as damaged.

    Raises
    ------
    MissingFile, DriveError
        No such file; empty, or not an MCAP file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        try:
            self.size = os.stat(self.path).st_size
            with open(self.path, "rb") as file:
                magic = file.read(len(MAGIC))
        except FileNotFoundError as error:
            raise MissingFile(f"{path}: no such file") from error
        except OSError as error:
            raise DriveError(f"{path}: cannot be read: {error.strerror}") from error
        if magic != MAGIC:
            begins = f"one that begins with {magic!r}" if magic else "an empty one"
            raise DriveError(expected(str(path), "an MCAP file", begins))
        self.summary = read_summary(self.path)

    def messages(
        self, schemas: Collection[str], losses: Losses, *, lost_schema: str = "", after_ns: int | None = None
    ) -> Iterator[Message]:
        """Iterate over the messages of some schemas in the order of the file.

        Parameters
        ----------
        schemas : names of the schemas to give
        losses : counts damage: a lost chunk as many times as it held messages of `lost_schema`, at least once
        after_ns : leave out chunks that end before this log time, as far as the index tells
        """
        names = _Names(dict(self.summary.schemas), dict(self.summary.channels))
        chunked = len(self.summary.chunk_offsets) > 0
        with open(self.path, "rb") as file:
            for end, opcode, body in self._records(file, losses, after_ns):
                if opcode == Opcode.CHUNK:
                    chunked = True
                    try:
                        content = list(_split(_uncompressed(body)))
                    except MALFORMED:
                        _count_lost(file, end, names, losses, lost_schema)
                        continue
                elif opcode == Opcode.MESSAGE and chunked:
                    losses.add("message outside of a chunk")
                    continue
                else:
                    content = [(opcode, body)]
                for inner, record in content:
                    yield from _select(inner, record, names, schemas, losses)

    def _records(self, file: BinaryIO, losses: Losses, after_ns: int | None) -> Iterator[tuple[int, int, bytes]]:
        """Give the records of the data section that matter: offset of the end, opcode, body (an empty chunk is lost).

        The chunks of a verified index are landmarks: no record may cross one, and a chunk must be what the index says.
        """
        chunks, lengths, ends_ns = self.summary.chunk_offsets, self.summary.chunk_bytes, self.summary.chunk_ends_ns
        position = self._start(after_ns)
        while True:
            file.seek(position)
            head = file.read(HEAD.size)
            opcode, length = HEAD.unpack(head) if len(head) == HEAD.size else (0, self.size)
            end = position + HEAD.size + length
            number = bisect_right(chunks, position)
            at_chunk = number > 0 and chunks[number - 1] == position
            if at_chunk and (opcode != Opcode.CHUNK or length != lengths[number - 1] - HEAD.size):
                position += lengths[number - 1]
                yield position, Opcode.CHUNK, b""
            elif number < len(chunks) and end > chunks[number]:
                position = chunks[number]
            elif end > self.size:
                if not self.summary.verified:
                    where = f"in the record at byte {position}" if head else "before the end of its data"
                    losses.truncated = f"{self.path.name} ends at byte {self.size}, {where}"
                return
            elif _ENDINGS.get(opcode) == length:
                if not self.summary.verified and not self._ends_well(file):
                    losses.truncated = f"{self.path.name} ends at byte {self.size}, in the summary"
                return
            else:
                early = at_chunk and after_ns is not None and ends_ns[number - 1] < after_ns
                if opcode in _WANTED and not early:
                    yield end, opcode, file.read(length) if length <= _MAX_CHUNK_BYTES else b""
                elif not self.summary.verified and not _belongs(opcode, length, file):
                    yield end, Opcode.CHUNK, b""
                position = end

    def _start(self, after_ns: int | None) -> int:
        """Offset of the first record to look at."""
        chunks, ends_ns = self.summary.chunk_offsets, self.summary.chunk_ends_ns
        if after_ns is None or not len(chunks):
            return len(MAGIC)
        return chunks[next((i for i, end_ns in enumerate(ends_ns) if end_ns >= after_ns), len(chunks) - 1)]

    def _ends_well(self, file: BinaryIO) -> bool:
        file.seek(-len(MAGIC), os.SEEK_END)
        return file.read(len(MAGIC)) == MAGIC


def _belongs(opcode: int, length: int, file: BinaryIO) -> bool:
    """Whether a record that nobody wants is one of a data section, and not a chunk whose opcode was damaged."""
    if opcode == Opcode.MESSAGE_INDEX:
        return length >= 6 and int.from_bytes(file.read(6)[2:], "little") == length - 6
    return opcode in _PASSED_OVER


def _uncompressed(body: bytes) -> bytes:
    """Content of a chunk record, its CRC checked."""
    chunk = Chunk.read(ReadDataStream(BytesIO(body)))
    if len(body) != _CHUNK_HEAD_BYTES + len(chunk.compression.encode()) + len(chunk.data):
        raise ValueError("length of the chunk's data and of its record disagree")
    if chunk.uncompressed_size > _MAX_CHUNK_BYTES:
        raise ValueError("chunk too large")
    if chunk.compression == "zstd" and zstandard.frame_content_size(chunk.data) > _MAX_CHUNK_BYTES:
        raise ValueError("chunk too large")
    if chunk.compression not in ("", "lz4", "zstd"):
        raise ValueError(f"unknown compression {chunk.compression!r}")
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    return stream.read(length)


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Opcode and body of the records in a chunk."""
    position = 0
    while position < len(data):
        opcode, length = HEAD.unpack_from(data, position)
        position += HEAD.size
        if position + length > len(data):
            raise ValueError("record beyond the end of its chunk")
        yield opcode, data[position : position + length]
        position += length


def _select(opcode: int, body: bytes, names: _Names, schemas: Collection[str], losses: Losses) -> Iterator[Message]:
    """Learn from schemas and channels; give a message of a wanted schema."""
    try:
        if opcode == Opcode.SCHEMA:
            schema = Schema.read(ReadDataStream(BytesIO(body)))
            names.schemas[schema.id] = schema
        elif opcode == Opcode.CHANNEL:
            channel = Channel.read(ReadDataStream(BytesIO(body)))
            names.channels[channel.id] = channel
        elif opcode == Opcode.MESSAGE:
            channel_id, _, log_time_ns, _ = _MESSAGE.unpack_from(body)
            sender = names.channels.get(channel_id)
            if sender is None:
                losses.add("message of an unknown channel")
            elif (name := names.schema_of(sender)) in schemas:
                yield Message(
                    channel_id, sender.topic, name, sender.message_encoding, log_time_ns, body[_MESSAGE.size :]
                )
    except MALFORMED:
        losses.add("malformed record")


def _count_lost(file: BinaryIO, end: int, names: _Names, losses: Losses, lost_schema: str) -> None:
    """Count a damaged chunk by what the message indexes behind it say that it held."""
    lost = 0
    try:
        file.seek(end)
        while len(head := file.read(HEAD.size)) == HEAD.size:
            opcode, length = HEAD.unpack(head)
            if opcode != Opcode.MESSAGE_INDEX or length > _MAX_CHUNK_BYTES:
                break
            index = MessageIndex.read(ReadDataStream(BytesIO(file.read(length))))
            channel = names.channels.get(index.channel_id)
            lost += len(index.records) if channel and names.schema_of(channel) == lost_schema else 0
    except MALFORMED:
        pass
    for _ in range(max(lost, 1)):
        losses.add("damaged chunk")
