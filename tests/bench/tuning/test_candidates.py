from __future__ import annotations

import pytest
from octobev.bench.tuning import candidates
from octobev.bench.tuning.candidates import threads_words
from octobev.runtime.bundle import open_bundle
from octobev.runtime.profile import Choice

CPU = ("CPUExecutionProvider",)
CUDA = ("CUDAExecutionProvider",)


def spread(*choices: Choice) -> list[tuple[int, int, int]]:
    return [(choice.threads, choice.runs_at_once, choice.batch) for choice in choices]


def test_networks_are_tried_in_every_variant_on_every_provider_the_default_first():
    default = Choice("int8", CPU, 4, 4)
    found = candidates.network_choices(default, ("fp32", "int8"), (CPU, CUDA))
    assert [(choice.variant, choice.providers, choice.runs_at_once) for choice in found] == [
        ("int8", CPU, 4),
        ("fp32", CPU, 4),
        ("fp32", CUDA, 4),
        ("fp32", CUDA, 1),
        ("int8", CUDA, 4),
        ("int8", CUDA, 1),
    ]
    assert {choice.threads for choice in found} == {4}


def test_providers_are_the_bundles_the_installed_ones_and_the_cpu(write_bundle, manifest_text):
    text = manifest_text + '[[runtime.providers]]\nname = "CUDAExecutionProvider"\n'
    bundle = open_bundle(write_bundle(text))
    available = ["OpenVINOExecutionProvider", "AzureExecutionProvider", "CPUExecutionProvider"]
    found = candidates.provider_lists(bundle, available)
    assert found == (CUDA, ("OpenVINOExecutionProvider",), CPU)


@pytest.mark.parametrize(
    ("threads", "cameras", "runs"),
    [
        (1, 8, [1]),
        (2, 8, [2, 1]),
        (4, 8, [4, 1, 2, 3]),
        (16, 8, [16, 1, 2, 4, 8]),
        (16, 6, [16, 1, 2, 4, 6]),
        (4, 1, [4, 1]),
    ],
)
def test_fewer_cameras_at_once(threads, cameras, runs):
    found = candidates.run_choices(Choice("fp32", CPU, threads, threads), cameras)
    assert [choice.runs_at_once for choice in found] == runs
    assert {choice.threads for choice in found} == {threads}


@pytest.mark.parametrize(
    ("threads", "runs", "found"),
    [
        (1, 1, [(1, 1)]),
        (6, 6, [(6, 6), (3, 3), (1, 1)]),
        (32, 8, [(32, 8), (16, 8), (8, 8), (4, 4)]),
        (4, 1, [(4, 1), (2, 1), (1, 1)]),
    ],
)
def test_half_the_threads(threads, runs, found):
    assert [each[:2] for each in spread(*candidates.thread_choices(Choice("fp32", CPU, threads, runs)))] == found


@pytest.mark.parametrize(
    ("threads", "cameras", "found"),
    [
        (2, 8, [(2, 2, 1), (2, 2, 4), (2, 1, 8)]),
        (16, 8, [(16, 16, 1), (16, 1, 8)]),
        (1, 8, [(1, 1, 1), (1, 1, 8)]),
        (3, 1, [(3, 3, 1)]),
    ],
)
def test_several_cameras_in_a_run(threads, cameras, found):
    assert spread(*candidates.batch_choices(Choice("fp32", CPU, threads, threads), cameras)) == found


@pytest.mark.parametrize(
    ("threads", "runs", "batch", "words"),
    [
        (1, 1, 1, "1 thread"),
        (2, 2, 1, "2 threads, a camera each"),
        (2, 1, 1, "2 threads, one camera after another"),
        (8, 4, 1, "8 threads, 4 cameras at once"),
        (2, 1, 8, "2 threads, one run after another, 8 cameras in a run"),
    ],
)
def test_arrangements_have_words(threads, runs, batch, words):
    assert threads_words(Choice("fp32", CPU, threads, runs, batch)) == words
