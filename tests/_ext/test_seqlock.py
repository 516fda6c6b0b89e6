"""Words between processes: what is written is read, and who waits is woken."""

import mmap
import threading
import time

import numpy as np
import pytest
from octobev._ext import seqlock

LARGEST = 2**64 - 1
LOADS = [seqlock.load_acquire, seqlock.load_after_reads]
STORES = [seqlock.store_release, seqlock.store_before_writes]


@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("store", STORES)
def test_words_come_back_whole(load, store):
    words = np.arange(5, dtype=np.uint64)
    for value in (0, 1, 2**32, LARGEST):
        store(words, 3, value)
        assert load(words, 3) == value
    np.testing.assert_array_equal(words, [0, 1, 2, LARGEST, 4])


@pytest.mark.parametrize("load", LOADS)
def test_memory_mapped_for_reading_is_enough(load, tmp_path):
    path = tmp_path / "words"
    path.write_bytes(np.array([7, LARGEST], "<u8").tobytes())
    with path.open("rb") as file:
        words = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), np.uint64)
    assert [load(words, 0), load(words, 1)] == [7, LARGEST]
    seqlock.wait_while(words, 0, 7, 1_000_000)
    seqlock.wake(words, 0)


@pytest.mark.parametrize("store", STORES)
def test_stores_refuse_what_is_read_only(store):
    words = np.zeros(1, np.uint64)
    words.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        store(words, 0, 1)


@pytest.mark.parametrize("index", [-1, 2])
@pytest.mark.parametrize(
    "call",
    [
        *LOADS,
        *(lambda words, index, store=store: store(words, index, 1) for store in STORES),
        lambda words, index: seqlock.wait_while(words, index, 0, 0),
        seqlock.wake,
    ],
)
def test_words_outside_are_refused(call, index):
    with pytest.raises(ValueError, match=rf"index must be within 0 .. 1, got {index}"):
        call(np.zeros(2, np.uint64), index)


@pytest.mark.parametrize("words", [None, np.zeros(2, np.int64), np.zeros(4, np.uint64)[::2]])
def test_other_arrays_are_refused(words):
    with pytest.raises((TypeError, ValueError)):
        seqlock.load_acquire(words, 0)


def test_waiting_ends_at_once_when_the_word_is_another_already():
    seqlock.wait_while(np.array([LARGEST], np.uint64), 0, 5, 3_600_000_000_000)


def test_waiting_ends_with_its_time():
    seqlock.wait_while(np.zeros(1, np.uint64), 0, 0, 1_000_000)
    seqlock.wait_while(np.zeros(1, np.uint64), 0, 0, -1)


def test_who_waits_is_woken():
    # The word does not change, so only the waking can end the wait; it is repeated, as the thread may not wait yet.
    words = np.zeros(1, np.uint64)
    waiting = threading.Thread(target=seqlock.wait_while, args=(words, 0, 0, 3_600_000_000_000), daemon=True)
    waiting.start()
    deadline = time.monotonic() + 60
    while waiting.is_alive() and time.monotonic() < deadline:
        seqlock.wake(words, 0)
        waiting.join(0.001)
    assert not waiting.is_alive()


def test_what_was_written_before_a_release_is_read_after_it():
    # A writer thread fills rows and shows them; every row that was shown is whole.
    rows, words = np.zeros((2000, 512), np.uint64), np.zeros(1, np.uint64)

    def write():
        for i in range(len(rows)):
            rows[i] = i + 1
            seqlock.store_release(words, 0, i + 1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        seen = 0
        while seen < len(rows):
            seen = seqlock.load_acquire(words, 0)
            if seen:
                assert (rows[seen - 1] == seen).all()
    finally:
        writer.join()
