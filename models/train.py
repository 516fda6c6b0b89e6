"""Train the reference networks: `python -m octobev.models.train --out DIR --minutes 90`.

The per-camera HydraNet and the recurrent top-down network learn together, end to end. Stretches of synthetic drives are
drawn by worker processes into DIR/sequences while the networks already learn; DIR/checkpoint.pt is written at every
validation and taken up again by --resume; at the end the bundle with both networks is in DIR/bundle.

On data of your own: --rig draws the synthetic towns with your cameras, --drive learns from recorded drives that have
ground truth, --start begins with networks that were trained before. docs/training.md says how such drives are made.
"""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import InvalidArgument, OctobevError, expected
from .plan import LEARNING_RATE, TrainingPlan

if TYPE_CHECKING:
    from .material import Material
    from .training import Progress, Training

TRAINING_TOWNS = range(10_000)
VALIDATION_TOWNS = range(10_000, 10_100)
TEST_TOWNS = range(20_000, 30_000)
"""Seeds: no town of one range is ever used for the purpose of another."""

TOWNS_PER_SEED = 500
SETS_PER_WINDOW = 4
"""Steps through which gradients flow back."""


_EXAMPLES = """\
examples:
  --out tuned --rig rig.toml --minutes 90
      towns as your cameras see them, from nothing
  --out tuned --rig rig.toml --start DIR/checkpoint.pt --learning-rate 5e-4 --minutes 30
      the same, from networks that are there already
  --out tuned --start DIR/checkpoint.pt --learning-rate 5e-4 --drive monday.mcap --drive tuesday.mcap \\
      --validation-drive friday.mcap --minutes 30
      half of the stretches from your drives, half from towns, which keep alive what your drives do not show;
      figures of friday.mcap are called drive_iou_... in curves.jsonl
"""


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
        again = "--resume" if (options.out / "checkpoint.pt").is_file() else "the same command; no checkpoint yet"
        print(f"stopped; what was drawn and read is kept in {options.out}; go on with {again}", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m octobev.models.train",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for sequences, checkpoints and the bundle")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, help="train for so long, without validation (default: 90)")
    length.add_argument("--steps", type=int, help="train for so many steps: with one seed always the same networks")
    parser.add_argument("--seed", type=int, default=0, help="of weights, towns and draws (default: %(default)s)")
    origin = parser.add_mutually_exclusive_group()
    origin.add_argument("--resume", action="store_true", help="go on from DIR/checkpoint.pt, with the same options")
    origin.add_argument("--start", type=Path, metavar="CHECKPOINT", help="begin with its weights, not from nothing")
    rate = f"the largest; fine-tuning wants less (default: {LEARNING_RATE:g})"
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE, metavar="RATE", help=rate)
    parser.add_argument("--lanes", type=int, default=2, help="windows of four sets per step (default: %(default)s)")
    towns = "to draw, 110 MB each; 0: learn from --drive alone (default: %(default)s)"
    parser.add_argument("--towns", type=int, default=200, help=towns)
    parser.add_argument("--steps-per-town", type=int, default=8, help="until the next comes in (default: %(default)s)")
    parser.add_argument("--validation-towns", type=int, default=2, help="held-out towns (default: %(default)s)")
    parser.add_argument("--validate-every", type=int, default=400, help="steps (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw towns (default: %(default)s)")
    parser.add_argument("--version", default="1.0.0", help="version of the bundle (default: %(default)s)")
    own = parser.add_argument_group("data of your own", "each but --drive-share may be given several times")
    rigs = "draw the towns with this rig: a rig.toml, or reference, six, fisheye; of several each town has one"
    own.add_argument("--rig", action="append", default=[], metavar="RIG", help=rigs)
    drives = "learn from this drive: with poses, and ground truth on the grid of the networks"
    own.add_argument("--drive", action="append", default=[], metavar="DRIVE", help=drives)
    share = "of the stretches come from drives when there are towns too (default: %(default)s)"
    own.add_argument("--drive-share", type=float, default=0.5, metavar="SHARE", help=share)
    held_out = "measure on this drive at every validation, never learn from it"
    own.add_argument("--validation-drive", action="append", default=[], metavar="DRIVE", help=held_out)
    return parser


