import numpy as np
import pytest
from octobev.fusion.lens import Intrinsics, LensModel
from octobev.fusion.levelling import Levelling, horizon_rays
from octobev.fusion.pose import Pose
from octobev.fusion.view import FeatureCamera
from octobev.replay.rigs import reference_rig
from octobev.runtime.bundle import open_bundle

torch = pytest.importorskip("torch")

from octobev.models import export, horizon_training  # noqa: E402
from octobev.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint  # noqa: E402
from octobev.models.horizon import HORIZON_STRIDE, HorizonHead, Horizons, disturbed, horizon_loss, solve_tilts  # noqa: E402
from octobev.models.net import HydraNet  # noqa: E402
from octobev.models.sequences import write_sequences  # noqa: E402
from octobev.models.shelf import town_path  # noqa: E402
from octobev.models.topdown_net import TopDownNet  # noqa: E402
from small_networks import HYDRANET, TOPDOWN, plain_road  # noqa: E402

SHAPE = (12, 20)
LENSES = [
    Intrinsics(320, 192, 180.0, 180.0, 161.0, 93.0),
    Intrinsics(320, 192, 200.0, 200.0, 155.0, 97.0, LensModel.BROWN_CONRADY, (-0.2, 0.05, 0.01, 0.02, 0.0)),
    Intrinsics(320, 192, 110.0, 110.0, 160.0, 96.0, LensModel.KANNALA_BRANDT, (0.02, 0.0, 0.0, 0.0)),
]
UP = np.array([0.03, -0.99, 0.1]) / np.linalg.norm([0.03, -0.99, 0.1])


def known(lens, up=UP):
    rays, slopes = horizon_rays(lens, SHAPE, HORIZON_STRIDE)
    slopes = slopes @ up
    arrays = rays, np.hypot(slopes[:, 0], slopes[:, 1]), up
    return Horizons(*(torch.tensor(array, dtype=torch.float32)[None] for array in arrays))


def perfect(horizons):
    """What a head says that makes no error."""
    distance = torch.einsum("npk,nk->np", horizons.rays, horizons.up) / horizons.per_pixel.clamp(min=1e-5)
    return torch.stack((distance, torch.full_like(distance, 2.0)), dim=-1)


@pytest.mark.parametrize("lens", LENSES, ids=[lens.model.value for lens in LENSES])
def test_tilts_of_perfect_maps_are_found_and_cost_nothing(lens):
    horizons, tilts = known(lens), torch.tensor([[0.01, -0.006]])
    found, information = solve_tilts(perfect(horizons), horizons, disturbed(horizons.up, tilts))
    np.testing.assert_allclose(found, tilts, atol=3e-4)
    assert torch.linalg.eigvalsh(information).min() > 1.0
    worse = perfect(horizons) + torch.tensor([30.0, 0.0])
    loss, errors = horizon_loss(perfect(horizons), horizons, tilts)
    assert loss < horizon_loss(worse, horizons, tilts)[0]
    assert errors.abs().max() < 3e-4


@pytest.mark.parametrize("lens", LENSES, ids=[lens.model.value for lens in LENSES])
def test_runtime_finds_what_training_does(lens):
    """One camera, one set, a tilt that is believed at once: both solve the same equations."""
    up = disturbed(torch.tensor(UP, dtype=torch.float32)[None], torch.tensor([[0.03, 0.0]]))[0].numpy().astype(float)
    rows = perfect(known(lens))
    found, _ = solve_tilts(rows, known(lens), torch.tensor(up, dtype=torch.float32)[None])
    z = np.array([0.0, 0.0, 1.0])
    x = np.cross(up, z) / np.linalg.norm(np.cross(up, z))
    mounting = np.eye(4)
    mounting[:3, :3] = np.stack((np.cross(x, up), x, up))  # rows: the ego's axes in the camera frame; z is up
    levelling = Levelling([FeatureCamera(lens, Pose(mounting))], SHAPE, HORIZON_STRIDE)
    levelling.observe(0, rows[0].numpy(), np.ones(1, np.uint8), [Pose.identity()])
    assert levelling.tilts_rad[0, 0] == pytest.approx(found[0, 0].item(), rel=0.15)  # less what a prior takes off


def painted(lens, up):
    """White above the horizon, black below."""
    v, u = np.mgrid[0 : lens.height, 0 : lens.width]
    rays, _ = lens.unproject(np.stack((u, v), axis=-1).reshape(-1, 2).astype(float))
    above = (rays @ up > 0).reshape(lens.height, lens.width)
    return np.repeat(np.where(above, 255, 0).astype(np.uint8)[..., None], 3, axis=2)


