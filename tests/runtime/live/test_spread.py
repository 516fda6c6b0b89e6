from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from octobev.errors import InvalidArgument
from octobev.runtime.live.health import Spread
from octobev.runtime.live.spread import RollingSpread


def test_nothing_was_measured_yet() -> None:
    assert RollingSpread().spread() is None


def test_percentiles_by_hand() -> None:
    rolling = RollingSpread(100)
    for duration_ms in range(100, 0, -1):
        rolling.add(duration_ms * 1_000_000)
    assert rolling.spread() == Spread(100, 50.0, 99.0, 100.0)


def test_what_has_left_the_window_is_forgotten_but_counted() -> None:
    rolling = RollingSpread(3)
    for duration_ms in (900, 1, 2, 3):
        rolling.add(duration_ms * 1_000_000)
    assert rolling.spread() == Spread(4, 2.0, 3.0, 3.0)


@given(st.lists(st.integers(-(10**12), 10**15), min_size=1, max_size=60), st.integers(1, 40))
def test_as_numpy_says(durations_ns: list[int], window: int) -> None:
    rolling = RollingSpread(window)
    for duration_ns in durations_ns:
        rolling.add(duration_ns)
    kept_ms = np.array(durations_ns[-window:], np.float64) / 1e6
    p50, p99 = np.percentile(kept_ms, (50, 99), method="inverted_cdf")
    assert rolling.spread() == Spread(len(durations_ns), p50, p99, kept_ms.max())


def test_an_empty_window_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="window must be at least 1, got 0"):
        RollingSpread(0)
