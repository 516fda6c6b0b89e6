from __future__ import annotations

import logging

import numpy as np
import onnxruntime
import pytest
from octobev.errors import BundleError, InvalidArgument
from octobev.runtime.arrangement import Arrangement
from octobev.runtime.bundle import open_bundle
from octobev.runtime.cpu import usable_cpus
from octobev.runtime.engine import Runtime
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.profile import Choice, Machine, Measured, Profile, write_profile
from octobev.runtime.settle import settle

CPU = ("CPUExecutionProvider",)
CAMERAS = ("front", "left", "right", "rear", "roof")


@pytest.fixture
def bundle(write_bundle):
    return open_bundle(write_bundle())


@pytest.fixture
def both(write_bundle, manifest_text, hydra_model):
    """A bundle with an int8 variant (which computes the same)."""
    text = manifest_text + '[networks.hydranet.variants.int8]\nfile = "h8.onnx"\nsha256 = "{sha256 of h8.onnx}"\n'
    return open_bundle(write_bundle(text, {"h8.onnx": hydra_model()}, name="both"))


@pytest.fixture
def four_cpus(monkeypatch):
    """A machine with four CPUs, whatever there is."""
    for module in ("settle", "profile"):
        monkeypatch.setattr(f"octobev.runtime.{module}.usable_cpus", lambda: 4)


def remember(bundle, choice: Choice) -> str:
    measured = Measured("2026-01-02T03:04:05Z", "0.1.0", "synthetic-1", "2 of 32x16", 10.0, 20.0)
    profile = Profile(1, bundle.manifest.name, bundle.sha256, Machine.this(), choice, measured)
    write_profile(profile)
    return profile.name


def frame_set(number: int = 0) -> FrameSet:
    random = np.random.default_rng(number)
    images = [random.integers(0, 256, (16, 32, 3), dtype=np.uint8) for _ in CAMERAS]
    frames = [Frame(name, number, image) for name, image in zip(CAMERAS, images, strict=True)]
    return FrameSet(number, tuple(frames))


def test_without_a_profile_every_cpu_runs_a_camera(bundle, profiles):
    settled = settle(bundle)
    assert settled.arrangement == Arrangement.side_by_side(usable_cpus())
    assert settled.profile is None
    assert settled.bundle.providers == bundle.manifest.runtime.providers


def test_runtime_picks_its_profile_up_and_says_so(bundle, make_rig, profiles, four_cpus, caplog):
    name = remember(bundle, Choice("fp32", CPU, threads=3, runs_at_once=2))
    with caplog.at_level(logging.INFO, "octobev.runtime.profile"), Runtime(bundle, make_rig(*CAMERAS)) as runtime:
        provenance = runtime.step(frame_set()).provenance
    assert runtime.arrangement == Arrangement(3, 2)
    assert (provenance.threads, provenance.runs_at_once, provenance.profile) == (3, 2, name)
    assert provenance.batches == (("hydranet", 1),)
    assert dict(provenance.providers)["hydranet"] == CPU
    assert f"profile {name}: fp32 on CPUExecutionProvider, 3 threads, 2 runs at once" in caplog.text


def test_no_profile_when_none_is_wanted(bundle, make_rig, profiles, four_cpus):
    remember(bundle, Choice("fp32", CPU, 3, 2))
    with Runtime(bundle, make_rig(), profile=None) as runtime:
        assert runtime.arrangement == Arrangement.side_by_side(4)
        assert runtime.provenance.profile is None


def test_threads_that_are_asked_for_win_over_a_profile(both, profiles, four_cpus):
    remember(both, Choice("fp32", CPU, threads=3, runs_at_once=1))
    settled = settle(both, threads=2)
    assert settled.arrangement == Arrangement.side_by_side(2)
    assert settled.bundle.variant == "fp32"  # the rest of it stays
    assert settle(both, threads=3).arrangement == Arrangement(3, 1)


