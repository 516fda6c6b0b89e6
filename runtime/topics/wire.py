"""The wire format: parts of a ZeroMQ message to a :class:`Message` and back. Stated in docs/topics.md.

A message is `[topic name and a slash][msgpack header][one part per array]`. The header's last key is `crc32`, written
as msgpack uint 32, so the last four bytes of the header are the CRC-32 (big-endian, zlib's polynomial) of everything
else: the topic part, the header without these four bytes, the array parts. What does not fit is a
:class:`~octobev.errors.WireError`, whatever bytes came.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec
import numpy as np

from ..._ext.crc32 import crc32
from ...errors import InvalidArgument, OctobevError, TopicError, WireError, expected
from .checks import check_content
from .header import DTYPES, MAX_ARRAYS, MAX_HEADER_BYTES, SCHEMA, ArrayHeader, Header
from .message import Message
from .names import MAX_TOPIC_BYTES, check_topic, topic_part

if TYPE_CHECKING:
    from numpy.typing import NDArray

Buffer = bytes | bytearray | memoryview

_CRC_BYTES: Final = 4
_UINT32: Final = 0xCE
"""Type byte of msgpack uint 32."""


_LARGEST: Final = np.maximum.reduce
_NAMES: Final = {dtype: name for name, dtype in DTYPES.items()}


class _Version(msgspec.Struct):
    schema: int


_ENCODER: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.msgpack.Decoder(Header)
_VERSION_DECODER: Final = msgspec.msgpack.Decoder(_Version)


def pack(header: Header, arrays: Mapping[str, NDArray[Any]]) -> list[Buffer]:
    """Make the parts of a message.

    `header.arrays` and `header.crc32` are filled in here. Array parts are views of `arrays` where these are C-ordered
    and little-endian already, otherwise copies; they are valid as long as nobody writes to the arrays.

    Raises
    ------
    InvalidArgument
        An array of a type that the wire does not know, too many arrays, or a header beyond 64 KiB.
    TopicError
        A topic that is not one.
    """
    check_topic(header.topic)
    if len(arrays) > MAX_ARRAYS:
        raise InvalidArgument(expected(f"arrays of {header.topic}", f"at most {MAX_ARRAYS}", len(arrays)))
    entries, buffers = [], []
    for name, array in arrays.items():
        dtype = _NAMES.get(array.dtype) or _NAMES.get(array.dtype.newbyteorder("<"))
        if dtype is None:
            raise InvalidArgument(
                expected(f"array {name} of {header.topic}", f"one of {', '.join(DTYPES)}", array.dtype.name)
            )
        entries.append(ArrayHeader(name, dtype, array.shape))
        plain = np.ascontiguousarray(array, dtype=DTYPES[dtype])
        buffers.append(plain.data.cast("B") if plain.size else b"")
    packed = _ENCODER.encode(msgspec.structs.replace(header, arrays=tuple(entries), crc32=0xFFFFFFFF))
    if len(packed) > MAX_HEADER_BYTES:
        raise InvalidArgument(
            expected(f"header of {header.topic}", f"at most {MAX_HEADER_BYTES} bytes", f"{len(packed)}")
        )
    return seal([topic_part(header.topic), packed, *buffers])


def seal(parts: Sequence[Buffer]) -> list[Buffer]:
    """The same parts with the right CRC-32 in the last four bytes of the header."""
    header = bytes(parts[1][:-_CRC_BYTES]) + _checksum(parts).to_bytes(_CRC_BYTES, "big")
    return [parts[0], header, *parts[2:]]


def decode(parts: Sequence[Buffer], *, received_ns: int | None = None) -> Message:
    """Read the parts of a message.

    Arrays are read-only views of the parts and keep them alive; only where the memory is not aligned for the element
    type (small parts) they are copies.

    Raises
    ------
    WireError
        Anything that is not a whole, unchanged and consistent message of this schema version.
    """
    _check_sizes(parts)
    stored = int.from_bytes(parts[1][-_CRC_BYTES:], "big")
    if parts[1][-_CRC_BYTES - 1] != _UINT32 or stored != _checksum(parts):
        raise WireError("message: " + expected("crc32", "that of the parts", f"{stored:08x}: damaged or cut short"))
    header = _decode_header(parts[1])
    _check_topic(header, parts[0])
    if len(header.arrays) != len(parts) - 2:
        raise WireError(
            _where(header) + expected("array parts", f"{len(header.arrays)}, one per array", len(parts) - 2)
        )
    if header.valid is (header.reason is not None) or (not header.valid and header.arrays):
        raise WireError(
            _where(header) + expected("message", "valid without a reason, or not valid with one and no arrays", "both")
        )
    arrays: dict[str, NDArray[Any]] = {}
    for entry, part in zip(header.arrays, parts[2:], strict=True):
        if entry.name in arrays:
            raise WireError(_where(header) + expected("array names", "unique", f"{entry.name} twice"))
        arrays[entry.name] = _view(header, entry, part)
    message = Message(header, arrays, sum(map(len, parts)), received_ns)
    try:
        check_content(message)
    except (OctobevError, ArithmeticError, ValueError) as error:
        raise WireError(_where(header) + str(error)) from error
    return message


def _check_sizes(parts: Sequence[Buffer]) -> None:
    if not 2 <= len(parts) <= 2 + MAX_ARRAYS:
        raise WireError("message: " + expected("number of parts", f"2 to {2 + MAX_ARRAYS}", len(parts)))
    if not 2 <= len(parts[0]) <= MAX_TOPIC_BYTES + 1:
        raise WireError("message: " + expected("topic part", f"2 to {MAX_TOPIC_BYTES + 1} bytes", len(parts[0])))
    if not _CRC_BYTES < len(parts[1]) <= MAX_HEADER_BYTES:
        raise WireError(
            "message: " + expected("header", f"{_CRC_BYTES + 1} to {MAX_HEADER_BYTES} bytes", f"{len(parts[1])}")
        )


def _checksum(parts: Sequence[Buffer]) -> int:
    checksum = crc32(parts[1][:-_CRC_BYTES], crc32(parts[0]))
    for part in parts[2:]:
        checksum = crc32(part, checksum)
    return checksum


def _decode_header(packed: Buffer) -> Header:
    try:
        header = _DECODER.decode(packed)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise WireError(f"header: {_other_version(packed) or error}") from error
    if header.schema != SCHEMA:
        raise WireError("header: " + expected("schema", str(SCHEMA), header.schema))
    return header


def _other_version(packed: Buffer) -> str | None:
    """The better complaint about a header that does not decode because it is of another version."""
    try:
        schema = _VERSION_DECODER.decode(packed).schema
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError):
        return None
    return None if schema == SCHEMA else expected("schema", str(SCHEMA), schema)


def _check_topic(header: Header, part: Buffer) -> None:
    try:
        check_topic(header.topic)
    except (TopicError, UnicodeEncodeError) as error:
        raise WireError(f"header: {error}") from error
    if topic_part(header.topic) != bytes(part):
        raise WireError(_where(header) + expected("topic part", f"{header.topic}/", repr(bytes(part))))


def _view(header: Header, entry: ArrayHeader, part: Buffer) -> NDArray[Any]:
    if entry.dtype not in DTYPES:
        raise WireError(
            _where(header) + expected(f"dtype of {entry.name}", f"one of {', '.join(DTYPES)}", repr(entry.dtype))
        )
    dtype = DTYPES[entry.dtype]
    wanted = math.prod(entry.shape) * dtype.itemsize
    if wanted != len(part):
        raise WireError(
            _where(header)
            + expected(f"array {entry.name}", f"{wanted} bytes for {entry.dtype} {entry.shape}", f"{len(part)} bytes")
        )
    if wanted == 0:
        return _empty(header, entry, dtype)
    memory = memoryview(part).toreadonly()
    if entry.dtype == "bool" and (largest := int(_LARGEST(np.frombuffer(memory, np.uint8)))) > 1:
        raise WireError(_where(header) + expected(f"elements of {entry.name}", "0 or 1", largest))
    array: NDArray[Any] = np.ndarray(entry.shape, dtype, memory)
    if not array.flags.aligned:
        array = array.copy()
        array.flags.writeable = False
    return array


def _empty(header: Header, entry: ArrayHeader, dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        array: NDArray[Any] = np.empty(entry.shape, dtype)
    except ValueError as error:  # NumPy multiplies the sizes that are not 0, and they may be too large
        what = f"shape of {entry.name}"
        raise WireError(_where(header) + expected(what, "one that an array can have", entry.shape)) from error
    array.flags.writeable = False
    return array


def _where(header: Header) -> str:
    return f"topic {header.topic}, sequence {header.sequence}: "
