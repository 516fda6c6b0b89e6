import pytest
from octobev.errors import InvalidArgument
from octobev.replay.faults import KINDS, check_names, describe_fault, parse_fault
from octobev.replay.faults.kinds import (
    ClockJump,
    Corrupt,
    Delay,
    Freeze,
    FullDisk,
    Lose,
    Noise,
    NotANumber,
    Reorder,
    Repeat,
    Slow,
    StalledSubscriber,
    Window,
)

S, MS = 1_000_000_000, 1_000_000


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("lose:front@2s+3s", Lose(Window(2 * S, 5 * S), "front")),
        ("lose:front%20@2s", Lose(Window(2 * S), "front", 0.2)),
        ("freeze:rear@1s+2s", Freeze(Window(S, 3 * S), "rear")),
        ("noise:left*0.2@0s", Noise(Window(), "left", 0.2)),
        ("noise:**0.2@0s", Noise(Window(), "*", 0.2)),
        ("delay:front+80ms@1s+4s", Delay(Window(S, 5 * S), "front", 80 * MS)),
        ("reorder:*@..", Reorder(Window(), "*")),
        ("repeat:left@250us", Repeat(Window(250_000), "left")),
        ("clock:front+5s@3s", ClockJump(Window(3 * S), "front", 5 * S)),
        ("clock:*-0.5s@1min+10ns", ClockJump(Window(60 * S, 60 * S + 10), "*", -500 * MS)),
        ("clock:cam-5s+1s@..", ClockJump(Window(), "cam-5s", S)),
        ("corrupt:front%30@2s+2s", Corrupt(Window(2 * S, 4 * S), "front", 0.3)),
        ("nan:topdown@3s+200ms", NotANumber(Window(3 * S, 3200 * MS), "topdown")),
        ("slow:hydranet+50ms@..", Slow(Window(), "hydranet", 50 * MS)),
        ("stall-subscriber@..", StalledSubscriber(Window())),
        ("full-disk@3s", FullDisk(Window(3 * S))),
    ],
)
def test_text_and_value(text, fault):
    assert parse_fault(text) == fault
    assert parse_fault(describe_fault(fault)) == fault


def test_every_kind_has_an_example_that_is_its_own_description():
    for kind in KINDS:
        fault = parse_fault(kind.example)
        assert type(fault) is kind.make
        assert describe_fault(fault) == kind.example.replace("@0s", "@..")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "fault without text, column 1: kind of fault must be one of lose, .*full-disk, got nothing"),
        ("loose:front@1s", "column 1: kind of fault must be one of lose, .*, got loose"),
        ("lose@1s", r"column 5: after lose must be : and a camera, or :\* for all, got @"),
        ("lose:front", "column 11: after whom or what must be @ and when, as in @2s\\+3s, @2s or @.., got nothing"),
        ("lose:@1s", "column 6: camera must be a name, or .* for all, got nothing"),
        ("lose:front left@1s", "column 6: camera must be a name, or .* for all, got front left"),
        ("nan:@1s", "column 5: network must be a name, or .* for all, got nothing"),
        ("lose:front@", "column 12: start must be a time such as 2s, 250ms or 1min, or .. for always, got nothing"),
        ("lose:front@2x", "column 12: start must be a time .*, got 2x"),
        ("lose:front@-2s", "column 12: start must be a time .*, got -2s"),
        ("lose:front@2s+", "column 15: length must be a time .*, above 0, got nothing"),
        ("lose:front@2s+0s", "column 15: length must be a time .*, above 0, got 0s"),
        ("noise:left@1s", r"column 11: amount must be \* and a number above 0 and at most 1, got nothing"),
        ("noise:left*2@1s", "column 11: share must be above 0 and at most 1, got 2"),
        ("noise:left*x@1s", r"column 11: amount must be \* and a number above 0 and at most 1, got \*x"),
        ("delay:front+0s@1s", "column 12: delay must be above 0, got 0"),
        ("corrupt:front%0@1s", "column 14: share must be above 0 and at most 1, got 0"),
        ("lose:front%x@1s", "column 11: amount must be % and a number above 0 and at most 100, got %x"),
        ("clock:front+0s@1s", "column 12: clock jump must be forwards or backwards, got 0"),
        ("full-disk:tmp@1s", "column 10: after full-disk must be @ and when, got :tmp"),
    ],
)
def test_what_is_wrong_and_where(text, message):
    with pytest.raises(InvalidArgument, match=message):
        parse_fault(text)


def test_names_that_are_not_there_are_refused():
    everybody = [parse_fault(text) for text in ("lose:*@..", "nan:*@..", "full-disk@..", "stall-subscriber@..")]
    check_names(everybody, ["front"], ["topdown"])
    with pytest.raises(InvalidArgument, match=r"fault lose:left@1s: camera must be one of front, or \*, got left"):
        check_names([parse_fault("lose:left@1s")], ["front"], ["topdown"])
    with pytest.raises(InvalidArgument, match=r"fault nan:net@1s: network must be one of topdown, or \*, got net"):
        check_names([parse_fault("nan:net@1s")], ["front"], ["topdown"])


@pytest.mark.parametrize(("start_ns", "end_ns"), [(-1, None), (5, 5), (5, 4)])
def test_window_ends_after_its_start(start_ns, end_ns):
    with pytest.raises(InvalidArgument, match="of a fault must be"):
        Window(start_ns, end_ns)


def test_window_is_half_open():
    window = Window(2, 4)
    assert [window.holds(at) for at in (1, 2, 3, 4)] == [False, True, True, False]
    assert Window(2).holds(1 << 60)
