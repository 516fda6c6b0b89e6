"""The whole step, on networks so small that their results are known: image classes are the colours of the image."""

import hashlib
import threading

import cv2
import numpy as np
import pytest
from colours import HEIGHT, POISON, WIDTH, make_bundle, save
from octobev.errors import InvalidArgument, NetworkError, RigError
from octobev.fusion.pose import Pose
from octobev.runtime.bundle import open_bundle
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet, PixelFormat
from onnx import TensorProto, helper

STEP_NS = 100_000_000
START_NS = 1_700_000_000_000_000_000
RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def picture(colour):
    return np.full((HEIGHT, WIDTH, 3), colour[::-1], dtype=np.uint8)


def frame_set(number=0, x_m=0.0, **images):
    """Frames of the named cameras, the ego at x."""
    pose = Pose.planar(x_m, 0, 0)
    timestamp_ns = START_NS + number * STEP_NS
    frames = tuple(Frame(name, timestamp_ns, image, world_from_ego=pose) for name, image in images.items())
    return FrameSet(timestamp_ns, frames, pose)


def cell(runtime, x_m, y_m):
    (i, j), _ = runtime.bundle.manifest.grid.cell_of(np.array([x_m, y_m]))
    return int(i), int(j)


def test_what_the_front_camera_sees_lies_ahead(bundle, rig):
    image = picture(RED)
    image[:, : WIDTH // 2] = GREEN[::-1]
    with Runtime(bundle, rig) as runtime:
        predictions = runtime.step(frame_set(front=image, rear=picture((0, 0, 0))))
        left, right, behind = (cell(runtime, *at) for at in ((10.0, 2.0), (10.0, -2.0), (-6.0, 0.0)))
    layout = predictions.road_layout
    assert layout["line"][left] > 0.9
    assert layout["road"][left] < 0.1
    assert layout["road"][right] > 0.9
    assert layout["road"][behind] < 0.1
    assert layout.observed[behind]
    assert (layout.seen_by[left], layout.seen_by[behind]) == (1, 2)
    assert predictions.occupancy.probability[left] < 0.5
    assert float(predictions.camera_outputs["brightness"]["front"].values) == pytest.approx(85.0)
    assert predictions.camera_mask.tolist() == [True, True]


def test_a_step_that_was_broken_off_is_not_gone_on_from(bundle, rig):
    def interrupt(network, inputs):
        raise KeyboardInterrupt

    with Runtime(bundle, rig, threads=2) as runtime:
        runtime.step(frame_set(0, front=picture(RED)))
        runtime.watch_inputs(interrupt)
        with pytest.raises(KeyboardInterrupt):
            runtime.step(frame_set(1, front=picture(RED)))
        runtime.watch_inputs(None)
        assert runtime.step(frame_set(2, front=picture(RED))).state.reset_reason == "the step before was broken off"
        assert runtime.step(frame_set(3, front=picture(RED))).state.carried


def test_only_wanted_outputs_are_there(bundle, rig):
    with Runtime(bundle, rig, outputs={"occupancy"}) as runtime:
        predictions = runtime.step(frame_set(front=picture(BLUE), rear=picture(RED)))
    assert list(predictions.bev) == ["occupancy"]
    assert not predictions.camera_outputs
    with Runtime(bundle, rig, outputs={"brightness"}) as runtime:
        predictions = runtime.step(frame_set(front=picture(BLUE), rear=picture(RED)))
    assert not predictions.bev
    assert list(predictions.camera_outputs) == ["brightness"]


def brightness_of(network, source, *changes):
    """Entry of a per-camera network that gives the brightness of its image, as text of a manifest."""
    entry = source[source.index("[networks.colours]") : source.index("[networks.colours.outputs")]
    for before, after in (("networks.colours", f"networks.{network}"), *changes):
        entry = entry.replace(before, after)
    return f'{entry}[networks.{network}.outputs.{network}]\ntensor = "brightness"\nkind = "raw"\n'


def test_networks_of_the_same_input_share_its_images(bundle, rig):
    file = bundle.path / "bundle.toml"
    text = file.read_text()
    text += brightness_of("twin", text) + brightness_of("framed", text, ("dtype =", 'fit = "letterbox"\ndtype ='))
    file.write_text(text)
    broken = np.frombuffer(b"no image", dtype=np.uint8)
    with Runtime(open_bundle(bundle.path), rig, ["brightness", "twin", "framed"], threads=2) as runtime:
        for number, front in enumerate((picture(RED), picture(GREEN), broken, picture(BLUE))):
            frames = frame_set(number, rear=picture((30, 30, 30)))
            pixel_format = PixelFormat.JPEG if front is broken else PixelFormat.BGR8
            frame = Frame("front", frames.timestamp_ns, front, pixel_format, frames.world_from_ego)
            step = runtime.step(FrameSet(frames.timestamp_ns, (frame, *frames.frames), frames.world_from_ego))
            given = step.camera_outputs
            assert given["twin"].keys() == given["brightness"].keys() == given["framed"].keys()
            assert {key: float(value.values) for key, value in given["twin"].items()} == {
                **({} if front is broken else {"front": 85.0}),
                "rear": 30.0,
            }
            prepared = [span.cameras for span in step.spans if span.stage == "preprocess"]
            assert prepared.count(("rear",)) == 2  # once for two networks, once for the one that wants it otherwise


def test_unknown_output_is_refused(bundle, rig):
    with pytest.raises(InvalidArgument, match=r"outputs of bundle colours must be among .*road_layout.*, got lanes"):
        Runtime(bundle, rig, outputs=["lanes"])


def test_missing_camera_is_masked_and_named(bundle, rig):
    with Runtime(bundle, rig) as runtime:
        predictions = runtime.step(frame_set(front=picture(RED)))
        behind = cell(runtime, -6.0, 0.0)
    assert predictions.camera_mask.tolist() == [True, False]
    assert predictions.absences == {"rear": "no frame in this set"}
    assert not predictions.road_layout.observed[behind]
    assert predictions.road_layout.probability[:, behind[0], behind[1]].tolist() == [0, 0]
    assert "rear" not in predictions.camera_outputs["segmentation"]


def test_no_camera_at_all_observes_nothing(bundle, rig):
    with Runtime(bundle, rig) as runtime:
        predictions = runtime.step(FrameSet(START_NS, (), Pose.identity(), {"front": "unplugged"}))
    assert predictions.absences == {"front": "unplugged", "rear": "no frame in this set"}
    for output in predictions.bev.values():
        assert not output.observed.any()


def test_image_that_cannot_be_decoded_is_an_absence(bundle, rig):
    jpeg = cv2.imencode(".jpg", picture(RED))[1].tobytes()
    frames = (
        Frame("front", START_NS, jpeg, PixelFormat.JPEG),
        Frame("rear", START_NS, jpeg[: len(jpeg) // 8], PixelFormat.JPEG),
    )
    with Runtime(bundle, rig) as runtime:
        predictions = runtime.step(FrameSet(START_NS, frames))
    assert predictions.camera_mask.tolist() == [True, False]
    assert "rear" in predictions.absences


def test_nan_of_a_network_is_withheld_and_stays_out_of_the_map(bundle, rig):
    poisoned = picture(RED)
    poisoned[0, 0] = POISON
    with Runtime(bundle, rig) as runtime:
        first = runtime.step(frame_set(0, front=picture(RED), rear=picture(RED)))
        second = runtime.step(frame_set(1, front=poisoned, rear=picture(RED)))
        third = runtime.step(frame_set(2, front=picture(RED), rear=picture(RED)))
    assert set(second.invalid) == {"segmentation/front", "embedding/front"}
    assert "segmentation" in second.camera_outputs
    assert "front" not in second.camera_outputs["segmentation"]
    assert "brightness" in second.camera_outputs
    assert second.camera_mask.tolist() == [True, True]
    for predictions in (first, second, third):
        for output in predictions.bev.values():
            assert all(np.isfinite(array).all() for array in output.arrays().values())
    assert not third.invalid
    assert third.state.carried


def test_nan_of_a_topdown_network_is_withheld(tmp_path, models, rig):
    shape = [1, 1, 48, 32]
    nodes = [
        helper.make_node("Max", ["state_in", "lifted"], ["state_out"]),
        helper.make_node("Sub", ["lifted", "half"], ["below"]),
        helper.make_node("Sqrt", ["below"], ["layout"]),
    ]
    inputs = dict.fromkeys(("lifted", "state_in"), (TensorProto.FLOAT, shape))
    broken = save(nodes, {"half": np.float32(0.5)}, inputs, {"layout": shape, "state_out": shape})
    bundle = make_bundle(tmp_path, models | {"memory": broken})
    with Runtime(bundle, rig, outputs=["remembered"]) as runtime:
        predictions = runtime.step(frame_set(0, front=picture((0, 0, 0)), rear=picture((0, 0, 0))))
    assert "remembered" not in predictions.bev
    assert predictions.invalid == {"remembered": "NaN or Inf in remembered of network memory"}
    assert predictions.states["remembered"].restored == predictions.invalid["remembered"]


def test_stitched_map_follows_the_ego_and_remembers(bundle, rig):
    with Runtime(bundle, rig) as runtime:
        runtime.step(frame_set(0, front=picture(RED), rear=picture(RED)))
        predictions = runtime.step(frame_set(1, x_m=4.0, rear=picture((0, 0, 0))))
        beside = cell(runtime, 1.0, 0.25)  # was 5 m ahead; no camera sees it now
    layout = predictions.road_layout
    assert layout.seen_by[beside] == 0
    assert layout.observed[beside]
    assert layout["road"][beside] > 0.9


def test_recurrent_state_is_warped_by_the_ego_motion(bundle, rig):
    image = picture((0, 0, 0))
    image[:, : WIDTH // 2] = RED[::-1]
    with Runtime(bundle, rig, outputs=["remembered"]) as runtime:
        before = runtime.step(frame_set(0, front=image, rear=picture((0, 0, 0)))).bev["remembered"]
        after = runtime.step(frame_set(1, x_m=2.0)).bev["remembered"]
    ahead = before.probability[0, 30:40, 18:30]
    assert ahead.max() == pytest.approx(1.0)
    assert after.probability[0, 26:36, 18:30] == pytest.approx(ahead, abs=1e-5)  # 2 m are 4 cells
    assert np.array_equal(after.observed[26:36], before.observed[30:40])


def test_topdown_network_of_some_cameras_does_not_see_the_others(tmp_path, models, rig):
    bundle = make_bundle(tmp_path, models, topdown_cameras='["rear"]')
    with Runtime(bundle, rig, outputs=["remembered"]) as runtime:
        output = runtime.step(frame_set(front=picture(RED), rear=picture(RED))).bev["remembered"]
        ahead, behind = cell(runtime, 10.0, 0.0), cell(runtime, -6.0, 0.0)
    assert not output.observed[ahead]
    assert output.probability[0][behind] == pytest.approx(1.0)
    assert output.seen_by[behind] == 2


def test_rig_without_a_camera_of_the_bundle_is_refused(tmp_path, models, rig):
    bundle = make_bundle(tmp_path, models, topdown_cameras='["roof"]')
    with pytest.raises(RigError, match=r"networks.memory.cameras: camera must be one of rig two .*, got roof"):
        Runtime(bundle, rig)


@pytest.mark.parametrize(
    ("number", "reason"), [(-1, "time went back by 0.100 s"), (0, "time stood still"), (30, "gap of 3.000 s")]
)
def test_gap_or_backward_jump_begins_anew_and_says_so(bundle, rig, number, reason):
    with Runtime(bundle, rig) as runtime:
        runtime.step(frame_set(0, front=picture(RED), rear=picture(RED)))
        predictions = runtime.step(frame_set(number, rear=picture(RED)))
        ahead = cell(runtime, 10.0, 0.0)
    assert predictions.state.reset_reason == reason
    assert not predictions.road_layout.observed[ahead]
    assert not predictions.bev["remembered"].observed[ahead]


def test_reset_is_asked_for(bundle, rig):
    with Runtime(bundle, rig) as runtime:
        runtime.step(frame_set(0, front=picture(RED)))
        runtime.reset("new drive")
        predictions = runtime.step(frame_set(1))
    assert predictions.state.reset_reason == "new drive"
    assert not predictions.road_layout.observed.any()


def noise(seed):
    return np.random.default_rng(seed).integers(0, 70, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def digest(bundle, rig, threads):
    sha256 = hashlib.sha256()
    with Runtime(bundle, rig, threads=threads) as runtime:
        for number in range(4):
            images = {name: noise(10 * number + i) for i, name in enumerate(rig.names)}
            runtime.step(frame_set(number, x_m=0.7 * number, **images)).digest_into(sha256)
    return sha256.hexdigest()


@pytest.mark.parametrize(("pixel_format", "code"), [("nv12", cv2.COLOR_YUV2BGR_NV12), ("yuyv", cv2.COLOR_YUV2BGR_YUY2)])
def test_yuv_predicts_what_its_conversion_to_bgr_predicts(bundle, rig, pixel_format, code, yuv_of):
    kind, digests = PixelFormat(pixel_format), []
    yuv = yuv_of(np.maximum(picture(RED), noise(1) // 4), pixel_format)
    for data, given in ((yuv, kind), (cv2.cvtColor(yuv, code), PixelFormat.BGR8)):
        frames = tuple(Frame(name, START_NS, data, given) for name in rig.names)
        with Runtime(bundle, rig) as runtime:
            predictions = runtime.step(FrameSet(START_NS, frames))
        assert predictions.road_layout.observed.any()
        sha256 = hashlib.sha256()
        predictions.digest_into(sha256)
        digests.append(sha256.hexdigest())
    assert digests[0] == digests[1]


def test_any_number_of_threads_gives_the_same_bytes(bundle, rig):
    assert digest(bundle, rig, 1) == digest(bundle, rig, 2) == digest(bundle, rig, 5)


def test_predictions_outlive_the_next_step(bundle, rig):
    with Runtime(bundle, rig) as runtime:
        first = runtime.step(frame_set(0, front=noise(1), rear=noise(2)))
        before, after = hashlib.sha256(), hashlib.sha256()
        first.digest_into(before)
        runtime.step(frame_set(1, front=noise(3), rear=noise(4)))
        first.digest_into(after)
    assert before.hexdigest() == after.hexdigest()


def test_closing_leaves_no_thread_and_ends_stepping(bundle, rig):
    before = set(threading.enumerate())
    with Runtime(bundle, rig, threads=3) as runtime:
        runtime.step(frame_set(front=picture(RED), rear=picture(RED)))
        assert set(threading.enumerate()) > before
    assert set(threading.enumerate()) == before
    runtime.close()
    with pytest.raises(InvalidArgument, match="this runtime is closed"):
        runtime.step(frame_set())


def test_threads_must_be_positive(bundle, rig):
    with pytest.raises(InvalidArgument, match="threads must be at least 1, got 0"):
        Runtime(bundle, rig, threads=0)


def test_frames_of_other_cameras_are_ignored(bundle, rig):
    with Runtime(bundle, rig.select(["rear"])) as runtime:
        predictions = runtime.step(frame_set(front=picture(RED), rear=picture(RED)))
    assert predictions.cameras == ("rear",)
    assert predictions.camera_mask.tolist() == [True]


def test_ages_are_those_of_the_frames(bundle, rig):
    pose = Pose.identity()
    frames = (Frame("rear", START_NS - 30_000_000, picture(RED), world_from_ego=pose),)
    with Runtime(bundle, rig) as runtime:
        predictions = runtime.step(FrameSet(START_NS, frames, pose))
    assert predictions.camera_age_ns[1] == 30_000_000


def test_provenance_says_what_made_it(bundle, rig):
    with Runtime(bundle, rig, threads=1) as runtime:
        provenance = runtime.step(frame_set()).provenance
    assert provenance.bundle_name == "colours"
    assert provenance.bundle_sha256 == hashlib.sha256((bundle.path / "bundle.toml").read_bytes()).hexdigest()
    assert dict(provenance.providers)["memory"] == ("CPUExecutionProvider",)
    assert provenance.threads == 1
    assert "onnxruntime" in dict(provenance.versions)


def test_inputs_of_the_networks_can_be_watched(bundle, rig):
    seen = []
    with Runtime(bundle, rig, threads=1) as runtime:
        runtime.watch_inputs(lambda network, inputs: seen.append((network, sorted(inputs), inputs)))
        runtime.step(frame_set(front=picture(RED)))
        assert seen[0][:2] == ("colours", ["image"])
        assert seen[0][2]["image"].max() > 0
        assert [network for network, *_ in seen] == ["colours", "memory"]
        runtime.watch_inputs(None)
        runtime.step(frame_set(1))
    assert len(seen) == 2


def test_what_a_network_gives_can_be_spoiled_for_one_camera(bundle, rig):
    runs = []

    def spoil(cameras, outputs):
        runs.append(cameras)
        if cameras == ("rear",):
            outputs["segmentation"][:] = np.nan

    images = {"front": picture(RED), "rear": picture(RED)}
    with Runtime(bundle, rig, threads=1) as runtime:
        runtime.tamper("colours", spoil)
        assert set(runtime.step(frame_set(0, **images)).invalid) == {"segmentation/rear"}
        assert runs == [("front",), ("rear",)]
        runtime.tamper("colours", None)
        assert not runtime.step(frame_set(1, **images)).invalid
    assert len(runs) == 2


@pytest.mark.parametrize("threads", [1, 2])
def test_network_that_fails_withholds_its_outputs(bundle, rig, threads):
    def fail(cameras, outputs):
        raise NetworkError("network does not answer")

    with Runtime(bundle, rig, threads=threads) as runtime:
        runtime.tamper("memory", fail)
        predictions = runtime.step(frame_set(0, front=picture(RED), rear=picture(RED)))
        assert predictions.invalid == {"remembered": "network does not answer"}
        runtime.tamper("colours", fail)
        invalid = runtime.step(frame_set(1, front=picture(RED))).invalid
        assert invalid["segmentation/front"] == "network does not answer"


def test_only_networks_of_the_bundle_are_tampered_with(bundle, rig):
    with (
        Runtime(bundle, rig) as runtime,
        pytest.raises(InvalidArgument, match="network must be one of colours, memory, got lanes"),
    ):
        runtime.tamper("lanes", None)


def test_sequence_counts_steps(bundle, rig):
    with Runtime(bundle, rig) as runtime:
        assert [runtime.step(frame_set(n)).sequence for n in range(3)] == [0, 1, 2]
