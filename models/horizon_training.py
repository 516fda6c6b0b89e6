"""Train the head that sees the horizon: `python -m octobev.models.horizon_training DIR --out DIR/checkpoint.pt`.

DIR is that of a training (`python -m octobev.models.train --out DIR`). Its networks stay as they are: the head reads
their features. It learns from single images of the towns of that training, turned and enlarged at random, so that it
knows cameras of other lenses and mountings, too; then it is measured on the held-out towns. The checkpoint that is
written is that of the training with the head added; `python -m octobev.models.export` then writes it into the bundle.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, MissingFile, OctobevError, expected
from ..fusion.lens import Intrinsics
from ..fusion.levelling import horizon_rays
from .checkpoint import load_checkpoint, save_checkpoint
from .horizon import HORIZON_STRIDE, HorizonHead, Horizons, horizon_loss, solve_tilts
from .net import HydraNet, Tensor, nn, torch
from .sequences import Sequences, lens_of, read_sequences
from .tone import tone_curves
from .train import VALIDATION_TOWNS
from .validation import folded

LEARNING_RATE: Final = 5e-3
WEIGHT_DECAY: Final = 0.05
BATCH: Final = 64
LARGEST_GRADIENT: Final = 5.0
WRONG_DEG: Final = 1.1
"""Standard deviation of the tilts that the calibrations of a batch are wrong by."""

TURNED: Final = 0.7
"""Share of images that are turned and enlarged."""

TURN_DEG: Final = (1.1, 0.3, 0.9)
"""Standard deviations of these turns about the camera's axes."""

ENLARGED: Final = 0.6
LARGEST_ENLARGEMENT: Final = 1.8

_NODES_PX: Final = 8


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """What the head learns from, n images.

    means : float16 [n, C, h, w], see :meth:`~octobev.models.horizon.HorizonHead.coarse`
    rays, per_pixel, up : float32, see :class:`~octobev.models.horizon.Horizons`
    """

    means: Tensor
    rays: Tensor
    per_pixel: Tensor
    up: Tensor

    def __len__(self) -> int:
        return len(self.means)

    def take(self, indices: Tensor) -> tuple[Tensor, Horizons]:
        """Some of the images: means as float32, and what is known of them."""
        known = Horizons(self.rays[indices], self.per_pixel[indices], self.up[indices])
        return self.means[indices].float(), known


def draw_examples(
    towns: Sequence[Path], hydranet: HydraNet, per_town: int, seed: int, *, varied: bool, note: Callable[[int], None]
) -> Examples:
    """Draw images of towns and run the network on them.

    Parameters
    ----------
    towns : files of sequences
    hydranet : its features are read; not changed
    per_town : images of each
    varied : whether images are mirrored, turned and enlarged at random
    note : called with the number of towns done
    """
    net = folded(hydranet)
    head = HorizonHead(hydranet.config)
    parts = []
    for index, path in enumerate(towns):
        random = np.random.default_rng((seed, index))
        sequences = read_sequences(path)
        drawn = [_view(sequences, random, varied=varied) for _ in range(per_town)]
        images = torch.from_numpy(np.stack([view.image for view in drawn])).permute(0, 3, 1, 2)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            means = head.coarse(net.features(images).float())
        parts.append((means.half(), *_known(drawn, head.shape)))
        note(index + 1)
    return Examples(*(torch.cat(pieces) for pieces in zip(*parts, strict=True)))


def fit(examples: Examples, hydranet: HydraNet, epochs: int, seed: int) -> Iterator[HorizonHead]:
    """Train a head; gives it after each epoch."""
    torch.manual_seed(seed)
    head = HorizonHead(hydranet.config)
    optimiser = torch.optim.AdamW(head.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = max(len(examples) // BATCH, 1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, epochs * steps)
    for _ in range(epochs):
        head.train()
        for indices in torch.randperm(len(examples)).split(BATCH)[:steps]:
            means, known = examples.take(indices)
            wrong = torch.randn(len(indices), 2) * float(np.radians(WRONG_DEG))
            loss, _ = horizon_loss(head.of_means(means).reshape(len(indices), -1, 2), known, wrong)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), LARGEST_GRADIENT)
            optimiser.step()
            schedule.step()
        yield head.eval()


def errors_deg(head: HorizonHead, examples: Examples) -> NDArray[np.float32]:
    """Tilts that the head finds in single images less the true ones, float32 [n, 2], degrees."""
    parts = []
    for indices in torch.arange(len(examples)).split(256):
        means, known = examples.take(indices)
        with torch.no_grad():
            rows = head.of_means(means).reshape(len(indices), -1, 2)
            errors, _ = solve_tilts(rows, known, known.up)
        parts.append(np.degrees(errors.numpy()))
    return np.concatenate(parts).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class _View:
    image: NDArray[np.uint8]
    lens: Intrinsics
    up: NDArray[np.float64]


def _view(sequences: Sequences, random: np.random.Generator, *, varied: bool) -> _View:
    """Draw one image with the normal of the ground as it is."""
    stretch, t, camera = (int(random.integers(size)) for size in sequences.images.shape[:3])
    image = cv2.LUT(np.ascontiguousarray(sequences.images[stretch, t, camera]), tone_curves(random))
    world_from_camera = sequences.true_fired[stretch, t, camera] @ sequences.true_mountings[stretch, camera]
    view = _View(np.asarray(image, np.uint8), lens_of(sequences.lenses[stretch, camera]), world_from_camera[2, :3])
    if varied and random.random() < TURNED:
        view = _turned(view, random)
    return _mirrored(view) if varied and random.random() < 0.5 else view


