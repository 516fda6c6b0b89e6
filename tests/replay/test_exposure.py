from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics
from octobev.fusion.rig import Camera
from octobev.replay.daylight import Daylight, make_daylight
from octobev.replay.exposure import Exposure, make_optics
from octobev.replay.rigs import optical_mounting

LENS = Intrinsics(160, 96, 90.0, 90.0, 79.5, 47.5)
SIDE = Camera("side", LENS, optical_mounting(0, 0, 1, 90, 0))
AHEAD = Camera("ahead", LENS, optical_mounting(0, 0, 1, 0, 0))
SECOND_NS = 1_000_000_000


@pytest.fixture(scope="module")
def light() -> Daylight:
    return replace(make_daylight(np.random.default_rng(0)), noise=0.2, shutter_s=0.01)


def posts() -> np.ndarray:
    image = np.full((96, 160, 3), 90, np.uint8)
    image[:, 80:82] = 200
    return image


def edges(image: np.ndarray) -> float:
    """Steepest step along the middle row, of the greys of many rows."""
    return float(np.abs(np.diff(image[20:80, 70:92].mean(axis=(0, 2)))).max())


def test_equal_cameras_give_equal_pictures_and_others_do_not(light: Daylight) -> None:
    one, same, other = Exposure(3, light), Exposure(3, light), Exposure(4, light)
    assert np.array_equal(one.apply(posts(), SIDE, 7), same.apply(posts(), SIDE, 7))
    assert not np.array_equal(one.apply(posts(), SIDE, 7), other.apply(posts(), SIDE, 7))
    assert not np.array_equal(one.apply(posts(), SIDE, 7), one.apply(posts(), AHEAD, 7))


def test_exposure_wanders_slowly(light: Daylight) -> None:
    exposure = Exposure(3, light)
    means = [exposure.apply(posts(), SIDE, round(t * SECOND_NS)).mean() for t in np.arange(0, 8, 0.25)]
    assert 2 < np.ptp(means) < 40
    assert np.abs(np.diff(means)).max() < 8


def test_a_dark_scene_is_exposed_longer_than_a_bright_one(light: Daylight) -> None:
    exposure = Exposure(3, light)
    dark, bright = (np.full((96, 160, 3), grey, np.uint8) for grey in (40, 200))
    assert exposure.apply(dark, SIDE, 0).mean() / 40 > 1.2 * exposure.apply(bright, SIDE, 0).mean() / 200


def test_what_passes_by_is_smeared_and_what_lies_ahead_is_not(light: Daylight) -> None:
    exposure = Exposure(3, light)
    still = edges(exposure.apply(posts(), SIDE, 0))
    assert edges(exposure.apply(posts(), SIDE, 0, 30.0)) < 0.7 * still
    ahead = edges(exposure.apply(posts(), AHEAD, 0))
    assert edges(exposure.apply(posts(), AHEAD, 0, 30.0)) == pytest.approx(ahead, rel=0.02)
    assert edges(exposure.apply(posts(), AHEAD, 0, 5.0, 4.0)) < 0.7 * ahead  # a turn smears every camera


def test_a_smear_keeps_the_middle_where_it_is(light: Daylight) -> None:
    grey = Exposure(3, light).apply(posts(), SIDE, 0, 30.0)[20:80].mean(axis=(0, 2))
    weight = np.clip(grey[70:92] - np.median(grey[60:102]) - 4, 0, None)
    assert (weight * np.arange(70, 92)).sum() / weight.sum() == pytest.approx(80.5, abs=0.3)


def test_some_lenses_are_dirty_in_soft_blobs_that_stay(light: Daylight) -> None:
    optics = [make_optics(seed, SIDE, light) for seed in range(60)]
    dirty = [o for o in optics if o.dirt is not None]
    assert 8 < len(dirty) < 30
    for o in dirty:
        assert o.vignette.min() >= 0.2 * 160 * 0.5  # one still sees through
        assert np.abs(np.diff(o.dirt.astype(int), axis=1)).max() < 40
    assert np.mean([o.dirt.max() for o in dirty]) > 10


def test_dusk_is_noisier_than_noon(light: Daylight) -> None:
    flat = np.full((96, 160, 3), 110, np.uint8)

    def noise(amount: float) -> float:
        image = Exposure(3, replace(light, noise=amount)).apply(flat, SIDE, 0).astype(np.float32)
        return float((image - cv2.GaussianBlur(image, (0, 0), 3)).std())

    assert noise(2.2) > 1.8 * noise(0.8)
