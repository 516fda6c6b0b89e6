"""How the work of a step is spread over threads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Self

from ..errors import InvalidArgument, expected

MOST_THREADS: Final = 1024
"""More are a mistake, and take a machine's memory and minutes to begin."""

_THREADS_TO_ONE_BESIDE: Final = 4
"""Of how many threads one goes on with a set when the others work ahead on the next one's cameras; 1: all of them."""


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How the work of a step is spread over threads. Results do not depend on it.

    threads : worker threads; also of ONNX Runtime inside a run of a top-down network
    runs_at_once : runs of a per-camera network that go on at the same time. As many as threads: each run is on one
        thread. Fewer: the threads that are left work inside the runs, so that 1 is one camera after another
    batch : images in one run of a per-camera network whose batch axis is free; others go by what is fixed

    Raises
    ------
    InvalidArgument
        No thread, more than :data:`MOST_THREADS`, no run, more runs than threads, or no image.
    """

    threads: int
    runs_at_once: int
    batch: int = 1

    def __post_init__(self) -> None:
        check_threads(self.threads)
        if not 1 <= self.runs_at_once <= self.threads:
            raise InvalidArgument(expected("runs_at_once", f"1..{self.threads}, the threads", self.runs_at_once))
        if self.batch < 1:
            raise InvalidArgument(expected("batch", "at least 1", self.batch))

    @classmethod
    def side_by_side(cls, threads: int) -> Self:
        """One camera a thread: what is taken where nothing was measured."""
        return cls(threads, max(threads, 1))

    @property
    def network_threads(self) -> int:
        """Threads of ONNX Runtime for a per-camera network: those that begin runs, one each, and the rest together."""
        return self.threads - self.runs_at_once + 1

    @property
    def threads_beside(self) -> int:
        """Threads inside a lift and a run of a top-down network while others work ahead on the next set's cameras.

        A second one would only be in the way of the cameras' runs, each of which keeps a thread busy.
        """
        return max(1, self.threads // _THREADS_TO_ONE_BESIDE)


def check_threads(threads: int) -> None:
    """Refuse a number of threads that no runtime has.

    Raises
    ------
    InvalidArgument
        None, or more than :data:`MOST_THREADS`.
    """
    if not 1 <= threads <= MOST_THREADS:
        must_be = "at least 1" if threads < 1 else f"at most {MOST_THREADS}"
        raise InvalidArgument(expected("threads", must_be, threads))
