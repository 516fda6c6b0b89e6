"""Train the reference networks from nothing: `python -m octobev.models.train --out DIR --minutes 90`.

The per-camera HydraNet and the recurrent top-down network learn together, end to end. Stretches of synthetic drives are
drawn by worker processes into DIR/sequences while the networks already learn; DIR/checkpoint.pt is written at every
validation and taken up again by --resume; at the end the bundle with both networks is in DIR/bundle.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidArgument, OctobevError, expected

if TYPE_CHECKING:
    from .training import Progress, Training, TrainingPlan

TRAINING_TOWNS = range(10_000)
VALIDATION_TOWNS = range(10_000, 10_100)
TEST_TOWNS = range(20_000, 30_000)
"""Seeds: no town of one range is ever used for the purpose of another."""

TOWNS_PER_SEED = 500
TOWNS_IN_USE = 64
SETS_PER_WINDOW = 4
"""Steps through which gradients flow back."""


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m octobev.models.train`."""
    options = _parser().parse_args(arguments)
    # before PyTorch loads its OpenMP: threads that spin while they wait stand in the way of those that draw towns
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
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
        prog="python -m octobev.models.train",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for sequences, checkpoints and the bundle")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="train for so long, without validation (default: 90)")
    length.add_argument("--steps", type=int, help="train for so many steps: with one seed always the same networks")
    parser.add_argument("--seed", type=int, default=0, help="of weights, towns and draws (default: %(default)s)")
    parser.add_argument("--resume", action="store_true", help="go on from DIR/checkpoint.pt")
    parser.add_argument("--lanes", type=int, default=2, help="windows of four sets per step (default: %(default)s)")
    parser.add_argument("--towns", type=int, default=200, help="towns to draw, 110 MB each (default: %(default)s)")
    parser.add_argument("--steps-per-town", type=int, default=8, help="until the next comes in (default: %(default)s)")
    parser.add_argument("--validation-towns", type=int, default=2, help="held-out towns (default: %(default)s)")
    parser.add_argument("--validate-every", type=int, default=400, help="steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw towns (default: %(default)s)")
    parser.add_argument("--version", default="1.0.0", help="version of the bundle (default: %(default)s)")
    return parser


def _train(options: argparse.Namespace) -> int:
    from .net import HydraNetConfig  # first of all: says how to install PyTorch when it is missing
    from .topdown_net import TopDownConfig
    from .training import Training, TrainingPlan

    minutes = 90.0 if options.steps is None and options.minutes is None else options.minutes
    plan = TrainingPlan(options.steps, minutes, options.seed, options.validate_every, options.threads)
    hydranet = HydraNetConfig()
    topdown = TopDownConfig(feature_channels=hydranet.feature_channels)
    training = Training(hydranet, topdown, plan, options.out, resume=options.resume)
    options.out.mkdir(parents=True, exist_ok=True)
    _learn(training, plan, options)

    from .checkpoint import load_checkpoint
    from .export import describe, export_bundle

    checkpoint = load_checkpoint(options.out / "checkpoint.pt")
    print(describe(export_bundle(checkpoint, options.out / "bundle", options.version)))
    for name, value in checkpoint.scores.items():
        print(f"{name}: {value:.3f}")
    return 0


def _learn(training: Training, plan: TrainingPlan, options: argparse.Namespace) -> None:
    from .sequences import SETS_PER_SEQUENCE, read_sequences
    from .shelf import town_path
    from .windows import WindowSampler
    from .workers import TownWorkers

    towns = training_towns(options.seed, options.towns)
    held_out = list(VALIDATION_TOWNS)[: options.validation_towns]
    folder = options.out / "sequences"
    size = (training.hydranet_config.width, training.hydranet_config.height)
    with ExitStack() as stack:
        workers = stack.enter_context(TownWorkers(folder, [*towns[:2], *held_out, *towns[2:]], *size, options.workers))
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
            while not town_path(folder, town).is_file():
                workers.wait()
        validation = [read_sequences(town_path(folder, town)) for town in held_out]
        training.run(sampler, validation, watcher.report)
        watcher.say(f"waited {sampler.shelf.waited_s:.0f} s for towns")


def training_towns(seed: int, count: int) -> list[int]:
    """Seeds of the towns of a training; trainings of different seeds share few."""
    if not 1 <= count <= len(TRAINING_TOWNS):
        raise InvalidArgument(expected("towns", f"1 to {len(TRAINING_TOWNS)}", count))
    return [TRAINING_TOWNS[(seed * TOWNS_PER_SEED + index) % len(TRAINING_TOWNS)] for index in range(count)]


class Watcher:
    """Progress on stderr: a bar, and one line for each validation."""

    def __init__(self, plan: TrainingPlan, done: float) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.console = Console(stderr=True)
        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:5.1f} %"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
        )
        self.task = self.bar.add_task("drawing the first towns", total=1.0)
        self.bar.update(self.task, completed=done)

    def __enter__(self) -> Watcher:
        self.bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Replace the text before the bar."""
        self.bar.update(self.task, description=text)

    def report(self, progress: Progress) -> None:
        """Show a step."""
        loss = progress.terms.get("total", math.nan)
        text = f"step {progress.step}  loss {loss:.3f}  {progress.sets_per_s:.1f} sets/s"
        self.bar.update(self.task, completed=progress.done, description=text)
        if not self.console.is_terminal:
            self.console.print(f"{100 * progress.done:.1f} %  {text}", highlight=False)
        if progress.scores:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in progress.scores.items())
            self.console.print(f"step {progress.step}: {shown}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
