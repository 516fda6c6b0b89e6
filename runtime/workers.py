"""Threads that do pieces of work beside the thread that asks for them."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Final, TypeVar

T = TypeVar("T")
U = TypeVar("U")

Piece = Callable[[], object]
"""A piece of work that needs nothing of the others that are done at the same time."""

_THREAD_NAME: Final = "octobev"

Tasks = SimpleQueue[Callable[[], object] | None]
"""What the other threads are to do, one after another; None ends one of them."""


class Work:
    """Pieces of work under way, begun in their order; made by :meth:`Workers.begin`.

    Parameters
    ----------
    pieces : the work; :meth:`add` adds more
    tasks, helpers : of the other threads, and how many of them help
    after : work that must be done before these pieces begin; who comes to help here helps there first
    """

    def __init__(
        self, pieces: Iterable[Piece] = (), tasks: Tasks | None = None, helpers: int = 0, after: Iterable[Work] = ()
    ) -> None:
        self._left = deque(pieces)
        self._after = tuple(after)
        self._changed = threading.Condition(threading.Lock())  # guards what stands here
        self._running = 0
        self._failed = False
        self._error: BaseException | None = None  # for the one that finishes, not told yet
        if tasks is not None:
            self.have_helped(tasks, helpers)

    def add(self, pieces: Iterable[Piece]) -> None:
        """Have more done, by whoever helps from now on; not after :meth:`finish` or :meth:`drop`."""
        with self._changed:
            if not self._failed:
                self._left.extend(pieces)

    def have_helped(self, tasks: Tasks, helpers: int) -> None:
        """Have as many of the other threads help, at most one for each piece that is left, when they come to it."""
        for _ in range(min(helpers, len(self._left))):
            tasks.put(self._assist)

    def help(self, during: Work | None = None, most: int | None = None) -> None:
        """Do what nobody has begun, but do not wait for the rest. What a piece raises is kept for :meth:`finish`.

        Parameters
        ----------
        during : begin with a piece only as long as one of that work runs; None: until none is left
        most : do no more pieces
        """
        for work in self._after:
            work.help()
            work._wait()
            if work._failed:
                self._fail(work._error)
        for _ in itertools.repeat(None) if most is None else range(most):
            if (during is not None and not during._running) or (piece := self._take()) is None:
                break
            try:
                piece()
            except BaseException as error:
                self._fail(error)
            finally:
                del piece  # not to be held while waiting for the next
                self._done()

    def finish(self) -> None:
        """Do what nobody has begun, and wait for the rest.

        Raises
        ------
        Exception
            What a piece raised, of this work or of that before it, when no other of this work runs any more; pieces
            that were not begun then are not done.
        """
        try:
            self.help()
        finally:
            error = self._end()
        if error is not None:
            try:
                raise error
            finally:
                del error  # it holds this frame, and the frame would hold it

    def drop(self) -> None:
        """Leave what nobody has begun, and wait for what runs; nobody is told what it raised."""
        self._end()

    def __enter__(self) -> Work:
        return self

    def __exit__(self, *exception: object) -> None:
        self.finish()

    def _assist(self, during: Work | None = None) -> None:
        """Help if something is left; most often somebody else was there before."""
        if self._left:
            self.help(during)

    def _take(self) -> Piece | None:
        with self._changed:
            if self._failed or not self._left:
                return None
            self._running += 1
            return self._left.popleft()

    def _done(self) -> None:
        with self._changed:
            self._running -= 1
            if not self._running:
                self._changed.notify_all()

    def _fail(self, error: BaseException | None) -> None:
        with self._changed:
            self._left.clear()
            if not self._failed:
                self._failed, self._error = True, error

    def _wait(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: not self._running)

    def _end(self) -> BaseException | None:
        """Leave what is left, and wait for what runs; gives what a piece raised, and does not hold it any longer."""
        with self._changed:
            self._left.clear()
        self._wait()
        error, self._error = self._error, None
        return error


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
        self._tasks: Tasks = SimpleQueue()
        names = [f"{_THREAD_NAME}_{number}" for number in range(self._others)]
        team = [threading.Thread(target=_serve, args=(self._tasks,), name=name, daemon=True) for name in names]
        for thread in team:
            thread.start()
        self._close = weakref.finalize(self, _end_team, self._tasks, team)  # also when nobody closes it

    def begin(self, pieces: Iterable[Piece]) -> Work:
        """Have the others begin with pieces, while the one that asks does something else and then finishes them.

        Without others, nothing begins before :meth:`Work.finish`.
        """
        return Work(pieces, self._tasks, self._others)

    def begin_runs(self, pieces: Iterable[Piece], after: Iterable[Work] = ()) -> Work:
        """Begin with pieces that are runs of networks: the threads that `runs_at_once` leaves work inside of them.

        With one run at a time, the one that asks does them all, and nothing begins before :meth:`Work.finish`.

        Parameters
        ----------
        after : work that must be done before
        """
        return Work(pieces, self._tasks, min(self._runs_at_once - 1, self._others), after)

    def help_with(self, work: Work, *, during: Work | None = None) -> None:
        """Have the others help with work that was added to.

        Parameters
        ----------
        during : with what there is when they come to it, even if there is nothing yet, as long as a piece of that other
            work runs
        """
        if during is None:
            work.have_helped(self._tasks, self._others)
        for _ in range(self._others if during is not None else 0):
            self._tasks.put(partial(work._assist, during))

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
        self._close()


def _serve(tasks: Tasks) -> None:
    """Do tasks until told to end; they raise nothing."""
    while (task := tasks.get()) is not None:
        task()
        del task  # nothing of it is held while waiting for the next


def _end_team(tasks: Tasks, team: Sequence[threading.Thread]) -> None:
    for _ in team:
        tasks.put(None)
    for thread in team:
        if thread is not threading.current_thread():
            thread.join()
