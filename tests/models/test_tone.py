import numpy as np
from octobev.models.tone import tone_curves


def test_tone_curves_rise():
    for seed in range(20):
        table = tone_curves(np.random.default_rng(seed))
        assert table.shape == (1, 256, 3)
        assert (np.diff(table.astype(int), axis=1) >= 0).all()
        assert table[0, 255].min() > table[0, 0].max()


def test_cameras_differ_in_exposure_and_colour():
    tables = np.stack([tone_curves(np.random.default_rng(seed))[0].astype(float) for seed in range(50)])
    middle = tables[:, 128]
    assert middle.mean(axis=1).std() > 10.0
    assert (middle[:, 0] - middle[:, 2]).std() > 2.0
