"""The training loop of both networks together. Run it by `python -m octobev.models.train`."""

from __future__ import annotations

import contextlib
import copy
import json
import math
import queue
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..fusion.pose import Pose
from .checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from .lifting import carry_states, lift_rows
from .losses import ImageTerms, image_terms
from .net import HydraNet, HydraNetConfig, HydraOutputs, Tensor, nn, torch
from .plan import TrainingPlan
from .sequences import DEPTH_STRIDE, GRID, Sequences
from .topdown_losses import TopDownTerms, topdown_terms
from .topdown_net import STATE_FACTOR, TopDownConfig, TopDownNet
from .windows import LiftPlan, Views, Window, WindowSampler

T = TypeVar("T")

WEIGHT_DECAY = 0.02
BETAS = (0.9, 0.98)
LARGEST_GRADIENT = 5.0
WARM_UP = 0.06
AVERAGE_DECAY = 0.998
REPORT_EVERY = 20
IMAGE_WEIGHT = 0.7
"""How much the heads of the images count beside the layers on the ground."""

VIEWS = 12
"""Single views of a step, on which the heads of the images are trained."""

STATE_GRID: Final = GRID.scaled(STATE_FACTOR)


@dataclass(slots=True)
class Progress:
    """What a step tells the one who watches: loss terms are means since the last report."""

    step: int
    done: float
    sets_per_s: float
    terms: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Validation:
    """What networks are measured on: stretches of held-out towns and, apart from them, of held-out recorded drives."""

    towns: list[Sequences]
    drives: list[Sequences] = field(default_factory=list)


class Networks(nn.Module):  # type: ignore[misc, unused-ignore]
    """Both networks, as one to the optimiser."""

    def __init__(self, hydranet: HydraNet, topdown: TopDownNet) -> None:
        super().__init__()
        self.hydranet = hydranet.to(memory_format=torch.channels_last)
        self.topdown = topdown.to(memory_format=torch.channels_last)

    def states(self) -> dict[str, dict[str, Tensor]]:
        """State dicts by name."""
        return {"hydranet": self.hydranet.state_dict(), "topdown": self.topdown.state_dict()}

    def load(self, states: dict[str, dict[str, Tensor]]) -> None:
        """Undo :meth:`states`."""
        self.hydranet.load_state_dict(states["hydranet"])
        self.topdown.load_state_dict(states["topdown"])


