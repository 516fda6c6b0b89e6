"""Which frames make a set: those that are there, and those that can still be expected.

A camera's period says when its next frame comes. So a set that is as good as it can get is known as such when its last
frame arrives, and a frame that the next set will use better is left to it: one lost frame does not shift the sets
after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Generic

from .policies import ApproximateTime, ExactTime, Latest, Policy
from .track import P, Sample, Track
from .window import Window, tightest_window

_JITTER: Final = 1 / 16
"""Of its period, by how much a camera may fire earlier or later than expected."""


@dataclass(frozen=True, slots=True, eq=False)
class Plan(Generic[P]):
    """A set that is being put together.

    anchor_ns : the instant around which it is
    pace : camera whose frame, come or expected, the anchor is; None when the set is made around no camera
    members : camera -> its frame, of those that are there
    awaited : camera -> when its frame should have been captured, None when that is not known
    passes_ns : frames up to this capture time have had their chance when the set leaves
    """

    anchor_ns: int
    pace: str | None
    members: Mapping[str, Sample[P]]
    awaited: Mapping[str, int | None]
    passes_ns: int


@dataclass(frozen=True, slots=True)
class Passed:
    """Where the plan was that left last.

    anchor_ns : its anchor; frame_of : camera whose frame that was, None when it was an expected one
    """

    anchor_ns: int
    frame_of: str | None

    def before_ns(self, pace: Track[P]) -> int:
        """Up to which time a frame of the camera that sets the pace is no anchor: it is the one that was expected."""
        return self.anchor_ns if self.frame_of == pace.name else self.half_period_on_ns(pace)

    def half_period_on_ns(self, pace: Track[P]) -> int:
        """Up to which time no further frame of that camera is expected."""
        return self.anchor_ns + (pace.period_ns or 0) // 2


class Planner(Generic[P]):
    """Plans the next sets by a policy.

    Parameters
    ----------
    policy : what a set is
    tracks : all cameras, in the order of the rig
    """

    def __init__(self, policy: Policy, tracks: Mapping[str, Track[P]]) -> None:
        self._policy = policy
        self._tracks = tracks

    def plan(self, pace: str | None, waited_for: Collection[str], passed: Passed | None) -> list[Plan[P]]:
        """Plan the sets that the queued frames can make, in time order.

        Parameters
        ----------
        pace : camera whose frames sets are made around, None when no camera has delivered
        waited_for : cameras that deliver
        passed : what left last
        """
        queued = {sample.timestamp_ns for track in self._tracks.values() for sample in track.queue}
        if isinstance(self._policy, ExactTime):
            return [self._exact(time_ns, waited_for) for time_ns in sorted(queued)]
        if pace is None or not queued:
            return []
        track = self._tracks[pace]
        if isinstance(self._policy, Latest):
            return [self._latest(track, sample.timestamp_ns, self._policy) for sample in track.queue]
        around = _Around(self._policy, self._tracks, track, waited_for)
        after_ns = min(queued) - 1 if passed is None else passed.anchor_ns
        return around.plans(after_ns, around.anchors(passed, min(queued), max(queued)))

    def _exact(self, anchor_ns: int, waited_for: Collection[str]) -> Plan[P]:
        members = samples_at(self._tracks, dict.fromkeys(self._tracks, anchor_ns))
        awaited = {name: anchor_ns for name in waited_for if name not in members and self._may_fire(name, anchor_ns)}
        return Plan(anchor_ns, None, members, awaited, anchor_ns)

    def _may_fire(self, name: str, timestamp_ns: int) -> bool:
        """Whether a camera may have a frame of this very time: a slower one has none in between."""
        track = self._tracks[name]
        return track.rested(timestamp_ns) or not any(track.slower_than(other) for other in self._tracks.values())

    def _latest(self, pace: Track[P], anchor_ns: int, policy: Latest) -> Plan[P]:
        times = {name: [s.timestamp_ns for s in track.queue] for name, track in self._tracks.items()}
        window = tightest_window(anchor_ns, times, policy.max_skew_ns)
        members = samples_at(self._tracks, window.times)
        return Plan(anchor_ns, pace.name, members, {}, anchor_ns - policy.max_skew_ns - 1)


def samples_at(tracks: Mapping[str, Track[P]], times: Mapping[str, int]) -> dict[str, Sample[P]]:
    """Return the queued frames that have these capture times."""
    return {
        name: sample
        for name, track in tracks.items()
        for sample in track.queue
        if sample.timestamp_ns == times.get(name)
    }


class _Around(Generic[P]):
    """Plans sets around the frames of one camera."""

    def __init__(
        self,
        policy: ApproximateTime,
        tracks: Mapping[str, Track[P]],
        pace: Track[P],
        waited_for: Collection[str],
    ) -> None:
        self._max_skew_ns = policy.max_skew_ns
        self._tracks = tracks
        self._pace = pace
        self._waited_for = waited_for
        self._steps_ns = {name: track.in_step(pace) for name, track in tracks.items() if track is not pace}

    def anchors(self, passed: Passed | None, oldest_ns: int, newest_ns: int) -> list[int]:
        """When the camera that sets the pace fired or should fire.

        Parameters
        ----------
        passed : what left last
        oldest_ns, newest_ns : capture times of the frames that wait; one anchor more is given than they need
        """
        pace = self._pace
        period_ns = pace.period_ns or 0
        first_ns = oldest_ns - 1 if passed is None else passed.before_ns(pace)
        anchors = {sample.timestamp_ns for sample in pace.queue if sample.timestamp_ns > first_ns}
        if pace.name in self._waited_for:
            first_ns = oldest_ns - 1 if passed is None else passed.half_period_on_ns(pace)
            expected = pace.expected_ns(first_ns, newest_ns + max(self._max_skew_ns, period_ns))
            for time_ns in (*self._implied(), *expected):
                if time_ns > first_ns and all(2 * abs(time_ns - known_ns) > period_ns for known_ns in anchors):
                    anchors.add(time_ns)
        return sorted(anchors)

    def _implied(self) -> list[int]:
        """When that camera should have fired, by the waiting frames of the cameras that fire with it."""
        return sorted(
            sample.timestamp_ns - step_ns
            for name, step_ns in self._steps_ns.items()
            if step_ns is not None
            for sample in self._tracks[name].queue
        )

    def plans(self, after_ns: int, anchors: list[int]) -> list[Plan[P]]:
        """Plan a set around each anchor, as long as there are frames; no frame is in two.

        Parameters
        ----------
        after_ns : frames up to this capture time are out
        anchors : rising
        """
        left = sum(len(track.queue) for track in self._tracks.values())
        unpredictable = [name for name in self._waited_for if not self._tracks[name].predictable]
        followers = [*anchors[1:], None, None]
        taken: dict[str, int] = {}
        plans = []
        for at, anchor_ns in enumerate(anchors):
            following_ns = followers[at]
            window = self._window(anchor_ns, after_ns, following_ns, taken)
            times = dict(window.times)
            if following_ns is not None and max(times.values()) >= following_ns - self._max_skew_ns:
                ahead = self._window(following_ns, anchor_ns, followers[at + 1], {})
                times = {name: time_ns for name, time_ns in times.items() if not window.gives_up(name, ahead)}
            members = samples_at(self._tracks, times)
            awaited: dict[str, int | None] = {name: times[name] for name in times if name not in members}
            awaited |= {name: None for name in unpredictable if name not in window.times}
            plans.append(Plan(anchor_ns, self._pace.name, members, awaited, anchor_ns))
            taken |= times
            after_ns = anchor_ns
            left -= len(members)
            if not left:
                break
        return plans

    def _window(self, anchor_ns: int, after_ns: int, following_ns: int | None, taken: Mapping[str, int]) -> Window:
        """Window over frames, come and expected, between the neighbours of an anchor and behind those taken."""
        until_ns = anchor_ns + self._max_skew_ns
        if following_ns is not None:
            until_ns = min(until_ns, following_ns - 1)
        candidates = {}
        for name, track in self._tracks.items():
            first_ns = max(after_ns, anchor_ns - self._max_skew_ns - 1, taken.get(name, after_ns))
            times = {sample.timestamp_ns for sample in track.queue}
            if name in self._waited_for and track is not self._pace:
                times |= self._expected(track, anchor_ns)
            if within := sorted(time_ns for time_ns in times if first_ns < time_ns <= until_ns):
                candidates[name] = within
        candidates[self._pace.name] = [anchor_ns]
        return tightest_window(anchor_ns, candidates, self._max_skew_ns)

    def _expected(self, track: Track[P], anchor_ns: int) -> set[int]:
        """When a camera should fire around an anchor: a period after its last frame, and where it did in the last set.

        Either is wrong by the jitter, so it counts as nearer to the anchor: else it would not be waited for when it
        barely fits.
        """
        period_ns = track.period_ns or 0
        times = track.expected_ns(anchor_ns - 2 * period_ns, anchor_ns + 2 * period_ns)
        step_ns = self._steps_ns[track.name]
        if step_ns is not None and track.to_come(anchor_ns + step_ns):
            times.append(anchor_ns + step_ns)
        jitter_ns = round(_JITTER * period_ns)
        return {min(max(anchor_ns, time_ns - jitter_ns), time_ns + jitter_ns) for time_ns in times}