@pytest.mark.parametrize("lens", LENSES, ids=[lens.model.value for lens in LENSES])
@pytest.mark.parametrize("seed", range(4))
def test_turned_and_mirrored_images_have_their_horizon_where_it_is_said(lens, seed):
    view = horizon_training._View(painted(lens, UP), lens, UP)
    turned = horizon_training._turned(view, np.random.default_rng(seed))
    for varied in (turned, horizon_training._mirrored(view), horizon_training._mirrored(turned)):
        inner = np.s_[24:-24, 40:-40]  # at the border images are continued by reflection
        wrong = (varied.image[inner] > 127) != (painted(varied.lens, varied.up)[inner] > 127)
        assert wrong.mean() < 0.01
        assert np.linalg.norm(varied.up) == pytest.approx(1.0)
    assert (turned.image != view.image).any()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Directory of a training of small networks that just began."""
    torch.manual_seed(0)
    weights = {"hydranet": HydraNet(HYDRANET).state_dict(), "topdown": TopDownNet(TOPDOWN).state_dict()}
    folder = tmp_path_factory.mktemp("training")
    save_checkpoint(Checkpoint(HYDRANET, TOPDOWN, weights, weights, {}, None, 1, 1.0, 0), folder / "checkpoint.pt")
    rig = reference_rig().select(("front_main", "rear"))
    (folder / "sequences").mkdir()
    for town, seed in ((0, 0), (1, 1), (10_000, 2)):
        write_sequences(plain_road(rig, seed=seed), town_path(folder / "sequences", town))
    return folder


def test_command_adds_a_head_that_the_exported_bundle_levels_by(trained, tmp_path, capsys):
    out = tmp_path / "with_horizon.pt"
    options = ["--per-town", "40", "--epochs", "2", "--threads", "1"]
    assert horizon_training.main([str(trained), "--out", str(out), *options]) == 0
    assert "1 held-out towns: pitch off by" in capsys.readouterr().out
    before, after = load_checkpoint(trained / "checkpoint.pt"), load_checkpoint(out)
    assert before.horizon_head() is None
    for name, value in before.average["hydranet"].items():
        assert torch.equal(value, after.average["hydranet"][name])
    report = export.export_bundle(after, tmp_path / "bundle", "0.0.1")
    assert report.differences["horizon"] < 1e-4
    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.manifest.level_by == "horizon"
    assert bundle.plan().horizon == ("hydranet", "horizon")
    assert (
        "level_by" not in (export.export_bundle(before, tmp_path / "plain", "0.0.1").folder / "bundle.toml").read_text()
    )


def test_equal_seeds_give_equal_heads(trained, tmp_path):
    options = ["--per-town", "8", "--epochs", "1", "--threads", "1"]
    for name in "ab":
        assert horizon_training.main([str(trained), "--out", str(tmp_path / name), *options]) == 0
    first, second = (load_checkpoint(tmp_path / name).horizon for name in "ab")
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_deployed_head_computes_what_the_trained_one_does():
    from octobev.models.onnx_forms import HorizonOfMap

    torch.manual_seed(1)
    net, head = HydraNet(HYDRANET).eval(), HorizonHead(HYDRANET)
    for name, value in head.state_dict().items():
        if "running" in name:
            value.add_(torch.rand(value.shape))
    head.eval()
    feature_map = torch.rand((1, HYDRANET.feature_channels, *HYDRANET.feature_shape))
    with torch.no_grad():
        wanted = head(net.rows(feature_map))
        given = HorizonOfMap(head, net.position)(feature_map)
    assert wanted.shape == (8, 2)
    np.testing.assert_allclose(given, wanted, atol=1e-4)


def test_folder_without_towns_is_refused(trained, tmp_path, capsys):
    save_checkpoint(load_checkpoint(trained / "checkpoint.pt"), tmp_path / "checkpoint.pt")
    assert horizon_training.main([str(tmp_path), "--out", str(tmp_path / "out.pt")]) == 1
    assert "not the directory of a training" in capsys.readouterr().err
    assert horizon_training.main([str(trained), "--out", str(tmp_path / "out.pt"), "--epochs", "0"]) == 1
    assert "--epochs must be at least 1, got 0" in capsys.readouterr().err
    assert not (tmp_path / "out.pt").exists()
