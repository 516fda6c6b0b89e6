import numpy as np
import pytest
from octobev.errors import InvalidArgument
from octobev.fusion.grid import BevGrid
from octobev.fusion.pose import Pose
from octobev.fusion.state import carry_raster
from octobev.fusion.view_builder import ViewBuilder
from octobev.replay.rigs import reference_rig

torch = pytest.importorskip("torch")

from octobev.models.lifting import carry_states, lift_rows, transposed  # noqa: E402

GRID = BevGrid(-4.0, 8.0, -4.0, 4.0, 0.5)
SHAPE = (6, 10)


def view(**options):
    return ViewBuilder.for_grid(GRID, (0.0, 1.0), reference_rig(), SHAPE, 4, **options).build()


def test_lift_is_the_runtimes():
    views = [view(), view(border_px=8.0)]
    features = torch.randn(2 * views[0].pixels, 5)
    lifted = lift_rows(views, features)
    for one, part, rows in zip(views, features.chunk(2), lifted, strict=True):
        np.testing.assert_array_equal(rows.numpy(), one.lift(part.numpy()))


def test_sets_may_have_different_cameras():
    front = reference_rig().select(("front_main", "rear"))
    views = [view(), ViewBuilder.for_grid(GRID, (0.0, 1.0), front, SHAPE, 4).build()]
    features = torch.randn(views[0].pixels + views[1].pixels, 5, requires_grad=True)
    lifted = lift_rows(views, features)
    parts = features.detach().split([one.pixels for one in views])
    for one, part, rows in zip(views, parts, lifted, strict=True):
        np.testing.assert_array_equal(rows.detach().numpy(), one.lift(part.numpy()))
    lifted[1].sum().backward()
    assert not features.grad[: views[0].pixels].any()
    columns = np.bincount(views[1].indices, views[1].weights, views[1].pixels)
    np.testing.assert_allclose(features.grad[views[0].pixels :, 0], columns, atol=1e-4)


def test_gradient_of_the_lift_is_the_transposed_matrix():
    one = view()
    features = torch.randn(one.pixels, 3, requires_grad=True)
    weights = torch.randn(1, one.cells, 6)
    (lift_rows([one], features) * weights).sum().backward()
    matrix = np.zeros((one.rows, one.pixels))
    for row in range(one.rows):
        part = slice(one.indptr[row], one.indptr[row + 1])
        np.add.at(matrix[row], one.indices[part], one.weights[part])
    wanted = matrix.T @ weights[0].reshape(-1, 3).numpy()
    np.testing.assert_allclose(features.grad.numpy(), wanted, atol=1e-4)


def test_lift_stays_in_float32_under_autocast():
    one = view()
    features = torch.randn(one.pixels, 3)
    half = features.to(torch.bfloat16).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        lifted = lift_rows([one], half)
    assert lifted.dtype == torch.float32
    np.testing.assert_array_equal(lifted[0].detach().numpy(), one.lift(half.detach().float().numpy()))
    lifted.sum().backward()
    assert half.grad.dtype == torch.bfloat16


def test_transposing_twice_changes_nothing_but_the_order():
    one = view()
    indptr, indices, weights = transposed(one)
    assert indptr[-1] == len(indices) == len(one.indices)
    assert weights.sum() == pytest.approx(float(one.weights.sum()), rel=1e-5)
    pixel = int(one.indices[0])
    rows = indices[indptr[pixel] : indptr[pixel + 1]]
    assert all(pixel in one.indices[one.indptr[row] : one.indptr[row + 1]] for row in rows)


def test_features_of_another_number_of_sets_are_refused():
    one = view()
    with pytest.raises(InvalidArgument, match=r"features must be \[480, C\], got \(960, 3\)"):
        lift_rows([one], torch.zeros(2 * one.pixels, 3))


@pytest.mark.parametrize(
    "motion",
    [
        Pose.identity(),
        Pose.planar(0.5, 0.0, 0.0),
        Pose.planar(1.27, -0.4, 0.21),
        Pose.planar(-3.0, 2.2, -1.9),
        Pose.planar(40.0, 0.0, 0.0),
        Pose.from_quaternion((0.8, 0.1, 0.3), (0.05, -0.04, 0.1, 1.0)),
    ],
)
def test_states_are_carried_as_in_the_runtime(motion):
    grid = GRID.scaled(2)
    states = np.random.default_rng(0).normal(size=(2, 3, *grid.shape)).astype(np.float32)
    wanted = np.empty_like(states)
    for state, out, move in zip(states, wanted, (motion, motion.inverse()), strict=True):
        carry_raster(state, grid, move, out)
    got = carry_states(torch.from_numpy(states), grid, [motion, motion.inverse()])
    np.testing.assert_allclose(got.numpy(), wanted, atol=2e-5)


def test_carrying_has_a_gradient():
    grid = GRID.scaled(2)
    states = torch.randn(1, 2, *grid.shape, dtype=torch.float32, requires_grad=True)
    carry_states(states, grid, [Pose.planar(0.5, 0.25, 0.0)]).sum().backward()
    inner = states.grad[0, :, 2:-2, 2:-2]
    np.testing.assert_allclose(inner.numpy(), 1.0, atol=1e-5)