def _train(options: argparse.Namespace) -> int:
    from .checkpoint import load_checkpoint  # first of all: says how to install PyTorch when it is missing
    from .net import HydraNetConfig
    from .topdown_net import TopDownConfig
    from .training import Training

    minutes = 90.0 if options.steps is None and options.minutes is None else options.minutes
    plan = TrainingPlan(
        options.steps, minutes, options.seed, options.validate_every, options.threads, options.learning_rate
    )
    material = _material(options)
    hydranet = HydraNetConfig()
    topdown = TopDownConfig(feature_channels=hydranet.feature_channels)
    start = load_checkpoint(options.start) if options.start else None
    training = Training(hydranet, topdown, plan, options.out, resume=options.resume, start=start)
    options.out.mkdir(parents=True, exist_ok=True)
    _learn(training, plan, material, options)

    from .export import describe, export_bundle

    checkpoint = load_checkpoint(options.out / "checkpoint.pt")
    print(describe(export_bundle(checkpoint, options.out / "bundle", options.version)))
    for name, value in checkpoint.scores.items():
        print(f"{name}: {value:.3f}")
    return 0


def _material(options: argparse.Namespace) -> Material:
    from ..replay.rigs import find_rig
    from .material import Material

    without_towns = options.towns == 0 and options.drive
    return Material(
        () if without_towns else tuple(training_towns(options.seed, options.towns)),
        tuple(options.drive),
        options.drive_share,
        tuple(VALIDATION_TOWNS[: max(options.validation_towns, 0)]),
        tuple(options.validation_drive),
        tuple(find_rig(rig) for rig in options.rig),
    )


def _learn(training: Training, plan: TrainingPlan, material: Material, options: argparse.Namespace) -> None:
    from .material import make_sources, read_drives
    from .sequences import SETS_PER_SEQUENCE, read_sequences
    from .shelf import town_path
    from .training import Validation
    from .windows import WindowSampler
    from .workers import TownWorkers

    folder = options.out / "sequences"
    town_folder = material.town_folder(folder)
    size = (training.hydranet_config.width, training.hydranet_config.height)
    with ExitStack() as stack:
        watcher = stack.enter_context(Watcher(training.done))
        workers = stack.enter_context(
            TownWorkers(town_folder, material.towns_to_draw, *size, options.workers, material.rigs)
        )
        drives = read_drives(material, folder, size, SETS_PER_SEQUENCE, say=watcher.say, note=watcher.note)
        sources = make_sources(material, town_folder, drives, steps_per_file=options.steps_per_town, wait=workers.wait)
        sampler = WindowSampler(
            sources,
            training.lift,
            seed=options.seed,
            lanes=options.lanes,
            sets=SETS_PER_WINDOW,
            windows=SETS_PER_SEQUENCE // SETS_PER_WINDOW,
        )
        for town in material.held_out_towns:
            watcher.say(f"drawing held-out town {town}")
            while not town_path(town_folder, town).is_file():
                workers.wait()
        validation = Validation(
            [read_sequences(town_path(town_folder, town)).exact() for town in material.held_out_towns],
            [read_sequences(file) for file in drives.held_out],
        )
        training.run(sampler, validation, watcher.report)
        watcher.say(f"waited {sum(source.shelf.waited_s for source in sources):.0f} s for towns")


def training_towns(seed: int, count: int) -> list[int]:
    """Seeds of the towns of a training; trainings of different seeds share few."""
    if not 1 <= count <= len(TRAINING_TOWNS):
        raise InvalidArgument(expected("towns", f"1 to {len(TRAINING_TOWNS)}", count))
    return [TRAINING_TOWNS[(seed * TOWNS_PER_SEED + index) % len(TRAINING_TOWNS)] for index in range(count)]


class Watcher:
    """Progress on stderr: a bar, and one line for each validation."""

    def __init__(self, done: float) -> None:
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

    def note(self, text: str) -> None:
        """Print a line that stays."""
        self.console.print(text, highlight=False, markup=False)

    def report(self, progress: Progress) -> None:
        """Show a step."""
        text = f"step {progress.step}"
        if progress.terms:  # none since the report before: the end
            text += f"  loss {progress.terms['total']:.3f}  {progress.sets_per_s:.1f} sets/s"
        self.bar.update(self.task, completed=progress.done, description=text)
        if not self.console.is_terminal:
            self.console.print(f"{100 * progress.done:.1f} %  {text}", highlight=False)
        if progress.scores:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in progress.scores.items())
            self.console.print(f"step {progress.step}: {shown}", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
