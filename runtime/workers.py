"""Threads that do pieces of work beside the thread that asks for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, TypeVar

T = TypeVar("T")
U = TypeVar("U")

Piece = Callable[[], object]
"""A piece of work that needs nothing of the others that are done at the same time."""

_THREAD_NAME: Final = "octobev"


class Work:
    """Pieces of work under way, begun in their order; made by :meth:`Workers.begin`."""

    def __init__(self, pieces: Iterable[Piece], pool: ThreadPoolExecutor | None, helpers: int) -> None:
        self._left = deque(pieces)  # whoever is free takes the next: taking one is atomic
        helping = range(min(helpers, len(self._left)))
        self._helpers = [] if pool is None else [pool.submit(self._take) for _ in helping]

    def finish(self) -> None:
        """Do what nobody has begun, and wait for the rest.

        Raises
        ------
        Exception
            What a piece raised, when no other runs any more; pieces that were not begun then are not done.
        """
        try:
            self._take()
        finally:
            for helper in self._helpers:
                if not helper.cancel():  # it has begun, perhaps with an exception
                    helper.result()

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()

    def _take(self) -> None:
        while True:
            try:
                piece = self._left.popleft()
            except IndexError:
                return
            try:
                piece()
            except BaseException:
                self._left.clear()
                raise


class Workers:
    """A team of threads: the one that asks, and `threads - 1` others.

    The one that asks works, too, instead of waiting: a thread less to wake, and none is idle while a piece is left.

    Parameters
    ----------
    threads : at least 1; with 1 everything is done by the one that asks
    runs_at_once : most pieces of :meth:`begin_runs` at a time; None: as many as threads
    """

    def __init__(self, threads: int, runs_at_once: int | None = None) -> None:
        self.threads = threads
        self._runs_at_once = threads if runs_at_once is None else runs_at_once
        self._others = threads - 1
        self._pool = ThreadPoolExecutor(self._others, thread_name_prefix=_THREAD_NAME) if self._others else None

    def begin(self, pieces: Iterable[Piece]) -> Work:
        """Have the others begin with pieces, while the one that asks does something else and then finishes them.

        Without others, nothing begins before :meth:`Work.finish`.
        """
        return Work(pieces, self._pool, self._others)

    def begin_runs(self, pieces: Iterable[Piece]) -> Work:
        """Begin with pieces that are runs of networks: the threads that `runs_at_once` leaves work inside of them.

        With one run at a time, the one that asks does them all, and nothing begins before :meth:`Work.finish`.
        """
        return Work(pieces, self._pool, self._runs_at_once - 1)

    def run(self, pieces: Iterable[Piece]) -> None:
        """Do pieces of work, all threads together."""
        self.begin(pieces).finish()

    def map(self, work: Callable[[T], U], items: Sequence[T]) -> list[U]:
        """Do the same for each of several things, all threads together; results in the order of the items."""
        results: dict[int, U] = {}

        def do(number: int) -> None:
            results[number] = work(items[number])

        self.run([partial(do, number) for number in range(len(items))])
        return [results[number] for number in range(len(items))]

    def close(self) -> None:
        """End the other threads."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
