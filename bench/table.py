"""The rows of `octobev bench`, with their bars. Keys are stable: they are part of the command's interface."""

from __future__ import annotations

from typing import Final

from . import accuracy, delivering, imaging, lifting, starting, stepping, warping, whole
from .row import Bar, Row

_TORCH: Final = ("torch",)

ROWS: Final = (
    Row("lift_vs_scipy", "lift of 64 channels / scipy CSR", "x", Bar(4, True), lifting.lift_vs_scipy, ("scipy",)),
    Row("lift_vs_torch_csr", "lift of 64 channels / torch CSR", "x", Bar(2, True), lifting.lift_vs_torch_csr, _TORCH),
    Row(
        "lift_vs_grid_sample",
        "lift of 64 channels / torch grid_sample",
        "x",
        Bar(60, True),
        lifting.lift_vs_grid_sample,
        _TORCH,
    ),
    Row(
        "preprocess_vs_user",
        "decoded frame to network input / cv2, NumPy",
        "x",
        Bar(4, True),
        imaging.preprocess_vs_user,
    ),
    Row(
        "preprocess_vs_blob",
        "decoded frame to network input / blobFromImages",
        "x",
        Bar(2, True),
        imaging.preprocess_vs_blob,
    ),
    Row(
        "preprocess_vs_bandwidth",
        "one read of the pixels it needs, against it",
        "x",
        Bar(0.5, True),
        imaging.preprocess_vs_bandwidth,
    ),
    Row("warp_vs_opencv", "64-channel state under ego-motion / OpenCV", "x", Bar(3, True), warping.warp_vs_opencv),
    Row("overhead", "step on decoded frames, of the networks alone", "x", Bar(1.15, False, 1.05), stepping.overhead),
    Row(
        "step_vs_user_fp32",
        "JPEG to published, fp32 / what a user writes",
        "x",
        Bar(3, True),
        whole.step_vs_user_fp32,
        _TORCH,
    ),
    Row(
        "step_vs_user_int8",
        "JPEG to published, int8 / what a user writes",
        "x",
        Bar(6, True),
        whole.step_vs_user_int8,
        _TORCH,
    ),
    Row(
        "step_vs_best_user",
        "JPEG to published, int8 / best known parts",
        "x",
        Bar(1.3, True),
        whole.step_vs_best_user,
        ("torch", "openvino"),
    ),
    Row("int8_speedup", "int8 networks / fp32", "x", Bar(2, True), accuracy.int8_speedup),
    Row(
        "sets_per_second",
        "decoded frames in, predictions published",
        "1/s",
        Bar(36, True, 45),
        delivering.sets_per_second,
    ),
    Row(
        "replay_vs_limit",
        "replay of JPEG, of decoding and networks alone",
        "x",
        Bar(1.15, False),
        whole.replay_vs_limit,
    ),
    Row("publish_overhead", "publish to receive, of bare pyzmq", "x", Bar(1.3, False), delivering.publish_overhead),
    Row(
        "head_subset",
        "one head of eight wanted, of all (bar: its nodes + 10 %)",
        "x",
        Bar(0.26, False),
        stepping.head_subset,
    ),
    Row(
        "cameras_linear",
        "cost of a camera among 16, of one among 4",
        "x",
        Bar(1.1, False),
        stepping.cameras_linear,
    ),
    Row("many_outputs", "overhead per output, 48 networks, 1,000 outputs", "us", Bar(5, False), stepping.many_outputs),
    Row("import_ms", "import octobev, above bare Python", "ms", Bar(40, False), starting.import_ms),
    Row(
        "subscriber_import_ms",
        "import of a subscriber, above bare Python",
        "ms",
        Bar(100, False),
        starting.subscriber_import_ms,
    ),
    Row(
        "first_prediction_s",
        "cold start of replay to first prediction",
        "s",
        Bar(1.5, False),
        starting.first_prediction_s,
    ),
    Row("rss_mb", "peak memory of a replay, eight cameras", "MB", Bar(450, False), starting.rss_mb),
    Row(
        "rss_growth_mb_per_1000_sets",
        "memory that 1,000 sets add",
        "MB",
        Bar(1, False),
        starting.rss_growth_mb_per_1000_sets,
    ),
    Row(
        "transform_build_ms",
        "view transform of new poses or calibration",
        "ms",
        Bar(2, False),
        lifting.transform_build_ms,
    ),
)
