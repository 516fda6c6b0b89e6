from __future__ import annotations

import mmap
import os
import sys
import threading

import pytest
from octobev.runtime.live import resident

linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems do not say")


@linux
def test_memory_that_was_written_to_is_resident() -> None:
    size = 64 * 1024 * 1024
    with mmap.mmap(-1, size) as held:  # of the system itself: an allocator may hand out memory that is resident already
        before = resident.resident_bytes()
        held.write(b"1" * size)
        after = resident.resident_bytes()
    assert before is not None
    assert after is not None
    assert after - before > size // 2


@linux
def test_threads_are_counted() -> None:
    stop = threading.Event()
    before = resident.thread_count()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert resident.thread_count() == before + 3
    stop.set()
    for thread in threads:
        thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no /dev/fd")
def test_descriptors_are_counted() -> None:
    before = resident.descriptor_count()
    with open(os.devnull), open(os.devnull):
        assert resident.descriptor_count() == before + 2
    assert resident.descriptor_count() == before


def test_a_system_that_does_not_say(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_):
        raise FileNotFoundError

    monkeypatch.setattr(resident.Path, "read_bytes", refuse)
    monkeypatch.setattr(resident.os, "listdir", refuse)
    assert (resident.resident_bytes(), resident.thread_count(), resident.descriptor_count()) == (None, None, None)
