"""Work spread over threads: any number of callers at once, children of fork, and what happens to signals."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from octobev._ext import lift


def matrix(rows, pixels, per_row=6):
    rng = np.random.default_rng(0)
    indptr = np.arange(0, rows * per_row + 1, per_row, dtype=np.int32)
    return indptr, rng.integers(0, pixels, rows * per_row, dtype=np.int32), rng.random(rows * per_row, np.float32)


GIVEN = matrix(20_000, 500)
FEATURES = np.random.default_rng(1).random((500, 16), np.float32)


def lifted(threads):
    out = np.full((20_000, 16), np.nan, np.float32)
    lift.lift_rows(*GIVEN, FEATURES, out, threads)
    return out


def test_callers_at_the_same_time_get_their_own_results():
    wanted, wrong = lifted(1), []

    def call(threads):
        for _ in range(20):
            if not np.array_equal(lifted(threads), wanted):
                wrong.append(threads)

    callers = [threading.Thread(target=call, args=(2 + number % 4,)) for number in range(6)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(timeout=60)
    assert not any(caller.is_alive() for caller in callers)
    assert not wrong


def test_more_threads_than_parts_and_than_any_machine_has():
    np.testing.assert_array_equal(lifted(10_000), lifted(1))


def run(code):
    """In a process of its own, where no other library has threads."""
    begin = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); from test_crew import lifted\n"
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    given = [sys.executable, "-c", begin + code]
    result = subprocess.run(given, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert result.returncode == 0, result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_of_fork_has_helpers_of_its_own():
    run("""
import os
wanted = lifted(3).tobytes()
child = os.fork()
if child == 0:
    os._exit(0 if lifted(3).tobytes() == wanted else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert lifted(3).tobytes() == wanted
""")


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="no signal masks")
def test_helpers_leave_signals_to_the_program():
    run("""
import os, signal
lifted(4)
signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
os.kill(os.getpid(), signal.SIGUSR1)  # ends the process if any other thread takes it
lifted(4)
assert signal.SIGUSR1 in signal.sigpending()
""")