def test_variant_that_is_asked_for_puts_a_profile_aside(both, profiles, four_cpus):
    name = remember(both, Choice("int8", CPU, threads=3, runs_at_once=1))
    assert (settle(both).bundle.variant, settle(both).profile) == ("int8", name)
    settled = settle(both, variant="fp32")
    assert settled.bundle.variant == "fp32"
    assert settled.profile is None
    assert settled.arrangement == Arrangement.side_by_side(4)


def test_wrong_arguments_are_refused(bundle):
    with pytest.raises(InvalidArgument, match="threads must be at least 1, got 0"):
        settle(bundle, threads=0)
    with pytest.raises(InvalidArgument, match="profile must be \"auto\", None or a Choice, got 'mine'"):
        settle(bundle, "mine")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "threads must be at least 1, got 0"),
        ((2, 3), r"runs_at_once must be 1\.\.2, the threads, got 3"),
        ((2, 0), r"runs_at_once must be 1\.\.2"),
        ((2, 1, 0), "batch must be at least 1"),
    ],
)
def test_impossible_arrangements_are_refused(arguments, message):
    with pytest.raises(InvalidArgument, match=message):
        Arrangement(*arguments)


@pytest.mark.parametrize(("threads", "runs", "inside"), [(4, 4, 1), (4, 1, 4), (4, 2, 3), (16, 8, 9)])
def test_threads_that_begin_no_run_work_inside(threads, runs, inside):
    assert Arrangement(threads, runs).network_threads == inside


@pytest.mark.parametrize("batch", ["batch", 1])
def test_results_do_not_depend_on_the_arrangement(write_bundle, make_rig, hydra_model, manifest_text, batch):
    manifest = manifest_text.replace('[networks.hydranet.outputs.bright]\ntensor = "bright"\nkind = "raw"\n', "")
    bundle = open_bundle(write_bundle(manifest, {"hydra.onnx": hydra_model(batch)}))
    digests = set()
    for arrangement in [(1, 1), (3, 3), (3, 1), (3, 2), (4, 2), (1, 1, 5), (2, 2, 3), (2, 1, 2), (2, 1, 99)]:
        with Runtime(bundle, make_rig(*CAMERAS), profile=Choice("fp32", CPU, *arrangement)) as runtime:
            digests.add(digest([runtime.step(frame_set(number)) for number in range(3)]))
            expected = min((*arrangement, 1)[2], len(CAMERAS)) if batch == "batch" else 1
            assert runtime.provenance.batches == (("hydranet", expected),)
    assert len(digests) == 1


def test_raw_output_without_the_batch_axis_keeps_cameras_apart(write_bundle, make_rig, hydra_model):
    bundle = open_bundle(write_bundle(models={"hydra.onnx": hydra_model("batch")}))
    with Runtime(bundle, make_rig(*CAMERAS), profile=Choice("fp32", CPU, 1, 1, 4)) as runtime:
        assert runtime.provenance.batches == (("hydranet", 1),)
    with Runtime(bundle, make_rig(*CAMERAS), ["segmentation"], profile=Choice("fp32", CPU, 1, 1, 4)) as runtime:
        assert runtime.provenance.batches == (("hydranet", 4),)


def test_provider_that_is_gone_is_an_error_that_names_the_profile(bundle, make_rig, profiles, four_cpus):
    name = remember(bundle, Choice("fp32", ("CUDAExecutionProvider",), 1, 1))
    message = rf"CUDAExecutionProvider \(profile {name} chose CUDAExecutionProvider; octobev bundle tune --forget"
    with pytest.raises(BundleError, match=message):
        Runtime(bundle, make_rig())


def test_provider_that_falls_back_to_the_cpu_is_an_error(bundle, make_rig, monkeypatch):
    """ONNX Runtime only prints something when the libraries of a provider are missing."""
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    azure = Choice("fp32", ("AzureExecutionProvider",), 1, 1)
    with pytest.raises(BundleError, match=r"provider must be one that loads here.*got AzureExecutionProvider"):
        Runtime(bundle, make_rig(), profile=azure)


def digest(steps) -> str:
    import hashlib

    sha256 = hashlib.sha256()
    for predictions in steps:
        predictions.digest_into(sha256)
    return sha256.hexdigest()
