"""Checks that the tables of a manifest share. Each says what must be and what is."""

from __future__ import annotations

import string
from collections import Counter
from collections.abc import Collection, Mapping, Sequence, Sized
from typing import Final

from ..errors import BundleError, expected
from .camera_names import ANY

RESERVED_NAMES: Final = frozenset({"camera", "health", "rig"})
"""Topics of the runtime itself: no output may be called so."""

OTHER_VARIANTS: Final = ("int8",)
"""Variants that a manifest may list beside the network itself."""

PROVIDER_OPTIONS: Final = (
    "arena_extend_strategy", "cudnn_conv_algo_search", "device_id", "device_type", "do_copy_in_default_stream",
    "enable_htp_fp16_precision", "gpu_mem_limit", "htp_performance_mode", "inference_precision", "intra_op_num_threads",
    "migraphx_fp16_enable", "num_of_threads", "num_streams", "precision", "trt_builder_optimization_level",
    "trt_fp16_enable", "trt_int8_enable", "trt_max_workspace_size", "use_arena", "use_tf32",
)  # fmt: skip
"""What a manifest may set: none of these names a file, loads a library or is a pointer, as other options do."""

_NAME_LETTERS: Final = frozenset(string.ascii_letters + string.digits + "_")
_SHA256_DIGITS: Final = 64


def check_positive(what: str, value: int, most: int) -> None:
    """Refuse a number that is not 1..most."""
    if not 1 <= value <= most:
        raise BundleError(expected(what, f"1..{most}", value))


def check_not_empty(what: str, values: Sized) -> None:
    """Refuse what has nothing in it."""
    if not len(values):
        raise BundleError(expected(what, "not empty", "nothing"))


def check_unique(what: str, values: Sequence[str]) -> None:
    """Refuse a list that has something twice."""
    if twice := sorted(value for value, count in Counter(values).items() if count > 1):
        raise BundleError(expected(what, "unique", f"{', '.join(twice)} more than once"))


def check_name(what: str, name: str, *, reserved: bool = True) -> None:
    """Refuse what is no name of a network or an output."""
    if not name or not set(name) <= _NAME_LETTERS:
        raise BundleError(expected(what, "named with letters, digits and '_' only", repr(name)))
    if reserved and name in RESERVED_NAMES:
        raise BundleError(expected(what, f"named other than {', '.join(sorted(RESERVED_NAMES))}", repr(name)))


def check_classes(classes: Sequence[str], *, needed: bool, kind: str) -> None:
    """Refuse classes where there must be none, none where there must be some, and bad names."""
    if needed != bool(classes):
        wanted = "one name per channel" if needed else "left out"
        raise BundleError(expected("classes", f"{wanted} for kind {kind}", list(classes)))
    check_unique("classes", classes)
    for name in classes:
        check_name("classes", name, reserved=False)


def check_activation(activation: str, allowed: Mapping[str, Sequence[str]], kind: str) -> None:
    """Refuse an activation that a kind does not allow."""
    choices = allowed.get(kind, ("none",))
    if activation not in choices:
        raise BundleError(expected("activation", f"{' or '.join(choices)} for kind {kind}", activation))


def check_variants(names: Collection[str]) -> None:
    """Refuse variants that nobody knows."""
    if unknown := sorted(set(names) - set(OTHER_VARIANTS)):
        raise BundleError(expected("variants", f"among {', '.join(OTHER_VARIANTS)}", ", ".join(unknown)))


def check_levels(variants: Mapping[str, Collection[str]], lifted: Collection[str]) -> None:
    """Refuse levels of tensors that are not lifted: variant -> tensors that it has levels of."""
    for variant, tensors in variants.items():
        if unknown := sorted(set(tensors) - set(lifted)):
            known = f"a tensor of the lifts ({', '.join(lifted)})"
            must_be = known if lifted else "left out: nothing is lifted into it"
            raise BundleError(expected(f"variants.{variant}.levels.{unknown[0]}", must_be, unknown[0]))


def check_provider_options(names: Collection[str]) -> None:
    """Refuse options by which a bundle could load a library, write a file or hand over a pointer."""
    if unknown := sorted(set(names) - set(PROVIDER_OPTIONS)):
        raise BundleError(expected("options", f"among {', '.join(PROVIDER_OPTIONS)}", ", ".join(unknown)))


def check_cameras(cameras: Sequence[str]) -> None:
    """Refuse an empty list, a camera twice, and "all" beside others."""
    check_not_empty("cameras", cameras)
    check_unique("cameras", cameras)
    if ANY in cameras and len(cameras) > 1:
        raise BundleError(expected("cameras", f'names and patterns, or "{ANY}" alone', list(cameras)))


def check_file(file: str, sha256: str) -> None:
    """Refuse a path that leads out of the bundle, and what is no hash."""
    parts = file.split("/")
    if "\\" in file or ":" in file or "\0" in file or any(part in ("", ".", "..") for part in parts):
        raise BundleError(expected("file", "a relative path inside the bundle", repr(file)))
    if len(sha256) != _SHA256_DIGITS or not set(sha256) <= set("0123456789abcdef"):
        raise BundleError(expected("sha256", f"{_SHA256_DIGITS} hexadecimal digits in lower case", repr(sha256)))
