from __future__ import annotations

import numpy as np
import pytest
from octobev.runtime.live.fingerprint import fingerprint


@pytest.mark.parametrize("shape", [(960, 1280, 3), (48, 64), (1440, 1280), (1, 1, 3), (33, 40, 2), (5, 0, 3)])
def test_the_same_image_elsewhere_in_memory_is_the_same(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    wide = np.zeros((shape[0], shape[1] + 7, *shape[2:]), np.uint8)
    wide[:, : shape[1]] = image
    assert fingerprint(image) == fingerprint(image.copy()) == fingerprint(wide[:, : shape[1]])
    assert 0 <= fingerprint(image) < 2**32


@pytest.mark.parametrize("height", [1, 2, 31, 32, 33, 63, 64, 65, 960])
def test_noise_is_seen(height: int) -> None:
    rng = np.random.default_rng(2)
    scene = np.full((height, 64, 3), 128, np.uint8)
    noisy = [scene + rng.integers(0, 2, scene.shape, dtype=np.uint8) for _ in range(5)]
    assert len({fingerprint(image) for image in noisy}) == 5


def test_rows_of_all_heights_are_looked_at() -> None:
    image = np.zeros((960, 16), np.uint8)
    for top in range(0, 960, 60):
        changed = image.copy()
        changed[top : top + 60] = 1
        assert fingerprint(changed) != fingerprint(image)


def test_encoded_bytes_are_told_apart_by_any_of_them() -> None:
    data = bytes(range(256)) * 10
    assert fingerprint(data) == fingerprint(memoryview(bytearray(data))) == fingerprint(np.frombuffer(data, np.uint8))
    assert fingerprint(data) != fingerprint(data[:-1] + b"\0")
    assert fingerprint(b"\0") != fingerprint(b"\0\0")


def test_shapes_are_told_apart() -> None:
    assert fingerprint(np.zeros((4, 8), np.uint8)) != fingerprint(np.zeros((8, 4), np.uint8))