def _turned(view: _View, random: np.random.Generator) -> _View:
    """The view of a camera that is turned a little, perhaps with a longer lens."""
    old = view.lens
    new = old
    if random.random() < ENLARGED:
        zoom = float(np.exp(random.uniform(0.0, np.log(LARGEST_ENLARGEMENT))))
        middle = np.array([old.width - 1.0, old.height - 1.0]) / 2
        shift = random.normal(0.0, 0.04, 2) * (old.width, old.height)
        cx, cy = (np.array([old.cx, old.cy]) - middle) * zoom + middle + shift
        new = replace(old, fx=old.fx * zoom, fy=old.fy * zoom, cx=float(cx), cy=float(cy))
    turn, _ = cv2.Rodrigues(np.radians(random.normal(0.0, TURN_DEG)))
    rows, columns = old.height // _NODES_PX + 1, old.width // _NODES_PX + 1
    v, u = _NODES_PX * np.mgrid[0:rows, 0:columns].astype(np.float64)
    nodes = np.stack((u, v), axis=-1).reshape(-1, 2)
    rays, seen = new.unproject(nodes)
    pixels, found = old.project(rays @ turn.T)
    places = np.where((seen & found)[:, None], pixels, nodes).reshape(rows, columns, 2)
    across, down = _between(old.width), _between(old.height)
    maps = [(down @ places[..., axis] @ across.T).astype(np.float32) for axis in (0, 1)]
    image = cv2.remap(view.image, maps[0], maps[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    return _View(np.asarray(image, np.uint8), new, turn.T @ view.up)


def _between(size: int) -> NDArray[np.float64]:
    """Matrix [size, nodes] that interpolates between values at nodes :data:`_NODES_PX` apart."""
    pixels = np.arange(size)
    left, share = pixels // _NODES_PX, pixels % _NODES_PX / _NODES_PX
    weights = np.zeros((size, size // _NODES_PX + 2))
    weights[pixels, left] = 1 - share
    weights[pixels, left + 1] = share
    return weights[:, : size // _NODES_PX + 1]


def _mirrored(view: _View) -> _View:
    image = np.ascontiguousarray(view.image[:, ::-1])
    return _View(image, view.lens.mirrored(), view.up * np.array([-1.0, 1.0, 1.0]))


def _known(views: Sequence[_View], shape: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    looked = [horizon_rays(view.lens, shape, HORIZON_STRIDE) for view in views]
    rays = np.stack([rays for rays, _ in looked])
    up = np.stack([view.up for view in views])
    slopes = np.stack([slopes @ view.up for (_, slopes), view in zip(looked, views, strict=True)])
    per_pixel = np.hypot(slopes[..., 0], slopes[..., 1])
    known = tuple(torch.from_numpy(array.astype(np.float32)) for array in (rays, per_pixel, up))
    return known[0], known[1], known[2]


def main(arguments: list[str] | None = None) -> int:
    """Entry of `python -m octobev.models.horizon_training`."""
    options = _parser().parse_args(arguments)
    try:
        _train(options)
    except OctobevError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; nothing was written", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m octobev.models.horizon_training",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("training", type=Path, metavar="DIR", help="directory of a training: checkpoint.pt and sequences")
    add("--out", type=Path, required=True, metavar="CHECKPOINT", help="checkpoint to write")
    add("--per-town", type=int, default=80, help="images of each town (default: %(default)s)")
    add("--epochs", type=int, default=40, help="over all images (default: %(default)s)")
    add("--seed", type=int, default=0, help="of draws and weights (default: %(default)s)")
    add("--threads", type=int, default=2, help="of PyTorch (default: %(default)s)")
    return parser


def _train(options: argparse.Namespace) -> None:
    from rich.console import Console
    from rich.progress import Progress

    for name in ("per_town", "epochs", "threads"):
        if getattr(options, name) < 1:
            raise InvalidArgument(expected(f"--{name.replace('_', '-')}", "at least 1", getattr(options, name)))
    torch.set_num_threads(options.threads)
    checkpoint = load_checkpoint(options.training / "checkpoint.pt")
    hydranet, _ = checkpoint.networks()
    towns, held_out = _towns(options.training / "sequences")
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("looking at towns", total=len(towns) + len(held_out))
        draw: dict[str, Any] = {"hydranet": hydranet, "per_town": options.per_town, "seed": options.seed}
        examples = draw_examples(towns, varied=True, note=lambda done: bar.update(task, completed=done), **draw)
        measured = draw_examples(held_out, varied=False, note=lambda done: None, **draw) if held_out else None
        bar.reset(task, description="training", total=options.epochs)
        for epoch, latest in enumerate(fit(examples, hydranet, options.epochs, options.seed), start=1):
            bar.advance(task)
            head = latest
            if not console.is_terminal:
                console.print(f"epoch {epoch} of {options.epochs}")
    save_checkpoint(replace(checkpoint, horizon=head.state_dict()), options.out)
    if measured is not None:
        pitch, roll = np.sqrt(np.square(errors_deg(head, measured)).mean(axis=0))
        print(f"single images of {len(held_out)} held-out towns: pitch off by {pitch:.2f} degrees, roll by {roll:.2f}")
    print(f"written: {options.out}")


def _towns(folder: Path) -> tuple[list[Path], list[Path]]:
    """Files of the towns that a training learned from, and of those that it held out."""
    files = sorted(folder.rglob("town_*.npz"))
    held_out = [file for file in files if int(file.stem.removeprefix("town_")) in VALIDATION_TOWNS]
    towns = [file for file in files if file not in held_out]
    if not towns:
        raise MissingFile(f"{folder}: no towns; this is not the directory of a training")
    return towns, held_out


if __name__ == "__main__":
    sys.exit(main())
