"""Pieces of work that threads share: each is done once, in whatever order, and what goes wrong is told."""

import gc
import threading

import pytest
from octobev.runtime.workers import Work, Workers

TEAMS = [1, 2, 3]


@pytest.fixture(params=TEAMS)
def workers(request):
    team = Workers(request.param)
    yield team
    team.close()


def test_every_piece_is_done_once(workers):
    done = []
    workers.run([lambda number=number: done.append(number) for number in range(100)])
    assert sorted(done) == list(range(100))


def test_results_stand_in_the_order_of_the_items(workers):
    assert workers.map(lambda number: number**2, list(range(50))) == [number**2 for number in range(50)]
    assert workers.map(str, []) == []


def test_nothing_to_do_is_done_at_once(workers):
    workers.run([])


def test_the_others_begin_while_the_one_that_asks_is_busy():
    workers, begun = Workers(2), threading.Event()
    with workers.begin([begun.set]):
        assert begun.wait(10)
    workers.close()


def test_alone_the_one_that_asks_does_everything_when_it_finishes():
    done, workers = [], Workers(1)
    with workers.begin([lambda: done.append(threading.get_ident())]):
        assert done == []
    assert done == [threading.get_ident()]


def test_the_one_that_asks_does_not_wait_for_others_that_are_busy_with_something_else():
    workers, go_on, done = Workers(2), threading.Event(), []
    with workers.begin([go_on.wait]):
        workers.run([lambda: done.append(1)])
        go_on.set()
    assert done == [1]
    workers.close()


def test_what_a_piece_raises_is_raised_and_the_rest_left_undone(workers):
    done = []

    def fail():
        raise LookupError("lost")

    with pytest.raises(LookupError, match="lost"):
        workers.run([fail] * workers.threads + [lambda: done.append(1)] * 50)
    assert len(done) < 50
    workers.run([lambda: done.append(2)])
    assert done[-1] == 2


def test_no_piece_runs_any_more_after_one_failed():
    """Whoever asked may take the memory that pieces write to for something else."""
    workers, begun, failed, done = Workers(2), threading.Event(), threading.Event(), []

    def fail():
        failed.set()
        raise LookupError

    def slow():
        begun.set()
        failed.wait(10)
        done.append(1)

    with pytest.raises(LookupError), workers.begin([slow, fail]):
        begun.wait(10)
    assert done == [1]
    workers.close()


def test_runs_are_limited_where_threads_work_inside_of_them():
    """Two at a time on four threads: the one that asks, and one other."""
    workers = Workers(4, runs_at_once=2)
    try:
        threads, both = set(), threading.Barrier(2, timeout=20)

        def run() -> None:
            threads.add(threading.current_thread())
            both.wait()

        workers.begin_runs([run] * 8).finish()
        assert len(threads) == 2
    finally:
        workers.close()


def test_one_run_at_a_time_is_done_by_the_one_that_asks():
    workers = Workers(3, runs_at_once=1)
    try:
        done: list[str] = []
        work = workers.begin_runs([lambda: done.append(threading.current_thread().name)] * 3)
        assert done == []
        work.finish()
        assert done == [threading.current_thread().name] * 3
    finally:
        workers.close()


def test_work_that_comes_after_begins_when_nothing_of_the_first_runs_any_more():
    workers, begun, too_soon, done = Workers(3), threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        too_soon.wait(0.05)
        done.append("first")

    def then():
        too_soon.set()
        done.append("then")

    before = workers.begin([slow])
    begun.wait(10)
    workers.begin_runs([then], (before,)).finish()
    assert done == ["first", "then"]
    workers.close()


def test_work_that_comes_after_is_helped_along_by_who_finishes_it(workers):
    done = []
    before = workers.begin([lambda: done.append("first")] * 3)
    workers.begin_runs([lambda: done.append("then")], (before,)).finish()
    assert done == ["first"] * 3 + ["then"]
    before.finish()


def test_work_that_comes_after_what_failed_is_left_undone(workers):
    done = []

    def fail():
        raise LookupError("lost")

    before = workers.begin([fail])
    after = workers.begin_runs([lambda: done.append(1)], (before,))
    with pytest.raises(LookupError, match="lost"):
        after.finish()
    before.drop()
    assert done == []


def test_helping_does_what_is_left_and_keeps_what_is_raised_for_the_one_that_finishes(workers):
    done = []

    def fail():
        done.append(1)
        raise LookupError("lost")

    work = workers.begin([fail])
    work.help()
    with pytest.raises(LookupError, match="lost"):
        work.finish()
    assert done == [1]


def test_helping_during_other_work_ends_with_it():
    """A piece is begun only while another thread keeps the one that asks waiting anyway."""
    workers, begun, go_on, done = Workers(2), threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        go_on.wait(10)

    awaited = workers.begin([slow])
    begun.wait(10)
    alone = Workers(1)

    def last():
        done.append("last")
        go_on.set()
        awaited.finish()

    work = alone.begin([lambda: done.append("first"), last, lambda: done.append("not begun")])
    work.help(during=awaited)
    assert done == ["first", "last"]
    work.finish()
    assert done == ["first", "last", "not begun"]
    workers.close()


def test_dropped_work_ends_what_runs_and_begins_nothing_more():
    workers, begun, too_late, done = Workers(2), threading.Event(), threading.Event(), []

    def slow():
        begun.set()
        too_late.wait(0.05)
        done.append(1)
        raise LookupError("nobody is told")

    work = workers.begin([slow, lambda: done.append(2)])
    begun.wait(10)
    work.drop()
    too_late.set()
    assert done == [1]
    work.finish()
    workers.close()


def test_what_is_added_is_done_by_who_finishes_or_helps(workers):
    work, done = Work(), []
    for number in range(20):
        work.add([lambda number=number: done.append(number)])
    workers.help_with(work)
    work.finish()
    assert sorted(done) == list(range(20))


def test_the_others_help_as_long_as_other_work_runs():
    workers, done, over = Workers(2), threading.Event(), []

    def slow():
        work.add([done.set])
        workers.help_with(work, during=awaited)
        assert done.wait(10)

    awaited, work = Work([slow]), Work()
    awaited.finish()
    assert done.is_set()
    work.add([lambda: over.append(threading.current_thread())])
    workers.help_with(work, during=awaited)
    workers.run([threading.Barrier(2, timeout=10).wait] * 2)  # the other has come to it, and left it
    assert over == []
    work.finish()
    assert over == [threading.current_thread()]
    workers.close()


def test_no_more_pieces_are_done_than_asked_for():
    done = []
    work = Work([lambda number=number: done.append(number) for number in range(5)])
    work.help(most=2)
    assert done == [0, 1]
    work.help(most=9)
    assert done == [0, 1, 2, 3, 4]
    work.finish()


def test_nothing_is_added_to_work_that_failed():
    def fail():
        raise LookupError("lost")

    work, done = Work([fail]), []
    work.help()
    work.add([lambda: done.append(1)])
    with pytest.raises(LookupError, match="lost"):
        work.finish()
    assert done == []


def test_threads_end_when_they_are_closed_or_nobody_holds_them():
    before = set(threading.enumerate())
    closed, dropped = Workers(3), Workers(2)
    started = set(threading.enumerate()) - before
    assert len(started) == 3
    closed.close()
    closed.close()
    del dropped
    gc.collect()
    assert not set(threading.enumerate()) & started
