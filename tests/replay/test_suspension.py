from __future__ import annotations

import numpy as np
import pytest
from octobev.replay.suspension import CENTRE_M, Suspension
from octobev.replay.traffic import STEP_S

STEPS = 100


def body(speed: np.ndarray, yaw_rate: np.ndarray) -> Suspension:
    return Suspension(np.random.default_rng(0), speed, yaw_rate)


def mean_tilt_deg(suspension: Suspension) -> np.ndarray:
    """Roll and pitch without the trembling."""
    return np.degrees([suspension.tilt_rad(t) for t in np.linspace(3.0, 7.0, 400)]).mean(axis=0)


def test_a_braking_car_dips_its_nose() -> None:
    roll, pitch = mean_tilt_deg(body(30.0 - 2.0 * STEP_S * np.arange(STEPS), np.zeros(STEPS)))
    assert pitch == pytest.approx(0.26, abs=0.02)
    assert roll == pytest.approx(0.0, abs=0.02)


def test_a_car_that_turns_left_leans_to_the_right() -> None:
    roll, pitch = mean_tilt_deg(body(np.full(STEPS, 10.0), np.full(STEPS, 0.2)))
    assert roll == pytest.approx(0.72, abs=0.02)  # left side up
    assert pitch == pytest.approx(0.0, abs=0.02)


def test_a_standing_car_does_not_move() -> None:
    assert body(np.zeros(STEPS), np.zeros(STEPS)).tilt_rad(4.0) == (0.0, 0.0)


def test_the_body_turns_about_its_centre_nose_down_and_left_side_up() -> None:
    suspension = body(30.0 - 4.0 * STEP_S * np.arange(STEPS), np.full(STEPS, 0.15))
    pose = suspension.ego_from_body(5.0, scale=5.0)
    assert pose.apply(np.array(CENTRE_M)) == pytest.approx(CENTRE_M)
    assert pose.apply(np.array([4.4, 0.0, 0.45]))[2] < 0.45 - 0.05
    assert pose.apply(np.array([1.4, 1.0, 0.45]))[2] > 0.45 + 0.01
    assert suspension.ego_from_body(5.0, scale=0.0).matrix == pytest.approx(np.eye(4))
