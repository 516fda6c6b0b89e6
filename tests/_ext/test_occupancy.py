"""Log-odds updates against plain NumPy and by hand."""

import math

import numpy as np
import pytest
from octobev._ext import occupancy


def state(rows, classes, seed=0):
    rng = np.random.default_rng(seed)
    mass = rng.random(rows).astype(np.float32)
    mass[rng.random(rows) < 0.3] = 0
    return {
        "log_odds": rng.normal(0, 3, (rows, classes)).astype(np.float32),
        "observed": (rng.random(rows) < 0.2).astype(np.uint8),
        "probability": (rng.random((rows, classes)) * mass[:, None]).astype(np.float32),
        "mass": mass,
        "gain": rng.uniform(0, 2, rows).astype(np.float32),
        "prior_logit": rng.normal(0, 1, classes).astype(np.float32),
        "decay": 0.9,
        "limit": 4.0,
        "min_mass": 0.1,
    }


def updated(log_odds, observed, probability, mass, gain, prior_logit, decay, limit, min_mass):
    """The reference, in float64."""
    seen = mass > np.float32(min_mass)
    p = np.clip(probability[seen] / mass[seen, None].astype(np.float64), 1e-4, 1 - 1e-4)
    after = log_odds.astype(np.float64) * decay
    after[seen] += (gain * mass)[seen, None] * (np.log(p / (1 - p)) - prior_logit)
    return np.clip(after, -limit, limit), observed | seen


def update(given, num_threads=1):
    given = given | {"log_odds": given["log_odds"].copy(), "observed": given["observed"].copy()}
    occupancy.update_log_odds(**given, num_threads=num_threads)
    return given["log_odds"], given["observed"]


@pytest.mark.parametrize("classes", [1, 3, 4, 7, 255, 256, 257, 600])
@pytest.mark.parametrize("rows", [1, 5, 400])
def test_update_equals_reference(rows, classes):
    given = state(rows, classes)
    log_odds, observed = update(given)
    wanted, wanted_observed = updated(**given)
    # float32 probabilities near 0 and 1: an error of 1e-7 in p is one of 1e-7 / (p * (1 - p)) in its logit
    p = np.clip(given["probability"] / np.maximum(given["mass"], 0.1)[:, None], 1e-4, 1 - 1e-4)
    allowed = 2e-5 + (given["gain"] * given["mass"])[:, None] * 2e-7 / (p * (1 - p))
    assert (np.abs(log_odds - wanted) <= allowed).all()
    np.testing.assert_array_equal(observed, wanted_observed)


def test_hand_computed_update():
    # p = 0.4 / 0.5 = 0.8: logit ln 4; 0.5 * 1 + 2 * 0.5 * (ln 4 - ln 2) = 0.5 + ln 2
    log_odds, observed = np.array([[1.0]], np.float32), np.zeros(1, np.uint8)
    one = np.ones(1, np.float32)
    occupancy.update_log_odds(
        log_odds,
        observed,
        np.array([[0.4]], np.float32),
        0.5 * one,
        2 * one,
        np.array([math.log(2)], np.float32),
        0.5,
        10.0,
        0.0,
    )
    assert log_odds[0, 0] == pytest.approx(0.5 + math.log(2), abs=1e-6)
    assert observed[0] == 1


def test_certainty_is_clipped():
    given = state(2, 1) | {
        "log_odds": np.zeros((2, 1), np.float32),
        "probability": np.array([[0.0], [1.0]], np.float32),
        "mass": np.ones(2, np.float32),
        "gain": np.ones(2, np.float32),
        "prior_logit": np.zeros(1, np.float32),
        "limit": 100.0,
    }
    log_odds, _ = update(given)
    np.testing.assert_allclose(log_odds[:, 0], [math.log(1e-4 / (1 - 1e-4)), math.log((1 - 1e-4) / 1e-4)], rtol=1e-3)


def test_unseen_rows_only_fade():
    given = state(50, 3) | {"mass": np.full(50, 0.1, np.float32), "min_mass": 0.1, "limit": 100.0}
    log_odds, observed = update(given)
    np.testing.assert_array_equal(log_odds, given["log_odds"] * np.float32(0.9))
    np.testing.assert_array_equal(observed, given["observed"])


def test_values_that_are_not_numbers_are_no_evidence():
    given = state(6, 2) | {
        "mass": np.array([1, 1, np.nan, np.inf, 1, 1], np.float32),
        "gain": np.array([1, 1, 1, 1, np.nan, -1], np.float32),
        "observed": np.zeros(6, np.uint8),
        "limit": 100.0,
    }
    given["probability"] = np.full((6, 2), 0.9, np.float32)
    given["probability"][0] = np.nan
    given["probability"][1, 0] = np.nan
    log_odds, observed = update(given)
    faded = given["log_odds"] * np.float32(0.9)
    np.testing.assert_array_equal(log_odds[[0, 2, 3, 4, 5]], faded[[0, 2, 3, 4, 5]])
    assert log_odds[1, 0] == faded[1, 0]
    assert log_odds[1, 1] != faded[1, 1]
    assert observed.tolist() == [0, 1, 0, 0, 1, 1]


def test_log_odds_that_are_no_number_begin_again():
    given = state(3, 1) | {"mass": np.zeros(3, np.float32)}
    given["log_odds"][:] = [[np.nan], [np.inf], [-np.inf]]
    log_odds, _ = update(given)
    assert log_odds[:, 0].tolist() == [0.0, 4.0, -4.0]


@pytest.mark.parametrize("num_threads", [2, 4])
def test_threads_change_no_bit(num_threads):
    given = state(1500, 5)
    for one, many in zip(update(given), update(given, num_threads), strict=True):
        np.testing.assert_array_equal(one, many)


@pytest.mark.parametrize(("rows", "classes"), [(0, 3), (3, 0), (0, 0)])
def test_nothing_to_update(rows, classes):
    log_odds, observed = update(state(rows, classes))
    assert log_odds.shape == (rows, classes)
    assert observed.shape == (rows,)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"observed": np.zeros(3, np.uint8)}, "observed must be of length 4, got 3"),
        ({"mass": np.zeros(3, np.float32)}, "mass must be of length 4, got 3"),
        ({"gain": np.zeros(5, np.float32)}, "gain must be of length 4, got 5"),
        ({"prior_logit": np.zeros(3, np.float32)}, "prior_logit must be of length 2, got 3"),
        ({"prior_logit": np.full(2, np.nan, np.float32)}, "prior_logit must be finite"),
        ({"probability": np.zeros((4, 3), np.float32)}, r"probability must be of shape \(4, 2\), got \(4, 3\)"),
        ({"decay": 1.5}, "decay must be between 0 and 1, got 1.5"),
        ({"decay": np.nan}, "decay must be between 0 and 1, got nan"),
        ({"limit": 0.0}, "limit must be positive, got 0.0"),
        ({"limit": np.inf}, "limit must be finite, got inf"),
        ({"min_mass": -1.0}, "min_mass must be not negative, got -1.0"),
        ({"num_threads": 0}, "num_threads must be at least 1, got 0"),
        ({"log_odds": np.zeros((4, 2))}, "Buffer dtype mismatch"),
    ],
)
def test_wrong_arguments_are_refused(changes, match):
    with pytest.raises(ValueError, match=match):
        occupancy.update_log_odds(**(state(4, 2) | changes))


def test_log_odds_as_their_own_evidence_are_refused():
    given = state(4, 2)
    with pytest.raises(ValueError, match="log_odds must be memory of its own"):
        occupancy.update_log_odds(**(given | {"probability": given["log_odds"]}))
