import numpy as np
from octobev.models.augment import augment_batch, augment_image, tone_curves
from octobev.models.shards import Batch


def batch(n=40):
    columns = np.arange(12, dtype=np.uint8)
    labels = np.broadcast_to(columns, (n, 8, 12)).copy()
    images = np.repeat(labels[..., None] * 20, 3, axis=-1)
    return Batch(images, labels, labels[:, ::2, ::2].astype(np.float16))


def test_labels_and_depths_are_mirrored_together():
    original = batch()
    changed = augment_batch(original, np.random.default_rng(0))
    mirrored = changed.labels[:, 0, 0] == 11
    assert 5 < mirrored.sum() < 35
    for index, turned in enumerate(mirrored):
        step = -1 if turned else 1
        np.testing.assert_array_equal(changed.labels[index], original.labels[index][:, ::step])
        np.testing.assert_array_equal(changed.depth_m[index], original.depth_m[index][:, ::step])


def test_image_is_mirrored_with_its_labels():
    changed = augment_batch(batch(), np.random.default_rng(0))
    left, right = (changed.images[:, :, columns].mean(axis=(1, 2, 3)) for columns in (slice(0, 4), slice(8, 12)))
    np.testing.assert_array_equal(left > right, changed.labels[:, 0, 0] == 11)


def test_batch_is_not_changed_in_place():
    original = batch()
    augment_batch(original, np.random.default_rng(0))
    np.testing.assert_array_equal(original.images, batch().images)


def test_one_seed_gives_one_image():
    image = np.random.default_rng(5).integers(0, 256, (192, 320, 3), dtype=np.uint8)
    one, same, other = (augment_image(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert one.shape == image.shape
    assert one.dtype == np.uint8
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_tone_curves_rise():
    for seed in range(20):
        table = tone_curves(np.random.default_rng(seed))
        assert table.shape == (1, 256, 3)
        assert (np.diff(table.astype(int), axis=1) >= 0).all()
        assert table[0, 255].min() > table[0, 0].max()
