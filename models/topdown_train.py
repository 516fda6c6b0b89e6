"""Train the recurrent top-down network: `python -m octobev.models.topdown_train --hydranet CHECKPOINT --out DIR`.

The image network comes from a checkpoint of octobev.models.train and stays as it is. Stretches of synthetic drives are
drawn by worker processes into DIR/sequences while the network already learns; DIR/checkpoint.pt is written at every
validation and taken up again by --resume; at the end the bundle with both networks is in DIR/bundle.
"""

from __future__ import annotations

import argparse
import math
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import OctobevError
from .train import VALIDATION_TOWNS, Watcher, training_towns

if TYPE_CHECKING:
    from .topdown_training import TopDownProgress, TopDownTraining
    from .training import TrainingPlan

SETS_PER_WINDOW = 4
"""Steps through which gradients flow back."""

TOWNS_IN_USE = 24


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m octobev.models.topdown_train`."""
    options = _parser().parse_args(arguments)
    try:
        return _train(options)
    except OctobevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; go on with --resume --out {options.out}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m octobev.models.topdown_train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for sequences, checkpoints and the bundle")
    start = parser.add_mutually_exclusive_group(required=True)
    start.add_argument("--hydranet", type=Path, help="checkpoint.pt of octobev.models.train: gives the features")
    start.add_argument("--resume", action="store_true", help="go on from DIR/checkpoint.pt")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="train for so long, without validation (default: 60)")
    length.add_argument("--steps", type=int, help="train for so many steps: with one seed always the same network")
    parser.add_argument("--seed", type=int, default=0, help="of weights, towns and draws (default: %(default)s)")
    parser.add_argument("--lanes", type=int, default=2, help="windows of four sets per step (default: %(default)s)")
    parser.add_argument("--towns", type=int, default=160, help="towns to draw, 76 MB each (default: %(default)s)")
    parser.add_argument("--steps-per-town", type=int, default=12, help="until the next comes in (default: %(default)s)")
    parser.add_argument("--validation-towns", type=int, default=2, help="held-out towns (default: %(default)s)")
    parser.add_argument("--validate-every", type=int, default=500, help="steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw towns (default: %(default)s)")
    parser.add_argument("--version", default="1.0.0", help="version of the bundle (default: %(default)s)")
    return parser


def _train(options: argparse.Namespace) -> int:
    from .checkpoint import load_checkpoint, trained_net
    from .net import HydraNet
    from .topdown_checkpoint import load_topdown_checkpoint
    from .topdown_export import describe, export_topdown_bundle
    from .topdown_net import TopDownConfig
    from .topdown_training import TopDownTraining
    from .training import TrainingPlan

    minutes = 60.0 if options.steps is None and options.minutes is None else options.minutes
    plan = TrainingPlan(options.steps, minutes, options.seed, options.validate_every, options.threads)
    hydranet: HydraNet
    if options.resume:
        hydranet = load_topdown_checkpoint(options.out / "checkpoint.pt").hydranet_net()
    else:
        hydranet = trained_net(load_checkpoint(options.hydranet))
    options.out.mkdir(parents=True, exist_ok=True)
    config = TopDownConfig(feature_channels=hydranet.config.feature_channels)
    _learn(TopDownTraining(config, hydranet, plan, options.out, resume=options.resume), plan, options)
    checkpoint = load_topdown_checkpoint(options.out / "checkpoint.pt")
    print(describe(export_topdown_bundle(checkpoint, options.out / "bundle", options.version)))
    for name, value in checkpoint.scores.items():
        print(f"{name}: {value:.3f}")
    return 0


def _learn(training: TopDownTraining, plan: TrainingPlan, options: argparse.Namespace) -> None:
    from .data import TownWorkers
    from .sequences import SETS_PER_SEQUENCE, draw_sequence_towns, read_sequences
    from .shards import shard_path
    from .windows import WindowSampler

    towns = training_towns(options.seed, options.towns)
    held_out = list(VALIDATION_TOWNS)[: options.validation_towns]
    folder = options.out / "sequences"
    size = (training.hydranet.config.width, training.hydranet.config.height)
    with ExitStack() as stack:
        workers = stack.enter_context(
            TownWorkers(folder, [*towns[:2], *held_out, *towns[2:]], *size, options.workers, draw_sequence_towns)
        )
        sampler = WindowSampler(
            folder,
            towns,
            training.lift,
            seed=options.seed,
            lanes=options.lanes,
            sets=SETS_PER_WINDOW,
            windows=SETS_PER_SEQUENCE // SETS_PER_WINDOW,
            steps_per_town=options.steps_per_town,
            window=TOWNS_IN_USE,
            wait=workers.wait,
        )
        watcher = stack.enter_context(Watcher(plan, training.done))
        for town in held_out:
            watcher.say(f"drawing held-out town {town}")
            while not shard_path(folder, town).is_file():
                workers.wait()
        validation = [read_sequences(shard_path(folder, town)) for town in held_out]
        training.run(sampler, validation, lambda progress: _report(watcher, progress))
        watcher.say(f"waited {sampler.shelf.waited_s:.0f} s for towns")


def _report(watcher: Watcher, progress: TopDownProgress) -> None:
    loss = progress.terms.get("total", math.nan)
    watcher.show(progress.step, progress.done, loss, progress.sets_per_s, "sets")
    if progress.scores:
        prefix = "iou_visible_"
        iou = {name[len(prefix) :]: value for name, value in progress.scores.items() if name.startswith(prefix)}
        direction = progress.scores.get("direction_deg_median", math.nan)
        watcher.scores(progress.step, iou, f"in visible cells, direction {direction:.1f} deg")


if __name__ == "__main__":
    sys.exit(main())
