import json

import cv2
import numpy as np
import pytest
from octobev.errors import DriveError, MissingFile
from octobev.fusion.grid import BevGrid
from octobev.fusion.pose import Pose
from octobev.fusion.rig import Camera, Rig
from octobev.models import recorded
from octobev.models.mountings import network_intrinsics
from octobev.models.recorded import drive_files, same_drive
from octobev.models.sequences import GRID, LAYERS, VISIBLE, read_sequences
from octobev.replay.drive import UNKNOWN, DriveStep, GroundTruth
from octobev.replay.recorder import Recorder
from octobev.replay.rigs import reference_rig
from octobev.replay.synthetic import SyntheticDrive
from octobev.runtime.frames import Frame, FrameSet, PixelFormat

MS = 1_000_000
START_NS = 1_600_000_000 * 1000 * MS
SIZE = (64, 32)
SETS = 4
RIG = Rig(
    tuple(
        Camera(camera.name, camera.intrinsics.resized(160, 100), camera.ego_from_camera)
        for camera in reference_rig().select(("front_main", "front_wide", "rear"))
    ),
    "small",
)


def way(t):
    return Pose.planar(0.9 * t, 0.02 * t * t, 0.05 * t)


def layers_at(t, names=(*LAYERS, "visible", "direction_rad")):
    """The class of each layer is in its own columns, and a row says the time."""
    layers = {name: np.zeros(GRID.shape, np.uint8) for name in (*LAYERS, "visible")}
    for number, name in enumerate(layers):
        layers[name][:, 10 * number : 10 * number + 5] = 1
        layers[name][t] = 1
    layers["direction_rad"] = np.full(GRID.shape, np.nan, np.float32)
    layers["direction_rad"][t] = 0.25
    return {name: layers[name] for name in names}


def image(t, camera):
    random = np.random.default_rng((t, camera))
    return cv2.resize(random.integers(0, 256, (5, 8, 3), dtype=np.uint8), (160, 100))


def step(t, *, gap_ms=200, missing=(), layers=None, posed=True, grid=GRID, bad=()):
    """A set whose cameras fire 10 ms apart, the ego being on its way."""
    moment = START_NS + t * gap_ms * MS
    frames = []
    for number, name in enumerate(RIG.names):
        pose = way(t + 0.05 * (number - 2)) if posed else None
        data = cv2.imencode(".png", image(t, number))[1].tobytes()
        if name not in missing:
            data = data[:60] if name in bad else data
            frames.append(Frame(name, moment + 10 * (number - 2) * MS, data, PixelFormat.PNG, pose))
    moment = max(frame.timestamp_ns for frame in frames)
    layers = layers_at(t) if layers is None else layers
    truth = GroundTruth(moment, grid, layers) if layers else None
    return DriveStep(FrameSet(moment, tuple(frames), way(t) if posed else None), truth)


def write(path, steps):
    with Recorder(path, RIG) as recorder:
        for one in steps:
            recorder.write_frames(one.frame_set)
            if one.truth is not None:
                recorder.write_truth(one.truth)
    return str(path)


def read(path, folder, said=None):
    files, summary = drive_files(path, folder, SIZE, SETS, (said if said is not None else []).append)
    return [read_sequences(file) for file in files], summary


def test_sets_in_a_row_become_stretches(tmp_path):
    said = []
    (sequences,), summary = read(write(tmp_path / "d.mcap", map(step, range(9))), tmp_path / "out", said)
    assert summary == "2 stretches out of 9 sets"
    assert said[-1] == "reading d: set 9 of about 9"
    assert sequences.images.shape == (2, SETS, 3, 32, 64, 3)
    assert not sequences.labels.size
    assert sequences.taken.all()
    for stretch in range(2):
        for index in range(SETS):
            t = SETS * stretch + index
            np.testing.assert_allclose(sequences.world_from_ego[stretch, index], way(t).matrix, atol=1e-9)
            for number in range(3):
                fired = way(t + 0.05 * (number - 2)).matrix
                np.testing.assert_allclose(sequences.world_from_fired[stretch, index, number], fired, atol=1e-9)
            truth = layers_at(t)
            for plane, name in enumerate((*LAYERS, "visible")):
                np.testing.assert_array_equal(sequences.layers[stretch, index, plane], truth[name])
            np.testing.assert_array_equal(
                sequences.direction_rad[stretch, index], truth["direction_rad"].astype(np.float16)
            )