class Training:
    """Both networks, their optimiser and their moving average, at some step.

    Parameters
    ----------
    hydranet_config, topdown_config : sizes; of the checkpoint when one is resumed
    plan : how long and how
    folder : `checkpoint.pt` and `curves.jsonl` are written here
    resume : continue from the checkpoint in `folder`
    start : begin with the averaged weights of another training, and with its sizes
    """

    def __init__(
        self,
        hydranet_config: HydraNetConfig,
        topdown_config: TopDownConfig,
        plan: TrainingPlan,
        folder: Path,
        *,
        resume: bool = False,
        start: Checkpoint | None = None,
    ) -> None:
        torch.set_num_threads(plan.threads)
        torch.manual_seed(plan.seed)
        self.plan, self.folder = plan, folder
        checkpoint = load_checkpoint(folder / "checkpoint.pt") if resume else None
        if origin := checkpoint or start:
            hydranet_config, topdown_config = origin.hydranet_config, origin.topdown_config
        topdown_config.check_grid(GRID)
        self.hydranet_config, self.topdown_config = hydranet_config, topdown_config
        self.networks = Networks(HydraNet(hydranet_config), TopDownNet(topdown_config))
        if start:
            self.networks.load(start.average)
        self.average = copy.deepcopy(self.networks).eval()
        self.optimiser = torch.optim.AdamW(
            self.networks.parameters(), plan.learning_rate, betas=BETAS, weight_decay=WEIGHT_DECAY
        )
        self.step, self.elapsed_s = 0, 0.0
        self.frequencies: dict[str, float] = {}
        self.scores: dict[str, float] = {}
        self.states: Tensor | None = None
        if checkpoint:
            self.networks.load(checkpoint.weights)
            self.average.load(checkpoint.average)
            self.optimiser.load_state_dict(checkpoint.optimiser)
            self.step, self.elapsed_s, self.states = checkpoint.step, checkpoint.elapsed_s, checkpoint.states
            self.frequencies, self.scores = checkpoint.frequencies, checkpoint.scores

    @property
    def done(self) -> float:
        """How much of the plan is done, 0..1."""
        return self.plan.progress(self.step, self.elapsed_s)

    @property
    def lift(self) -> LiftPlan:
        """How features are lifted."""
        config = self.topdown_config
        return LiftPlan(config.heights_m, config.border_px, self.hydranet_config.feature_shape)

    def run(self, sampler: WindowSampler, validation: Validation, watch: Callable[[Progress], None]) -> None:
        """Train to the end of the plan; validate, save and report on the way and at the end."""
        terms: dict[str, list[float]] = {}
        count, sets, report_start = 0, 0, time.monotonic()

        def draw(step: int) -> tuple[list[Window], Views | None]:
            return sampler.draw(step), sampler.draw_views(step, VIEWS)

        with contextlib.closing(ahead(draw, self.step)) as batches:
            while self.done < 1.0:
                windows, views = next(batches)
                start = time.monotonic()
                for name, value in self.train_step(windows, views).items():
                    terms.setdefault(name, []).append(value)
                count += 1
                sets += sum(len(window.images) for window in windows)
                self.elapsed_s += time.monotonic() - start
                due = self.step % self.plan.validate_every == 0
                if due or count == REPORT_EVERY:
                    rate = sets / (time.monotonic() - report_start)
                    means = {name: sum(values) / len(values) for name, values in terms.items()}
                    scores = self.validate_and_save(validation, means) if due else None
                    watch(Progress(self.step, self.done, rate, means, scores))
                    terms, count, sets, report_start = {}, 0, 0, time.monotonic()
        watch(Progress(self.step, 1.0, 0.0, {}, self.validate_and_save(validation, {})))

    def train_step(self, windows: list[Window], views: Views | None) -> dict[str, float]:
        """Run one step of the optimiser on one window a lane and on single views; returns the loss terms.

        Those of the images are missing without views.
        """
        for group in self.optimiser.param_groups:
            group["lr"] = self.plan.learning_rate * schedule(self.done)
        self.networks.train()
        states = self.networks.topdown.empty_state(len(windows)) if self.states is None else self.states
        ground, image, states = step_terms(self.networks, windows, views, states)
        total = ground.total if image is None else ground.total + IMAGE_WEIGHT * image.total
        self.states = states.detach()
        self.optimiser.zero_grad()
        total.backward()
        torch.nn.utils.clip_grad_norm_(self.networks.parameters(), LARGEST_GRADIENT)
        self.optimiser.step()
        self.step += 1
        update_average(self.average, self.networks, self.step)
        terms = {name: getattr(ground, name) for name in ground.__slots__} | {"total": total}
        if image is not None:
            terms |= {f"image_{name}" if name in terms else name: getattr(image, name) for name in image.__slots__}
        return {name: value.item() for name, value in terms.items()}

    def validate_and_save(self, validation: Validation, terms: dict[str, float]) -> dict[str, float]:
        """Measure the averaged networks, write the checkpoint and one line of curves."""
        from .validation import validate

        self.scores, self.frequencies = validate(self.average, validation.towns, self.lift)
        if validation.drives:
            scores, _ = validate(self.average, validation.drives, self.lift)
            self.scores |= {f"drive_{name}": value for name, value in scores.items()}
        checkpoint = Checkpoint(
            self.hydranet_config,
            self.topdown_config,
            self.networks.states(),
            self.average.states(),
            self.optimiser.state_dict(),
            self.states,
            self.step,
            self.elapsed_s,
            self.plan.seed,
            self.frequencies,
            self.scores,
        )
        save_checkpoint(checkpoint, self.folder / "checkpoint.pt")
        line = {"step": self.step, "elapsed_s": round(self.elapsed_s, 1), **terms, **self.scores}
        with open(self.folder / "curves.jsonl", "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return self.scores


def step_terms(
    networks: Networks, windows: list[Window], views: Views | None, states: Tensor
) -> tuple[TopDownTerms, ImageTerms | None, Tensor]:
    """Run windows of the same length, and single views.

    Parameters
    ----------
    states : [lanes, C, nx / 2, ny / 2], what each lane remembers

    Returns
    -------
    ground : losses over all sets of the windows
    image : losses of the views; None without views
    states : after the last sets
    """
    sets = len(windows[0].images)
    moments = [(window, t) for t in range(sets) for window in windows]
    topdown = networks.topdown
    seen = camera_pixels(moments)
    with torch.autocast("cpu", torch.bfloat16):
        pixels = seen if views is None else torch.cat((seen, _pixels(views.images)))
        features = networks.hydranet.features(pixels)
        heads = None if views is None else networks.hydranet.read(features[len(seen) :])
        rows = camera_rows(features[: len(seen)], moments)
        encoded = topdown.encode(lift_rows([window.views[t] for window, t in moments], rows, torch.get_num_threads()))
        read = []
        for t, half in enumerate(encoded.half.split(len(windows))):
            states = topdown.cell(half, carried(states, [window.motions[t] for window in windows]))
            read.append(states)
        outputs = topdown.decode(encoded.fine, torch.cat(read))
    layers = torch.from_numpy(np.stack([window.layers[t] for window, t in moments]))
    direction = torch.from_numpy(np.stack([window.direction_rad[t] for window, t in moments]))
    ground = topdown_terms(outputs, layers, direction)
    image = None if views is None or heads is None else head_terms(heads, views, networks.hydranet.config)
    return ground, image, states.to(torch.float32)


def camera_pixels(moments: list[tuple[Window, int]]) -> Tensor:
    """Images of all cameras that take part, uint8 [n, 3, height, width], channels last in memory."""
    return _pixels(np.concatenate([window.images[t][window.active[t]] for window, t in moments]))


def _pixels(images: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def camera_rows(features: Tensor, moments: list[tuple[Window, int]]) -> Tensor:
    """Features [n, pixels, C] as rows of all cameras, those that take no part having zeros."""
    active = torch.from_numpy(np.concatenate([window.active[t] for window, t in moments]))
    if bool(active.all()):
        return features.reshape(-1, features.shape[2])
    rows = torch.zeros((len(active), *features.shape[1:]), dtype=features.dtype)
    rows[active] = features
    return rows.reshape(-1, features.shape[2])


def head_terms(heads: HydraOutputs, views: Views, config: HydraNetConfig) -> ImageTerms:
    """Compare what the heads give for views with the truth."""
    step = config.output_stride // DEPTH_STRIDE
    depth_m = torch.from_numpy(views.depth_m[..., ::step, ::step].astype(np.float32))
    return image_terms(heads, torch.from_numpy(views.labels), depth_m, views.objects, config)


def carried(states: Tensor, motions: list[Pose | None]) -> Tensor:
    """States brought into the ego frames of now; those that have no motion begin anew."""
    moves = [Pose.identity() if motion is None else motion for motion in motions]
    known = torch.tensor([0.0 if motion is None else 1.0 for motion in motions]).reshape(-1, 1, 1, 1)
    return carry_states(states, STATE_GRID, moves) * known


def schedule(done: float) -> float:
    """Warm-up, then a half cosine down to a hundredth."""
    if done < WARM_UP:
        return max(done / WARM_UP, 0.02)
    return 0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (done - WARM_UP) / (1.0 - WARM_UP)))


def update_average(average: nn.Module, net: nn.Module, step: int) -> None:
    """Move an average of a network's weights towards the network; the first steps count more."""
    decay = min(AVERAGE_DECAY, (1.0 + step) / (10.0 + step))
    with torch.no_grad():
        current = net.state_dict()
        for name, value in average.state_dict().items():
            if value.dtype.is_floating_point:
                value.lerp_(current[name], 1.0 - decay)
            else:
                value.copy_(current[name])


def ahead(draw: Callable[[int], T], first_step: int) -> Generator[T, None, None]:
    """What `draw` gives for the steps from `first_step` on, drawn by a thread two steps ahead."""
    batches: queue.Queue[T | BaseException] = queue.Queue(maxsize=2)
    stop = threading.Event()

    def produce() -> None:
        step = first_step
        try:
            while not stop.is_set():
                _put(draw(step))
                step += 1
        except BaseException as error:  # handed to the loop, which raises it
            _put(error)

    def _put(item: T | BaseException) -> None:
        while not stop.is_set():
            try:
                batches.put(item, timeout=0.2)
                return
            except queue.Full:
                continue

    thread = threading.Thread(target=produce, name="octobev-batches", daemon=True)
    thread.start()
    try:
        while True:
            item = batches.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        thread.join()
