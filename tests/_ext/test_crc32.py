"""The checksum is zlib's, whatever the length, the place in memory and the processor."""

import zlib

import numpy as np
import pytest
from octobev._ext.crc32 import crc32

NOISE = np.random.default_rng(3).integers(0, 256, 70_000, dtype=np.uint8).tobytes()


def test_check_value_of_the_polynomial():
    assert crc32(b"123456789") == 0xCBF43926


def test_every_length_around_the_strides():
    assert [crc32(NOISE[:length]) for length in range(800)] == [zlib.crc32(NOISE[:length]) for length in range(800)]


@pytest.mark.parametrize("length", [1024, 4095, 65_537, 69_990])
def test_unaligned_memory_and_what_came_before(length):
    for start in range(9):
        part = memoryview(NOISE)[start : start + length]
        assert crc32(part, 0xDEADBEEF) == zlib.crc32(part, 0xDEADBEEF)


def test_parts_one_after_the_other_are_the_whole():
    value = 0
    for part in (NOISE[:11], b"", NOISE[11:700], NOISE[700:]):
        value = crc32(part, value)
    assert value == zlib.crc32(NOISE)


def test_all_sorts_of_bytes_and_nothing_else():
    assert crc32(bytearray(NOISE)) == crc32(memoryview(NOISE)) == zlib.crc32(NOISE)
    with pytest.raises((BufferError, ValueError)):
        crc32(memoryview(NOISE)[::2])
    with pytest.raises(TypeError):
        crc32("text")