def test_images_and_lenses_are_as_the_runtime_makes_them(tmp_path):
    (sequences,), _ = read(write(tmp_path / "d.mcap", map(step, range(4))), tmp_path / "out")
    for number, camera in enumerate(RIG):
        lens, wanted = sequences.cameras(0)[number].intrinsics, network_intrinsics(camera.intrinsics, *SIZE)
        assert lens.model is wanted.model
        for name in ("width", "height", "fx", "fy", "cx", "cy"):
            assert getattr(lens, name) == pytest.approx(getattr(wanted, name))
        middle = image(2, number)[10:90]  # 160x80, the shape of the network's image
        by_area = cv2.resize(middle, SIZE, interpolation=cv2.INTER_AREA)[:, :, ::-1].astype(int)
        assert np.abs(sequences.images[0, 2, number] - by_area).max() <= 2


def test_a_synthetic_drive_comes_back_as_it_was_drawn(tmp_path):
    drive = SyntheticDrive(5, 1.0, 4.0, (160, 100), rig=RIG, encode=None)
    steps = list(drive.steps())
    (sequences,), _ = read(write(tmp_path / "d.mcap", steps), tmp_path / "out")
    for index, one in enumerate(steps):
        for plane, name in enumerate((*LAYERS, "visible")):
            np.testing.assert_array_equal(sequences.layers[0, index, plane], one.truth.layers[name])
    assert 0.05 < sequences.layers[0, :, LAYERS.index("drivable")].mean() < 0.95


def test_layers_that_the_truth_does_not_have_are_unknown(tmp_path):
    some = [step(t, layers=layers_at(t, ("drivable", "occupancy"))) for t in range(4)]
    (sequences,), _ = read(write(tmp_path / "d.mcap", some), tmp_path / "out")
    for plane, name in enumerate(LAYERS):
        known = sequences.layers[0, :, plane] != UNKNOWN
        assert known.all() if name in ("drivable", "occupancy") else not known.any()
    assert (sequences.layers[0, :, VISIBLE] == 1).all()
    assert np.isnan(sequences.direction_rad).all()


def test_cells_may_be_unknown(tmp_path):
    layers = layers_at(0, ("drivable", "visible"))
    layers["drivable"][3] = layers["visible"][5] = UNKNOWN
    (sequences,), _ = read(write(tmp_path / "d.mcap", [step(t, layers=layers) for t in range(4)]), tmp_path / "out")
    assert (sequences.layers[0, 0, 0, 3] == UNKNOWN).all()
    assert (sequences.layers[0, 0, VISIBLE, 5] == 1).all()
    assert (sequences.layers[0, 0, VISIBLE, 6, 0:50] == 0).all()


def test_cameras_without_a_frame_have_no_image(tmp_path):
    steps = [step(t, missing=("front_wide",) if t == 1 else (), bad=("rear",) if t == 2 else ()) for t in range(4)]
    (sequences,), summary = read(write(tmp_path / "d.mcap", steps), tmp_path / "out")
    wanted = np.ones((SETS, 3), bool)
    wanted[1, 1] = wanted[2, 2] = False
    np.testing.assert_array_equal(sequences.taken[0], wanted)
    assert not sequences.images[0, ~wanted].any()
    assert "2 frames without an image (" in summary


def test_what_the_drive_lost_is_said(tmp_path):
    path = write(tmp_path / "d.mcap", map(step, range(5)))
    whole = (tmp_path / "d.mcap").read_bytes()
    (tmp_path / "d.mcap").write_bytes(whole[: len(whole) - 2000])
    _, summary = read(path, tmp_path / "out")
    assert "1 stretches out of 5 sets (" in summary


def test_stretches_with_a_set_without_any_image_are_left_out(tmp_path):
    steps = [step(t, bad=RIG.names if t == 2 else ()) for t in range(8)]
    (sequences,), summary = read(write(tmp_path / "d.mcap", steps), tmp_path / "out")
    assert summary.startswith("1 stretches out of 8 sets")
    np.testing.assert_allclose(sequences.world_from_ego[0, 0], way(4).matrix, atol=1e-9)


def test_sets_without_truth_are_passed_over(tmp_path):
    steps = [step(t, layers={} if t % 2 else None) for t in range(8)]
    (sequences,), summary = read(write(tmp_path / "d.mcap", steps), tmp_path / "out")
    assert summary == "1 stretches out of 8 sets, 4 without ground truth"
    np.testing.assert_allclose(sequences.world_from_ego[0, 3], way(6).matrix, atol=1e-9)


def test_a_gap_ends_a_stretch(tmp_path):
    steps = [step(t) for t in (0, 1, 2, *range(10, 14))]
    (sequences,), _ = read(write(tmp_path / "d.mcap", steps), tmp_path / "out")
    np.testing.assert_allclose(sequences.world_from_ego[0, 0], way(10).matrix, atol=1e-9)


def test_sets_of_fast_drives_are_thinned_out(tmp_path):
    steps = [step(t, gap_ms=40) for t in range(8)]
    (sequences,), _ = read(write(tmp_path / "d.mcap", steps), tmp_path / "out")
    np.testing.assert_allclose(sequences.world_from_ego[0, 3], way(6).matrix, atol=1e-9)


