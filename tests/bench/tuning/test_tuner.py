"""The questions and what is made of the answers; which side is fast is decided by the test."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import numpy as np
import onnxruntime
import pytest
from octobev.bench.spread import Turns
from octobev.bench.tuning import judge, trials
from octobev.bench.tuning import tuner as module
from octobev.bench.tuning.tuner import Tuner
from octobev.errors import BundleError, InvalidArgument, RigError
from octobev.runtime.bundle import open_bundle
from octobev.runtime.frames import Frame, FrameSet
from octobev.runtime.profile import Choice

CPU = ("CPUExecutionProvider",)
CAMERAS = ("front", "left", "right")
INT8 = '[networks.hydranet.variants.int8]\nfile = "h8.onnx"\nsha256 = "{sha256 of h8.onnx}"\n'


@pytest.fixture
def tune(make_rig, monkeypatch) -> Callable[..., module.Answer]:
    """Tune on four threads, where a choice takes the milliseconds that the test says."""
    monkeypatch.setattr(module, "usable_cpus", lambda: 4)
    monkeypatch.setattr(judge, "fast_int8", lambda: ("avx512_vnni",))
    monkeypatch.setattr("octobev.runtime.variants.fast_int8", lambda: ("avx512_vnni",))
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])

    def run(directory, cost: Callable[[Choice], float], **arguments) -> module.Answer:
        rounds = 4

        def turns(sides, _, **__) -> Turns:
            for sample in sides.values():
                assert sample() > 0  # it can step
            return Turns({side: (cost(msgspec.json.decode(side, type=Choice)),) * rounds for side in sides})

        monkeypatch.setattr(module, "take_turns", turns)
        random = np.random.default_rng(0)
        sets = [
            FrameSet(n, tuple(Frame(name, n, random.integers(0, 256, (16, 32, 3), np.uint8)) for name in CAMERAS))
            for n in range(2)
        ]
        arguments = {"threads": 4} | arguments
        return Tuner(open_bundle(directory), make_rig(*CAMERAS), **arguments).run(sets)

    return run


def question(answer: module.Answer, name: str) -> module.Question:
    return next(each for each in answer.questions if each.name == name)


def test_nothing_faster_leaves_everything_as_it_is(write_bundle, tune):
    answer = tune(write_bundle(), lambda choice: 100.0)
    assert answer.choice == answer.default == Choice("fp32", CPU, 4, 4)
    assert answer.ratio is None
    assert [each.name for each in answer.questions] == ["networks", "cameras at once", "threads", "cameras in a run"]


def test_each_question_goes_on_from_what_was_found(write_bundle, tune):
    answer = tune(write_bundle(), lambda choice: 10.0 * choice.threads + choice.runs_at_once)
    assert question(answer, "cameras at once").taken == Choice("fp32", CPU, 4, 1)
    assert question(answer, "threads").taken == Choice("fp32", CPU, 1, 1)
    assert answer.choice == Choice("fp32", CPU, 1, 1)
    assert answer.ratio is not None
    assert answer.ratio.median == pytest.approx(11 / 44)
    assert (answer.default_ms.median, answer.ms.median) == (44.0, 11.0)


def test_what_does_not_hold_in_the_check_is_not_taken(write_bundle, tune):
    seen = set()

    def cost(choice: Choice) -> float:
        known = choice in seen
        seen.add(choice)
        return 100.0 if choice.runs_at_once == 4 or known else 50.0  # fast the first time only

    answer = tune(write_bundle(), cost)
    assert question(answer, "cameras at once").taken.runs_at_once == 1
    assert answer.questions[-1].name == "check"
    assert answer.choice == answer.default
    assert answer.ratio is None


def test_one_thread_has_nothing_to_spread(write_bundle, tune):
    answer = tune(write_bundle(), lambda choice: 100.0, threads=1)
    assert [each.name for each in answer.questions] == ["networks", "cameras in a run"]


def test_variant_that_is_faster_is_taken_and_its_difference_known(write_bundle, manifest_text, hydra_model, tune):
    directory = write_bundle(manifest_text + INT8, {"h8.onnx": hydra_model()})
    answer = tune(directory, lambda choice: 100.0 if choice.variant == "int8" else 50.0)
    assert answer.default.variant == "int8"
    assert answer.choice.variant == "fp32"
    int8, fp32 = question(answer, "networks").trials
    assert fp32.difference is None
    assert int8.difference is not None
    assert int8.difference.largest == 0.0  # the same file, after all


def test_int8_is_not_taken_where_its_sums_may_saturate(write_bundle, manifest_text, hydra_model, tune, monkeypatch):
    for name in ("octobev.bench.tuning.judge.fast_int8", "octobev.runtime.variants.fast_int8"):
        monkeypatch.setattr(name, tuple)
    directory = write_bundle(manifest_text + INT8, {"h8.onnx": hydra_model()})
    answer = tune(directory, lambda choice: 50.0 if choice.variant == "int8" else 100.0)
    assert answer.choice.variant == "fp32"
    assert question(answer, "networks").trials[1].refused == "without 8-bit dot products sums may saturate"
    forced = tune(directory, lambda choice: 100.0, variant="int8")
    assert forced.choice.variant == "int8"
    assert len(question(forced, "networks").trials) == 1


def test_variant_that_gives_something_else_is_not_taken(write_bundle, manifest_text, hydra_model, tune, monkeypatch):
    monkeypatch.setattr("octobev.runtime.variants.fast_int8", tuple)  # fp32 is what runs
    model = hydra_model().replace(np.float32(10).tobytes(), np.float32(-10).tobytes())
    directory = write_bundle(manifest_text + INT8, {"h8.onnx": model})
    answer = tune(directory, lambda choice: 50.0 if choice.variant == "int8" else 100.0)
    assert answer.choice.variant == "fp32"
    int8 = question(answer, "networks").trials[1]
    assert int8.refused is not None
    assert "of the values of an output are within 0.1 of fp32" in int8.refused
    assert int8.difference is not None
    assert int8.difference.largest > 0.5


def test_results_that_differ_in_a_bit_are_not_taken(write_bundle, tune, monkeypatch):
    honest = trials.digest

    def digest(steps) -> str:
        spread = steps[0].provenance.runs_at_once
        return honest(steps) + ("another" if spread == 1 else "")

    monkeypatch.setattr(trials, "digest", digest)
    answer = tune(write_bundle(), lambda choice: 10.0 * choice.runs_at_once)
    refused = {trial.choice.runs_at_once: trial.refused for trial in question(answer, "cameras at once").trials}
    assert refused == {4: None, 1: "its results are not the same to the bit", 2: None, 3: None}
    assert question(answer, "cameras at once").taken.runs_at_once == 2


def test_provider_that_does_not_load_is_told(write_bundle, tune, monkeypatch):
    available = ["CUDAExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    answer = tune(write_bundle(), lambda choice: 100.0)
    networks = question(answer, "networks")
    cuda = ("CUDAExecutionProvider",)
    assert [(trial.choice.providers, trial.choice.runs_at_once) for trial in networks.trials] == [
        (CPU, 4), (cuda, 4), (cuda, 1),
    ]  # fmt: skip
    assert networks.trials[1].ms is None
    assert networks.trials[1].refused is not None
    assert networks.trials[1].refused.startswith("cannot run: ")
    assert "bundle: network hydranet: " in networks.trials[1].refused
    assert networks.notes == ("Azure runs nothing on this machine: not tried",)


def test_provider_that_is_faster_is_taken(write_bundle, tune, monkeypatch):
    """The one of Azure is in every ONNX Runtime, and leaves all work to the CPU."""
    azure = ("AzureExecutionProvider",)
    monkeypatch.setattr("octobev.bench.tuning.candidates.ELSEWHERE", frozenset())
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [*azure, *CPU])
    answer = tune(write_bundle(), lambda choice: 50.0 if choice.providers == azure else 100.0)
    assert answer.choice == Choice("fp32", azure, 4, 4)
    found = question(answer, "networks").trials[1].difference
    assert found is not None
    assert (found.largest, found.near) == (0.0, 1.0)


def test_only_the_bundles_own_providers_are_tried_on_request(write_bundle, tune, monkeypatch):
    available = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: available)
    answer = tune(write_bundle(), lambda choice: 100.0, own_providers=True)
    assert [trial.choice.providers for trial in question(answer, "networks").trials] == [CPU]


def test_batches_are_tried_where_the_axis_is_free(write_bundle, manifest_text, hydra_model, tune):
    text = manifest_text.replace('[networks.hydranet.outputs.bright]\ntensor = "bright"\nkind = "raw"\n', "")
    directory = write_bundle(text, {"hydra.onnx": hydra_model("batch")})
    answer = tune(directory, lambda choice: 100.0 / choice.batch)
    batches = question(answer, "cameras in a run")
    assert [(trial.choice.runs_at_once, trial.choice.batch) for trial in batches.trials] == [(4, 1), (1, 3)]
    assert answer.choice == Choice("fp32", CPU, 4, 1, 3)


def test_batches_are_not_tried_where_the_axis_is_fixed(write_bundle, tune):
    batches = question(tune(write_bundle(), lambda choice: 100.0), "cameras in a run")
    assert [trial.choice.batch for trial in batches.trials] == [1]
    assert batches.notes == ("the networks do not leave open how many images a run takes",)


def test_what_cannot_run_at_all_is_an_error(write_bundle, manifest_text, tune):
    with pytest.raises(RigError, match="rear"):
        tune(write_bundle(manifest_text.replace('cameras = ["*"]', 'cameras = ["rear"]')), lambda choice: 1.0)
    text = manifest_text + '[[runtime.providers]]\nname = "CUDAExecutionProvider"\n'
    with pytest.raises(BundleError, match="execution provider must be one of CPUExecutionProvider"):
        tune(write_bundle(text, name="cuda"), lambda choice: 1.0)


def test_more_threads_than_cpus_are_refused(write_bundle, tune):
    with pytest.raises(InvalidArgument, match="threads must be at most 4, the CPUs usable here, got 5"):
        tune(write_bundle(), lambda choice: 1.0, threads=5)


def test_progress_is_told(write_bundle, tune):
    told = []
    tune(write_bundle(), lambda choice: 1.0, threads=2, progress=lambda *what: told.append(what))
    assert told[0] == ("networks: loading", 0, 1)
    assert {what for what, _, _ in told} > {"networks", "cameras at once", "threads"}
    assert all(done <= total for _, done, total in told)
