import sys
from types import SimpleNamespace

import pytest
from octobev.errors import InvalidArgument
from octobev.models import export, train


@pytest.fixture
def without_torch(monkeypatch):
    for name in [name for name in sys.modules if name == "torch" or name.startswith("torch.")]:
        monkeypatch.delitem(sys.modules, name)
    for name in ("net", "losses", "checkpoint", "training", "topdown_net", "topdown_losses", "lifting", "validation"):
        monkeypatch.delitem(sys.modules, f"octobev.models.{name}", raising=False)
    monkeypatch.setitem(sys.modules, "torch", None)


def test_training_without_torch_says_what_to_install(without_torch, tmp_path, capsys):
    assert train.main(["--out", str(tmp_path / "out")]) == 1
    assert "pip install 'octobev[train]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_export_without_torch_says_what_to_install(without_torch, tmp_path, capsys):
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.write_bytes(b"")
    assert export.main([str(checkpoint), "--out", str(tmp_path)]) == 1
    assert "pip install 'octobev[train]'" in capsys.readouterr().err


def test_missing_checkpoint_is_named(tmp_path, capsys):
    assert export.main([str(tmp_path / "none.pt"), "--out", str(tmp_path)]) == 1
    assert "none.pt: no such checkpoint" in capsys.readouterr().err


def test_seeds_of_the_three_purposes_never_meet():
    ranges = (train.TRAINING_TOWNS, train.VALIDATION_TOWNS, train.TEST_TOWNS)
    assert sum(map(len, ranges)) == len(set().union(*ranges))


def test_towns_of_a_training_are_training_towns_each_once():
    for seed in (0, 3, 19, 12345):
        towns = train.training_towns(seed, 600)
        assert len(set(towns)) == 600
        assert set(towns) <= set(train.TRAINING_TOWNS)


def test_seeds_draw_different_towns():
    assert train.training_towns(0, 100)[0] != train.training_towns(1, 100)[0]


def refused(capsys, *arguments):
    """What the command says when it refuses."""
    assert train.main(["--out", "unused", "--steps", "1", *arguments]) == 1
    return capsys.readouterr().err


def test_unknown_rigs_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("torch")
    assert "rig must be reference, six, fisheye or a rig.toml, got 'seven'" in refused(capsys, "--rig", "seven")
    assert "none.toml" in refused(capsys, "--rig", "none.toml")
    assert not (tmp_path / "unused").exists()


def test_contradictions_of_own_data_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("torch")
    assert "towns must be 1 to 10000, got 0" in refused(capsys, "--towns", "0")
    assert "validation drive must be held out" in refused(capsys, "--drive", "a", "--validation-drive", "a")
    assert "share of drives must be above 0" in refused(capsys, "--drive", "a", "--drive-share", "1")
    assert "learning rate must be above 0, got -1.0" in refused(capsys, "--learning-rate", "-1")
    assert "none.pt: no such checkpoint" in refused(capsys, "--start", "none.pt")


def test_help_shows_how_to_train_on_own_data(capsys):
    with pytest.raises(SystemExit, match="0"):
        train.main(["--help"])
    text = capsys.readouterr().out
    assert "--start DIR/checkpoint.pt --learning-rate" in text
    assert "--validation-drive friday.mcap" in text


def test_start_and_resume_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train.main(["--out", str(tmp_path), "--resume", "--start", "a.pt"])
    assert "not allowed with argument" in capsys.readouterr().err


@pytest.mark.parametrize("count", [0, 10_001])
def test_number_of_towns_is_bounded(count):
    with pytest.raises(InvalidArgument, match="towns must be 1 to 10000"):
        train.training_towns(0, count)


def test_steps_and_minutes_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        train.main(["--out", str(tmp_path), "--steps", "1", "--minutes", "1"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_report_at_the_end_has_no_loss_of_no_step(capsys):
    train.Watcher(1.0).report(SimpleNamespace(step=7, done=1.0, terms={}, scores={"iou": 0.5}))
    assert capsys.readouterr().err.splitlines() == ["100.0 %  step 7", "step 7: iou 0.500"]