def test_a_drive_is_read_once(tmp_path, monkeypatch):
    path = write(tmp_path / "d.mcap", map(step, range(4)))
    first, summary = drive_files(path, tmp_path / "out", SIZE, SETS, print)
    monkeypatch.setattr(recorded, "_Reader", None)
    assert drive_files(path, tmp_path / "out", SIZE, SETS, print) == (first, summary)


def test_a_reading_that_was_stopped_is_taken_up_again(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "SEQUENCES_PER_TOWN", 1)
    path = write(tmp_path / "d.mcap", map(step, range(8)))

    def stop(text):
        if "set 7" in text:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drive_files(path, tmp_path / "out", SIZE, SETS, stop)
    (kept,) = (tmp_path / "out").glob("*.npz")
    before = kept.stat().st_mtime_ns
    files, summary = drive_files(path, tmp_path / "out", SIZE, SETS, print)
    assert [file.name[-9:] for file in files] == ["_0000.npz", "_0001.npz"]
    assert files[0].stat().st_mtime_ns == before
    assert summary == "2 stretches out of 8 sets"


def test_a_file_that_was_deleted_is_made_again(tmp_path):
    path = write(tmp_path / "d.mcap", map(step, range(4)))
    ((file,), _) = drive_files(path, tmp_path / "out", SIZE, SETS, print)
    file.unlink()
    assert drive_files(path, tmp_path / "out", SIZE, SETS, print)[0] == [file]
    assert len(read_sequences(file)) == 1


def test_a_drive_that_changed_is_read_again(tmp_path):
    path = write(tmp_path / "d.mcap", map(step, range(4)))
    (before, _) = drive_files(path, tmp_path / "out", SIZE, SETS, print)
    (tmp_path / "d.mcap").unlink()
    write(tmp_path / "d.mcap", map(step, range(8)))
    (after, summary) = drive_files(path, tmp_path / "out", SIZE, SETS, print)
    assert not set(before) & set(after)
    assert summary == "2 stretches out of 8 sets"


def test_rubbish_beside_the_files_is_no_listing(tmp_path):
    path = write(tmp_path / "d.mcap", map(step, range(4)))
    (files, _) = drive_files(path, tmp_path / "out", SIZE, SETS, print)
    (listing,) = (tmp_path / "out").glob("*.json")
    assert json.loads(listing.read_text())["files"] == [file.name for file in files]
    listing.write_text("[")
    assert drive_files(path, tmp_path / "out", SIZE, SETS, print)[0] == files


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([step(t, layers={}) for t in range(5)], "sets with ground truth must be at least 4, got 0 of 5"),
        (
            [step(t, posed=False) for t in range(5)],
            "sets with ground truth and an ego pose must be at least 4, got 0 of 5",
        ),
        (
            [step(t) for t in (0, 1, 2, 20, 21)],
            "sets with ground truth and an ego pose, at most 1 s apart must be at least 4, got 3 of 5",
        ),
        ([step(t, bad=RIG.names) for t in range(5)], "sets with readable images must be at least 4, got "),
    ],
)
def test_drives_that_nothing_can_be_learned_from_are_refused(tmp_path, steps, message):
    path = write(tmp_path / "d.mcap", steps)
    with pytest.raises(DriveError, match=rf"d\.mcap: drive is too little to learn from: {message}"):
        drive_files(path, tmp_path / "out", SIZE, SETS, print)


def test_truth_on_another_grid_is_refused(tmp_path):
    grid = BevGrid(-24.0, 40.0, -24.0, 24.0, 1.0)
    layers = {"drivable": np.zeros(grid.shape, np.uint8)}
    path = write(tmp_path / "d.mcap", [step(0, grid=grid, layers=layers)])
    with pytest.raises(
        DriveError, match=r"d\.mcap: ground truth at \d+ ns: grid must be BevGrid\(.*0\.5\), got BevGrid"
    ):
        drive_files(path, tmp_path / "out", SIZE, SETS, print)


def test_truth_in_probabilities_is_refused(tmp_path):
    layers = {"drivable": np.full(GRID.shape, 128, np.uint8)}
    path = write(tmp_path / "d.mcap", [step(0, layers=layers)])
    with pytest.raises(DriveError, match=r"layer drivable must be 0, 1 or 255 \(unknown\), got 128"):
        drive_files(path, tmp_path / "out", SIZE, SETS, print)


def test_a_drive_that_is_not_there_is_named(tmp_path):
    with pytest.raises(MissingFile, match=r"none\.mcap: no such drive"):
        drive_files(str(tmp_path / "none.mcap"), tmp_path / "out", SIZE, SETS, print)


def test_names_of_one_drive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert same_drive("d.mcap", str(tmp_path / "d.mcap"))
    assert not same_drive("d.mcap", "e.mcap")
    assert not same_drive("tables#scene-1", "tables#scene-2")
